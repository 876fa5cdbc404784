"""The signed documents of a cycle, read from its record: each verified under its signer's key.

Step 5 of `compliance.verifier.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.positions import Position, ProvenStatement, verify_proven
from compliance.export.record import ATTESTATIONS_FILE, FORMAT, CycleRecord, Equivocation
from compliance.statements import (
    PAYLOAD_TYPES,
    Attestation,
    CycleCut,
    Document,
    IncludedStatement,
    LaneCut,
    NettingResult,
    PositionStatement,
    Receipt,
    ScreeningStatement,
    SettlementFinality,
    SettlementInstruction,
)
from compliance.trust import Signers
from compliance.verifier.attestations import Attested, position_of, read_attested, signed_alone
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


class SettledBefore(NamedTuple):
    """What a bank stated in an earlier cycle, which isn't `cycle` of the record."""

    cycle: str
    position: Position
    sha256: str
    signer: str


class ProvenEquivocation(NamedTuple):
    """Who signed two documents where there can be one, and their digests."""

    participant: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Documents:
    """All signed documents of a cycle, verified. `settled` are statements of earlier cycles."""

    cuts: Mapping[str, CycleCut]
    attested: Attested
    settled: tuple[SettledBefore, ...]
    screenings: tuple[SignedDocument[ScreeningStatement], ...]
    equivocations: tuple[ProvenEquivocation, ...]
    receipts: tuple[SignedDocument[Receipt], ...]
    result: SignedDocument[NettingResult] | None
    instructions: tuple[SignedInstruction, ...]
    finality: SignedDocument[SettlementFinality] | None

    @property
    def summary(self) -> str:
        attestations = sum(of.attestations for of in self.attested.banks.values())
        signed = f" under {attestations} attestations" if attestations else ""
        return (
            f"{len(self.cuts)} cuts, {self.attested.statements} statements{signed}, {len(self.screenings)} screenings, "
            f"{len(self.instructions)} instructions, {len(self.receipts)} receipts, "
            f"{len(self.equivocations)} equivocations"
        )


