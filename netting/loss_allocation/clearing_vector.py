"""Clearing payments: what everybody pays when somebody can't.

Each bank pays what it owes in full, or else all it has: its cash and what it is paid. What isn't enough is shared
by its creditors pro rata of their claims. The clearing payments are the greatest ones that agree with themselves
(Eisenberg and Noe, Systemic Risk in Financial Systems, 2001).

In whole minor units the sharing has to be monotone: who has a unit more to share may give nobody less. The method of
the greatest quotients (Jefferson, d'Hondt) is: every unit goes to the claim with the greatest amount/(paid + 1), ties
by name. It gives each the whole part of its exact share or more, never more than its claim, and leaves no remainder.
The largest remainder isn't monotone (Balinski and Young, 1982: the Alabama paradox), and rounding down alone loses
the remainder at every bank, and again on every turn of a circle of banks that pay each other.

So the payments are a monotone map on a finite lattice and have one greatest fixpoint (Knaster, Tarski). It is reached
from above, beginning with everybody paying in full; every round judges all banks by what the last round left, so
the answer doesn't depend on any order. The round in which a bank falls is the distance of the contagion: round 1 can't
pay even if everybody else does, round 2 falls because of round 1, and so on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

from netting.kernels.compile import load, vector
from netting.model import AMOUNT_MAX, Obligation, canonicalise
from netting.refusal import RefusedError

WORK = 200_000_000
"""Debts gone through before giving up: a circle of banks that owe nearly all to each other loses little in a turn."""
_COMPILED_FROM = 20_000
_COMPILED_SUM_MAX = 2**58
_ROOM_COMPILED, _ROOM_INTERPRETED = 2**62, 2**400


class ClearingReason(StrEnum):
    """Why clearing payments can't be computed, in order of precedence."""

    UNKNOWN_PARTICIPANT = "unknown_participant"
    CASH_NEGATIVE = "cash_negative"
    CASH_OVERFLOW = "cash_overflow"
    WORK_EXHAUSTED = "work_exhausted"


@dataclass(frozen=True, slots=True)
class ClearedBank:
    """What a bank has, owes, is paid, pays, and has left. `failing_round` is its round of
    contagion, 0 if it pays in full.

    cash + received == paid + remaining, and nothing remains to a bank that doesn't pay in full.
    """

    participant: str
    cash: int
    owed: int
    received: int
    paid: int
    remaining: int
    failing_round: int

    @property
    def unpaid(self) -> int:
        """Return what its creditors lose."""
        return self.owed - self.paid


@dataclass(frozen=True, slots=True)
class Cut:
    """A debt that isn't paid in full."""

    debtor: str
    creditor: str
    owed: int
    paid: int


@dataclass(frozen=True, slots=True)
class ClearingVector:
    """The clearing payments of a currency; `cuts` are the debts that aren't paid in full, all in canonical order."""

    currency: str
    banks: tuple[ClearedBank, ...]
    cuts: tuple[Cut, ...]
    rounds: int

    @property
    def unpaid(self) -> int:
        """Return what all creditors lose together."""
        return sum(bank.unpaid for bank in self.banks)


def clearing_vector(
    obligations: Iterable[Obligation],
    cash: Mapping[tuple[str, str], int],
    *,
    participants: frozenset[str] | None = None,
    set_off: bool = False,
    work: int = WORK,
) -> tuple[ClearingVector, ...]:
    """Compute the clearing payments of each currency, in alphabetical order. Raises RefusedError.

    `cash` maps (participant, currency) to minor units, 0 if absent. `set_off`: the two debts of a pair are set off
    against each other first, as close-out netting does. Raises ObligationRefusedError for obligations that can't be
    netted. A function of the set of obligations.
    """
    ordered = canonicalise(obligations)
    _check(ordered, cash, participants)
    if set_off:
        ordered = _set_off(ordered)
    return tuple(
        _clear_currency(currency, tuple(group), cash, work)
        for currency, group in groupby(ordered, lambda obligation: obligation.currency)
    )


