"""A participant that can't pay: what each way out of it would mean, before anybody decides.

Three alternatives side by side, each a pure function of what was agreed:

- the waterfall: the cycle settles as netted and others pay what the defaulters can't;
- unwinding: the cycle is netted again without the defaulters;
- clearing payments: everybody pays what it can, creditors share the loss of their own debtor, and who falls because of
  it is found round by round.

Each is a module of `netting.loss_allocation`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from netting.loss_allocation.clearing_vector import WORK, ClearingVector, clearing_vector
from netting.loss_allocation.unwind import Unwind, unwind
from netting.loss_allocation.waterfall import Waterfall, WaterfallOutcome, apply, check
from netting.model import Obligation, canonicalise
from netting.multilateral import ConservationError
from netting.refusal import RefusedError

Account = tuple[str, str]
"""Participant and currency."""


class DefaultReason(StrEnum):
    """Why a default can't be worked out, in order of precedence."""

    NO_DEFAULTER = "no_defaulter"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    NEGATIVE = "negative"
    SHORTFALL_TOO_LARGE = "shortfall_too_large"


@dataclass(frozen=True, slots=True)
class CurrencyDefault:
    """The alternatives in one currency. `clearing` is None where nothing is owed, or the work wasn't enough."""

    currency: str
    shortfalls: tuple[tuple[str, int], ...]
    waterfall: WaterfallOutcome
    unwind: Unwind
    clearing: ClearingVector | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What each alternative would mean; nothing is changed by it. Everything is in canonical order."""

    defaulters: tuple[str, ...]
    currencies: tuple[CurrencyDefault, ...]

    @property
    def covered(self) -> bool:
        """Return whether the waterfall would cover every loss."""
        return all(currency.waterfall.uncovered == 0 for currency in self.currencies)


def dry_run(
    obligations: Iterable[Obligation],
    defaulters: Collection[str],
    waterfall: Waterfall,
    *,
    shortfalls: Mapping[Account, int] | None = None,
    caps: Mapping[Account, int] | None = None,
    cash: Mapping[Account, int] | None = None,
    set_off: bool = True,
    work: int = WORK,
) -> DryRun:
    """Return the alternatives for the default of `defaulters`, in every currency of the obligations, alphabetically.

    Amounts are minor units, by participant and currency. `shortfalls`: what a defaulter can't pay of its net debit; all
    of it if absent. `caps`: the net debit caps that an unwinding may exceed. In the clearing payments a defaulter has
    what it can pay of its net debit, a survivor its own net debit or what `cash` says if that is more; with `set_off`
    the two debts of a pair are set off first; `work` bounds them. Raises RefusedError and ObligationRefusedError.
    A function of the sets given: no order matters but that of the waterfall's layers.
    """
    ordered = canonicalise(obligations)
    defaulter_names = frozenset(defaulters)
    nets = _nets(ordered)
    short = _shortfalls(nets, defaulter_names, shortfalls or {})
    check(waterfall)
    unwound = {
        unwound_currency.currency: unwound_currency for unwound_currency in unwind(ordered, defaulter_names, caps)
    }
    clearing = _clearing(ordered, _cash(nets, defaulter_names, short, cash or {}), set_off=set_off, work=work)
    result: list[CurrencyDefault] = []
    for currency in sorted(unwound):
        losses = {name: short[name, currency] for name in sorted(defaulter_names) if (name, currency) in short}
        survivors = [change.participant for change in unwound[currency].changes]
        exposures = _exposures(ordered, currency, defaulter_names)
        outcome = apply(waterfall, currency, losses, survivors, exposures)
        _conserve(outcome)
        result.append(
            CurrencyDefault(currency, tuple(losses.items()), outcome, unwound[currency], clearing.get(currency))
        )
    return DryRun(tuple(sorted(defaulter_names)), tuple(result))


def _nets(ordered: tuple[Obligation, ...]) -> dict[Account, int]:
    nets: dict[Account, int] = {}
    for obligation in ordered:
        for name, amount in ((obligation.debtor, -obligation.amount), (obligation.creditor, obligation.amount)):
            nets[name, obligation.currency] = nets.get((name, obligation.currency), 0) + amount
    return nets


def _shortfalls(
    nets: dict[Account, int], defaulters: frozenset[str], stated: Mapping[Account, int]
) -> dict[Account, int]:
    """Return what each defaulter can't pay of its net debit, by account, where that is anything."""
    if not defaulters:
        raise RefusedError(DefaultReason.NO_DEFAULTER, "defaulters", "name at least one")
    taking_part = {name for name, _ in nets}
    for name in sorted(defaulters):
        if name not in taking_part:
            raise RefusedError(DefaultReason.UNKNOWN_PARTICIPANT, name, f"{name} owes nothing and is owed nothing")
    for (name, currency), amount in sorted(stated.items()):
        place = f"shortfall of {name} in {currency}"
        if name not in defaulters:
            raise RefusedError(DefaultReason.UNKNOWN_PARTICIPANT, place, f"{name} isn't one of the defaulters")
        if amount < 0:
            raise RefusedError(DefaultReason.NEGATIVE, place, f"it is {amount}")
        if amount > max(0, -nets.get((name, currency), 0)):
            raise RefusedError(DefaultReason.SHORTFALL_TOO_LARGE, place, f"{amount} is more than its net debit")
    shortfalls = {
        account: stated.get(account, -net) for account, net in nets.items() if account[0] in defaulters and net < 0
    }
    return {account: amount for account, amount in shortfalls.items() if amount}