def read_documents(record: CycleRecord, moments: Moments, coordinator: str) -> Documents:
    """Verify every document of a record under a key of its signer's that counted when the log took it in."""
    reader = _Reader(moments.members, record.cycle)
    by_coordinator, always = (coordinator,), lambda _: moments.members
    attesting, earlier = moments.statements(), moments.settled()
    if record.format == FORMAT:
        attested = reader.attested(record, attesting)
        screenings = reader.screened(record, attested)
    else:
        attested = reader.stated(record, attesting)
        screenings = tuple(
            reader.read(
                "screenings.jsonl",
                record.signed_screenings,
                ScreeningStatement,
                lambda of: (of.participant,),
                lambda _: attesting,
            )
        )
    results = () if record.result is None else (record.result,)
    finalities = () if record.finality is None else (record.finality,)
    result = next(reader.read("result.jsonl", results, NettingResult, lambda _: by_coordinator, always), None)
    texts: dict[str, str] = {of.sha256: of.sha256 for of in attested.stated}
    if result is not None:
        result = replace(result, document=_sparing_result(result.document, texts))
    texts.clear()
    instructed = moments.receipts(1 if result is None else result.document.edition)
    cuts = tuple(
        replace(signed, document=_sparing_cut(signed.document, texts))
        for signed in reader.read("cuts.jsonl", record.cuts, CycleCut, lambda cut: (cut.receiver,), moments.cut)
    )
    receipts = reader.read(
        "receipts.jsonl", record.receipts, Receipt, lambda of: (of.participant,), lambda _: instructed
    )
    documents = Documents(
        cuts={cut.signer: cut.document for cut in cuts},
        attested=attested,
        settled=tuple(reader.settled(record, earlier)),
        screenings=screenings,
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
    _once("screening", [(screening.signer, screening.sha256) for screening in documents.screenings])
    _once("instruction", [instruction.id for instruction in documents.instructions])
    _once("receipt", [receipt.document.instruction for receipt in documents.receipts])
    _once("earlier statement", [(of.signer, of.position.key) for of in documents.settled])
    return documents


# Decoding makes a text anew wherever it stands, and a cycle has many lines about few banks: with one copy of each, cuts
# and result take half the memory. `texts` are those copies.


def _sparing_cut(cut: CycleCut, texts: dict[str, str]) -> CycleCut:
    once = texts.setdefault
    lanes = tuple(
        LaneCut(
            sender=once(lane.sender, lane.sender),
            currency=once(lane.currency, lane.currency),
            last_sequence=lane.last_sequence,
        )
        for lane in cut.lanes
    )
    return CycleCut(cycle=cut.cycle, receiver=cut.receiver, lanes=lanes)


def _sparing_result(result: NettingResult, texts: dict[str, str]) -> NettingResult:
    once = texts.setdefault
    statements = tuple(
        IncludedStatement(
            pair=(once(entry.pair[0], entry.pair[0]), once(entry.pair[1], entry.pair[1])),
            currency=once(entry.currency, entry.currency),
            sha256=once(entry.sha256, entry.sha256),
        )
        for entry in result.statements
    )
    return msgspec.structs.replace(result, statements=statements)


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

    def attested(self, record: CycleRecord, counting: Signers) -> Attested:
        """Verify the attestations, and that their roots are those of the positions that name them."""
        envelopes = (entry.envelope for entry in record.attestations)
        signed = list(
            self.read(ATTESTATIONS_FILE, envelopes, Attestation, lambda of: (of.participant,), lambda _: counting)
        )
        _once("attestation", [(of.signer, of.sha256) for of in signed])
        entries = [(entry, of.document, of.signer) for entry, of in zip(record.attestations, signed, strict=True)]
        return read_attested(self._cycle, entries, record.positions)

    def screened(self, record: CycleRecord, attested: Attested) -> tuple[SignedDocument[ScreeningStatement], ...]:
        """Check that each screening statement is one that an attestation of its bank names, and none is missing."""
        named = {(sha256, bank) for bank, word in attested.banks.items() for sha256 in word.screenings}
        screenings: list[SignedDocument[ScreeningStatement]] = []
        for number, document in enumerate(record.screenings, 1):
            where, sha256 = f"screenings.jsonl line {number}", canonical.digest(canonical.encode(document))
            if document.cycle != self._cycle:
                raise RefutedError(Finding.WRONG_CYCLE, f"{where}: of cycle {document.cycle}")
            if (sha256, document.participant) not in named:
                detail = f"{where}: {document.participant} signed no attestation that names the screening {sha256}"
                raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
            screenings.append(SignedDocument(document, sha256, document.participant))
        if missing := named - {(of.sha256, of.signer) for of in screenings}:
            sha256, bank = min(missing)
            detail = f"{bank} attested the screening {sha256}, which isn't in the archive"
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)
        return tuple(screenings)

    def stated(self, record: CycleRecord, counting: Signers) -> Attested:
        """Verify statements that were signed one by one."""
        signed = self.read(
            "statements.jsonl", record.statements, PositionStatement, lambda of: of.pair, lambda _: counting
        )
        places: list[tuple[object, ...]] = []

        def documents() -> Iterator[tuple[PositionStatement, str, str]]:
            for of in signed:
                places.append((of.signer, of.document.pair, of.document.currency, of.document.revision))
                yield of.document, of.sha256, of.signer

        attested = signed_alone(documents())
        _once("statement", places)
        return attested

    def settled(self, record: CycleRecord, counting: Signers) -> Iterator[SettledBefore]:
        """Verify what banks stated in earlier cycles."""
        for number, settled in enumerate(record.settled, 1):
            where = f"settled.jsonl line {number}"
            if (settled.alone is None) is (settled.proven is None):
                raise RefutedError(Finding.FORMAT_VIOLATION, f"{where}: signed alone, or under an attestation")
            if settled.proven is not None:
                statement, sha256, signer = self._proven(where, settled.proven, counting)
            else:
                assert settled.alone is not None
                signed = self._verified(where, settled.alone, PositionStatement, lambda _: counting)
                statement, sha256, signer = signed.document, signed.sha256, signed.signer
                if signer not in statement.pair:
                    detail = f"{where}: must be signed by {' or '.join(statement.pair)}"
                    raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
            if statement.cycle == self._cycle:
                raise RefutedError(Finding.WRONG_CYCLE, f"{where}: a statement of {signer} in this very cycle")
            yield SettledBefore(statement.cycle, position_of(statement), sha256, signer)

    def _proven(self, where: str, proven: ProvenStatement, counting: Signers) -> tuple[PositionStatement, str, str]:
        """Verify a statement under its bank's attestation; return it with its digest and its signer."""
        signer, keys = self._keys(where, proven.attestation, lambda _: counting)
        try:
            attestation, statement = verify_proven(proven, keys)
        except EvidenceError as error:
            raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where} of {signer}: {error} ({error.reason})") from error
        if attestation.participant != signer:
            detail = f"{where}: an attestation of {attestation.participant}, signed by {signer}"
            raise RefutedError(Finding.SIGNATURE_REFUSED, detail)
        return statement, canonical.digest(proven.statement.encode()), signer

    def _verified(
        self, where: str, envelope: Envelope, kind: type[D], counting: Callable[[str], Signers]
    ) -> SignedDocument[D]:
        """Verify a document that exactly one member signed, by a key that counted then."""
        signer, keys = self._keys(where, envelope, counting)
        try:
            document = dsse.verify_submitted(envelope, kind, keys)
            return SignedDocument(document, canonical.digest(envelope.payload_bytes()), signer)
        except EvidenceError as error:
            raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where} of {signer}: {error} ({error.reason})") from error

    def _keys(
        self, where: str, envelope: Envelope, counting: Callable[[str], Signers]
    ) -> tuple[str, Mapping[str, VerifyingKey]]:
        """Return who signed an envelope, and which of the signer's keys counted then."""
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
        return signer, keys

    def convicted(self, accusation: Equivocation, moments: Moments) -> ProvenEquivocation:
        """Check that a bank did sign two different documents where there can be one: evidence convicts, no record."""
        # A bank may screen again, and attest more: two of either in one cycle convict nobody.
        kinds = {PAYLOAD_TYPES[kind]: kind for kind in (CycleCut, PositionStatement)}
        where = f"equivocations.jsonl of {accusation.participant}"
        alone, proven = (accusation.first, accusation.second), accusation.proven
        if (proven is None) is (None in alone) or (proven is not None and alone != (None, None)):
            raise RefutedError(Finding.FORMAT_VIOLATION, f"{where}: two documents, or two statements that are proven")
        try:
            digests = accusation.digests
        except EvidenceError as error:
            raise RefutedError(Finding.SIGNATURE_REFUSED, f"{where}: {error} ({error.reason})") from error
        counting = moments.accusation(set(digests))
        documents: list[Document] = []
        signers: list[str] = []
        for of in proven or ():
            statement, _, signer = self._proven(where, of, counting)
            documents.append(statement)
            signers.append(signer)
        for envelope in alone if proven is None else ():
            assert envelope is not None
            kind = kinds.get(envelope.document_type)
            if kind is None:
                raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: {envelope.payloadType} isn't once only")
            signed = self._verified(where, envelope, kind, lambda _: counting)
            documents.append(signed.document)
            signers.append(signed.signer)
        if set(signers) != {accusation.participant}:
            raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: signed by {' and '.join(signers)}")
        first, second = map(_place, documents)
        if digests[0] == digests[1] or first != second:
            raise RefutedError(Finding.FALSE_ACCUSATION, f"{where}: the two documents don't exclude each other")
        if first[0] != self._cycle:
            raise RefutedError(Finding.WRONG_CYCLE, f"{where}: of cycle {first[0]}")
        return ProvenEquivocation(accusation.participant, *digests)


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
            return (document.cycle, PositionStatement, document.pair, document.currency, document.revision)
        case CycleCut():
            return (document.cycle, CycleCut, document.receiver)
        case _:
            raise AssertionError(f"{type(document).__name__} has no place")
