"""The signed documents of a cycle, read from its record: each verified under its signer's key.

Step 5 of `compliance.verifier.verify`, and the vocabulary of findings that all its steps share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.export.record import CycleRecord, Equivocation
from compliance.statements import (
    PAYLOAD_TYPES,
    CycleCut,
    Document,
    NettingResult,
    PositionStatement,
    Receipt,
    ScreeningStatement,
    SettlementFinality,
    SettlementInstruction,
)
from compliance.trust import Signers

D = TypeVar("D", bound=Document)


class Finding(StrEnum):
    """What can be wrong with an export, by step."""

    ARCHIVE_MALFORMED = "archive_malformed"
    MANIFEST_UNSIGNED = "manifest_unsigned"
    FILE_MISSING = "file_missing"
    FILE_ADDED = "file_added"
    FILE_CHANGED = "file_changed"
    FORMAT_VIOLATION = "format_violation"
    TRUST_LIST_REFUSED = "trust_list_refused"
    CHAIN_BROKEN = "chain_broken"
    STATE_CONTRADICTED = "state_contradicted"
    SIGNATURE_REFUSED = "signature_refused"
    WRONG_CYCLE = "wrong_cycle"
    SIGNED_TWICE = "signed_twice"
    FALSE_ACCUSATION = "false_accusation"
    PAIR_NOT_MATCHED = "pair_not_matched"
    PAIR_LEFT_OUT = "pair_left_out"
    CUT_CONTRADICTED = "cut_contradicted"
    RESULT_DIFFERS = "result_differs"
    CERTIFICATE_DIFFERS = "certificate_differs"
    INSTRUCTIONS_DIFFER = "instructions_differ"
    RECEIPT_DIFFERS = "receipt_differs"
    MAKER_IS_CHECKER = "maker_is_checker"
    DECISION_REFUSED = "decision_refused"
    APPROVAL_MISSING = "approval_missing"
    SETTLEMENT_DIFFERS = "settlement_differs"
    FINALITY_DIFFERS = "finality_differs"


class RefutedError(Exception):
    """What is claimed of a cycle doesn't hold."""

    def __init__(self, finding: Finding, detail: str) -> None:
        super().__init__(detail)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class SignedDocument(Generic[D]):
    """A verified document, the SHA-256 of its canonical bytes, and who signed it."""

    document: D
    sha256: str
    signer: str


@dataclass(frozen=True, slots=True)
class Documents:
    """All signed documents of a cycle, verified."""

    cuts: Mapping[str, CycleCut]
    statements: tuple[SignedDocument[PositionStatement], ...]
    screenings: int
    equivocations: int
    receipts: tuple[SignedDocument[Receipt], ...]
    result: SignedDocument[NettingResult] | None
    instructions: tuple[SignedDocument[SettlementInstruction], ...]
    finality: SignedDocument[SettlementFinality] | None

    @property
    def summary(self) -> str:
        return (
            f"{len(self.cuts)} cuts, {len(self.statements)} statements, {self.screenings} screenings, "
            f"{len(self.instructions)} instructions, {len(self.receipts)} receipts, "
            f"{self.equivocations} equivocations"
        )


