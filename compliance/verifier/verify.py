"""The offline verifier: what a regulator runs on an audit export, years later, with nothing but the trust anchor.

Verification goes through twelve steps and raises `VerificationError` at the first thing that is wrong; there is no
partial pass. The steps are these, here, in the messages and in `docs/guides/audit.md`:

 1. The archive is well formed: stored files in their order, none twice, no byte besides.
 2. The manifest is signed by a key of the trust anchor; each file has its digest, none is missing or added.
 3. The trust lists are signed by the anchor, name each member and key once, and their versions grow.
 4. The event log has no gap: each event names the digest of the one before, and the cycle took only possible steps.
 5. Every document verifies under a key of its signer's that counted when the log took it in, and is of this cycle.
 6. Both banks of every pair in the result signed the same bytes, up to the cuts; no pair is left out in silence.
 7. The netting, computed again from the statements and the limits, gives the result byte for byte.
 8. The instructions follow from the result, and each receipt is for one of them.
 9. Four eyes: no maker was the checker, no step of two persons was taken without, and what the rulebook asks for was
    confirmed. A failed check takes a release, and a release is no approval. Each proposal and decision is signed by its
    operator's own key, over what it decided.
10. Finality refers to this result, and the settlement agent's own signed answer says the same.
11. The log tells of every file what is in it: participants, digests, counts, decisions, answers.
12. The checks, run again, give the verdicts, and the limits are those that the log of their changes gives.

What nobody can prove by an export alone is named in the report: it isn't counted as verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from compliance.counting import counted
from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.matching import PairKey
from compliance.event_log import ChainError
from compliance.export.archive import Archive, ArchiveError
from compliance.export.files import FormatError, read_archive
from compliance.export.manifest import MANIFEST_BYTES_MAX, MANIFEST_TYPE, Manifest
from compliance.export.record import FORMAT_2, FORMAT_3, FORMATS, MANIFEST, MANIFEST_SIGNED, CycleRecord
from compliance.statements import CarryReason, TrustList
from compliance.trust import Anchor, AnchorError, Signers, read_trust_list
from compliance.verifier.account import check_account
from compliance.verifier.attestations import Attested
from compliance.verifier.decisions import check_signatures, unproven_registers
from compliance.verifier.documents import read_documents
from compliance.verifier.editions import Edition, check_unwinding, read_editions
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.log import CLOCK_SLACK, Log, read_log
from compliance.verifier.matching import Matched, check_closing, check_matching, match_documents
from compliance.verifier.moments import Moments
from compliance.verifier.recomputation import (
    check_approval,
    check_decisions,
    check_finality,
    check_instructions,
    check_netting,
)
from compliance.verifier.rules import read_rules
from compliance.verifier.settlement import check_settlements
from compliance.verifier.summaries import AGGREGATE_FLOW, check_checks, check_limits
from compliance.verifier.surroundings import check_surroundings, unproven_surroundings

STEPS = (
    "The archive is well formed",
    "The manifest is signed by the trust anchor, and each file has its digest",
    "The trust lists are signed by the trust anchor",
    "The event log has no gap, and the cycle took only possible steps",
    "Every document verifies under its signer's key",
    "Both banks of every pair in the result signed the same bytes",
    "The netting, computed again, gives the result",
    "The instructions follow from the result",
    "Four eyes decided where the rulebook asks for it",
    "Finality refers to this result",
    "The log tells of every file what is in it",
    "The checks, run again, give the verdicts, and the limits are the log's",
)


class VerificationError(Exception):
    """The export doesn't verify. `step` counts from 1; the message says what is wrong and where."""

    def __init__(self, step: int, finding: Finding, detail: str) -> None:
        super().__init__(f"step {step} ({STEPS[step - 1]}): {finding}: {detail}")
        self.step = step
        self.finding = finding
        self.detail = detail


class StepReport(Struct, frozen=True):
    """A step that passed, and what it looked at."""

    number: int
    title: str
    detail: str


