"""Obligation clearing and compression: how much mutual debt can be discharged without money, or with little of it.

Conservative: every debt only shrinks, between the same two participants; nobody gets a new counterparty and nobody's
net changes. The greatest sum that can be discharged so is a circulation of the greatest value in the network of debts
(Fleischman, Dini and Littera 2020; D'Errico and Roukny 2017 call it conservative compression), and with money in
some accounts a flow that may use it. `netting.flow` finds it and proves it; whole cycles of debt are then gone,
so what remains runs one way only.

Not conservative: all debts are replaced by new ones of the least gross there can be with the same nets, the sum of the
positive nets. The largest net debtor is matched with the largest net creditor, again and again, which takes at
most one debt fewer than there are participants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from netting import flow
from netting.queue import Limits, Payment, canonical_queue

Pair = tuple[str, str]


class ClearingError(ValueError):
    """A clearing that isn't what it is said to be; the text says where."""


@dataclass(frozen=True, slots=True)
class Discharge:
    """What of one obligation is discharged, and what remains of it."""

    id: str
    debtor: str
    creditor: str
    cleared: int
    residual: int


@dataclass(frozen=True, slots=True)
class Debt:
    """What one participant owes another after clearing, all their obligations together."""

    debtor: str
    creditor: str
    amount: int


@dataclass(frozen=True, slots=True)
class Saving:
    """What one participant owes and is owed, together, before and after; and the money that it paid (or received)."""

    participant: str
    before: int
    after: int
    paid: int


@dataclass(frozen=True, slots=True)
class Clearing:
    """One currency cleared, in minor units.

    `cleared` is the fall of the gross, `offset` the part of it that pairs set off between themselves beforehand.
    `least` is the gross that no compression can get below without money: the sum of the positive nets. `discharges`
    are in the queue's order, `residual` by debtor and creditor, `savings` and `potentials` by participant. The
    potentials, none for a clearing that isn't conservative, prove that no more can be cleared: see `check`.
    """

    currency: str
    gross: int
    cleared: int
    offset: int
    least: int
    discharges: tuple[Discharge, ...]
    residual: tuple[Debt, ...]
    savings: tuple[Saving, ...]
    potentials: tuple[tuple[str, int], ...]


def clear(
    obligations: Iterable[Payment],
    *,
    liquidity: Mapping[tuple[str, str], int] | None = None,
    pre_net_pairs: bool = False,
    conservative: bool = True,
) -> tuple[Clearing, ...]:
    """Clear agreed obligations, currency by currency in alphabetical order.

    What a pair of participants gets cleared goes to its obligations in the queue's order: priority, age, id. Windows,
    holds and links aren't looked at: give what is to be cleared. `liquidity` is the money that may be used, by
    participant and currency. `pre_net_pairs` sets off what two participants owe each other first, which
    takes away some of what longer cycles need. A function of the set of obligations: their order doesn't matter. Raises
    QueueRefusedError for obligations that can't be cleared or liquidity that is negative, and ValueError for
    liquidity in a clearing that isn't conservative.
    """
    money = dict(liquidity or {})
    if money and not conservative:
        raise ValueError("a clearing that isn't conservative uses no liquidity")
    by_currency: defaultdict[str, list[Payment]] = defaultdict(list)
    for obligation in canonical_queue(obligations, Limits(reserved=money)):
        by_currency[obligation.currency].append(obligation)
    clearings: list[Clearing] = []
    for currency, ordered in sorted(by_currency.items()):
        if conservative:
            available = {name: amount for (name, of), amount in money.items() if of == currency}
            clearings.append(_discharge(currency, ordered, available, pre_net_pairs))
        else:
            clearings.append(_rewire(currency, ordered))
    return tuple(clearings)


def check(
    clearings: Iterable[Clearing],
    obligations: Iterable[Payment],
    *,
    liquidity: Mapping[tuple[str, str], int] | None = None,
    pre_net_pairs: bool = False,
    conservative: bool = True,
) -> None:
    """Verify clearings by their potentials alone, without looking for a better one. Raises ClearingError.

    The other arguments are those of `clear`, whose errors are raised for obligations that can't be cleared. O(n log n),
    for the queue's order.
    """
    money = dict(liquidity or {})
    by_currency_claimed = {clearing.currency: clearing for clearing in clearings}
    by_currency: defaultdict[str, list[Payment]] = defaultdict(list)
    for obligation in canonical_queue(obligations, Limits(reserved=money)):
        by_currency[obligation.currency].append(obligation)
    if list(by_currency_claimed) != sorted(by_currency):
        raise ClearingError(f"the currencies are {sorted(by_currency)}, not {list(by_currency_claimed)}")
    for currency, ordered in by_currency.items():
        claimed = by_currency_claimed[currency]
        if not conservative:
            if claimed != _rewire(currency, ordered):
                raise ClearingError(f"{currency}: these aren't the debts that largest with largest leaves")
            continue
        if [discharge.id for discharge in claimed.discharges] != [discharge.id for discharge in ordered]:
            raise ClearingError(f"{currency}: the discharges aren't those of the obligations, in the queue's order")
        cleared: defaultdict[Pair, int] = defaultdict(int)
        for discharge in claimed.discharges:
            cleared[discharge.debtor, discharge.creditor] += discharge.cleared
        network = _Network(ordered, pre_net_pairs)
        available = {name: amount for (name, of), amount in money.items() if of == currency}
        if [name for name, _ in claimed.potentials] != network.names:
            raise ClearingError(f"{currency}: the potentials aren't those of the participants")
        flows = [cleared[pair] - network.offset.get(pair, 0) for pair in network.pairs]
        value = claimed.cleared - claimed.offset
        proof = flow.Flow(tuple(flows), tuple(worth for _, worth in claimed.potentials), value, value, 0)
        try:
            flow.check(*network.arguments(available), proof)
        except flow.FlowError as wrong:
            raise ClearingError(f"{currency}: {wrong}") from wrong
        if claimed != _report(currency, ordered, network, proof):
            raise ClearingError(f"{currency}: the figures don't follow from what is cleared")


