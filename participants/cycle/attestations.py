"""What a bank attests in a cycle: made of its positions, kept in the journal, read again and proven pair by pair. Pure.

A bank signs the root of a tree over its statements, once, and once more for each later word of its. The journal keeps
every attestation with all that is handed in beside it, so that after a crash the very same is handed in again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from compliance.bic import known_as, normal_bic
from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import Signer
from compliance.cycle import positions
from compliance.cycle.contests import ContestedLane, digest_of
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position, ProvenStatement
from compliance.statements import Attestation, PositionStatement, ScreeningStatement
from gateway.federation.messages.attestation import AttestationSubmission
from participants.ledger.events import CycleAttested, EventData

ATTESTED = "cycle.attested"


def attest(
    *,
    bank: str,
    cycle: str,
    stated: Sequence[Position],
    screening: ScreeningStatement | None,
    contested: Sequence[ContestedLane] = (),
    complete: bool,
    signer: Signer,
) -> EventData[CycleAttested]:
    """Sign for positions and contested lanes, in the order of their keys, and return what is to be kept of it.

    Raises PositionError for a position that no statement can say.
    """
    attestation = Attestation(
        cycle=cycle,
        participant=bank,
        statements=len(stated),
        root=positions.root_over(positions.digests(cycle, stated)),
        screening=None if screening is None else canonical.digest(canonical.encode(screening)),
        contested=digest_of(contested),
        complete=complete,
    )
    envelope = dsse.sign(attestation, signer)
    said = CycleAttested(
        cycle=cycle, attestation=envelope, positions=tuple(stated), screening=screening, contested=tuple(contested)
    )
    return EventData.of(ATTESTED, said)


def submission_of(said: CycleAttested) -> AttestationSubmission:
    """Return how an attestation is handed in. Raises ValueError for statements that were signed each by itself."""
    if said.attestation is None:
        raise ValueError("version 1 of an attestation is handed in no more")
    return AttestationSubmission(
        attestation=said.attestation,
        positions=said.positions,
        screening=said.screening,
        contested=said.contested,
    )


def positions_in(said: CycleAttested) -> list[Position]:
    """Return the positions that a bank signed in one word, in any release."""
    if said.attestation is not None:
        return list(said.positions)
    payloads = (e.payload_bytes() for e in said.envelopes if "position" in e.document_type)
    return [positions.of_statement(canonical.decode(payload, PositionStatement)) for payload in payloads]


def newest(attested: Iterable[CycleAttested]) -> dict[PairKey, Position]:
    """Return the newest revision of each position that a bank signed, in the order in which it did."""
    return {position.key: position for said in attested for position in positions_in(said)}


def by_digest(cycle: str, attested: Iterable[CycleAttested]) -> dict[str, Position]:
    """Return all positions that a bank signed in a cycle, by the SHA-256 of each statement's canonical bytes."""
    stated = [position for said in attested for position in positions_in(said)]
    return {digest.hex(): position for digest, position in zip(positions.digests(cycle, stated), stated, strict=True)}


def contradiction(said: CycleAttested, bank: str) -> str | None:
    """Return what an attestation of a bank isn't over, of what is kept beside it; None if it covers all of that.

    Of statements that were signed each by itself there is nothing to compare.
    """
    if said.attestation is None:
        return None
    try:
        signed = canonical.decode(said.attestation.payload_bytes(), Attestation)
        root = positions.root_over(positions.digests(said.cycle, said.positions))
    except (EvidenceError, msgspec.MsgspecError, ValueError) as error:
        return str(error)
    covers = Attestation(
        cycle=said.cycle,
        participant=bank,
        statements=len(said.positions),
        root=root,
        screening=None if said.screening is None else canonical.digest(canonical.encode(said.screening)),
        contested=digest_of(said.contested),
        complete=signed.complete,
    )
    return None if signed == covers else f"{signed} was signed, and {covers} is kept"


def shown_of(
    attested: Sequence[CycleAttested], cycle: str, *, bank: str, counterparty: str, currency: str
) -> ProvenStatement:
    """Return what proves a bank's newest statement of a pair with a bank of a normal BIC.

    Raises LookupError with why there is nothing to show.
    """
    if counterparty == normal_bic(bank):
        raise LookupError(f"{counterparty} is this bank itself")
    stated = newest(attested)
    name = known_as(counterparty, {name for _, *pair in stated for name in pair})
    low, high = sorted((bank, name))
    key = (currency, low, high)
    if key not in stated:
        raise LookupError(f"{bank} attested nothing of {name} in {currency} in cycle {cycle}")
    proof = proven(attested, key)
    if proof is None:
        raise LookupError(f"{bank} signed its statements in cycle {cycle} each by itself: its node lists them")
    return proof


def proven(attested: Iterable[CycleAttested], key: PairKey) -> ProvenStatement | None:
    """Return the newest statement of a pair and currency with what proves it, and nothing of the other pairs.

    None where the bank attested none; a statement that was signed by itself is in its envelope already.
    """
    covering = [
        (said, said.attestation, index)
        for said in attested
        for index, position in enumerate(said.positions)
        if position.key == key and said.attestation is not None
    ]
    if not covering:
        return None
    said, attestation, index = covering[-1]
    texts = positions.texts(said.cycle, said.positions)
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return positions.prove(attestation, digests, index, texts[index])
