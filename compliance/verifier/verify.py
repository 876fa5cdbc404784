"""The offline verifier: what a regulator runs on an audit export, years later, with nothing but the trust anchor.

Verification goes through ten steps and raises `VerificationError` at the first thing that is wrong; there is no
partial pass. The steps are these, here, in the messages and in `docs/guides/audit.md`:

 1. The archive is well formed: stored files in their order, none twice, no byte besides.
 2. The manifest is signed by a key of the trust anchor; each file has its digest, none is missing or added.
 3. The trust lists are signed by the anchor, name each member and key once, and their versions grow.
 4. The event log has no gap: each event names the digest of the one before, and the cycle took only possible steps.
 5. Every document verifies under its signer's key and is of this cycle.
 6. Both banks of every pair in the result signed the same bytes, up to the cuts; no pair is left out in silence.
 7. The netting, computed again from the statements and the limits, gives the result byte for byte.
 8. The instructions follow from the result, and each receipt is for one of them.
 9. Four eyes: no maker was the checker, no step of two persons was taken without, and what the rulebook asks for was
    confirmed. A failed check takes a release, and a release is no approval. Each proposal and decision is signed by its
    operator's own key, over what it decided.
10. Finality refers to this result, and the settlement agent's own signed answer says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.states import IllegalStepError, State, event_type, replay
from compliance.event_log import ChainError, check_chain
from compliance.export.archive import ARCHIVE_BYTES_MAX, ArchiveError, unpack
from compliance.export.record import (
    FORMATS,
    MANIFEST,
    MANIFEST_SIGNED,
    MANIFEST_TYPE,
    CycleRecord,
    FormatError,
    Manifest,
    format_of,
    from_files,
)
from compliance.statements import TrustList
from compliance.trust import Anchor, AnchorError, Signers, check_trust_list
from compliance.verifier.decisions import check_signatures
from compliance.verifier.documents import Finding, RefutedError, read_documents
from compliance.verifier.editions import check_unwinding, read_editions
from compliance.verifier.recomputation import (
    check_approval,
    check_decisions,
    check_finality,
    check_instructions,
    check_matching,
    check_netting,
)
from compliance.verifier.settlement import check_settlements

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
    """A verified export. `sha256` is of the whole file, `result` of the NettingResult."""

    cycle: str
    state: str
    sha256: str
    result: str | None
    steps: tuple[StepReport, ...]


OnStep = Callable[[StepReport], None]


def verify_export(path: Path, anchor: Anchor, *, on_step: OnStep | None = None) -> Report:
    """Verify an export file. Raises VerificationError at the first failure, and OSError.

    `on_step` hears of each step as it passes.
    """
    if path.stat().st_size > ARCHIVE_BYTES_MAX:
        raise VerificationError(1, Finding.ARCHIVE_MALFORMED, f"more than {ARCHIVE_BYTES_MAX} bytes")
    return verify_bytes(path.read_bytes(), anchor, on_step=on_step)


def verify_bytes(data: bytes, anchor: Anchor, *, on_step: OnStep | None = None) -> Report:
    """Verify an export in memory; see `verify_export`. Raises AnchorError for an anchor without a usable key."""
    anchor_keys = anchor.verifying_keys()
    passed: list[StepReport] = []

    def step_passed(detail: str) -> None:
        step = StepReport(len(passed) + 1, STEPS[len(passed)], detail)
        passed.append(step)
        if on_step is not None:
            on_step(step)

    with _step(1):
        files = unpack(data)
        step_passed(f"{len(files)} files, {len(data):,} bytes")
    with _step(2):
        record = _read_record(files, anchor_keys)
        step_passed(f"cycle {record.cycle}, state {record.state}")
    with _step(3):
        signers = _read_trust_lists(record, anchor, anchor_keys)
        step_passed(f"{len(record.trust_lists)} trust lists")
    with _step(4):
        _check_events(record)
        step_passed(f"events {record.events[0].id} to {record.events[-1].id}")
    with _step(5):
        documents = read_documents(record, signers, anchor.bic)
        editions = read_editions(record, documents, signers, anchor.bic)
        step_passed(documents.summary)
    # What a default made void is verified like what took its place.
    with _step(6):
        matched = [check_matching(edition.record, edition.documents, signers) for edition in editions]
        step_passed(f"{len(matched[-1])} matched pairs")
    with _step(7):
        netted = [
            check_netting(edition.record, edition.documents, agreed)
            for edition, agreed in zip(editions, matched, strict=True)
        ]
        step_passed(_last(netted, superseded="results"))
    with _step(8):
        instructed = [check_instructions(edition.record, edition.documents, signers) for edition in editions]
        step_passed(_last(instructed, superseded="sets"))
    with _step(9):
        check_decisions(record)
        approved = [check_approval(edition.record, edition.documents) for edition in editions]
        unwound = check_unwinding(editions)
        signed = check_signatures(record, anchor, anchor_keys)
        left_out = () if unwound is None else (f"left out for default: {unwound}",)
        step_passed("; ".join((approved[-1], *left_out, signed)))
    with _step(10):
        final = check_finality(record, documents)
        step_passed(f"{final}; {check_settlements(record, editions, signers, anchor.bic)}")
    return Report(
        cycle=record.cycle,
        state=record.state,
        sha256=canonical.digest(data),
        result=None if documents.result is None else documents.result.sha256,
        steps=tuple(passed),
    )


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


def _read_record(files: dict[str, bytes], anchor_keys: dict[str, VerifyingKey]) -> CycleRecord:
    """Step 2."""
    for name in (MANIFEST, MANIFEST_SIGNED):
        if name not in files:
            raise RefutedError(Finding.FILE_MISSING, name)
    manifest = _read_manifest(files[MANIFEST], files[MANIFEST_SIGNED], anchor_keys)
    named = {entry.name: entry for entry in manifest.files}
    contents = {name: content for name, content in files.items() if name not in (MANIFEST, MANIFEST_SIGNED)}
    if missing := named.keys() - contents.keys():
        raise RefutedError(Finding.FILE_MISSING, min(missing))
    if added := contents.keys() - named.keys():
        raise RefutedError(Finding.FILE_ADDED, min(added))
    for name, content in contents.items():
        if (named[name].bytes, named[name].sha256) != (len(content), canonical.digest(content)):
            raise RefutedError(Finding.FILE_CHANGED, f"{name} has SHA-256 {canonical.digest(content)}")
    record = from_files(contents, manifest.format)
    if format_of(record) != manifest.format:
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
        detail = f"format {manifest.format!r}; this program reads {' and '.join(FORMATS)}"
        raise RefutedError(Finding.FORMAT_VIOLATION, detail)
    return manifest


def _read_trust_lists(record: CycleRecord, anchor: Anchor, anchor_keys: dict[str, VerifyingKey]) -> Signers:
    """Step 3."""
    trust_lists: list[TrustList] = []
    for number, envelope in enumerate(record.trust_lists, 1):
        where = f"trust-lists.jsonl line {number}"
        try:
            trust_list = dsse.verify(envelope, TrustList, anchor_keys)
            check_trust_list(trust_list, anchor)
        except EvidenceError as error:
            raise RefutedError(Finding.TRUST_LIST_REFUSED, f"{where}: {error} ({error.reason})") from error
        except AnchorError as error:
            raise RefutedError(Finding.TRUST_LIST_REFUSED, f"{where}: {error}") from error
        if trust_lists and trust_list.version <= trust_lists[-1].version:
            detail = f"{where}: version {trust_list.version} a second time"
            raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)
        trust_lists.append(trust_list)
    if not trust_lists:
        raise RefutedError(Finding.TRUST_LIST_REFUSED, "no trust list")
    return Signers(trust_lists)


def _check_events(record: CycleRecord) -> None:
    """Step 4: the chain, and that it tells of this cycle from its opening to its state."""
    check_chain(record.events)
    own = [event for event in record.events if event.cycle == record.cycle]
    if not own or own[0] != record.events[0] or own[0].type != event_type(State.OPEN):
        raise RefutedError(Finding.CHAIN_BROKEN, f"the log doesn't begin with the opening of cycle {record.cycle}")
    try:
        state = replay((event.type, event.data) for event in own)
    except IllegalStepError as error:
        raise RefutedError(Finding.STATE_CONTRADICTED, f"the log of cycle {record.cycle}: {error}") from error
    if state != record.state:
        raise RefutedError(Finding.STATE_CONTRADICTED, f"the cycle is called {record.state}, the log says {state}")
