"""A record of a cycle as the files of an archive, and back: one record, one sequence of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol, TypeVar, overload

import msgspec
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import Check
from compliance.cycle.limits import Limits, in_order
from compliance.event_log import LoggedEvent
from compliance.export.archive import Archive
from compliance.export.record import (
    ATTESTATIONS_FILE,
    FORMAT,
    FORMAT_2,
    FORMATS,
    MANIFEST,
    MANIFEST_SIGNED,
    OPERATORS_FILE,
    POSITIONS_FILE,
    SETTLEMENTS_FILE,
    TRUST_LISTS_FILE,
    Attendance,
    AttestedPosition,
    CycleRecord,
    Equivocation,
    Proposal,
    SettledStatement,
    SignedAttestation,
    SignedSettlement,
    Superseded,
)
from compliance.statements import CycleId, Date, Document, ScreeningStatement, Sha256

T = TypeVar("T")


class CycleFacts(Document, frozen=True, kw_only=True):
    """`cycle.json`."""

    cycle: CycleId
    value_date: Date
    state: str
    rulebook: Sha256


def to_files(record: CycleRecord) -> dict[str, bytes]:
    """Return the files that the manifest names."""
    facts = CycleFacts(
        cycle=record.cycle,
        value_date=record.value_date,
        state=record.state,
        rulebook=canonical.digest(record.rulebook),
    )
    files = {
        OPERATORS_FILE: _lines(record.operators, order=_version_in(OPERATORS_FILE)),
        "cycle.json": canonical.encode(facts),
        "rulebook.json": record.rulebook,
        TRUST_LISTS_FILE: _lines(record.trust_lists, order=_version_in(TRUST_LISTS_FILE)),
        "events.jsonl": _lines(record.events, order=lambda event: event.id),
        "cuts.jsonl": _lines(record.cuts),
        "equivocations.jsonl": _lines(record.equivocations),
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
        "limit-events.jsonl": _lines(record.limit_events, order=lambda event: event.id),
    }
    if record.format == FORMAT:
        files[ATTESTATIONS_FILE] = _lines(record.attestations, order=attrgetter("number"))
        files[POSITIONS_FILE] = _lines(record.positions, order=attrgetter("place"))
        files["screenings.jsonl"] = _lines(record.screenings)
        files["settled.jsonl"] = _lines(record.settled)
    else:
        files["statements.jsonl"] = _lines(record.statements)
        files["screenings.jsonl"] = _lines(record.signed_screenings)
        files["settled.jsonl"] = _lines(of.alone for of in record.settled if of.alone is not None)
    return {name: files[name] for name in FORMATS[record.format]}


class Lines(Sequence[T]):
    """The documents of a `.jsonl` file, read anew each time that somebody goes through them, and none of them kept.

    Raises FormatError, where a line isn't such a document or stands out of order.
    """

    def __init__(self, archive: Archive, name: str, kind: type[T], order: Callable[[T], Any] | None) -> None:
        self._archive = archive
        self._name = name
        self._kind = kind
        self._order = order

    def __iter__(self) -> Iterator[T]:
        return _in_ascending_order(self._name, self._archive.lines(self._name), self._kind, order=self._order)

    def __len__(self) -> int:
        return sum(1 for _ in self._archive.lines(self._name))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return tuple(self)[index]


def read_archive(archive: Archive, format_: str) -> CycleRecord:
    """Return the record in an archive. What banks and coordinator signed is read from it when it is gone through.

    `format_` is one of FORMATS. Raises FormatError, also later, by the `Lines` of the record.
    """
    files = _Held(archive)

    def lines(name: str, kind: type[T], order: Callable[[T], Any] | None = None) -> Sequence[T]:
        return Lines(archive, name, kind, order)

    return _read(files, format_, lines)


def from_files(files: Mapping[str, bytes], format_: str = FORMAT) -> CycleRecord:
    """Return the record that `to_files` wrote. Raises FormatError for any other files or bytes."""

    def lines(name: str, kind: type[T], order: Callable[[T], Any] | None = None) -> Sequence[T]:
        return _read_lines(files, name, kind, order=order)

    return _read(files, format_, lines)


class _LinesOf(Protocol):
    """What reads the documents of a file."""

    def __call__(self, name: str, kind: type[T], order: Callable[[T], Any] | None = None) -> Sequence[T]: ...


def _read(files: Mapping[str, bytes], format_: str, lines: _LinesOf) -> CycleRecord:
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
        trust_lists=_read_lines(files, TRUST_LISTS_FILE, Envelope, order=_version_in(TRUST_LISTS_FILE)),
        events=_read_lines(files, "events.jsonl", LoggedEvent, order=attrgetter("id")),
        cuts=lines("cuts.jsonl", Envelope),
        equivocations=_read_lines(files, "equivocations.jsonl", Equivocation),
        certificates=_decode("certificates.json", files["certificates.json"], tuple[Certificate, ...]),
        limits=_decode("limits.json", files["limits.json"], Limits),
        checks=_decode("checks.json", files["checks.json"], tuple[Check, ...]),
        result=results[0] if results else None,
        superseded=_read_lines(files, "superseded.jsonl", Superseded),
        proposals=_decode("proposals.json", files["proposals.json"], tuple[Proposal, ...]),
        instructions=lines("instructions.jsonl", Envelope),
        receipts=lines("receipts.jsonl", Envelope),
        finality=finalities[0] if finalities else None,
        format=format_,
    )
    if format_ != FORMAT_2:
        record = msgspec.structs.replace(
            record,
            operators=_read_lines(files, OPERATORS_FILE, Envelope, order=_version_in(OPERATORS_FILE)),
            settlements=_read_lines(files, SETTLEMENTS_FILE, SignedSettlement, order=attrgetter("attempt")),
            participants=_decode("participants.json", files["participants.json"], tuple[Attendance, ...]),
            settled=_read_settled(files, format_),
            limit_events=_read_lines(files, "limit-events.jsonl", LoggedEvent, order=attrgetter("id")),
        )
    if format_ == FORMAT:
        record = msgspec.structs.replace(
            record,
            attestations=lines(ATTESTATIONS_FILE, SignedAttestation, attrgetter("number")),
            positions=lines(POSITIONS_FILE, AttestedPosition, attrgetter("place")),
            screenings=lines("screenings.jsonl", ScreeningStatement),
        )
    else:
        record = msgspec.structs.replace(
            record,
            statements=lines("statements.jsonl", Envelope),
            signed_screenings=lines("screenings.jsonl", Envelope),
        )
    _require_order(record)
    return record


def _read_settled(files: Mapping[str, bytes], format_: str) -> tuple[SettledStatement, ...]:
    if format_ == FORMAT:
        return _read_lines(files, "settled.jsonl", SettledStatement)
    return tuple(SettledStatement(alone=envelope) for envelope in _read_lines(files, "settled.jsonl", Envelope))


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


def _version_in(name: str) -> Callable[[Envelope], int]:
    """Return what reads the version of a list or register, unverified: for the order of a file's lines only."""

    def version(envelope: Envelope) -> int:
        try:
            return msgspec.json.decode(envelope.payload_bytes(), type=_Version).version
        except (msgspec.MsgspecError, UnicodeDecodeError, dsse.EvidenceError) as error:
            raise FormatError(f"{name}: {error}") from error

    return version