def _cash(
    nets: dict[Account, int], defaulters: frozenset[str], short: dict[Account, int], stated: Mapping[Account, int]
) -> dict[Account, int]:
    has = {account: max(0, -net) - short.get(account, 0) for account, net in nets.items()}
    for account, amount in sorted(stated.items()):
        if amount < 0:
            raise RefusedError(DefaultReason.NEGATIVE, f"cash of {account[0]} in {account[1]}", f"it is {amount}")
        if account in has and account[0] not in defaulters:
            has[account] = max(has[account], amount)
    return has


def _clearing(
    ordered: tuple[Obligation, ...], cash: Mapping[Account, int], *, set_off: bool, work: int
) -> dict[str, ClearingVector]:
    clearing: dict[str, ClearingVector] = {}
    for currency in sorted({obligation.currency for obligation in ordered}):
        own = (obligation for obligation in ordered if obligation.currency == currency)
        try:
            vectors = clearing_vector(own, cash, set_off=set_off, work=work)
        except RefusedError:
            # Only the bound on the work is left to refuse here; the other alternatives don't depend on it.
            continue
        for vector in vectors:
            _conserve_payments(vector)
            clearing[vector.currency] = vector
    return clearing


def _exposures(ordered: tuple[Obligation, ...], currency: str, defaulters: frozenset[str]) -> dict[str, int]:
    """Return what the defaulters owe each survivor net, pair by pair, where that is anything."""
    owed: dict[tuple[str, str], int] = {}
    for obligation in ordered:
        if obligation.currency != currency:
            continue
        if obligation.debtor in defaulters and obligation.creditor not in defaulters:
            pair, amount = (obligation.debtor, obligation.creditor), obligation.amount
        elif obligation.creditor in defaulters and obligation.debtor not in defaulters:
            pair, amount = (obligation.creditor, obligation.debtor), -obligation.amount
        else:
            continue
        owed[pair] = owed.get(pair, 0) + amount
    exposures: dict[str, int] = {}
    for (_, survivor), amount in sorted(owed.items()):
        if amount > 0:
            exposures[survivor] = exposures.get(survivor, 0) + amount
    return exposures


def _conserve(outcome: WaterfallOutcome) -> None:
    paid = sum(share.amount for layer in outcome.layers for share in layer.shares)
    if paid + outcome.uncovered != outcome.loss or paid != outcome.covered:
        raise ConservationError(f"{outcome.currency}: the layers paid {paid} of {outcome.loss}")


def _conserve_payments(vector: ClearingVector) -> None:
    paid = sum(bank.paid for bank in vector.banks)
    received = sum(bank.received for bank in vector.banks)
    if paid != received or any(bank.cash + bank.received != bank.paid + bank.remaining for bank in vector.banks):
        raise ConservationError(f"{vector.currency}: banks paid {paid} and were paid {received}")
