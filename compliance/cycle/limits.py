"""The limits that a cycle's netting keeps: net debit caps, prefunding and bilateral limits, as documents.

The registry holds them, a result keeps those it was made with, and the audit export hands them on, so that anybody
can net again within the same limits.
"""

from __future__ import annotations

from compliance.statements import Bic, CurrencyCode, Document, TotalAmount
from netting.model import AMOUNT_MAX

Account = tuple[str, str]
"""Participant and currency."""


class Cap(Document, frozen=True, kw_only=True):
    """A net debit cap: how far below zero a participant's position may go, beyond what it prefunded."""

    participant: Bic
    currency: CurrencyCode
    cap_minor: TotalAmount


class Prefunding(Document, frozen=True, kw_only=True):
    """Money that a participant has set aside for its net debits, and how much of it no cycle may use."""

    participant: Bic
    currency: CurrencyCode
    prefunded_minor: TotalAmount
    reserved_minor: TotalAmount


class BilateralLimit(Document, frozen=True, kw_only=True):
    """The most that `counterparty` may owe `participant` net; the participant grants it."""

    participant: Bic
    counterparty: Bic
    currency: CurrencyCode
    limit_minor: TotalAmount


class Limits(Document, frozen=True, kw_only=True):
    """All limits of a cycle, each list in ascending order of (currency, participant, counterparty).

    Who has no cap in a currency isn't limited in it, whatever it prefunded; a cap of zero lets a participant owe no
    more than it prefunded.
    """

    caps: tuple[Cap, ...] = ()
    prefunding: tuple[Prefunding, ...] = ()
    bilateral: tuple[BilateralLimit, ...] = ()

    def debits(self) -> dict[Account, int]:
        """Return the most that each participant with a cap may owe net: cap and prefunding, less what it reserved."""
        free = {
            (one.participant, one.currency): int(one.prefunded_minor) - int(one.reserved_minor)
            for one in self.prefunding
        }
        caps = {(one.participant, one.currency): int(one.cap_minor) for one in self.caps}
        # No sum of a currency is above AMOUNT_MAX, so a limit there is none.
        return {account: min(max(0, cap + free.get(account, 0)), AMOUNT_MAX) for account, cap in caps.items()}

    def between(self) -> dict[tuple[str, str, str], int]:
        """Return the bilateral limits by (who may owe, whom, currency)."""
        return {(one.counterparty, one.participant, one.currency): int(one.limit_minor) for one in self.bilateral}


def in_order(limits: Limits) -> Limits:
    """Return the limits with their lists in order."""
    return Limits(
        caps=tuple(sorted(limits.caps, key=lambda one: (one.currency, one.participant))),
        prefunding=tuple(sorted(limits.prefunding, key=lambda one: (one.currency, one.participant))),
        bilateral=tuple(sorted(limits.bilateral, key=lambda one: (one.currency, one.participant, one.counterparty))),
    )


def repeated(limits: Limits) -> str | None:
    """Return what is limited twice, or None."""
    keys: list[tuple[str, ...]] = [("cap", one.participant, one.currency) for one in limits.caps]
    keys += [("prefunding", one.participant, one.currency) for one in limits.prefunding]
    keys += [("bilateral limit", one.participant, one.counterparty, one.currency) for one in limits.bilateral]
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen:
            return " ".join(key)
        seen.add(key)
    return None
