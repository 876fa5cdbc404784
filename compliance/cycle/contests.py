"""Cuts that a sender contests: its receiver's cut names payments of their lane that it doesn't know. Pure.

An attestation names the digest of the lanes that its bank contests, so none can be hidden and none invented. Neither
bank is convicted by it: the receiver may have cut what was never sent, or the sender may have lost the answers. Only
what travels on the lane waits for a later cycle. Coordinator and verifier judge by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.cycle.cuts import Lane
from compliance.cycle.matching import Attested, PairKey
from compliance.event_log import LoggedEvent
from compliance.statements import Bic, CurrencyCode, Document
from compliance.statements import Sequence as Number

CONTEST_EVENT = "cycle.cut_contested"
"""The event that keeps a sender's word, whether or not it is mended later."""


class ContestedLane(Document, frozen=True, kw_only=True):
    """A lane of a sender's that its receiver cut at `cut_at`, while the sender knows only `known_through` of it."""

    receiver: Bic
    currency: CurrencyCode
    cut_at: Number
    known_through: Number

    def by(self, sender: str) -> Contest:
        """Return what its sender says with it."""
        return Contest(
            sender=sender,
            receiver=self.receiver,
            currency=self.currency,
            cut_at=self.cut_at,
            known_through=self.known_through,
        )


def digest_of(lanes: Sequence[ContestedLane]) -> str | None:
    """Return the digest that an attestation names for contested lanes; None where there are none."""
    return canonical.digest(canonical.encode(lanes)) if lanes else None


def first_out_of_order(lanes: Sequence[ContestedLane]) -> int | None:
    """Return the first lane that doesn't come after the one before it, by receiver and currency; None if all do."""
    keys = [(lane.receiver, lane.currency) for lane in lanes]
    return next((at for at in range(1, len(keys)) if keys[at] <= keys[at - 1]), None)


class Contest(Struct, frozen=True, kw_only=True):
    """A sender knows payments 1..known_through of a lane that the receiver cut at a higher number."""

    sender: Bic
    receiver: Bic
    currency: CurrencyCode
    cut_at: Number
    known_through: Number

    @property
    def lane(self) -> Lane:
        return (self.sender, self.receiver, self.currency)

    @property
    def key(self) -> PairKey:
        return (self.currency, min(self.sender, self.receiver), max(self.sender, self.receiver))

    def data(self) -> dict[str, Any]:
        """Return what its event says."""
        return {"pair": list(self.key[1:]), **msgspec.to_builtins(self)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what its event says. Raises msgspec.ValidationError."""
        return msgspec.convert(data, cls)


def contests_in(events: Iterable[LoggedEvent], cycle: str) -> list[Contest]:
    """Return what senders contested in a cycle, from its events. Raises msgspec.ValidationError."""
    return [Contest.of(event.data) for event in events if event.cycle == cycle and event.type == CONTEST_EVENT]


def unsupported(contest: Contest, cuts: Mapping[Lane, int]) -> str | None:
    """Return why the cuts don't bear a contest out, or None if they do."""
    cut_at = cuts.get(contest.lane, 0)
    if contest.cut_at != cut_at:
        return f"{' '.join(contest.lane)}: contested at {contest.cut_at}, cut at {cut_at}"
    if contest.known_through >= cut_at:
        return f"{' '.join(contest.lane)}: known through {contest.known_through}, cut at {cut_at}"
    return None


def standing(
    contests: Iterable[Contest], *, cuts: Mapping[Lane, int], attested: Iterable[Attested]
) -> dict[Contest, bool]:
    """Return the contests that the cuts bear out, and of each whether it still stands.

    It is over once the sender signs for the pair: it knows what the cut names then.
    """
    signed = {(statement.key, statement.participant) for statement in attested}
    return {
        contest: (contest.key, contest.sender) not in signed
        for contest in contests
        if unsupported(contest, cuts) is None
    }


def contested_pairs(
    contests: Iterable[Contest], *, cuts: Mapping[Lane, int], attested: Iterable[Attested]
) -> frozenset[PairKey]:
    """Return the pairs with a lane whose cut is contested still."""
    stands = standing(contests, cuts=cuts, attested=attested)
    return frozenset(contest.key for contest, still in stands.items() if still)
