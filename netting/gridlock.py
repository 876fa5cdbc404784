"""Liquidity saving: which of the queued payments settle now, within all limits at once.

Two rules. `fifo`: every account pays in the order of its queue, and the largest set of prefixes settles. `optimal`:
any selection will do, and the one of the greatest value settles; of equals the one of more payments, then of more
urgent and older ones, then by id. Choosing it is NP-hard (Shafransky and Doudkin, EJOR 171, 2006), so the search is
bounded by work, and what it reached comes with an upper bound and its proof. `netting.liquidity` has the parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from netting import certificate as proof
from netting.certificate import Certificate
from netting.liquidity.branch import Branching
from netting.liquidity.enumeration import ITEMS_MAX, best
from netting.liquidity.fifo import prefixes
from netting.liquidity.instance import Instance, instance_of
from netting.queue import Limits, Payment, canonical_queue, due

WORK = 100_000_000
"""The work, in looks at entries of vectors, after which the search ends: about a second."""
PATIENCE = 8
"""As long as nothing at all settles, the search goes on up to so many times the work."""

Mode = Literal["fifo", "optimal"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What settles now, and how far from the best possible it is at most.

    `settled` are the ids of the payments that settle whole, in the queue's order, and `parts` those that settle in
    part, with the amount. `value` is their sum in minor units (in units of the base, where rates are given), `count`
    the number of `settled`. No selection that keeps the limits, in whatever order, is worth more than
    `upper_bound`; `gap` is what is missing to it, and `optimal` whether nothing is. `balances` are (participant,
    currency, money after). `work` is what the search took.
    """

    mode: Mode
    settled: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]
    value: int
    count: int
    upper_bound: int
    work: int
    balances: tuple[tuple[str, str, int], ...]
    certificate: Certificate

    @property
    def gap(self) -> int:
        """What the upper bound is above the value."""
        return self.upper_bound - self.value

    @property
    def optimal(self) -> bool:
        """Whether it is proven that no selection is worth more."""
        return self.gap == 0


def resolve(
    payments: Iterable[Payment],
    limits: Limits,
    *,
    mode: Mode = "optimal",
    work: int = WORK,
    at: int | None = None,
) -> Resolution:
    """Choose the payments that settle now; amounts are minor units, `work` counts looks at entries of vectors.

    A function of the set of payments, the limits, the mode, the work and the moment `at`: the same on every machine.
    More work never gives a smaller value or a greater bound. Values in different currencies add up only by rates
    (`Limits.aggregate`); without, use it for one currency at a time. Raises QueueRefusedError.
    """
    ordered = canonical_queue(payments, limits)
    instance = instance_of(due(ordered, at), limits)
    first = prefixes(instance)
    in_order = _whole(instance, first)
    _settle_parts(instance, in_order)
    if len(instance.items) <= ITEMS_MAX and not any(item.split for item in instance.items):
        chosen, looked = best(instance)
        most = Certificate(sum(instance.items[at].value for at in chosen), 1, (), enumerated=True)
        amounts = in_order if mode == "fifo" else _whole(instance, chosen)
        return _resolution(mode, instance, amounts, limits, ordered, looked, most)
    search = Branching(instance)
    if mode == "fifo":
        return _resolution(mode, instance, in_order, limits, ordered, search.work, search.certificate())
    search.offer(in_order)
    search.start(first)
    search.start_greedy()
    search.start_rounded()
    while (search.work < work or (search.value == 0 and search.work < PATIENCE * work)) and search.step():
        pass
    return _resolution("optimal", instance, search.best, limits, ordered, search.work, search.certificate())


def check(payments: Iterable[Payment], limits: Limits, certificate: Certificate, *, at: int | None = None) -> None:
    """Check the proof of a bound for these payments; raise CertificateError if it proves less than it says.

    Raises QueueRefusedError for payments or limits that can't be worked with. O(leaves · (items + rows)).
    """
    proof.check(instance_of(due(canonical_queue(payments, limits), at), limits), certificate)


def _whole(instance: Instance, chosen: Iterable[int]) -> list[int]:
    amounts = [0] * len(instance.items)
    for at in chosen:
        amounts[at] = instance.items[at].amount
    return amounts


def _settle_parts(instance: Instance, amounts: list[int]) -> None:
    """Let the first waiting payment of each queue settle in part, where it may be split and something is left."""
    rooms = instance.rooms(amounts)
    accounts: set[tuple[str, str]] = set()
    for at, item in enumerate(instance.items):
        account = (item.payments[0].debtor, item.payments[0].currency)
        if amounts[at] or account in accounts:
            continue
        accounts.add(account)
        part = min([item.amount, *(rooms[row] for row, change in item.changes if change < 0)])
        if not item.split or part <= 0:
            continue
        amounts[at] = part
        after = instance.rooms(amounts)
        if instance.fits(after):
            rooms = after
        else:
            amounts[at] = 0


def _resolution(
    mode: Mode,
    instance: Instance,
    amounts: list[int],
    limits: Limits,
    ordered: tuple[Payment, ...],
    work: int,
    certificate: Certificate,
) -> Resolution:
    settled_ids: set[str] = set()
    parts: dict[str, int] = {}
    value = 0
    balances = {(name, p.currency): 0 for p in ordered for name in (p.debtor, p.creditor)} | dict(limits.balances)
    for item, amount in zip(instance.items, amounts, strict=True):
        if amount == 0:
            continue
        value += item.worth(amount)
        for payment in item.payments:
            amount_paid = amount if item.split else payment.amount
            balances[payment.debtor, payment.currency] -= amount_paid
            balances[payment.creditor, payment.currency] += amount_paid
            if amount_paid == payment.amount:
                settled_ids.add(payment.id)
            else:
                parts[payment.id] = amount_paid
    if certificate.upper_bound < value:
        raise ArithmeticError(f"the bound {certificate.upper_bound} is below the value {value}")
    return Resolution(
        mode=mode,
        settled=tuple(payment.id for payment in ordered if payment.id in settled_ids),
        parts=tuple((payment.id, parts[payment.id]) for payment in ordered if payment.id in parts),
        value=value,
        count=len(settled_ids),
        upper_bound=certificate.upper_bound,
        work=work,
        balances=tuple((*account, after) for account, after in sorted(balances.items())),
        certificate=certificate,
    )