def read_documents(record: CycleRecord, signers: Signers, coordinator: str) -> Documents:
    """Verify every document of a record under its signer's key."""

    def read(name: str, envelopes: Iterable[Envelope], kind: type[D]) -> tuple[SignedDocument[D], ...]:
        return tuple(
            _read(f"{name} line {number}", envelope, kind, signers) for number, envelope in enumerate(envelopes, 1)
        )

    cuts = read("cuts.jsonl", record.cuts, CycleCut)
    statements = read("statements.jsonl", record.statements, PositionStatement)
    screenings = read("screenings.jsonl", record.screenings, ScreeningStatement)
    receipts = read("receipts.jsonl", record.receipts, Receipt)
    results = read("result.jsonl", () if record.result is None else (record.result,), NettingResult)
    instructed = read("instructions.jsonl", record.instructions, SettlementInstruction)
    finalities = read("finality.jsonl", () if record.finality is None else (record.finality,), SettlementFinality)

    for cut in cuts:
        _is_by(cut, cut.document.receiver)
    for statement in statements:
        _is_by(statement, *statement.document.pair)
    for screening in screenings:
        _is_by(screening, screening.document.participant)
    for receipt in receipts:
        _is_by(receipt, receipt.document.participant)
    of_coordinator: list[SignedDocument[Any]] = [*results, *instructed, *finalities]
    for signed in of_coordinator:
        _is_by(signed, coordinator)
    of_cycle: list[SignedDocument[Any]] = [*cuts, *statements, *screenings, *of_coordinator]
    for signed in of_cycle:
        if signed.document.cycle != record.cycle:
            raise RefutedError(Finding.WRONG_CYCLE, f"{_what(signed)} is of cycle {signed.document.cycle}")
    _once("cut", [cut.signer for cut in cuts])
    _once("statement", [(s.signer, s.document.pair, s.document.currency, s.document.revision) for s in statements])
    _once("instruction", [instruction.document.id for instruction in instructed])
    for accusation in record.equivocations:
        _check_equivocation(accusation, record.cycle, signers)
    return Documents(
        cuts={cut.signer: cut.document for cut in cuts},
        statements=statements,
        screenings=len(screenings),
        equivocations=len(record.equivocations),
        receipts=receipts,
        result=results[0] if results else None,
        instructions=instructed,
        finality=finalities[0] if finalities else None,
    )


def _read(where: str, envelope: Envelope, kind: type[D], signers: Signers) -> SignedDocument[D]:
    """Verify a document that exactly one member signed."""
    owners = {owner for signature in envelope.signatures if (owner := signers.owner(signature.keyid)) is not None}
    if len(owners) != 1:
        named = ", ".join(signature.keyid for signature in envelope.signatures) or "none"
        detail = f"{where}: signed by {len(owners)} members instead of one (keys: {named})"
        raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
    signer = owners.pop()
    try:
        document = dsse.verify(envelope, kind, signers.of(signer))
        return SignedDocument(document, canonical.digest(envelope.payload_bytes()), signer)
    except EvidenceError as error:
        raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where} of {signer}: {error} ({error.reason})") from error


def _is_by(signed: SignedDocument[Any], *allowed: str) -> None:
    if signed.signer not in allowed:
        detail = f"{_what(signed)} must be signed by {' or '.join(allowed)}"
        raise RefutedError(Finding.SIGNATURE_REFUSED, detail)


def _what(signed: SignedDocument[Any]) -> str:
    return f"{type(signed.document).__name__} {signed.sha256[:16]}… by {signed.signer}"


def _once(what: str, keys: Iterable[object]) -> None:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise RefutedError(Finding.SIGNED_TWICE, f"a second {what} {key}: two where there can be one")
        seen.add(key)


def _check_equivocation(accusation: Equivocation, cycle: str, signers: Signers) -> None:
    """Check that a bank did sign two different documents where there can be one: evidence convicts, not the record."""
    kinds = {PAYLOAD_TYPES[kind]: kind for kind in (CycleCut, PositionStatement, ScreeningStatement)}
    kind = kinds.get(accusation.first.payloadType)
    where = f"equivocations.jsonl of {accusation.participant}"
    if kind is None:
        raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: {accusation.first.payloadType} isn't once only")
    first = _read(where, accusation.first, kind, signers)
    second = _read(where, accusation.second, kind, signers)
    if {first.signer, second.signer} != {accusation.participant}:
        raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: signed by {first.signer} and {second.signer}")
    if first.sha256 == second.sha256 or _place(first.document) != _place(second.document):
        raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: the two documents don't exclude each other")
    if _place(first.document)[0] != cycle:
        raise RefutedError(Finding.WRONG_CYCLE, f"{where}: of cycle {_place(first.document)[0]}")


def _place(document: Document) -> tuple[Any, ...]:
    """Return where a document stands: its signer can sign one for each place."""
    match document:
        case PositionStatement():
            return (document.cycle, document.pair, document.currency, document.revision)
        case CycleCut():
            return (document.cycle, document.receiver)
        case ScreeningStatement():
            return (document.cycle, document.participant)
        case _:
            raise AssertionError(f"{type(document).__name__} has no place")