class Report(Struct, frozen=True, kw_only=True):
    """A verified export. `sha256` is of the whole file, `result` of the NettingResult.

    `unproven` are sentences: what the export says, and can't prove by itself.
    """

    format: str
    cycle: str
    state: str
    sha256: str
    result: str | None
    steps: tuple[StepReport, ...]
    unproven: tuple[str, ...]


OnStep = Callable[[StepReport], None]


def verify_export(path: Path, anchor: Anchor, *, on_step: OnStep | None = None) -> Report:
    """Verify an export file. Raises VerificationError at the first failure, and OSError.

    `on_step` hears of each step as it passes. Raises AnchorError for an anchor without a usable key.
    """
    with path.open("rb") as file:
        return _verify(file, anchor, on_step)


def verify_bytes(data: bytes, anchor: Anchor, *, on_step: OnStep | None = None) -> Report:
    """Verify an export in memory; see `verify_export`."""
    return _verify(BytesIO(data), anchor, on_step)


def _verify(source: BinaryIO, anchor: Anchor, on_step: OnStep | None) -> Report:
    anchor_keys = anchor.verifying_keys()
    passed: list[StepReport] = []

    def step_passed(detail: str) -> None:
        step = StepReport(len(passed) + 1, STEPS[len(passed)], detail)
        passed.append(step)
        if on_step is not None:
            on_step(step)

    with _step(1):
        archive = Archive(source)
        step_passed(f"{counted(len(archive), 'file')}, {archive.size:,} bytes")
    with _step(2):
        record = _read_record(archive, anchor_keys)
        rules = read_rules(record)
        adopted = f"rulebook {rules.version} ({canonical.digest(record.rulebook)})"
        step_passed(f"cycle {record.cycle}, state {record.state}, {adopted}")
    with _step(3):
        lists = _read_trust_lists(record, anchor, anchor_keys)
        members = Signers((trust_list for trust_list, _ in lists), scheme=anchor.scheme)
        step_passed(counted(len(lists), "trust list"))
    with _step(4):
        log = read_log(record, lists, rules)
        step_passed(f"events {record.events[0].id} to {record.events[-1].id}")
    with _step(5):
        moments = Moments(record, log, rules, members, scheme=anchor.scheme)
        documents = read_documents(record, moments, anchor.bic)
        editions = read_editions(record, documents, moments, anchor.bic)
        step_passed(documents.summary)
    # What a default made void is verified like what took its place.
    with _step(6):
        matched = match_documents(record, documents, log, members, rules)
        idle = [check_matching(record, edition.documents, matched, log) for edition in editions]
        check_closing(record, _carried(editions), log)
        step_passed(counted(len(matched.agreed), "matched pair"))
    with _step(7):
        netted = [check_netting(edition.record, edition.documents, matched.agreed, rules) for edition in editions]
        step_passed(_last(netted, superseded="results"))
    with _step(8):
        instructed = [check_instructions(edition.record, edition.documents, members) for edition in editions]
        step_passed(_last(instructed, superseded="sets"))
    with _step(9):
        check_decisions(record)
        approved = [check_approval(edition.record, edition.documents, rules) for edition in editions]
        unwound = check_unwinding(editions)
        signed = check_signatures(record, anchor, anchor_keys, members)
        left_out = () if unwound is None else (f"left out for default: {unwound}",)
        step_passed("; ".join((approved[-1], *left_out, signed)))
    with _step(10):
        final = check_finality(record, documents, members)
        step_passed(f"{final}; {check_settlements(record, editions, moments, anchor.bic)}")
    with _step(11):
        summary = check_account(editions, matched, log, rules)
        check_surroundings(record, log)
        step_passed(summary)
    with _step(12):
        by_word = [check_checks(edition, matched, log, rules) for edition in editions]
        limits = check_limits(editions, log)
        step_passed(f"{counted(len(record.checks), 'check')}, {limits}")
    return Report(
        format=record.format,
        cycle=record.cycle,
        state=record.state,
        sha256=archive.sha256,
        result=None if documents.result is None else documents.result.sha256,
        steps=tuple(passed),
        unproven=(
            *unproven(
                record,
                documents.attested,
                matched,
                apart=log.deadlines_apart(rules),
                checks=by_word[-1],
                idle=idle[-1],
            ),
            *unproven_surroundings(record, log),
            *unproven_closed(log),
        ),
    )


