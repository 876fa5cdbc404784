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
            (prefunding.participant, prefunding.currency): int(prefunding.prefunded_minor)
            - int(prefunding.reserved_minor)
            for prefunding in self.prefunding
        }
        caps = {(cap.participant, cap.currency): int(cap.cap_minor) for cap in self.caps}
        # No sum of a currency is above AMOUNT_MAX, so a limit there is none.
        return {account: min(max(0, cap + free.get(account, 0)), AMOUNT_MAX) for account, cap in caps.items()}

    def between(self) -> dict[tuple[str, str, str], int]:
        """Return the bilateral limits by (who may owe, whom, currency)."""
        return {
            (limit.counterparty, limit.participant, limit.currency): int(limit.limit_minor) for limit in self.bilateral
        }


def in_order(limits: Limits) -> Limits:
    """Return the limits with their lists in order."""
    return Limits(
        caps=tuple(sorted(limits.caps, key=_order)),
        prefunding=tuple(sorted(limits.prefunding, key=_order)),
        bilateral=tuple(sorted(limits.bilateral, key=lambda limit: (*_order(limit), limit.counterparty))),
    )


def _order(limit: Cap | Prefunding | BilateralLimit) -> Account:
    return (limit.currency, limit.participant)


def repeated(limits: Limits) -> str | None:
    """Return what is limited twice, or None."""
    keys: list[tuple[str, ...]] = [("cap", cap.participant, cap.currency) for cap in limits.caps]
    keys += [("prefunding", prefunding.participant, prefunding.currency) for prefunding in limits.prefunding]
    keys += [("bilateral limit", limit.participant, limit.counterparty, limit.currency) for limit in limits.bilateral]
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen:
            return " ".join(key)
        seen.add(key)
    return None