class _Network:
    """The debts of one currency as arcs in canonical order, between participants numbered by name."""

    def __init__(self, ordered: list[Payment], pre_net_pairs: bool) -> None:
        owed: defaultdict[Pair, int] = defaultdict(int)
        for obligation in ordered:
            owed[obligation.debtor, obligation.creditor] += obligation.amount
        self.names = sorted({name for pair in owed for name in pair})
        self.number = {name: i for i, name in enumerate(self.names)}
        self.owed = dict(owed)
        self.pairs = sorted(owed)
        self.offset: dict[Pair, int] = {}
        if pre_net_pairs:
            self.offset = {(a, b): min(owed[a, b], owed[b, a]) for a, b in self.pairs if (b, a) in self.owed}

    def arguments(self, available: Mapping[str, int]) -> tuple[list[int], list[int], list[int], None, list[int]]:
        """Return what `flow.solve` and `flow.check` take: tails, heads, capacities, weights and liquidity."""
        return (
            [self.number[debtor] for debtor, _ in self.pairs],
            [self.number[creditor] for _, creditor in self.pairs],
            [self.owed[pair] - self.offset.get(pair, 0) for pair in self.pairs],
            None,
            [available.get(name, 0) for name in self.names],
        )


def _discharge(currency: str, ordered: list[Payment], available: Mapping[str, int], pre_net_pairs: bool) -> Clearing:
    network = _Network(ordered, pre_net_pairs)
    return _report(currency, ordered, network, flow.solve(*network.arguments(available)))


def _report(currency: str, ordered: list[Payment], network: _Network, optimum: flow.Flow) -> Clearing:
    """Say what the flow means for each obligation, pair and participant."""
    cleared = {
        pair: network.offset.get(pair, 0) + amount for pair, amount in zip(network.pairs, optimum.flow, strict=True)
    }
    to_assign = dict(cleared)
    discharges: list[Discharge] = []
    for obligation in ordered:
        part = min(obligation.amount, to_assign[obligation.debtor, obligation.creditor])
        to_assign[obligation.debtor, obligation.creditor] -= part
        discharges.append(
            Discharge(obligation.id, obligation.debtor, obligation.creditor, part, obligation.amount - part)
        )
    residual = [Debt(*pair, network.owed[pair] - amount) for pair, amount in cleared.items()]
    return Clearing(
        currency=currency,
        gross=sum(network.owed.values()),
        cleared=sum(cleared.values()),
        offset=sum(network.offset.values()),
        least=sum(net for net in _nets(network.owed).values() if net > 0),
        discharges=tuple(discharges),
        residual=tuple(debt for debt in residual if debt.amount > 0),
        savings=_savings(network.owed, residual),
        potentials=tuple(zip(network.names, optimum.potential, strict=True)),
    )


def _rewire(currency: str, ordered: list[Payment]) -> Clearing:
    network = _Network(ordered, pre_net_pairs=False)
    nets = _nets(network.owed)
    debtors = [(net, name) for name, net in nets.items() if net < 0]
    creditors = [(-net, name) for name, net in nets.items() if net > 0]
    heapify(debtors)
    heapify(creditors)
    residual: list[Debt] = []
    while debtors:
        owes, debtor = heappop(debtors)
        gets, creditor = heappop(creditors)
        amount = min(-owes, -gets)
        residual.append(Debt(debtor, creditor, amount))
        if -owes > amount:
            heappush(debtors, (owes + amount, debtor))
        if -gets > amount:
            heappush(creditors, (gets + amount, creditor))
    gross, least = sum(network.owed.values()), sum(debt.amount for debt in residual)
    return Clearing(
        currency=currency,
        gross=gross,
        cleared=gross - least,
        offset=0,
        least=least,
        discharges=tuple(
            Discharge(obligation.id, obligation.debtor, obligation.creditor, obligation.amount, 0)
            for obligation in ordered
        ),
        residual=tuple(sorted(residual, key=lambda debt: (debt.debtor, debt.creditor))),
        savings=_savings(network.owed, residual),
        potentials=(),
    )


def _nets(owed: Mapping[Pair, int]) -> dict[str, int]:
    nets: defaultdict[str, int] = defaultdict(int)
    for (debtor, creditor), amount in owed.items():
        nets[debtor] -= amount
        nets[creditor] += amount
    return nets


def _savings(owed: Mapping[Pair, int], residual: Iterable[Debt]) -> tuple[Saving, ...]:
    remaining = {(debt.debtor, debt.creditor): debt.amount for debt in residual}
    before, after = _gross(owed), _gross(remaining)
    nets, nets_after = _nets(owed), _nets(remaining)
    return tuple(
        # Who pays money has less to pay afterwards, so its net rises by it.
        Saving(name, before[name], after.get(name, 0), nets_after.get(name, 0) - nets[name])
        for name in sorted(before)
    )


def _gross(owed: Mapping[Pair, int]) -> dict[str, int]:
    gross: defaultdict[str, int] = defaultdict(int)
    for pair, amount in owed.items():
        for name in pair:
            gross[name] += amount
    return gross