def _carried(editions: Sequence[Edition]) -> list[CarryReason]:
    result = editions[0].documents.result
    return [] if result is None else [carried.reason for carried in result.document.carried_over]


def unproven(
    record: CycleRecord,
    attested: Attested,
    matched: Matched,
    *,
    apart: timedelta,
    checks: Sequence[str],
    idle: Sequence[PairKey],
) -> Iterator[str]:
    """Say what an export tells and can't prove by itself."""
    if apart > CLOCK_SLACK:
        yield (
            f"deadlines went by a clock that differs from the log's by {apart.total_seconds():.0f} s: by the log's,"
            " banks may have been shut out early"
        )
    if AGGREGATE_FLOW in checks:
        yield "the check aggregate_flow compares with earlier cycles, which aren't in the archive"
    if matched.settled:
        yield (
            f"pairs without new payments: {len(matched.settled)}; what their cuts name both banks signed in an earlier"
            f" cycle, whose own export shows whether it settled ({', '.join(matched.settled_in)})"
        )
    if unknown := attested.unknown():
        alike = sorted(banks for banks in unknown.values() if len(banks) > 1)
        yield (
            f"leaves of attestations whose statements the coordinator took in from nobody: {len(unknown)}; what they"
            f" say, their banks can show; the same in attestations of both its banks: {len(alike)}"
            + (f", as of {' and '.join(alike[0])}" if alike else "")
        )
    yield from unproven_registers(record)
    if record.format == FORMAT_2:
        yield "the second format holds no limits from before the cycle's opening, and not who attested in time"
        if idle:
            named = ", ".join("/".join(key) for key in idle[:3])
            yield f"pairs of which cuts name payments and of which nothing is stated: {len(idle)}, as {named}"


def unproven_closed(log: Log) -> Iterator[str]:
    """Say what of the currencies that were left out rests on the coordinator's word."""
    closed = {} if log.cut_off is None else log.cut_off.closed
    if closed:
        said = ", ".join(f"{currency} ({why})" for currency, why in sorted(closed.items()))
        yield f"the cycle left out what was closed on its value date: {said}; that they were, the coordinator says"


