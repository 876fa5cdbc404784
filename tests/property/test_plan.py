"""What must hold of every settlement plan."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.model import AMOUNT_MAX
from netting.plan import CurrencyPlan, Net, PlanReason, Transfer, plan
from netting.refusal import RefusedError
from netting.zero_sum import groups

ACCOUNT = "settlement account"
NAMES = [f"BANK{number:02}" for number in range(60)]


def nets_of(amounts: list[int], currency: str = "EUR") -> list[Net]:
    """Return the amounts as nets, with a last one that brings their sum to zero."""
    amounts = [*amounts, -sum(amounts)]
    return [Net(currency, name, amount) for name, amount in zip(NAMES, amounts, strict=False)]


small = st.lists(st.integers(-6, 6), max_size=7)
large = st.lists(st.one_of(st.integers(-9, 9), st.integers(-(10**36), 10**36)), max_size=40)


def money_moved(transfers: tuple[Transfer, ...]) -> dict[str, int]:
    balance: defaultdict[str, int] = defaultdict(int)
    for transfer in transfers:
        assert transfer.amount > 0
        balance[transfer.debtor] -= transfer.amount
        balance[transfer.creditor] += transfer.amount
    return {name: amount for name, amount in balance.items() if amount}


def check(nets: list[Net], planned: CurrencyPlan) -> None:
    nets_to_settle = {net.participant: net.amount for net in nets if net.amount}
    value = sum(amount for amount in nets_to_settle.values() if amount > 0)
    assert planned.value == value
    assert money_moved(planned.through_account) == nets_to_settle
    assert money_moved(planned.direct.transfers) == nets_to_settle
    assert len(planned.through_account) == len(nets_to_settle)
    assert sum(transfer.amount for transfer in planned.direct.transfers) == value
    assert planned.direct.gap >= 0
    assert len(planned.direct.transfers) <= max(0, len(nets_to_settle) - 1)
    debits_done = False
    for movement in planned.through_account:
        debits_done = debits_done or movement.debtor == ACCOUNT
        assert debits_done == (movement.debtor == ACCOUNT)


@settings(deadline=None)
@given(st.one_of(small, large))
def test_both_plans_give_everybody_its_net(amounts: list[int]) -> None:
    nets = nets_of(amounts)
    (planned,) = plan(nets, account=ACCOUNT)
    check(nets, planned)


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, *others = items
    for parts in partitions(others):
        yield [[first], *parts]
        for at in range(len(parts)):
            yield [*parts[:at], [first, *parts[at]], *parts[at + 1 :]]


@settings(max_examples=80, deadline=None)
@given(small)
def test_no_plan_of_up_to_eight_nets_has_fewer_transfers(amounts: list[int]) -> None:
    nets = nets_of(amounts)
    (planned,) = plan(nets, account=ACCOUNT)
    values = [net.amount for net in nets if net.amount]
    most = max(len(parts) for parts in partitions(values) if all(sum(part) == 0 for part in parts))
    assert len(planned.direct.transfers) == planned.direct.lower_bound == len(values) - most


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-30, 30).filter(bool), min_size=22, max_size=59))
def test_the_bound_of_many_nets_holds_for_the_groups_they_were_made_of(amounts: list[int]) -> None:
    # Groups of three and four by construction: no bound may say that there are fewer.
    values: list[int] = []
    made = 0
    for at in range(0, len(amounts) - 2, 2):
        first, second = amounts[at], amounts[at + 1]
        if first + second:
            values += [first, second, -first - second]
            made += 1
    partition = groups(values)
    assert made <= partition.most
    assert len(partition.members) <= partition.most
    assert sorted(at for members in partition.members for at in members) == list(range(len(values)))
    assert all(sum(values[at] for at in members) == 0 for members in partition.members)


@settings(deadline=None)
@given(st.one_of(small, large), st.randoms(use_true_random=False))
def test_the_order_of_the_nets_changes_nothing(amounts: list[int], order: random.Random) -> None:
    nets = nets_of(amounts) + nets_of(amounts[::-1], "USD")
    shuffled = list(nets)
    order.shuffle(shuffled)
    assert repr(plan(shuffled, account=ACCOUNT)) == repr(plan(nets, account=ACCOUNT))


def test_two_groups_need_a_transfer_fewer() -> None:
    nets = [Net("EUR", name, amount) for name, amount in zip("ABCDE", (5, -2, -3, 7, -7), strict=True)]
    (planned,) = plan(nets, account=ACCOUNT)
    assert planned.direct.transfers == (Transfer("B", "A", 2), Transfer("C", "A", 3), Transfer("E", "D", 7))
    assert planned.direct.gap == 0
    assert [movement.debtor for movement in planned.through_account] == ["B", "C", "E", ACCOUNT, ACCOUNT]


def test_twenty_nets_without_groups_are_proven_to_need_nineteen_transfers() -> None:
    (planned,) = plan(nets_of([(-1) ** at * (10**20 + 3**at) for at in range(19)]), account=ACCOUNT)
    assert (len(planned.direct.transfers), planned.direct.lower_bound) == (19, 19)


REFUSED = [
    ([Net("EUR", "A", 1), Net("EUR", "A", 2)], PlanReason.DUPLICATE, "A EUR"),
    ([Net("EUR", "X", 1), Net("EUR", "A", -1)], PlanReason.UNKNOWN_PARTICIPANT, "X EUR"),
    ([Net("EUR", ACCOUNT, 1), Net("EUR", "A", -1)], PlanReason.SELF_PAYMENT, f"{ACCOUNT} EUR"),
    ([Net("EUR", "A", AMOUNT_MAX + 1)], PlanReason.AMOUNT_OVERFLOW, "A EUR"),
    ([Net("EUR", "A", AMOUNT_MAX), Net("EUR", "B", 1)], PlanReason.SUM_OVERFLOW, "EUR"),
    ([Net("EUR", "A", 2), Net("EUR", "B", -1)], PlanReason.NOT_ZERO_SUM, "EUR"),
]


@pytest.mark.parametrize(("nets", "reason", "place"), REFUSED)
def test_refusals(nets: list[Net], reason: PlanReason, place: str) -> None:
    for order in itertools.permutations(nets):
        with pytest.raises(RefusedError) as refused:
            plan(order, account=ACCOUNT, participants=frozenset({"A", "B", ACCOUNT}))
        assert (refused.value.reason, refused.value.place) == (reason, place)
