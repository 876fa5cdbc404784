"""What moved on a bank's settlement account, against what it was instructed with. Pure.

The settlement agent tells a bank of every entry on its accounts (camt.054). Each must follow from an instruction that
this bank verified against its own statements, and each settled instruction must have moved its net: what doesn't is an
alarm, for then somebody else's word moved the bank's money, or the agent's books aren't what finality said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LATE_SECONDS = 60.0
"""How long an entry may wait for its instruction: the agent may be quicker than the coordinator's feed."""
UNCONFIRMED_SECONDS_MAX = 900.0
"""How long after finality an entry may be missing while the agent can't be read, and finality after an entry."""


class MovementFault(StrEnum):
    """What is wrong between the agent's entries and this bank's instructions, in order of precedence."""

    NOT_SIGNED = "movement_not_signed"
    """The agent's active or former `sign` key didn't sign what it said, or it isn't about this bank's account."""
    LEFT_OUT = "movement_left_out"
    """The numbers of an account's entries have a gap, or one number twice."""
    NOT_INSTRUCTED = "movement_not_instructed"
    """This bank has no instruction for the cycle in that currency."""
    AMOUNT_DIFFERS = "movement_amount_differs"
    """It isn't the net of this bank's instruction."""
    REPEATED = "movement_repeated"
    """The cycle moved this account before."""
    DEBIT_UNASKED = "movement_debit_unasked"
    """Money was taken outside of any cycle; a credit outside of cycles is a funding, and no fault."""
    NOT_FINAL = "movement_not_final"
    """It moved for a cycle that doesn't become final: what it settled may be settled once more."""
    MISSING = "movement_missing"
    """A cycle is final, and its net didn't move."""
    NOT_BOOKED = "movement_not_booked"
    """The internal account that stands against it is blocked or closed, or no account holds as much."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong. `movement` is the agent's number of it; there is none for what is missing."""

    fault: MovementFault
    currency: str
    cycle: str | None
    movement: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Movement:
    """One entry on this bank's account. `id` is its number in the agent's feed, `sequence` its number on the account.

    `amount` is positive where the bank was credited; `cycle` is None outside of cycles.
    """

    id: int
    currency: str
    sequence: int
    amount: int
    cycle: str | None
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a cycle comes to for this bank in one currency: the nets it was instructed with, and the one that is final.

    After a default there are several instructions, of which one becomes final.
    """

    nets: Mapping[str, int]
    final: str | None = None
    final_at: datetime | None = None

    def allows(self, amount: int) -> bool:
        """Tell whether an amount is what the agent may have moved."""
        final = self.net
        return amount in self.nets.values() if final is None else amount == final

    @property
    def net(self) -> int | None:
        """What is final, None before anything is."""
        return None if self.final is None else self.nets.get(self.final)


Settlements = Mapping[tuple[str, str], Settlement]
"""By cycle and currency."""


def findings(
    movements: Iterable[Movement],
    settlements: Settlements,
    *,
    now: datetime,
    complete: bool,
    explained: Collection[int] = (),
    late_s: float = LATE_SECONDS,
) -> tuple[Finding, ...]:
    """Return what is wrong, in order. `movements` are by their numbers.

    `complete` says that the agent's entries were read to their end after the settlements were; `explained` are the
    movements for which this bank's people know the reason.
    """
    listed: list[Finding] = []
    moved: set[tuple[str, str]] = set()
    sequences: defaultdict[str, int] = defaultdict(int)
    for movement in movements:
        sequences[movement.currency] += 1
        if movement.sequence != sequences[movement.currency]:
            detail = f"entry {movement.sequence} of the account came as number {sequences[movement.currency]}"
            listed.append(_finding(MovementFault.LEFT_OUT, movement, detail))
            sequences[movement.currency] = movement.sequence
        if movement.id not in explained and (what := _wrong(movement, settlements, moved, now, late_s)) is not None:
            listed.append(what)
        if movement.cycle is not None:
            moved.add((movement.cycle, movement.currency))
    for (cycle, currency), settlement in settlements.items():
        if (cycle, currency) in moved or not settlement.net:
            continue
        overdue = settlement.final_at is not None and now - settlement.final_at > timedelta(
            seconds=UNCONFIRMED_SECONDS_MAX
        )
        if complete or overdue:
            detail = f"{settlement.net} is final and didn't move"
            listed.append(Finding(MovementFault.MISSING, currency, cycle, None, detail))
    return tuple(listed)


def to_book(
    movements: Iterable[Movement], settlements: Settlements, *, explained: Collection[int] = ()
) -> tuple[tuple[Movement, int], ...]:
    """Return what the nostro must be moved by beside the settled cycles: each entry with its amount, in order.

    All that moved outside of cycles is. Of what moved for a cycle, and people have explained, what the cycle's own net
    doesn't explain; nothing as long as that may still become final.
    """
    listed: list[tuple[Movement, int]] = []
    moved: set[tuple[str, str]] = set()
    for movement in movements:
        amount = movement.amount
        if movement.cycle is not None:
            key = (movement.cycle, movement.currency)
            settlement = settlements.get(key)
            if movement.id not in explained:
                amount = 0
            elif settlement is not None and key not in moved:
                amount = 0 if settlement.net is None else amount - settlement.net
            moved.add(key)
        if amount:
            listed.append((movement, amount))
    return tuple(listed)


def _wrong(
    movement: Movement,
    settlements: Settlements,
    moved: Collection[tuple[str, str]],
    now: datetime,
    late_s: float,
) -> Finding | None:
    """Return what is wrong with one entry, None if nothing is or it may still be explained."""
    if movement.cycle is None:
        if movement.amount > 0:
            return None
        return _finding(MovementFault.DEBIT_UNASKED, movement, f"{movement.amount} outside of any cycle")
    settlement = settlements.get((movement.cycle, movement.currency))
    if settlement is None:
        if now - movement.seen_at <= timedelta(seconds=late_s):
            return None
        return _finding(MovementFault.NOT_INSTRUCTED, movement, f"{movement.amount}, and no instruction")
    if (movement.cycle, movement.currency) in moved:
        return _finding(MovementFault.REPEATED, movement, f"{movement.amount}, a second time")
    if not settlement.allows(movement.amount):
        expected = " or ".join(str(net) for net in sorted(set(settlement.nets.values())))
        return _finding(MovementFault.AMOUNT_DIFFERS, movement, f"{movement.amount} instead of {expected}")
    if settlement.final is None and now - movement.seen_at > timedelta(seconds=UNCONFIRMED_SECONDS_MAX):
        return _finding(MovementFault.NOT_FINAL, movement, f"{movement.amount} moved, and the cycle isn't final")
    return None


def _finding(fault: MovementFault, movement: Movement, detail: str) -> Finding:
    return Finding(fault, movement.currency, movement.cycle, movement.id, detail)
