"""What is known of a cycle that takes in what banks sign: cuts, statements, and where each pair stands. Pure.

A book is kept in memory and brought up to date by what is new in the tables, so whatever looks at a cycle costs as much
as has changed since somebody looked last. Everything in it follows from the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from compliance.cycle.contests import Contest, contested_pairs, standing
from compliance.cycle.cuts import Bounds, Lane, pairs_taken_in
from compliance.cycle.matching import Attested, Match, PairKey, match_pair
from compliance.cycle.positions import Position
from compliance.statements import CarryReason, LaneCut

Standing = Literal["agreed", "differing", "missing"]

Closed = tuple[PairKey, str | None, CarryReason | None]
"""A pair, the digest of what its banks agree on, or the reason why it is carried over."""


class Statement(Struct, frozen=True, gc=False):
    """A position statement that was taken in, by whichever bank: its digest, and what flows forth and back."""

    key: PairKey
    revision: int
    sha256: bytes
    forth: int
    back: int


class Pair(Struct, gc=False):
    """What the two banks of a pair stated, each in the order in which it did, and how that comes together."""

    low: tuple[Statement, ...]
    high: tuple[Statement, ...]
    standing: Standing = "missing"
    missing_from: str | None = None

    def of(self, bank: str, key: PairKey) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        """Return what a bank of the pair stated, and what the other one did."""
        return (self.low, self.high) if bank == key[1] else (self.high, self.low)


class Counts(Struct, gc=False):
    """How many pairs of a bank, or of all, stand where."""

    agreed: int = 0
    differing: int = 0
    missing: int = 0


class Book:
    """The book of one cycle. It belongs to whoever holds its lock (`books`)."""

    def __init__(self, cycle: str) -> None:
        self.cycle = cycle
        self.unsettled = False
        """Whether somebody is at it: what is in here may not be committed, or not be complete."""
        self.all_cuts = False
        """Whether no further cut can come."""
        self.seen = 0
        """The last attestation that is in here."""
        self.contests_seen = 0
        self.contests: list[Contest] = []
        self.cut_digests: dict[str, str] = {}
        """Of each bank whose cut is in here."""
        self.cuts: dict[Lane, int] = {}
        self.settled: dict[Lane, int] | None = None
        """Through which payment each lane is settled; None as long as nobody has asked for it."""
        self.statements: defaultdict[str, int] = defaultdict(int)
        """How many statements each bank has made."""
        self.total = Counts()
        self.counts: defaultdict[str, Counts] = defaultdict(Counts)
        self.gross: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        """What each bank receives and pays by the pairs that agree, by (currency, bank)."""
        self._sending: defaultdict[str, list[Lane]] = defaultdict(list)
        self._receiving: defaultdict[str, list[Lane]] = defaultdict(list)
        self._pairs: dict[PairKey, Pair] = {}
        self._by_digest: dict[bytes, Statement] = {}
        self._differing: dict[PairKey, None] = {}
        self._awaited: defaultdict[str, dict[PairKey, None]] = defaultdict(dict)
        """The pairs that each bank hasn't stated as the other one has."""
        self._unstated: set[PairKey] | None = None
        """The pairs with payments of which nobody has stated anything; None as long as nobody has asked for them."""
        self._names: dict[str, str] = {}

    # --- cuts

    def take_cut(self, receiver: str, sha256: str, lanes: Iterable[LaneCut]) -> None:
        """Take a bank's cut in."""
        self.cut_digests[receiver] = sha256
        receiver, name_of = self._name(receiver), self._name
        for cut in lanes:
            lane = (name_of(cut.sender), receiver, name_of(cut.currency))
            self.cuts[lane] = cut.last_sequence
            self._sending[lane[0]].append(lane)

    def take_settled(self, settled: dict[Lane, int]) -> None:
        """Take in through which payment each lane is settled, which stays as it is until the cycle ends."""
        self.settled = settled
        for lane in settled:
            self._receiving[lane[1]].append(lane)

    def settled_of(self, receiver: str) -> dict[Lane, int]:
        """Return through which payment the lanes to a bank are settled."""
        settled = self.settled or {}
        return {lane: settled[lane] for lane in self._receiving.get(receiver, ())}

    def sent_by(self, sender: str) -> list[tuple[Lane, int]]:
        """Return where the lanes from a bank are cut, in order."""
        return [(lane, self.cuts[lane]) for lane in sorted(self._sending.get(sender, ()))]

    @property
    def bounds(self) -> Bounds:
        return Bounds(delivered=self.cut_digests.keys(), cuts=self.cuts, settled=self.settled)

    # --- statements

    def known(self, sha256: bytes) -> Statement | None:
        """Return a statement that was taken in."""
        return self._by_digest.get(sha256)

    def pair(self, key: PairKey) -> Pair | None:
        """Return what the banks of a pair stated; None where neither said anything."""
        return self._pairs.get(key)

    def statement(self, p: Position, sha256: bytes) -> Statement:
        """Return the statement that a position is, to be taken in."""
        name_of = self._name
        key = (name_of(p.currency), name_of(p.low), name_of(p.high))
        return Statement(key, p.revision, sha256, int(p.forth_minor), int(p.back_minor))

    def take(self, bank: str, statement: Statement) -> Standing:
        """Take in what a bank states, which follows what it stated before; return where its pair stands then."""
        key = statement.key
        pair = self._pairs.get(key)
        if pair is not None and not (pair.low and pair.high) and self._completes(bank, statement, pair):
            return pair.standing
        if pair is None:
            pair = self._pairs[key] = Pair((), ())
            self._by_digest[statement.sha256] = statement
            if self._unstated is not None:
                self._unstated.discard(key)
        else:
            self._by_digest.setdefault(statement.sha256, statement)
            self._count(key, pair, -1)
        if bank == key[1]:
            pair.low = (*pair.low, statement)
        else:
            pair.high = (*pair.high, statement)
        self.statements[bank] += 1
        self._compare(key, pair)
        self._count(key, pair, 1)
        return pair.standing

    def _completes(self, bank: str, statement: Statement, pair: Pair) -> bool:
        """Take in that a bank states for the first time what the other one stated last, which is nearly always so."""
        _, low, high = statement.key
        of_other = pair.high if bank == low else pair.low
        if not of_other or of_other[-1].sha256 != statement.sha256:
            return False
        if bank == low:
            pair.low = (of_other[-1],)
        else:
            pair.high = (of_other[-1],)
        pair.standing, pair.missing_from = "agreed", None
        self.statements[bank] += 1
        for counts in (self.total, self.counts[low], self.counts[high]):
            counts.missing -= 1
            counts.agreed += 1
        del self._awaited[bank][statement.key]
        self._add_gross(statement, 1)
        return True

    def _add_gross(self, agreed: Statement, by: Literal[1, -1]) -> None:
        currency, low, high = agreed.key
        gross, forth, back = self.gross, agreed.forth * by, agreed.back * by
        receives, pays = gross[currency, low]
        gross[currency, low] = (receives + back, pays + forth)
        receives, pays = gross[currency, high]
        gross[currency, high] = (receives + forth, pays + back)

    def _compare(self, key: PairKey, pair: Pair) -> None:
        """Find out where a pair stands. Once it agrees nothing follows."""
        low, high = pair.low, pair.high
        if not (low and high):
            pair.standing, pair.missing_from = "missing", key[2] if low else key[1]
        elif low[-1].sha256 == high[-1].sha256:
            # Nearly all of them, nearly always.
            pair.standing, pair.missing_from = "agreed", None
        else:
            compared = _match(key, pair)
            pair.standing = "differing" if compared.status == "different" else compared.status
            pair.missing_from = compared.missing_from

    def _count(self, key: PairKey, pair: Pair, by: Literal[1, -1]) -> None:
        """Count a pair where it stands, or no more."""
        _, low, high = key
        each = (self.total, self.counts[low], self.counts[high])
        match pair.standing:
            case "missing":
                for counts in each:
                    counts.missing += by
                assert pair.missing_from is not None
                awaited = self._awaited[pair.missing_from]
                if by > 0:
                    awaited[key] = None
                else:
                    awaited.pop(key, None)
            case "differing":
                for counts in each:
                    counts.differing += by
                if by > 0:
                    self._differing[key] = None
                else:
                    self._differing.pop(key, None)
            case "agreed":
                for counts in each:
                    counts.agreed += by
                self._add_gross(_agreed(pair), by)

    def _name(self, name: str) -> str:
        """Return the one copy of a name that is kept: there are many pairs of few banks."""
        return self._names.setdefault(name, name)

    # --- matching

    def match(self, key: PairKey) -> Match:
        """Return where a pair stands that somebody stated."""
        return _match(key, self._pairs[key])

    def awaited_from(self, bank: str) -> list[PairKey]:
        """Return the pairs of which a bank hasn't stated what the other one has."""
        return list(self._awaited.get(bank, ()))

    def open_pairs(self) -> Iterator[tuple[PairKey, Match | None]]:
        """Return the pairs that don't agree, among them those with payments of which nobody stated anything."""
        for key in self._differing:
            yield key, self.match(key)
        for awaited in self._awaited.values():
            for key in awaited:
                yield key, self.match(key)
        for key in self._never_stated():
            yield key, None

    def agreed(self) -> Iterator[PairKey]:
        """Yield the pairs whose banks made the same statement."""
        return (key for key, pair in self._pairs.items() if pair.standing == "agreed")

    def digest_of(self, key: PairKey) -> str:
        """Return the digest of the statement that both banks of a pair made."""
        return _agreed(self._pairs[key]).sha256.hex()

    def _never_stated(self) -> Collection[PairKey]:
        if self._unstated is None:
            taken_in, stated = pairs_taken_in(self.cuts, self.settled or {}), self._pairs
            # One by one: while two sets are compared no other thread works.
            self._unstated = {key for key in taken_in if key not in stated}
        return self._unstated

    # --- contested cuts

    def take_contests(self, contests: Iterable[tuple[int, Contest]]) -> None:
        """Take in what senders contested, each with the id of its event."""
        for number, contest in contests:
            self.contests.append(contest)
            self.contests_seen = number

    def contested(self, more: Sequence[Contest] = ()) -> frozenset[PairKey]:
        """Return the pairs with a lane whose cut is contested still; `more` contests are new."""
        contests = [*self.contests, *more]
        return contested_pairs(contests, cuts=self.cuts, attested=self.attested(c.key for c in contests))

    def contests_standing(self) -> dict[Contest, bool]:
        """Return the contests that the cuts bear out, and of each whether it still stands."""
        return standing(self.contests, cuts=self.cuts, attested=self.attested(c.key for c in self.contests))

    def attested(self, keys: Iterable[PairKey]) -> list[Attested]:
        """Return what both banks of some pairs signed."""
        return [
            Attested(key, bank, statement.revision, statement.sha256.hex())
            for key in set(keys)
            if (pair := self._pairs.get(key)) is not None
            for bank, said in ((key[1], pair.low), (key[2], pair.high))
            for statement in said
        ]


def by_revision(said: Iterable[Statement]) -> dict[int, str]:
    """Return the digests of what a bank said of a pair."""
    return {statement.revision: statement.sha256.hex() for statement in said}


def _match(key: PairKey, pair: Pair) -> Match:
    return match_pair(key, by_revision(pair.low), by_revision(pair.high))


def _agreed(pair: Pair) -> Statement:
    """Return what both banks of a pair stated that agrees."""
    if pair.low[-1].sha256 == pair.high[-1].sha256:
        return pair.low[-1]
    of_high = {statement.sha256 for statement in pair.high}
    return next(statement for statement in reversed(pair.low) if statement.sha256 in of_high)