def clear_edges(
    start: Sequence[int], creditor: Sequence[int], amount: Sequence[int], cash: Sequence[int], *, work: int = WORK
) -> tuple[Any, Any]:
    """Return what is paid on each debt, and the round each bank falls in, 0 for none.

    The debts of bank i are start[i]..start[i + 1], in order of the creditor's number, each of at least one unit.
    Amounts are minor units, checked by the caller. Compiled for large instances, interpreted for small ones and for
    amounts that don't fit. Raises RefusedError.
    """
    total = _sum(amount)
    compiled = len(amount) >= _COMPILED_FROM and total < _COMPILED_SUM_MAX
    kernel = load("netting.kernels.clearing_vector", compiled=compiled)
    # More cash than all debts together is as good as that much, and fits.
    has = vector((min(int(cash_of_bank), total) for cash_of_bank in cash), compiled=compiled)
    paid = vector(amount, compiled=compiled)
    if compiled:
        paid = paid.copy()
    failing_round = vector([0] * len(has), compiled=compiled)
    room = _ROOM_COMPILED if compiled else _ROOM_INTERPRETED
    used = kernel.clear(
        vector(start, compiled=compiled),
        vector(creditor, compiled=compiled),
        vector(amount, compiled=compiled),
        has,
        paid,
        failing_round,
        room,
        work,
    )
    if used < 0:
        raise RefusedError(ClearingReason.WORK_EXHAUSTED, "work", f"more than {work} debts were gone through")
    return paid, failing_round


def _sum(amounts: Any) -> int:
    """Return the exact sum, of an array too, whose own would wrap around where it doesn't fit."""
    if not hasattr(amounts, "tolist"):
        return sum(amounts)
    if len(amounts) and int(amounts.max()) * len(amounts) < _ROOM_COMPILED:
        return int(amounts.sum())
    return sum(amounts.tolist())


def _clear_currency(
    currency: str, obligations: tuple[Obligation, ...], cash: Mapping[tuple[str, str], int], work: int
) -> ClearingVector:
    names = sorted({name for obligation in obligations for name in obligation.pair})
    number = {name: at for at, name in enumerate(names)}
    owed, received = [0] * len(names), [0] * len(names)
    start = [0] * (len(names) + 1)
    for obligation in obligations:
        owed[number[obligation.debtor]] += obligation.amount
        start[number[obligation.debtor] + 1] += 1
    for at in range(len(names)):
        start[at + 1] += start[at]
    has = [cash.get((name, currency), 0) for name in names]
    creditors = [number[obligation.creditor] for obligation in obligations]
    amounts = [obligation.amount for obligation in obligations]
    paid, failing_round = clear_edges(start, creditors, amounts, has, work=work)
    pays = [0] * len(names)
    cuts: list[Cut] = []
    for obligation, paid_on_debt in zip(obligations, map(int, paid), strict=True):
        pays[number[obligation.debtor]] += paid_on_debt
        received[number[obligation.creditor]] += paid_on_debt
        if paid_on_debt < obligation.amount:
            cuts.append(Cut(obligation.debtor, obligation.creditor, obligation.amount, paid_on_debt))
    banks = tuple(
        ClearedBank(
            participant=name,
            cash=has[at],
            owed=owed[at],
            received=received[at],
            paid=pays[at],
            remaining=has[at] + received[at] - pays[at],
            failing_round=int(failing_round[at]),
        )
        for at, name in enumerate(names)
    )
    return ClearingVector(currency, banks, tuple(cuts), max((bank.failing_round for bank in banks), default=0))


def _set_off(obligations: tuple[Obligation, ...]) -> tuple[Obligation, ...]:
    owes: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for obligation in obligations:
        first, second = obligation.pair
        owes[obligation.currency, first, second] += (
            obligation.amount if obligation.debtor == first else -obligation.amount
        )
    return tuple(
        sorted(
            Obligation(currency, first, second, amount) if amount > 0 else Obligation(currency, second, first, -amount)
            for (currency, first, second), amount in owes.items()
            if amount
        )
    )


def _check(
    obligations: tuple[Obligation, ...], cash: Mapping[tuple[str, str], int], participants: frozenset[str] | None
) -> None:
    if participants is not None:
        for obligation in obligations:
            for name in (obligation.debtor, obligation.creditor):
                if name not in participants:
                    place = f"{obligation.debtor} to {obligation.creditor} in {obligation.currency}"
                    raise RefusedError(ClearingReason.UNKNOWN_PARTICIPANT, place, f"{name} isn't a participant")
        for name, currency in sorted(cash):
            if name not in participants:
                place = f"cash of {name} in {currency}"
                raise RefusedError(ClearingReason.UNKNOWN_PARTICIPANT, place, f"{name} isn't a participant")
    for (name, currency), amount in sorted(cash.items()):
        if amount < 0:
            raise RefusedError(ClearingReason.CASH_NEGATIVE, f"cash of {name} in {currency}", f"it is {amount}")
        if amount > AMOUNT_MAX:
            raise RefusedError(ClearingReason.CASH_OVERFLOW, f"cash of {name} in {currency}", "more than 38 digits")