def _last(details: list[str], *, superseded: str) -> str:
    return details[-1] if len(details) == 1 else f"{details[-1]}; {len(details) - 1} superseded {superseded} hold too"


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Turn whatever a step raises into the failure of that step."""
    try:
        yield
    except RefutedError as error:
        raise VerificationError(number, error.finding, str(error)) from error
    except ArchiveError as error:
        raise VerificationError(number, Finding.ARCHIVE_MALFORMED, str(error)) from error
    except FormatError as error:
        raise VerificationError(number, Finding.FORMAT_VIOLATION, str(error)) from error
    except AnchorError as error:
        raise VerificationError(number, Finding.TRUST_LIST_REFUSED, str(error)) from error
    except ChainError as error:
        raise VerificationError(number, Finding.CHAIN_BROKEN, str(error)) from error
    except (VerificationError, OSError):
        raise
    except Exception as error:
        # Whoever signed the archive wrote what no step expected. It doesn't verify, whatever broke.
        detail = f"can't be gone through: {type(error).__name__}: {error}"
        raise VerificationError(number, Finding.FORMAT_VIOLATION, detail) from error


def _read_record(archive: Archive, anchor_keys: dict[str, VerifyingKey]) -> CycleRecord:
    """Step 2."""
    for name in (MANIFEST, MANIFEST_SIGNED):
        if name not in archive:
            raise RefutedError(Finding.FILE_MISSING, name)
        if (size := archive.member_size(name)) > MANIFEST_BYTES_MAX:
            raise RefutedError(Finding.FORMAT_VIOLATION, f"{name} has {size} bytes, and at most {MANIFEST_BYTES_MAX}")
    manifest = _read_manifest(archive[MANIFEST], archive[MANIFEST_SIGNED], anchor_keys)
    named = {entry.name: entry for entry in manifest.files}
    contents = archive.keys() - {MANIFEST, MANIFEST_SIGNED}
    if missing := named.keys() - contents:
        raise RefutedError(Finding.FILE_MISSING, min(missing))
    if added := contents - named.keys():
        raise RefutedError(Finding.FILE_ADDED, min(added))
    if list(named) != sorted(contents) or len(named) != len(manifest.files):
        raise RefutedError(Finding.FORMAT_VIOLATION, f"{MANIFEST}: out of order, or a file twice")
    for name in sorted(contents):
        if (named[name].bytes, named[name].sha256) != (archive.member_size(name), archive.digest(name)):
            raise RefutedError(Finding.FILE_CHANGED, f"{name} has SHA-256 {archive.digest(name)}")
    record = read_archive(archive, manifest.format)
    # A cycle that opened before there were registers may have been attested after that.
    if manifest.format in (FORMAT_2, FORMAT_3) and (manifest.format == FORMAT_3) is not bool(record.operators):
        raise RefutedError(Finding.FORMAT_VIOLATION, f"operators.jsonl doesn't fit the format {manifest.format}")
    if record.cycle != manifest.cycle:
        raise RefutedError(Finding.WRONG_CYCLE, f"manifest of cycle {manifest.cycle}, record of {record.cycle}")
    return record


def _read_manifest(data: bytes, signed: bytes, anchor_keys: dict[str, VerifyingKey]) -> Manifest:
    try:
        envelope = canonical.decode(signed, Envelope)
        payload = dsse.open_(envelope, anchor_keys, payload_type=MANIFEST_TYPE)
    except EvidenceError as error:
        detail = f"{MANIFEST_SIGNED}: {error} ({error.reason})"
        raise RefutedError(Finding.MANIFEST_UNSIGNED, detail) from error
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"{MANIFEST_SIGNED}: {error}") from error
    # No manifest names this file, so nothing in it may be free to change.
    try:
        dsse.require_nothing_free(envelope)
    except EvidenceError as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"{MANIFEST_SIGNED}: {error} ({error.reason})") from error
    if payload != data:
        raise RefutedError(Finding.FILE_CHANGED, f"{MANIFEST} isn't what {MANIFEST_SIGNED} signs")
    try:
        manifest = canonical.decode(payload, Manifest)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"{MANIFEST}: {error}") from error
    if manifest.format not in FORMATS:
        known = ", ".join(FORMATS)
        raise RefutedError(Finding.FORMAT_VIOLATION, f"format {manifest.format!r}; this program reads {known}")
    return manifest


def _read_trust_lists(
    record: CycleRecord, anchor: Anchor, anchor_keys: dict[str, VerifyingKey]
) -> list[tuple[TrustList, str]]:
    """Step 3: return the trust lists with their digests."""
    trust_lists: list[tuple[TrustList, str]] = []
    for number, envelope in enumerate(record.trust_lists, 1):
        where = f"trust-lists.jsonl line {number}"
        try:
            trust_list = read_trust_list(envelope, anchor, anchor_keys)
            dsse.require_nothing_free(envelope)
        except EvidenceError as error:
            raise RefutedError(Finding.TRUST_LIST_REFUSED, f"{where}: {error} ({error.reason})") from error
        except AnchorError as error:
            raise RefutedError(Finding.TRUST_LIST_REFUSED, f"{where}: {error}") from error
        trust_lists.append((trust_list, canonical.digest(envelope.payload_bytes())))
    if not trust_lists:
        raise RefutedError(Finding.TRUST_LIST_REFUSED, "no trust list")
    return trust_lists
