"""What the banks stated: each position once, with the banks that signed it, by whichever way they signed.

Part of step 5 of `compliance.verifier.verify`. An attestation is one signature over the root of a tree. Its leaves are
made again of the positions that name it, in the order of the file, and the root must come out: so none is missing or
added, and none stands in another place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple

from compliance.cycle.contests import Contest, digest_of
from compliance.cycle.matching import PairKey, Placement, placement_of
from compliance.cycle.positions import (
    Position,
    PositionError,
    digests,
    inconsistency,
    of_statement,
    root_over,
    statement_of,
)
from compliance.export.record import ATTESTATIONS_FILE, POSITIONS_FILE, AttestedPosition, SignedAttestation
from compliance.statements import SCREENINGS_MAX, Attestation, PositionStatement
from compliance.verifier.findings import Finding, RefutedError

POSITIONS_AT_ONCE = 4_096


class Stated(NamedTuple):
    """A position without the roots, the SHA-256 of its statement, and the banks that signed that.

    `attested` are the numbers of the attestations that it is a leaf of; none where it was signed alone.
    """

    position: Position
    sha256: str
    signers: tuple[str, ...]
    attested: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BankWord:
    """What one bank attested in a cycle, besides its positions."""

    attestations: int
    complete: bool
    """It signed that it had no more to state, but what it contests."""
    unopened: frozenset[str]
    """The leaves of its of which the archive holds no position."""
    screenings: frozenset[str]
    """The digests of the screening statements of its that were taken in."""
    screening: str | None
    """The one of them that it named last, which counts."""


@dataclass(frozen=True, slots=True)
class Attested:
    """All that was attested in a cycle: positions in order, and the signers of the attestations by their numbers."""

    stated: tuple[Stated, ...]
    banks: Mapping[str, BankWord]
    signers: tuple[str, ...] = ()
    contests: tuple[Contest, ...] = ()
    """All that was contested under a signature, whether or not the cuts bear it out."""

    @property
    def statements(self) -> int:
        """How many statements were signed."""
        return sum(len(of.attested or of.signers) for of in self.stated)

    def unknown(self) -> Mapping[str, tuple[str, ...]]:
        """Return the leaves of which the archive holds no position, and whose they are."""
        of_banks: defaultdict[str, list[str]] = defaultdict(list)
        for bank, word in sorted(self.banks.items()):
            for sha256 in word.unopened:
                of_banks[sha256].append(bank)
        return {sha256: tuple(banks) for sha256, banks in of_banks.items()}

    def nothing_more(self, bank: str) -> bool:
        """Tell whether a bank signed that it stated all, and the archive holds all that it stated."""
        word = self.banks.get(bank)
        return word is not None and word.complete and not word.unopened


def read_attested(
    cycle: str,
    signed: Sequence[tuple[SignedAttestation, Attestation, str]],
    positions: Iterable[AttestedPosition],
) -> Attested:
    """Make the trees of attestations again and return what was stated. `signed` are verified, with their signers.

    Raises RefutedError.
    """
    for place, (entry, _, signer) in enumerate(signed, 1):
        if entry.number != place:
            detail = f"{ATTESTATIONS_FILE}: attestation {entry.number} of {signer} stands where {place} belongs"
            raise RefutedError(Finding.FORMAT_VIOLATION, detail)
    signers = tuple(signer for _, _, signer in signed)
    leaves: list[list[bytes]] = [[] for _ in signed]
    stated = tuple(_with_leaves(cycle, positions, signers, leaves))
    for (entry, document, signer), own in zip(signed, leaves, strict=True):
        _check_tree(entry, document, signer, own)
        if digest_of(entry.contested) != document.contested:
            detail = f"{_name(entry, signer)}: the contested lanes aren't those that it signed"
            raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
    contests = tuple(lane.by(signer) for entry, _, signer in signed for lane in entry.contested)
    unopened = {leaf.sha256: _name(entry, signer) for entry, _, signer in signed for leaf in entry.unopened}
    for of in stated if unopened else ():
        if of.sha256 in unopened:
            detail = f"{unopened[of.sha256]}: the statement {of.sha256} is in the archive, and called unknown"
            raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
    banks: dict[str, list[tuple[SignedAttestation, Attestation]]] = {}
    for entry, document, signer in signed:
        banks.setdefault(signer, []).append((entry, document))
    return Attested(stated, {bank: _word(own) for bank, own in banks.items()}, signers, contests)


def _word(own: Sequence[tuple[SignedAttestation, Attestation]]) -> BankWord:
    screenings: set[str] = set()
    screening: str | None = None
    for _, document in own:
        named = document.screening
        if named is not None and (named in screenings or len(screenings) < SCREENINGS_MAX):
            screenings.add(named)
            screening = named
    return BankWord(
        attestations=len(own),
        complete=any(document.complete for _, document in own),
        unopened=frozenset(leaf.sha256 for entry, _ in own for leaf in entry.unopened),
        screenings=frozenset(screenings),
        screening=screening,
    )


def _with_leaves(
    cycle: str, positions: Iterable[AttestedPosition], signers: Sequence[str], leaves: Sequence[list[bytes]]
) -> Iterator[Stated]:
    """Read positions with their digests, and add each to the leaves of the attestations that it names."""
    source, number, previous, holding = iter(positions), 0, None, set[int]()
    kept: dict[str, str] = {}
    while rows := list(islice(source, POSITIONS_AT_ONCE)):
        try:
            of_rows = digests(cycle, (row.position for row in rows))
        except PositionError as error:
            detail = f"{POSITIONS_FILE} line {number + error.index + 1}: {error}"
            raise RefutedError(Finding.FORMAT_VIOLATION, detail) from error
        for number, (row, digest) in enumerate(zip(rows, of_rows, strict=True), number + 1):  # noqa: B020
            p, where = row.position, f"{POSITIONS_FILE} line {number}"
            if (key := p.key) != previous:
                previous, holding = key, set()
            banks: list[str] = []
            for of in row.attested:
                if not 0 < of <= len(signers):
                    raise RefutedError(Finding.ATTESTATION_DIFFERS, f"{where}: there is no attestation {of}")
                if of in holding:
                    detail = f"{where}: attestation {of} states {_pair(key)} twice"
                    raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
                holding.add(of)
                if (bank := signers[of - 1]) not in key:
                    raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, f"{where}: {bank} states {_pair(key)}")
                leaves[of - 1].append(digest)
                if bank not in banks:
                    banks.append(bank)
            if (contradiction := inconsistency(p)) is not None:
                raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_pair(key)}: {contradiction}")
            yield Stated(_without_roots(p, kept), digest.hex(), tuple(banks), row.attested)


def _without_roots(p: Position, kept: dict[str, str]) -> Position:
    """Return a position that takes less memory: its names once for all, and no roots, of which the digest says all."""
    once = kept.setdefault
    return Position(
        once(p.currency, p.currency),
        once(p.low, p.low),
        once(p.high, p.high),
        p.revision,
        p.forth_first,
        p.forth_last,
        p.forth_count,
        p.forth_minor,
        "",
        p.back_first,
        p.back_last,
        p.back_count,
        p.back_minor,
        "",
    )


def _check_tree(entry: SignedAttestation, document: Attestation, signer: str, opened: Sequence[bytes]) -> None:
    """Check that an attestation's leaves are as many as it says, and come to its root."""
    name, count = _name(entry, signer), len(opened) + len(entry.unopened)
    if count != document.statements:
        detail = f"{name}: signed for {document.statements} statements, the archive holds {count} of its leaves"
        raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
    rest, unopened = iter(opened), {leaf.index: bytes.fromhex(leaf.sha256) for leaf in entry.unopened}
    places = [leaf.index for leaf in entry.unopened]
    if places != sorted(unopened) or (places and places[-1] >= count):
        raise RefutedError(Finding.ATTESTATION_DIFFERS, f"{name}: leaves out of order, or in places that there aren't")
    if root_over(unopened[at] if at in unopened else next(rest) for at in range(count)) != document.root:
        raise RefutedError(Finding.ATTESTATION_DIFFERS, f"{name}: its positions don't come to the root that it signed")


