"""The settlement plan: the movements of money that give every participant its net.

Through the settlement account each bank pays its net debit in, and then each net credit is paid out: one movement per
bank and currency, debits before credits, so that the account is never short and nobody learns whom it was paid by.

Directly, bank to bank, with the fewest transfers found. The nets fall into groups that sum to zero
(`netting.zero_sum`); within a group of k the largest debtor pays the largest creditor until one of the two is done,
which takes at most k − 1 transfers. A transfer goes from a net debtor to a net creditor, so the value moved is the
smallest possible as well. No plan has fewer transfers than nets minus groups, as the banks that transfers connect
sum to zero and connecting k of them takes k − 1; nor fewer than debtors, or creditors.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError
from netting.zero_sum import BoundProof, groups


class PlanReason(StrEnum):
    """Why nets can't be settled, in order of precedence."""

    DUPLICATE = "duplicate"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    SELF_PAYMENT = "self_payment"
    AMOUNT_OVERFLOW = "amount_overflow"
    SUM_OVERFLOW = "sum_overflow"
    NOT_ZERO_SUM = "not_zero_sum"


@dataclass(frozen=True, slots=True, order=True)
class Net:
    """What a participant receives (positive) or pays (negative) in a currency, in minor units."""

    currency: str
    participant: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Transfer:
    """`debtor` pays `creditor` an amount in minor units, greater than zero."""

    debtor: str
    creditor: str
    amount: int


@dataclass(frozen=True, slots=True)
class DirectTransfers:
    """Transfers bank to bank, in canonical order, and the fewest that any plan can have, proven as `proof` says."""

    transfers: tuple[Transfer, ...]
    lower_bound: int
    proof: BoundProof

    @property
    def gap(self) -> int:
        """Return by how many transfers a better plan could beat this one at most; zero is proven optimal."""
        return len(self.transfers) - self.lower_bound


@dataclass(frozen=True, slots=True)
class CurrencyPlan:
    """Two ways to settle one currency. `value` is what has to move: the sum of the positive nets.

    `through_account` names the settlement account as the creditor of the debits, which come first, and as the
    debtor of the credits.
    """

    currency: str
    value: int
    through_account: tuple[Transfer, ...]
    direct: DirectTransfers


def plan(nets: Iterable[Net], *, account: str, participants: frozenset[str] | None = None) -> tuple[CurrencyPlan, ...]:
    """Plan the settlement of each currency, in alphabetical order. Raises RefusedError.

    `account` is the name of the settlement account, and no participant's. If `participants` is given, nobody else
    may be named. A net of zero needs no movement. Every order of the same nets gives the same plan. For n nets of a
    currency O(n²), and 2^20 subsets at most for the last 20 of them.
    """
    ordered = sorted(nets)
    _check(ordered, account, participants)
    return tuple(
        _plan_currency(currency, [net for net in group if net.amount], account)
        for currency, group in groupby(ordered, lambda net: net.currency)
    )


def _plan_currency(currency: str, nets: list[Net], account: str) -> CurrencyPlan:
    debits = [Transfer(net.participant, account, -net.amount) for net in nets if net.amount < 0]
    credits_ = [Transfer(account, net.participant, net.amount) for net in nets if net.amount > 0]
    return CurrencyPlan(
        currency=currency,
        value=sum(credit.amount for credit in credits_),
        through_account=(*debits, *credits_),
        direct=_direct(nets, len(debits), len(credits_)),
    )


def _direct(nets: list[Net], debtors: int, creditors: int) -> DirectTransfers:
    partition = groups([net.amount for net in nets])
    transfers = sorted(transfer for members in partition.members for transfer in _match([nets[at] for at in members]))
    by_groups = len(nets) - partition.most
    if max(debtors, creditors) > by_groups:
        return DirectTransfers(tuple(transfers), max(debtors, creditors), BoundProof.EVERY_NET_MOVES)
    return DirectTransfers(tuple(transfers), by_groups, partition.proof)


def _match(nets: list[Net]) -> list[Transfer]:
    """Return transfers that settle one group: the largest debtor pays the largest creditor, ties by name."""
    debtors = [(net.amount, net.participant) for net in nets if net.amount < 0]
    creditors = [(-net.amount, net.participant) for net in nets if net.amount > 0]
    heapq.heapify(debtors)
    heapq.heapify(creditors)
    transfers: list[Transfer] = []
    while debtors:
        debt, debtor = heapq.heappop(debtors)
        claim, creditor = heapq.heappop(creditors)
        amount = min(-debt, -claim)
        transfers.append(Transfer(debtor, creditor, amount))
        if -debt > amount:
            heapq.heappush(debtors, (debt + amount, debtor))
        if -claim > amount:
            heapq.heappush(creditors, (claim + amount, creditor))
    return transfers


def _check(ordered: list[Net], account: str, participants: frozenset[str] | None) -> None:
    previous: Net | None = None
    for net in ordered:
        place = f"{net.participant} {net.currency}"
        if previous is not None and (previous.currency, previous.participant) == (net.currency, net.participant):
            raise RefusedError(PlanReason.DUPLICATE, place, "two nets of one participant and currency")
        if participants is not None and net.participant not in participants:
            raise RefusedError(PlanReason.UNKNOWN_PARTICIPANT, place, f"{net.participant} isn't a participant")
        if net.participant == account:
            raise RefusedError(PlanReason.SELF_PAYMENT, place, "the settlement account has a net of its own")
        if abs(net.amount) > AMOUNT_MAX:
            raise RefusedError(PlanReason.AMOUNT_OVERFLOW, place, "the net has more than 38 digits")
        previous = net
    for currency, group in groupby(ordered, lambda net: net.currency):
        amounts = [net.amount for net in group]
        if sum(amount for amount in amounts if amount > 0) > AMOUNT_MAX:
            raise RefusedError(PlanReason.SUM_OVERFLOW, currency, "the positive nets have more than 38 digits")
        if sum(amounts) != 0:
            raise RefusedError(PlanReason.NOT_ZERO_SUM, currency, f"the nets sum to {sum(amounts)}")
