"""What banks attest, as a record holds it: attestations with their signatures, and each position once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle import contests
from compliance.cycle.contests import ContestedLane
from compliance.cycle.positions import Position, ProvenStatement, of_statement, prove, root_over
from compliance.export.record import AttestedPosition, SignedAttestation, UnopenedLeaf
from compliance.statements import Attestation, Document, PositionStatement, ScreeningStatement

Sign = Callable[[str, Document], Envelope]


class Word(NamedTuple):
    """What one bank attests at once; of the `unknown` statements the coordinator keeps no position."""

    bank: str
    statements: Sequence[PositionStatement]
    screening: ScreeningStatement | None = None
    complete: bool = True
    unknown: Collection[PositionStatement] = ()
    contested: tuple[ContestedLane, ...] = ()


def digest_of(document: Document) -> bytes:
    return hashlib.sha256(canonical.encode(document)).digest()


def leaves_of(word: Word) -> list[PositionStatement]:
    """Return the statements of a word in the order of its tree."""
    return sorted((*word.statements, *word.unknown), key=lambda of: (of.currency, of.pair))


def attestation(cycle: str, word: Word) -> Attestation:
    """Return what a bank signs for a word."""
    leaves = leaves_of(word)
    return Attestation(
        cycle=cycle,
        participant=word.bank,
        statements=len(leaves),
        root=root_over(map(digest_of, leaves)),
        screening=None if word.screening is None else digest_of(word.screening).hex(),
        contested=contests.digest_of(word.contested),
        complete=word.complete,
    )


def attested(sign: Sign, cycle: str, words: Iterable[Word]) -> dict[str, Any]:
    """Return the files of a record that banks' words make, one after another."""
    attestations: list[SignedAttestation] = []
    numbers: dict[Position, list[int]] = {}
    screenings: dict[bytes, ScreeningStatement] = {}
    for number, word in enumerate(words, 1):
        leaves = leaves_of(word)
        attestations.append(
            SignedAttestation(
                number=number,
                envelope=sign(word.bank, attestation(cycle, word)),
                unopened=tuple(
                    UnopenedLeaf(index=at, sha256=digest_of(of).hex())
                    for at, of in enumerate(leaves)
                    if of in word.unknown
                ),
                contested=word.contested,
            )
        )
        for statement in word.statements:
            numbers.setdefault(of_statement(statement), []).append(number)
        if word.screening is not None:
            screenings[digest_of(word.screening)] = word.screening
    return {
        "attestations": tuple(attestations),
        "positions": tuple(
            AttestedPosition(position=p, attested=tuple(by))
            for p, by in sorted(numbers.items(), key=lambda of: msgspec.structs.astuple(of[0]))
        ),
        "screenings": tuple(screenings.values()),
    }


def proven(sign: Sign, cycle: str, word: Word, statement: PositionStatement) -> ProvenStatement:
    """Return one statement of a word under its bank's signature."""
    leaves = leaves_of(word)
    text = canonical.encode(statement).decode()
    return prove(sign(word.bank, attestation(cycle, word)), list(map(digest_of, leaves)), leaves.index(statement), text)


def silent(words: Iterable[Word], *left_out: PositionStatement, of: Collection[str] | None = None) -> list[Word]:
    """Return words without some statements, of all banks or of some."""
    return [
        word._replace(statements=tuple(s for s in word.statements if s not in left_out))
        if of is None or word.bank in of
        else word
        for word in words
    ]
