"""The audit export of a cycle: all that was signed about it, in one archive that the coordinator signs.

The archive (see `compliance.export.archive`) holds a fixed set of files, whatever the cycle:

    cycle.json           cycle id, value date, state, digest of the rulebook
    rulebook.json        the rulebook, canonical: its SHA-256 is what the result names
    trust-lists.jsonl    signed trust lists in force during the cycle, oldest first
    events.jsonl         the coordinator's event log from the cycle's opening to its last event, without a gap
    cuts.jsonl           each receiver's signed CycleCut
    statements.jsonl     every signed PositionStatement, superseded revisions included
    equivocations.jsonl  two signed documents of one bank where there can be one
    screenings.jsonl     signed ScreeningStatements
    certificates.json    for each currency, what proves how much at most could settle within the limits
    limits.json          the net debit caps, prefunding and bilateral limits that the netting kept
    checks.json          the named checks with their verdicts
    result.jsonl         the signed NettingResult, if the cycle came so far
    superseded.jsonl     the results that a default made void, each with all that rested on it
    operators.jsonl      signed registers of operators in force during the cycle, oldest first; absent in format 2
    proposals.json       what operators proposed, and who decided, each under the operator's signature
    instructions.jsonl   signed SettlementInstructions
    receipts.jsonl       the banks' signed receipts for them
    settlements.jsonl    what was asked of the settlement agent and what it answered, both signed; not in format 2
    finality.jsonl       the signed SettlementFinality, if the cycle is final
    participants.json    who took part, when its cut and its last statement came, and the screening of its that counts
    settled.jsonl        statements of earlier cycles, signed by both banks, of pairs with no new payment in this one
    limit-events.jsonl   the last change of each limit before the cycle's opening, from the event log
    manifest.json        name, SHA-256 and size of each file above
    manifest.dsse.json   the manifest under the coordinator's signature

A `.jsonl` file holds one canonical JSON document per line, in ascending order of the lines unless said otherwise.
The last three files came with the third format: without them a verifier proves less, and says so. The same record and
key give the same bytes. `compliance.verifier.verify` reads it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar, overload

import msgspec
from msgspec import Meta, Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.cycle.approval import Action
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import Check
from compliance.cycle.limits import Limits, in_order
from compliance.event_log import LoggedEvent
from compliance.export.archive import Archive, pack
from compliance.statements import EDITIONS_MAX, Bic, Count, CycleId, Date, Document, Reason, Sha256, Timestamp

MANIFEST_TYPE = "application/vnd.concordat.export-manifest.v1+json"
FORMAT_2, FORMAT = "concordat-audit-export/2", "concordat-audit-export/3"
"""The first is of cycles that opened before there was a register of operators.

What operators decided and what the settlement agent answered wasn't signed then.
"""
OPERATORS_FILE, SETTLEMENTS_FILE = "operators.jsonl", "settlements.jsonl"
MANIFEST, MANIFEST_SIGNED = "manifest.json", "manifest.dsse.json"

FILES_2 = (
    "certificates.json",
    "checks.json",
    "cuts.jsonl",
    "cycle.json",
    "equivocations.jsonl",
    "events.jsonl",
    "finality.jsonl",
    "instructions.jsonl",
    "limits.json",
    "proposals.json",
    "receipts.jsonl",
    "result.jsonl",
    "rulebook.json",
    "screenings.jsonl",
    "statements.jsonl",
    "superseded.jsonl",
    "trust-lists.jsonl",
)
_SINCE_3 = ("limit-events.jsonl", OPERATORS_FILE, "participants.json", "settled.jsonl", SETTLEMENTS_FILE)
FILES = tuple(sorted((*FILES_2, *_SINCE_3)))
"""What the manifest names; every export holds each of them, if need be empty."""

FORMATS: Mapping[str, tuple[str, ...]] = {FORMAT_2: FILES_2, FORMAT: FILES}
"""The formats that are read, and the files of each."""

T = TypeVar("T")


class Proposal(Document, frozen=True, kw_only=True):
    """What one operator proposed on the cycle and, once somebody else decided, the decision.

    `subject_sha256` is the digest of the NettingResult that the maker looked at, `participants` are those that an
    unwinding leaves out. `proposed` and `answered` are the two `OperatorDecision`s, as they were signed.
    """

    id: str
    action: Action
    reason: Reason
    participants: tuple[Bic, ...] = ()
    made_by: str
    made_at: Timestamp
    subject_sha256: Sha256 | None = None
    decision: Literal["confirm", "reject"] | None = None
    decided_by: str | None = None
    decided_at: Timestamp | None = None
    decision_reason: Reason | None = None
    proposed: Envelope | None = None
    answered: Envelope | None = None


class Equivocation(Document, frozen=True, kw_only=True):
    """Two documents that one bank signed where there can be one: proof against it, by itself."""

    participant: Bic
    first: Envelope
    second: Envelope


class Superseded(Document, frozen=True, kw_only=True):
    """A result that was netted again after a default, with all that rested on it. None of it was settled."""

    result: Envelope
    limits: Limits
    certificates: tuple[Certificate, ...]
    checks: tuple[Check, ...]
    instructions: tuple[Envelope, ...]
    receipts: tuple[Envelope, ...]


class Attendance(Document, frozen=True, kw_only=True):
    """When a participant of a cycle delivered its cut and the last of its statements, and which screening counts.

    A bank may screen again while the cycle attests: `screening` is the digest of the statement that it handed in last.
    """

    participant: Bic
    cut_at: Timestamp | None = None
    attested_at: Timestamp | None = None
    screening: Sha256 | None = None


class SignedSettlement(Document, frozen=True, kw_only=True):
    """One request to the settlement agent (pacs.029) and, unless it couldn't be read, its answer (pacs.002)."""

    attempt: Annotated[int, Meta(ge=1)]
    edition: Annotated[int, Meta(ge=1, le=EDITIONS_MAX)] = 1
    request: Envelope
    answer: Envelope | None = None


