"""Net debit caps, prefunding and bilateral limits: as they stand, and how they are changed."""

from __future__ import annotations

from compliance.statements import Bic, CurrencyCode, TotalAmount
from gateway.federation.messages.base import Answer, GivenReason, Request


class BilateralLimitChange(Request, frozen=True, kw_only=True):
    """The most that a counterparty may owe a participant net in one currency; null lifts the limit."""

    limit_minor: TotalAmount | None
    reason: GivenReason


class CapView(Answer, frozen=True, kw_only=True):
    """A net debit cap in force."""

    currency: CurrencyCode
    cap_minor: TotalAmount


class PrefundingView(Answer, frozen=True, kw_only=True):
    """Money set aside for net debits, and how much of it no cycle may use."""

    currency: CurrencyCode
    prefunded_minor: TotalAmount
    reserved_minor: TotalAmount


class BilateralLimitView(Answer, frozen=True, kw_only=True):
    """The most that a counterparty may owe this participant net."""

    counterparty: Bic
    currency: CurrencyCode
    limit_minor: TotalAmount


class SchemeLimitView(Answer, frozen=True, kw_only=True):
    """The most that any bank may owe another, unsettled, where that one granted no limit."""

    currency: CurrencyCode
    limit_minor: TotalAmount


class ExposureLimitsView(Answer, frozen=True, kw_only=True):
    """`GET /exposure-limits`: what others may owe the bank that asks."""

    scheme: tuple[SchemeLimitView, ...]
    granted: tuple[BilateralLimitView, ...]
