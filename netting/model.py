"""Obligations between participants, in canonical order or refused with a reason.

A participant and a currency are opaque names here; an amount is an integer number of minor units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

AMOUNT_MAX = 10**38 - 1
"""The largest amount, and the largest sum in one currency: 38 decimal digits, as on the wire and in SQL."""


class ObligationReason(StrEnum):
    """Why obligations can't be netted, in order of precedence."""

    SELF_PAYMENT = "self_payment"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_OVERFLOW = "amount_overflow"
    DUPLICATE = "duplicate"
    SUM_OVERFLOW = "sum_overflow"


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
    """An obligation that can't be netted; `reason` is stable, `obligation` is the first one it holds for."""

    def __init__(self, reason: ObligationReason, obligation: Obligation) -> None:
        super().__init__(f"{reason}: {obligation}")
        self.reason = reason
        self.obligation = obligation


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
        if obligation.debtor == obligation.creditor:
            raise ObligationRefusedError(ObligationReason.SELF_PAYMENT, obligation)
        if obligation.amount <= 0:
            raise ObligationRefusedError(ObligationReason.AMOUNT_NOT_POSITIVE, obligation)
        if obligation.amount > AMOUNT_MAX:
            raise ObligationRefusedError(ObligationReason.AMOUNT_OVERFLOW, obligation)
        if previous is None or previous.currency != obligation.currency:
            total = 0
        elif (previous.debtor, previous.creditor) == (obligation.debtor, obligation.creditor):
            raise ObligationRefusedError(ObligationReason.DUPLICATE, obligation)
        total += obligation.amount
        if total > AMOUNT_MAX:
            raise ObligationRefusedError(ObligationReason.SUM_OVERFLOW, obligation)
        previous = obligation
    return ordered