class CycleRecord(Struct, frozen=True, kw_only=True):
    """All that is to be said about a cycle. The order within the sequences doesn't matter.

    `rulebook` is the canonical JSON of the rulebook. `events` is a stretch of the log without a gap, so it holds
    what happened in between to other cycles and members too. `trust_lists` holds every version in force from the
    cycle's opening to its end, and so does `operators`; it is empty for cycles of before there was a register.
    """

    cycle: CycleId
    value_date: Date
    state: str
    rulebook: bytes
    trust_lists: tuple[Envelope, ...]
    events: tuple[LoggedEvent, ...]
    cuts: Sequence[Envelope] = ()
    statements: Sequence[Envelope] = ()
    equivocations: tuple[Equivocation, ...] = ()
    screenings: Sequence[Envelope] = ()
    limits: Limits = Limits()
    certificates: tuple[Certificate, ...] = ()
    checks: tuple[Check, ...] = ()
    result: Envelope | None = None
    superseded: tuple[Superseded, ...] = ()
    operators: tuple[Envelope, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    instructions: Sequence[Envelope] = ()
    receipts: Sequence[Envelope] = ()
    finality: Envelope | None = None
    format: str = FORMAT
    participants: tuple[Attendance, ...] = ()
    settled: Sequence[Envelope] = ()
    limit_events: tuple[LoggedEvent, ...] = ()
    settlements: tuple[SignedSettlement, ...] = ()


class CycleFacts(Document, frozen=True, kw_only=True):
    """`cycle.json`."""

    cycle: CycleId
    value_date: Date
    state: str
    rulebook: Sha256


class FileEntry(Document, frozen=True, kw_only=True):
    """One file of the archive."""

    name: str
    sha256: Sha256
    bytes: Count


class Manifest(Document, frozen=True, kw_only=True):
    """`manifest.json`: what the archive holds. Payload type `MANIFEST_TYPE`."""

    format: str
    cycle: CycleId
    files: tuple[FileEntry, ...]


def build_export(record: CycleRecord, signer: Signer) -> bytes:
    """Return the archive of a cycle, signed. The same record and key give the same bytes.

    `signer` is the coordinator's `sign` key. Raises ArchiveError for more than an archive holds.
    """
    files = to_files(record)
    entries = tuple(
        FileEntry(name=name, sha256=canonical.digest(content), bytes=len(content))
        for name, content in sorted(files.items())
    )
    manifest = canonical.encode(Manifest(format=record.format, cycle=record.cycle, files=entries))
    signed = canonical.encode(dsse.seal(manifest, MANIFEST_TYPE, signer))
    return pack({**files, MANIFEST: manifest, MANIFEST_SIGNED: signed})


def to_files(record: CycleRecord) -> dict[str, bytes]:
    """Return the files that the manifest names."""
    facts = CycleFacts(
        cycle=record.cycle,
        value_date=record.value_date,
        state=record.state,
        rulebook=canonical.digest(record.rulebook),
    )
    files = {
        OPERATORS_FILE: _lines(record.operators, order=_version),
        "cycle.json": canonical.encode(facts),
        "rulebook.json": record.rulebook,
        "trust-lists.jsonl": _lines(record.trust_lists, order=_version),
        "events.jsonl": _lines(record.events, order=lambda event: event.id),
        "cuts.jsonl": _lines(record.cuts),
        "statements.jsonl": _lines(record.statements),
        "equivocations.jsonl": _lines(record.equivocations),
        "screenings.jsonl": _lines(record.screenings),
        "certificates.json": canonical.encode(sorted(record.certificates, key=attrgetter("currency"))),
        "limits.json": canonical.encode(in_order(record.limits)),
        "checks.json": canonical.encode(record.checks),
        "result.jsonl": _lines(() if record.result is None else (record.result,)),
        "superseded.jsonl": _lines(_in_order(superseded) for superseded in record.superseded),
        "proposals.json": canonical.encode(sorted(record.proposals, key=attrgetter("made_at", "id"))),
        "instructions.jsonl": _lines(record.instructions),
        "receipts.jsonl": _lines(record.receipts),
        "finality.jsonl": _lines(() if record.finality is None else (record.finality,)),
        SETTLEMENTS_FILE: _lines(record.settlements, order=attrgetter("attempt")),
        "participants.json": canonical.encode(sorted(record.participants, key=attrgetter("participant"))),
        "settled.jsonl": _lines(record.settled),
        "limit-events.jsonl": _lines(record.limit_events, order=lambda event: event.id),
    }
    return {name: files[name] for name in FORMATS[record.format]}


class Lines(Sequence[Envelope]):
    """The envelopes of a `.jsonl` file, read anew each time that somebody goes through them, and none of them kept.

    Raises FormatError, where a line isn't an envelope or stands out of order.
    """

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive = archive
        self._name = name

    def __iter__(self) -> Iterator[Envelope]:
        return _in_ascending_order(self._name, self._archive.lines(self._name), Envelope)

    def __len__(self) -> int:
        return sum(1 for _ in self._archive.lines(self._name))

    @overload
    def __getitem__(self, index: int) -> Envelope: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Envelope, ...]: ...
    def __getitem__(self, index: int | slice) -> Envelope | tuple[Envelope, ...]:
        return tuple(self)[index]