class Judged(NamedTuple):
    """What counts of what was stated, and which banks stated two things for one pair and revision."""

    stated: tuple[Stated, ...]
    contradicted: frozenset[str]


def judge(attested: Attested, revisions_max: int) -> Judged:
    """Judge attestations one after another as the coordinator has to, and return what counts of each.

    Of two statements for one pair and revision a bank's first counts, a revision counts that follows the one before or
    its counterparty's, and after the two agree none. Raises RefutedError for a position that counts for nobody.
    """
    contradicted: set[str] = set()
    counting: list[Stated] = []
    for key, group in groupby(attested.stated, lambda of: of.position.key):
        rows = list(group)
        if len(rows) == 1 and rows[0].position.revision == 1:
            counting += rows
            continue
        by_number = {number: row for row in rows for number in row.attested}
        of_banks: dict[str, dict[int, str]] = {bank: {} for bank in key[1:]}
        for number, row in sorted(by_number.items()):
            bank, revision = attested.signers[number - 1], row.position.revision
            theirs = of_banks[key[2] if bank == key[1] else key[1]]
            placement = placement_of(
                revision=revision, sha256=row.sha256, own=of_banks[bank], theirs=theirs, revisions_max=revisions_max
            )
            if placement is Placement.NEW:
                of_banks[bank][revision] = row.sha256
            elif placement is Placement.EQUIVOCATION:
                contradicted.add(bank)
        for row in rows:
            signers = tuple(bank for bank in row.signers if of_banks[bank].get(row.position.revision) == row.sha256)
            if not signers:
                detail = f"revision {row.position.revision} of {_pair(key)}, which none of its banks could state then"
                raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
            counting.append(row._replace(signers=signers))
    return Judged(tuple(counting), frozenset(contradicted))


def signed_alone(statements: Iterable[tuple[PositionStatement, str, str]]) -> Attested:
    """Return what banks stated that signed each statement by itself: documents with digests and signers."""
    signers: dict[str, list[str]] = {}
    positions: dict[str, Position] = {}
    for document, sha256, signer in statements:
        if sha256 not in positions:
            positions[sha256] = position_of(document)
        signers.setdefault(sha256, []).append(signer)
    stated = sorted(
        (Stated(positions[sha256], sha256, tuple(banks)) for sha256, banks in signers.items()),
        key=lambda of: (of.position.key, of.position.revision),
    )
    return Attested(tuple(stated), {})


def position_of(statement: PositionStatement) -> Position:
    """Return what a statement says. Raises RefutedError where that contradicts itself."""
    position = of_statement(statement)
    contradiction = inconsistency(position)
    if contradiction is None and statement_of(statement.cycle, position) != statement:
        contradiction = "its flows aren't those of the pair, in its order"
    if contradiction is not None:
        raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_pair(position.key)}: {contradiction}")
    return position


def _name(entry: SignedAttestation, signer: str) -> str:
    return f"{ATTESTATIONS_FILE} line {entry.number} of {signer}"


def _pair(key: PairKey) -> str:
    return f"{key[0]} {'/'.join(key[1:])}"
