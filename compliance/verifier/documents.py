"""The signed documents of a cycle, read from its record: each verified under its signer's key.

Step 5 of `compliance.verifier.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

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
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.moments import Moments

D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class SignedDocument(Generic[D]):
    """A verified document, the SHA-256 of its canonical bytes, and who signed it."""

    document: D
    sha256: str
    signer: str


class SignedInstruction(NamedTuple):
    """What is kept of a verified instruction; its digest says the rest."""

    id: str
    participant: str
    settlement_agent: str
    net_minor: str
    sha256: str


class ProvenEquivocation(NamedTuple):
    """Who signed two documents where there can be one, and their digests."""

    participant: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Documents:
    """All signed documents of a cycle, verified. `settled` are statements of earlier cycles."""

    cuts: Mapping[str, CycleCut]
    statements: tuple[SignedDocument[PositionStatement], ...]
    settled: tuple[SignedDocument[PositionStatement], ...]
    screenings: tuple[SignedDocument[ScreeningStatement], ...]
    equivocations: tuple[ProvenEquivocation, ...]
    receipts: tuple[SignedDocument[Receipt], ...]
    result: SignedDocument[NettingResult] | None
    instructions: tuple[SignedInstruction, ...]
    finality: SignedDocument[SettlementFinality] | None

    @property
    def summary(self) -> str:
        return (
            f"{len(self.cuts)} cuts, {len(self.statements)} statements, {len(self.screenings)} screenings, "
            f"{len(self.instructions)} instructions, {len(self.receipts)} receipts, "
            f"{len(self.equivocations)} equivocations"
        )


def read_documents(record: CycleRecord, moments: Moments, coordinator: str) -> Documents:
    """Verify every document of a record under a key of its signer's that counted when the log took it in."""
    reader = _Reader(moments.members, record.cycle)
    by_coordinator, always = (coordinator,), lambda _: moments.members
    attesting, earlier = moments.statements(), moments.settled()
    results = () if record.result is None else (record.result,)
    finalities = () if record.finality is None else (record.finality,)
    result = next(reader.read("result.jsonl", results, NettingResult, lambda _: by_coordinator, always), None)
    instructed = moments.receipts(1 if result is None else result.document.edition)
    cuts = tuple(reader.read("cuts.jsonl", record.cuts, CycleCut, lambda cut: (cut.receiver,), moments.cut))
    statements = reader.read(
        "statements.jsonl", record.statements, PositionStatement, lambda of: of.pair, lambda _: attesting
    )
    screenings = reader.read(
        "screenings.jsonl", record.screenings, ScreeningStatement, lambda of: (of.participant,), lambda _: attesting
    )
    receipts = reader.read(
        "receipts.jsonl", record.receipts, Receipt, lambda of: (of.participant,), lambda _: instructed
    )
    settled = reader.read(
        "settled.jsonl", record.settled, PositionStatement, lambda of: of.pair, lambda _: earlier, of_cycle=False
    )
    documents = Documents(
        cuts={cut.signer: cut.document for cut in cuts},
        statements=_each_kept_once(statements),
        settled=_each_kept_once(settled),
        screenings=tuple(screenings),
        equivocations=tuple(reader.convicted(accusation, moments) for accusation in record.equivocations),
        receipts=tuple(receipts),
        result=result,
        instructions=tuple(
            SignedInstruction(of.id, of.participant, of.settlement_agent, of.net_minor, signed.sha256)
            for signed in reader.read(
                "instructions.jsonl", record.instructions, SettlementInstruction, lambda _: by_coordinator, always
            )
            for of in (signed.document,)
        ),
        finality=next(
            reader.read("finality.jsonl", finalities, SettlementFinality, lambda _: by_coordinator, always), None
        ),
    )
    _once("cut", [cut.signer for cut in cuts])
    _once(
        "statement",
        [(s.signer, s.document.pair, s.document.currency, s.document.revision) for s in documents.statements],
    )
    _once("screening", [(screening.signer, screening.sha256) for screening in documents.screenings])
    _once("instruction", [instruction.id for instruction in documents.instructions])
    _once("receipt", [receipt.document.instruction for receipt in documents.receipts])
    _once("earlier statement", [(s.signer, s.document.pair, s.document.currency) for s in documents.settled])
    return documents