def read_archive(archive: Archive, format_: str) -> CycleRecord:
    """Return the record in an archive. What banks and coordinator signed is read from it when it is gone through.

    `format_` is one of FORMATS. Raises FormatError, also later, by the `Lines` of the record.
    """
    files = _Held(archive)
    return _read(files, format_, lambda name: Lines(archive, name))


def from_files(files: Mapping[str, bytes], format_: str = FORMAT) -> CycleRecord:
    """Return the record that `to_files` wrote. Raises FormatError for any other files or bytes."""
    return _read(files, format_, lambda name: tuple(_in_ascending_order(name, _split(name, files[name]), Envelope)))


def _read(files: Mapping[str, bytes], format_: str, signed: Callable[[str], Sequence[Envelope]]) -> CycleRecord:
    named = FORMATS[format_]
    for name in named:
        if name not in files:
            raise FormatError(f"{name} is missing")
    if added := files.keys() - set(named):
        raise FormatError(f"{min(added)} doesn't belong to the format {format_}")
    facts: CycleFacts = _decode("cycle.json", files["cycle.json"], CycleFacts)
    rulebook = files["rulebook.json"]
    if facts.rulebook != canonical.digest(rulebook):
        raise FormatError(f"cycle.json names the rulebook {facts.rulebook}, the archive holds another")
    results = _read_lines(files, "result.jsonl", Envelope)
    finalities = _read_lines(files, "finality.jsonl", Envelope)
    if len(results) > 1 or len(finalities) > 1:
        raise FormatError("a cycle has one result and one finality at most")
    record = CycleRecord(
        cycle=facts.cycle,
        value_date=facts.value_date,
        state=facts.state,
        rulebook=rulebook,
        trust_lists=_read_lines(files, "trust-lists.jsonl", Envelope, order=_version),
        events=_read_lines(files, "events.jsonl", LoggedEvent, order=attrgetter("id")),
        cuts=signed("cuts.jsonl"),
        statements=signed("statements.jsonl"),
        equivocations=_read_lines(files, "equivocations.jsonl", Equivocation),
        screenings=signed("screenings.jsonl"),
        certificates=_decode("certificates.json", files["certificates.json"], tuple[Certificate, ...]),
        limits=_decode("limits.json", files["limits.json"], Limits),
        checks=_decode("checks.json", files["checks.json"], tuple[Check, ...]),
        result=results[0] if results else None,
        superseded=_read_lines(files, "superseded.jsonl", Superseded),
        proposals=_decode("proposals.json", files["proposals.json"], tuple[Proposal, ...]),
        instructions=signed("instructions.jsonl"),
        receipts=signed("receipts.jsonl"),
        finality=finalities[0] if finalities else None,
        format=format_,
    )
    if format_ != FORMAT_2:
        record = msgspec.structs.replace(
            record,
            operators=_read_lines(files, OPERATORS_FILE, Envelope, order=_version),
            settlements=_read_lines(files, SETTLEMENTS_FILE, SignedSettlement, order=attrgetter("attempt")),
            participants=_decode("participants.json", files["participants.json"], tuple[Attendance, ...]),
            settled=signed("settled.jsonl"),
            limit_events=_read_lines(files, "limit-events.jsonl", LoggedEvent, order=attrgetter("id")),
        )
    _require_order(record)
    return record


