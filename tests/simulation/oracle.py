"""What a cycle must come to, derived from the planned payments alone: the bytes of its NettingResult, and balances.

The payments of a lane are numbered in the order in which they were ordered, whatever was killed in between; so an
undisturbed cycle and a disturbed one come to the same bytes, and these are known beforehand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

from compliance.crypto import canonical, merkle
from compliance.cycle.limits import Cap, Limits
from compliance.cycle.positions import of_statement
from compliance.cycle.result import net_cycle
from compliance.statements import CarriedOver, Flow, PositionStatement
from gateway.coordinator.rulebook import load
from gateway.demo.plan import Plan
from gateway.federation.messages.payments import leaf_of
from participants.intake.intake import order_of
from participants.intake.rows import PaymentRow

Lane = tuple[str, str, str]
PairKey = tuple[str, str, str]
"""(currency, lower BIC, higher BIC)"""


class Oracle:
    """The federation's lanes as they must be."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lanes: defaultdict[Lane, list[PaymentRow]] = defaultdict(list)
        self.settled: defaultdict[Lane, int] = defaultdict(int)

    def pay(self, rows: Iterable[PaymentRow]) -> None:
        """Take in payments that will be made and accepted, in the order of their orders."""
        for row in rows:
            self.lanes[row.debtor_bank, row.creditor_bank, row.currency].append(row)

    def pairs(self) -> list[PairKey]:
        """Return the pairs with anything unsettled."""
        return [
            (currency, *pair)
            for currency in self.plan.currencies
            for pair in combinations(sorted(self.plan.banks), 2)
            if any(len(self.lanes[lane]) > self.settled[lane] for lane in _both(currency, *pair))
        ]

    def pairs_with(self, rows: Iterable[PaymentRow]) -> list[PairKey]:
        """Return the pairs with anything unsettled once these payments are made."""
        paid = {(row.currency, *sorted((row.debtor_bank, row.creditor_bank))) for row in rows}
        return sorted(paid.union(self.pairs()))

    def result(self, cycle: str, rulebook_sha256: str, carried: Mapping[PairKey, str]) -> bytes:
        """Return the canonical bytes of a cycle's result, with these pairs carried over for these reasons."""
        statements = [self._statement(cycle, key) for key in self.pairs() if key not in carried]
        netting = net_cycle(
            cycle=cycle,
            value_date=cycle[:10],
            rulebook_sha256=rulebook_sha256,
            statements=[(canonical.digest(canonical.encode(s)), of_statement(s)) for s in statements],
            limits=Limits(
                caps=tuple(
                    Cap(participant=bank, currency=currency, cap_minor=str(max(liquidity, 1)))
                    for bank in self.plan.banks
                    for currency, liquidity in self.plan.liquidity(bank).items()
                )
            ),
            liquidity=load().liquidity,
            carried_over=[CarriedOver(pair=key[1:], currency=key[0], reason=why) for key, why in carried.items()],
        )
        return canonical.encode(netting.result)

    def settle(self, carried: Mapping[PairKey, str]) -> None:
        """Count every pair but the carried ones as settled."""
        for key in self.pairs():
            if key not in carried:
                for lane in _both(*key):
                    self.settled[lane] = len(self.lanes[lane])

    def customers(self, bank: str) -> dict[tuple[str, str], int]:
        """Return what a bank's customers hold by (account, currency), all payments made."""
        held = {(account.code, account.currency): account.opening_minor for account in self.plan.accounts[bank]}
        for (sender, receiver, currency), rows in self.lanes.items():
            for row in rows:
                if sender == bank:
                    held[row.debtor_account, currency] -= row.amount_minor
                if receiver == bank:
                    held[row.creditor_account, currency] += row.amount_minor
        return held

    def nostro(self, bank: str) -> dict[str, int]:
        """Return what a bank holds at the settlement agent: what its customers brought, and what was settled."""
        held = self.plan.liquidity(bank)
        for lane, rows in self.lanes.items():
            amount = sum(row.amount_minor for row in rows[: self.settled[lane]])
            held[lane[2]] += amount * ((lane[1] == bank) - (lane[0] == bank))
        return held

    def _statement(self, cycle: str, key: PairKey) -> PositionStatement:
        currency, low, high = key
        forth, back = (self._flow(lane) for lane in _both(currency, low, high))
        return PositionStatement(cycle=cycle, currency=currency, pair=(low, high), revision=1, flows=(forth, back))

    def _flow(self, lane: Lane) -> Flow:
        rows, settled = self.lanes[lane], self.settled[lane]
        return Flow(
            sender=lane[0],
            receiver=lane[1],
            first_sequence=settled + 1,
            last_sequence=len(rows),
            count=len(rows) - settled,
            amount_minor=str(sum(row.amount_minor for row in rows[settled:])),
            root=merkle.root([leaf_of(order_of(row).terms()) for row in rows]).hex(),
        )


def _both(currency: str, low: str, high: str) -> tuple[Lane, Lane]:
    return (low, high, currency), (high, low, currency)