class _Reader:
    """Verifies documents under their signers' keys, one at a time."""

    def __init__(self, members: Signers, cycle: str) -> None:
        self._members = members
        self._cycle = cycle

    def read(
        self,
        name: str,
        envelopes: Iterable[Envelope],
        kind: type[D],
        signed_by: Callable[[D], Collection[str]],
        counting: Callable[[str], Signers],
        *,
        of_cycle: bool = True,
    ) -> Iterator[SignedDocument[D]]:
        """Verify what stands in a file.

        `signed_by` says who may have signed a document, `counting` which keys counted when it came from a member.
        """
        for number, envelope in enumerate(envelopes, 1):
            where = f"{name} line {number}"
            signed = self._verified(where, envelope, kind, counting)
            if signed.signer not in (allowed := signed_by(signed.document)):
                detail = f"{where}: {_what(signed)} must be signed by {' or '.join(allowed)}"
                raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
            cycle = getattr(signed.document, "cycle", self._cycle)
            if (cycle == self._cycle) is not of_cycle:
                raise RefutedError(Finding.WRONG_CYCLE, f"{where}: {_what(signed)} is of cycle {cycle}")
            yield signed

    def _verified(
        self, where: str, envelope: Envelope, kind: type[D], counting: Callable[[str], Signers]
    ) -> SignedDocument[D]:
        """Verify a document that exactly one member signed, by a key that counted then."""
        members = self._members
        owners = {owner for signature in envelope.signatures if (owner := members.owner(signature.keyid)) is not None}
        if len(owners) != 1:
            named = ", ".join(signature.keyid for signature in envelope.signatures) or "none"
            detail = f"{where}: signed by {len(owners)} members instead of one (keys: {named})"
            raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
        signer = owners.pop()
        keys = counting(signer).of(signer)
        if not any(signature.keyid in keys for signature in envelope.signatures):
            detail = f"{where}: no key of {signer} on it counted when it can have come"
            raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
        try:
            document = dsse.verify_submitted(envelope, kind, keys)
            return SignedDocument(document, canonical.digest(envelope.payload_bytes()), signer)
        except EvidenceError as error:
            raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where} of {signer}: {error} ({error.reason})") from error

    def convicted(self, accusation: Equivocation, moments: Moments) -> ProvenEquivocation:
        """Check that a bank did sign two different documents where there can be one: evidence convicts, no record."""
        # A bank may screen again, and say so: two screening statements of one cycle convict nobody.
        kinds = {PAYLOAD_TYPES[kind]: kind for kind in (CycleCut, PositionStatement)}
        kind = kinds.get(accusation.first.document_type)
        where = f"equivocations.jsonl of {accusation.participant}"
        if kind is None:
            raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: {accusation.first.payloadType} isn't once only")
        try:
            digests = {canonical.digest(of.payload_bytes()) for of in (accusation.first, accusation.second)}
        except EvidenceError as error:
            raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where}: {error} ({error.reason})") from error
        counting = moments.accusation(digests)
        first, second = (
            self._verified(where, envelope, kind, lambda _: counting)
            for envelope in (accusation.first, accusation.second)
        )
        if {first.signer, second.signer} != {accusation.participant}:
            raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: signed by {first.signer} and {second.signer}")
        if first.sha256 == second.sha256 or _place(first.document) != _place(second.document):
            raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: the two documents don't exclude each other")
        if _place(first.document)[0] != self._cycle:
            raise RefutedError(Finding.WRONG_CYCLE, f"{where}: of cycle {_place(first.document)[0]}")
        return ProvenEquivocation(accusation.participant, first.sha256, second.sha256)


def _each_kept_once(
    statements: Iterable[SignedDocument[PositionStatement]],
) -> tuple[SignedDocument[PositionStatement], ...]:
    """Keep the same bytes, which both banks of a pair sign, once in memory."""
    known: dict[str, SignedDocument[PositionStatement]] = {}
    kept: list[SignedDocument[PositionStatement]] = []
    for signed in statements:
        first = known.setdefault(signed.sha256, signed)
        kept.append(SignedDocument(first.document, first.sha256, signed.signer))
    return tuple(kept)


def _what(signed: SignedDocument[Any]) -> str:
    return f"{type(signed.document).__name__} {signed.sha256[:16]}… by {signed.signer}"


def _once(what: str, keys: Iterable[object]) -> None:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise RefutedError(Finding.SIGNED_TWICE, f"a second {what} {key}: two where there can be one")
        seen.add(key)


def _place(document: Document) -> tuple[Any, ...]:
    """Return where a document stands: its signer can sign one for each place."""
    match document:
        case PositionStatement():
            return (document.cycle, document.pair, document.currency, document.revision)
        case CycleCut():
            return (document.cycle, document.receiver)
        case _:
            raise AssertionError(f"{type(document).__name__} has no place")