def _require_order(record: CycleRecord) -> None:
    """Check that what `to_files` sorts within a document stands in that order. Raises FormatError."""
    orders: list[tuple[str, Sequence[Any], list[Any]]] = [
        ("certificates.json", record.certificates, sorted(record.certificates, key=attrgetter("currency"))),
        ("proposals.json", record.proposals, sorted(record.proposals, key=attrgetter("made_at", "id"))),
        ("participants.json", record.participants, sorted(record.participants, key=attrgetter("participant"))),
        ("limits.json", (record.limits,), [in_order(record.limits)]),
        ("superseded.jsonl", record.superseded, [_in_order(superseded) for superseded in record.superseded]),
    ]
    for name, actual, ordered in orders:
        if list(actual) != ordered:
            raise FormatError(f"{name}: out of order")
    for name, ids in (
        ("proposals.json", [proposal.id for proposal in record.proposals]),
        ("participants.json", [of.participant for of in record.participants]),
    ):
        if len(set(ids)) != len(ids):
            raise FormatError(f"{name}: something twice")


def _in_order(superseded: Superseded) -> Superseded:
    return msgspec.structs.replace(
        superseded,
        limits=in_order(superseded.limits),
        certificates=tuple(sorted(superseded.certificates, key=attrgetter("currency"))),
        instructions=tuple(sorted(superseded.instructions, key=canonical.encode)),
        receipts=tuple(sorted(superseded.receipts, key=canonical.encode)),
    )


class _Held(Mapping[str, bytes]):
    """The files of an archive that a manifest names."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._names = [name for name in archive if name not in (MANIFEST, MANIFEST_SIGNED)]

    def __getitem__(self, name: str) -> bytes:
        return self._archive[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def lines(self, name: str) -> Iterator[bytes]:
        return self._archive.lines(name)


class FormatError(Exception):
    """Files that aren't those of an export. The message names the file and line."""


def _lines(documents: Iterable[T], *, order: Callable[[T], Any] | None = None) -> bytes:
    if order is not None:
        lines = [canonical.encode(document) for document in sorted(documents, key=order)]
    else:
        lines = sorted({canonical.encode(document) for document in documents})
    return b"".join(line + b"\n" for line in lines)


def _split(name: str, content: bytes) -> Iterator[bytes]:
    lines = content.split(b"\n")
    if lines.pop():
        raise FormatError(f"{name}: the last line doesn't end")
    return iter(lines)


def _read_lines(
    files: Mapping[str, bytes], name: str, kind: type[T], *, order: Callable[[T], Any] | None = None
) -> tuple[T, ...]:
    lines = files.lines(name) if isinstance(files, _Held) else _split(name, files[name])
    return tuple(_in_ascending_order(name, lines, kind, order=order))


def _in_ascending_order(
    name: str, lines: Iterable[bytes], kind: type[T], *, order: Callable[[T], Any] | None = None
) -> Iterator[T]:
    """Read lines, each of which is greater than the one before, itself or by `order`. Raises FormatError."""
    previous: Any = None
    for number, line in enumerate(lines, 1):
        document: T = _decode(f"{name} line {number}", line, kind)
        key = line if order is None else order(document)
        if previous is not None and not previous < key:
            raise FormatError(f"{name} line {number}: out of order, or something twice")
        previous = key
        yield document


def _decode(where: str, data: bytes, kind: Any) -> Any:
    try:
        return canonical.decode(data, kind)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        raise FormatError(f"{where}: {error}") from error


class _Version(Struct):
    version: int


def _version(envelope: Envelope) -> int:
    """Return the version of a trust list, unverified: for the order of lines only."""
    try:
        return msgspec.json.decode(envelope.payload_bytes(), type=_Version).version
    except (msgspec.MsgspecError, UnicodeDecodeError, dsse.EvidenceError) as error:
        raise FormatError(f"trust-lists.jsonl: {error}") from error
