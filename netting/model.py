"""Obligations between participants, in canonical order or refused with a reason.

A participant and a currency are opaque names here; an amount is an integer number of minor units.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum

AMOUNT_MAX = 10**38 - 1
"""The largest amount, and the largest sum in one currency: 38 decimal digits, as on the wire and in SQL."""


class ObligationReason(StrEnum):
    """Why obligations can't be netted, in order of precedence."""

    DUPLICATE_ID = "duplicate_id"
    """An earlier obligation has the same id."""
    UNKNOWN_PARTICIPANT = "unknown_participant"
    """Participants are given, and the debtor or the creditor isn't one of them."""
    SELF_PAYMENT = "self_payment"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_OVERFLOW = "amount_overflow"
    """The amount needs more than 38 digits."""
    DUPLICATE = "duplicate"
    """There is another obligation of the same currency, debtor and creditor, where one stands for all."""
    SUM_OVERFLOW = "sum_overflow"
    """The amounts of a currency add up to more than 38 digits."""


@dataclass(frozen=True, slots=True, order=True)
class Obligation:
    """`debtor` owes `creditor` an amount. The field order is the canonical order."""

    currency: str
    debtor: str
    creditor: str
    amount: int

    @property
    def pair(self) -> tuple[str, str]:
        """Return the two participants, sorted."""
        return (self.debtor, self.creditor) if self.debtor < self.creditor else (self.creditor, self.debtor)


class ObligationRefusedError(ValueError):
    """An obligation that can't be netted: a stable `reason`, and the place it holds for.

    `obligation` is the first one it holds for, `at` how many were given before it (None where they were put in
    canonical order first), `field` the field that is wrong.
    """

    def __init__(self, reason: ObligationReason, obligation: Obligation, *, field: str, at: int | None = None) -> None:
        super().__init__(f"{reason}: {obligation}")
        self.reason = reason
        self.obligation = obligation
        self.field = field
        self.at = at


def objection(
    debtor: str, creditor: str, amount: int, participants: Container[str] | None = None
) -> tuple[ObligationReason, str] | None:
    """Return why an obligation by itself can't be netted, with the field it is about, or None if it can."""
    if participants is not None:
        if debtor not in participants:
            return ObligationReason.UNKNOWN_PARTICIPANT, "debtor"
        if creditor not in participants:
            return ObligationReason.UNKNOWN_PARTICIPANT, "creditor"
    if debtor == creditor:
        return ObligationReason.SELF_PAYMENT, "creditor"
    if amount <= 0:
        return ObligationReason.AMOUNT_NOT_POSITIVE, "amount"
    if amount > AMOUNT_MAX:
        return ObligationReason.AMOUNT_OVERFLOW, "amount"
    return None


def canonicalise(obligations: Iterable[Obligation]) -> tuple[Obligation, ...]:
    """Return the obligations in canonical order. Raises ObligationRefusedError.

    There is at most one obligation for each currency, debtor and creditor, and the sum of a currency fits in 38
    digits, so no net can overflow either. Every order of the same obligations gives the same answer, and the
    same refusal.
    """
    ordered = tuple(sorted(obligations))
    previous: Obligation | None = None
    total = 0
    for obligation in ordered:
        refused = objection(obligation.debtor, obligation.creditor, obligation.amount)
        if refused is not None:
            raise ObligationRefusedError(refused[0], obligation, field=refused[1])
        if previous is None or previous.currency != obligation.currency:
            total = 0
        elif (previous.debtor, previous.creditor) == (obligation.debtor, obligation.creditor):
            raise ObligationRefusedError(ObligationReason.DUPLICATE, obligation, field="creditor")
        total += obligation.amount
        if total > AMOUNT_MAX:
            raise ObligationRefusedError(ObligationReason.SUM_OVERFLOW, obligation, field="amount")
        previous = obligation
    return ordered
