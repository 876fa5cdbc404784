"""Positions: what two banks owe each other, as twelve numbers beside their names, and the one signature over many.

A `Position` says the same as a `PositionStatement`, of which both banks hash the same canonical bytes. It travels, is
kept and is compared in this form, and the bytes are made of it wherever they are needed: by one template, looked at by
one expression. A bank signs the root of a tree over the digests of its statements (`Attestation`). A statement with its
path and that signature is evidence for one pair, and tells nothing of the others (`ProvenStatement`). Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope, EvidenceError, EvidenceReason
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.matching import PairKey
from compliance.statements import (
    Attestation,
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Document,
    Flow,
    PositionStatement,
    Sha256,
    TotalAmount,
    inside,
)

NUMBER_MAX = 2**53 - 1
STATEMENT_CHARACTERS_MAX = 1_024
PATH_MAX = 32


class Position(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What two banks owe each other in one cycle and currency: the members of a PositionStatement in a row.

    `low` and `high` are the pair, in alphabetical order; `forth` is the flow from low to high, `back` the other one.
    Amounts are in minor units. Nothing of it is checked before `texts` or `digests` has been asked for it.
    """

    currency: str
    low: str
    high: str
    revision: int
    forth_first: int
    forth_last: int
    forth_count: int
    forth_minor: str
    forth_root: str
    back_first: int
    back_last: int
    back_count: int
    back_minor: str
    back_root: str

    @property
    def key(self) -> PairKey:
        return (self.currency, self.low, self.high)


class PositionError(ValueError):
    """A row that is no position statement. `index` says which one."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(detail)
        self.index = index


_NUMBER = r"(?:0|[1-9][0-9]{0,15})"
_FLOW = (
    rf'\{{"amount_minor":"{inside(TotalAmount)}","count":{_NUMBER},"first_sequence":{_NUMBER},'
    rf'"last_sequence":{_NUMBER},"receiver":"{inside(Bic)}","root":"{inside(Sha256)}","sender":"{inside(Bic)}"\}}'
)
_STATEMENT = re.compile(
    rf'\{{"currency":"{inside(CurrencyCode)}","cycle":"{inside(CycleId)}","flows":\[{_FLOW},{_FLOW}\],'
    rf'"pair":\["{inside(Bic)}","{inside(Bic)}"\],"revision":[1-9][0-9]?\}}',
    re.ASCII,
)


def texts(cycle: str, positions: Iterable[Position]) -> list[str]:
    """Return the canonical JSON of the statement that each position is. Raises PositionError for the first that isn't.

    What is in a text fits the schema of PositionStatement; `inconsistency` says whether it makes sense.
    """
    matches, written = _STATEMENT.fullmatch, []
    for index, p in enumerate(positions):
        text = (
            f'{{"currency":"{p.currency}","cycle":"{cycle}","flows":['
            f'{{"amount_minor":"{p.forth_minor}","count":{p.forth_count},"first_sequence":{p.forth_first},'
            f'"last_sequence":{p.forth_last},"receiver":"{p.high}","root":"{p.forth_root}","sender":"{p.low}"}},'
            f'{{"amount_minor":"{p.back_minor}","count":{p.back_count},"first_sequence":{p.back_first},'
            f'"last_sequence":{p.back_last},"receiver":"{p.low}","root":"{p.back_root}","sender":"{p.high}"}}],'
            f'"pair":["{p.low}","{p.high}"],"revision":{p.revision}}}'
        )
        if matches(text) is None or _beyond(p):
            raise PositionError(index, _complaint(text))
        written.append(text)
    return written


def digests(cycle: str, positions: Iterable[Position]) -> list[bytes]:
    """Return the SHA-256 of the canonical bytes of each. Raises PositionError."""
    sha256 = hashlib.sha256
    return [sha256(text.encode()).digest() for text in texts(cycle, positions)]


def _beyond(p: Position) -> bool:
    numbers = (p.forth_first, p.forth_last, p.forth_count, p.back_first, p.back_last, p.back_count)
    return max(numbers) > NUMBER_MAX


def _complaint(text: str) -> str:
    """Return what is wrong with a text that isn't a statement."""
    try:
        canonical.decode(text.encode(errors="replace"), PositionStatement)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        return str(error)
    return "not a position statement in its canonical form"


def of_statement(statement: PositionStatement) -> Position:
    """Return the position that a statement says. Its flows must stand in the order of its pair (`inconsistency`)."""
    forth, back = statement.flows
    return Position(
        statement.currency,
        *statement.pair,
        statement.revision,
        forth.first_sequence,
        forth.last_sequence,
        forth.count,
        forth.amount_minor,
        forth.root,
        back.first_sequence,
        back.last_sequence,
        back.count,
        back.amount_minor,
        back.root,
    )


def statement_of(cycle: str, p: Position) -> PositionStatement:
    """Return the statement that a position says."""
    return PositionStatement(
        cycle=cycle,
        currency=p.currency,
        pair=(p.low, p.high),
        revision=p.revision,
        flows=(
            Flow(
                sender=p.low,
                receiver=p.high,
                first_sequence=p.forth_first,
                last_sequence=p.forth_last,
                count=p.forth_count,
                amount_minor=p.forth_minor,
                root=p.forth_root,
            ),
            Flow(
                sender=p.high,
                receiver=p.low,
                first_sequence=p.back_first,
                last_sequence=p.back_last,
                count=p.back_count,
                amount_minor=p.back_minor,
                root=p.back_root,
            ),
        ),
    )


def inconsistency(p: Position) -> str | None:
    """Return what contradicts itself in a position, or None. The schema can't say these rules."""
    if (
        p.low < p.high
        and _makes_sense(p.forth_first, p.forth_last, p.forth_count, p.forth_minor)
        and _makes_sense(p.back_first, p.back_last, p.back_count, p.back_minor)
    ):
        return None
    return _contradiction(p)


def _makes_sense(first: int, last: int, count: int, minor: str) -> bool:
    payments = last - first + 1
    return first >= 1 and payments >= 0 and count <= payments and int(minor) >= count and (count != 0 or minor == "0")


def _contradiction(p: Position) -> str:
    """Return what contradicts itself in a position that has something of the kind."""
    if p.low >= p.high:
        return "the pair isn't two members in alphabetical order"
    forth = (p.low, p.high, p.forth_first, p.forth_last, p.forth_count, p.forth_minor)
    back = (p.high, p.low, p.back_first, p.back_last, p.back_count, p.back_minor)
    for sender, receiver, first, last, count, minor in (forth, back):
        if _makes_sense(first, last, count, minor):
            continue
        payments = last - first + 1
        if first < 1 or payments < 0:
            return f"the flow {sender}→{receiver} runs from {first} to {last}"
        if count > payments:
            return f"the flow {sender}→{receiver} counts {count} of {payments} payments"
        return f"the flow {sender}→{receiver} amounts to {minor} in {count} payments"
    raise AssertionError("a position that makes sense was said not to")


def first_out_of_order(positions: Sequence[Position]) -> int | None:
    """Return the first position that doesn't come after the one before it, by currency and pair; None if all do."""
    keys = [(p.currency, p.low, p.high) for p in positions]
    return next((at for at in range(1, len(keys)) if keys[at] <= keys[at - 1]), None)


def leaf_hashes(of: Iterable[bytes]) -> list[bytes]:
    """Return the leaves of an attestation's tree over digests of statements."""
    return [merkle.leaf_hash(digest) for digest in of]


def root_over(of: Iterable[bytes]) -> str:
    """Return the root that an attestation over digests of statements names."""
    return merkle.root(leaf_hashes(of)).hex()


class ProvenStatement(Document, frozen=True, kw_only=True):
    """One position statement under its bank's signature: the attestation, and the way from the statement to its root.

    `statement` is the canonical JSON of a PositionStatement as a text, for its very bytes are hashed.
    """

    attestation: Envelope
    statement: Annotated[str, Meta(max_length=STATEMENT_CHARACTERS_MAX)]
    index: Count
    path: Annotated[tuple[Sha256, ...], Meta(max_length=PATH_MAX)]


class Proofs:
    """What proves each statement of one attestation; its tree is made once."""

    def __init__(self, attestation: Envelope, of: Iterable[bytes]) -> None:
        """`of` are the digests of all statements of the attestation."""
        self._attestation = attestation
        self._paths = merkle.Paths(leaf_hashes(of))

    def prove(self, index: int, statement: str) -> ProvenStatement:
        """Return a statement, which is the leaf at a place, with what proves it. Raises IndexError."""
        path = tuple(node.hex() for node in self._paths.of(index))
        return ProvenStatement(attestation=self._attestation, statement=statement, index=index, path=path)


def prove(attestation: Envelope, of: Iterable[bytes], index: int, statement: str) -> ProvenStatement:
    """Return one statement with what proves it; `of` are the digests of all statements of the attestation."""
    return Proofs(attestation, of).prove(index, statement)


def verify_proven(proven: ProvenStatement, keys: Mapping[str, VerifyingKey]) -> tuple[Attestation, PositionStatement]:
    """Verify a statement and return it with the attestation that it is a leaf of.

    `keys` are those of the bank that is to have signed, by key id. Raises EvidenceError: what `dsse.verify` raises for
    the attestation, `schema_violation` and `not_canonical` for the statement, and `not_attested` where it isn't in the
    tree, is of another cycle, or of a pair without its bank.
    """
    attestation = dsse.verify_submitted(proven.attestation, Attestation, keys)
    data = proven.statement.encode(errors="surrogatepass")
    try:
        statement = canonical.decode(data, PositionStatement)
    except canonical.NotCanonicalError as error:
        raise EvidenceError(EvidenceReason.NOT_CANONICAL, str(error)) from error
    except msgspec.MsgspecError as error:
        raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, str(error)) from error
    leaf = merkle.leaf_hash(hashlib.sha256(data).digest())
    path = [bytes.fromhex(node) for node in proven.path]
    root = merkle.included_root(leaf, index=proven.index, size=attestation.statements, path=path)
    if root is None or root.hex() != attestation.root:
        raise EvidenceError(EvidenceReason.NOT_ATTESTED, "the statement isn't a leaf of the attestation")
    if statement.cycle != attestation.cycle or attestation.participant not in statement.pair:
        detail = f"a statement of {'/'.join(statement.pair)} in {statement.cycle}, under one of another bank or cycle"
        raise EvidenceError(EvidenceReason.NOT_ATTESTED, detail)
    return attestation, statement
