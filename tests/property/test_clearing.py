"""What must hold of every clearing: nets stay, debts only shrink, nothing more could go, and order doesn't matter."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.clearing import Clearing, ClearingError, check, clear
from netting.model import AMOUNT_MAX
from netting.queue import Payment, QueueReason, QueueRefusedError

BANKS = ("A", "B", "C", "D", "E")
CURRENCIES = ("EUR", "JPY")

pairs = st.sampled_from(list(itertools.permutations(BANKS, 2)))
drafts = st.tuples(
    st.sampled_from(CURRENCIES), pairs, st.one_of(st.integers(1, 9), st.integers(1, 10**36)), st.integers(0, 2)
)


@st.composite
def queues(draw: st.DrawFn, *, size: int = 16) -> list[Payment]:
    return [
        Payment(f"T{number}", debtor, creditor, amount, currency, priority, sequence=number % 3)
        for number, (currency, (debtor, creditor), amount, priority) in enumerate(draw(st.lists(drafts, max_size=size)))
    ]


moneys = st.dictionaries(
    st.tuples(st.sampled_from(BANKS), st.sampled_from(CURRENCIES)), st.one_of(st.integers(0, 9), st.integers(0, 10**36))
)


def owed(clearing: Clearing, obligations: list[Payment]) -> dict[tuple[str, str], int]:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for obligation in obligations:
        if obligation.currency == clearing.currency:
            sums[obligation.debtor, obligation.creditor] += obligation.amount
    return sums


def nets(debts: dict[tuple[str, str], int]) -> dict[str, int]:
    sums = dict.fromkeys(BANKS, 0)
    for (debtor, creditor), amount in debts.items():
        sums[debtor] -= amount
        sums[creditor] += amount
    return sums


@settings(max_examples=300)
@given(queues(), moneys, st.booleans())
def test_debts_only_shrink_and_nets_change_by_the_money_paid(
    obligations: list[Payment], money: dict[tuple[str, str], int], pre_net: bool
) -> None:
    clearings = clear(obligations, liquidity=money, pre_net_pairs=pre_net)
    check(clearings, obligations, liquidity=money, pre_net_pairs=pre_net)
    by_id = {obligation.id: obligation for obligation in obligations}
    assert sum(len(clearing.discharges) for clearing in clearings) == len(obligations)
    for clearing in clearings:
        before = owed(clearing, obligations)
        after = {(debt.debtor, debt.creditor): debt.amount for debt in clearing.residual}
        assert all(0 < amount <= before[pair] for pair, amount in after.items())
        for discharge in clearing.discharges:
            assert discharge.cleared >= 0 <= discharge.residual
            assert discharge.cleared + discharge.residual == by_id[discharge.id].amount
        assert clearing.gross - clearing.cleared == sum(after.values())
        assert clearing.cleared == sum(discharge.cleared for discharge in clearing.discharges)
        was, now = nets(before), nets(after)
        assert sum(saving.paid for saving in clearing.savings) == 0
        for saving in clearing.savings:
            assert now[saving.participant] - was[saving.participant] == saving.paid
            assert saving.paid <= money.get((saving.participant, clearing.currency), 0)
            assert saving.before >= saving.after
        assert sum(saving.before for saving in clearing.savings) == 2 * clearing.gross


@given(queues(), st.booleans())
def test_without_money_no_cycle_of_debt_is_left(obligations: list[Payment], pre_net: bool) -> None:
    for clearing in clear(obligations, pre_net_pairs=pre_net):
        creditors = defaultdict(set)
        for debt in clearing.residual:
            creditors[debt.debtor].add(debt.creditor)
        on_cycles = set(BANKS)
        while ends := {name for name in on_cycles if not creditors[name] & on_cycles}:
            on_cycles -= ends
        assert not on_cycles
        assert clearing.least <= clearing.gross - clearing.cleared


small = st.dictionaries(pairs, st.integers(1, 3), max_size=6)


@given(small, st.dictionaries(st.sampled_from(BANKS), st.integers(0, 2)))
def test_no_clearing_of_all_is_greater(debts: dict[tuple[str, str], int], money: dict[str, int]) -> None:
    obligations = [Payment(f"T{i}", *pair, amount) for i, (pair, amount) in enumerate(debts.items())]
    best = 0
    for parts in itertools.product(*(range(obligation.amount + 1) for obligation in obligations)):
        gets = nets(dict(zip(debts, parts, strict=True)))
        if all(gets[name] + money.get(name, 0) >= 0 for name in BANKS):
            best = max(best, sum(parts))
    clearings = clear(obligations, liquidity={(name, ""): amount for name, amount in money.items()})
    assert sum(clearing.cleared for clearing in clearings) == best


@given(queues())
def test_setting_off_pairs_first_never_clears_more(obligations: list[Payment]) -> None:
    for first, plain in zip(clear(obligations, pre_net_pairs=True), clear(obligations), strict=True):
        assert first.offset <= first.cleared <= plain.cleared
        assert plain.offset == 0


@given(queues())
def test_rewiring_leaves_the_nets_and_the_least_gross(obligations: list[Payment]) -> None:
    rewired = clear(obligations, conservative=False)
    check(rewired, obligations, conservative=False)
    for clearing, plain in zip(rewired, clear(obligations), strict=True):
        after = {(debt.debtor, debt.creditor): debt.amount for debt in clearing.residual}
        assert nets(after) == nets(owed(clearing, obligations))
        assert clearing.gross - clearing.cleared == clearing.least == plain.least
        assert len(after) == len(clearing.residual) <= max(0, len(clearing.savings) - 1)
        assert plain.cleared <= clearing.cleared
        assert all(saving.paid == 0 for saving in clearing.savings)


@given(queues(), moneys, st.randoms(use_true_random=False))
def test_the_order_of_obligations_changes_no_byte(
    obligations: list[Payment], money: dict[tuple[str, str], int], random: Any
) -> None:
    shuffled = list(obligations)
    random.shuffle(shuffled)
    turned = dict(reversed(money.items()))
    assert repr(clear(shuffled, liquidity=turned)) == repr(clear(obligations, liquidity=money))
    assert repr(clear(shuffled, conservative=False)) == repr(clear(obligations, conservative=False))


def test_the_hash_seed_changes_no_byte() -> None:
    code = (
        "from netting.clearing import clear; from netting.queue import Payment;"
        "print(clear([Payment(f'T{i}', f'B{i * 7 % 11}', f'B{(i * 5 + 1) % 11}', i * i + 1) for i in range(99)"
        " if i * 7 % 11 != (i * 5 + 1) % 11]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(answers) == 1
    assert len(answers.pop()) > 1_000


def test_what_a_pair_clears_goes_to_the_urgent_then_the_old() -> None:
    obligations = [
        Payment("T10", "A", "B", 4, sequence=2),
        Payment("T2", "A", "B", 4, sequence=2),
        Payment("T3", "A", "B", 4, priority=1, sequence=0),
        Payment("T4", "B", "A", 6),
    ]
    (clearing,) = clear(obligations)
    assert [(discharge.id, discharge.cleared, discharge.residual) for discharge in clearing.discharges] == [
        ("T4", 6, 0),
        ("T2", 4, 0),
        ("T10", 2, 2),
        ("T3", 0, 4),
    ]


def test_a_little_money_clears_a_chain() -> None:
    obligations = [Payment("T1", "A", "B", 5), Payment("T2", "B", "C", 5), Payment("T3", "C", "D", 5)]
    assert clear(obligations)[0].cleared == 0
    (clearing,) = clear(obligations, liquidity={("A", ""): 2})
    assert clearing.cleared == 6
    assert [saving.paid for saving in clearing.savings] == [2, 0, 0, -2]


REFUSED = [
    ([Payment("T1", "A", "A", 1)], QueueReason.SELF_PAYMENT, "T1"),
    ([Payment("T1", "A", "B", 0)], QueueReason.AMOUNT_NOT_POSITIVE, "T1"),
    ([Payment("T1", "A", "B", AMOUNT_MAX + 1)], QueueReason.AMOUNT_OVERFLOW, "T1"),
    ([Payment("T1", "A", "B", 1), Payment("T1", "B", "C", 2)], QueueReason.DUPLICATE_ID, "T1"),
    ([Payment("T1", "A", "B", AMOUNT_MAX), Payment("T2", "B", "A", 1)], QueueReason.SUM_OVERFLOW, "T2"),
]


@pytest.mark.parametrize(("obligations", "reason", "place"), REFUSED)
def test_refusals(obligations: list[Payment], reason: QueueReason, place: str) -> None:
    for order in itertools.permutations(obligations):
        with pytest.raises(QueueRefusedError) as refused:
            clear(order)
        assert (refused.value.reason, refused.value.place) == (reason, place)


def test_liquidity_is_never_negative_and_only_for_what_is_conservative() -> None:
    obligations = [Payment("T1", "A", "B", 1)]
    with pytest.raises(QueueRefusedError) as refused:
        clear(obligations, liquidity={("A", ""): -1})
    assert refused.value.reason is QueueReason.LIMIT_NEGATIVE
    with pytest.raises(ValueError, match="no liquidity"):
        clear(obligations, liquidity={("A", ""): 1}, conservative=False)


def test_a_clearing_that_was_tampered_with_is_found_out() -> None:
    obligations = [Payment("T1", "A", "B", 5), Payment("T2", "B", "C", 7), Payment("T3", "C", "A", 9)]
    (true,) = clear(obligations)
    less = tuple(
        replace(discharge, cleared=discharge.cleared - 1, residual=discharge.residual + 1)
        for discharge in true.discharges
    )
    forged = [
        (replace(true, discharges=less, cleared=12), "prove the bound 15, not 12"),
        (replace(true, discharges=less), "the value is 12, not 15"),
        (replace(true, discharges=true.discharges[1:]), "in the queue's order"),
        (replace(true, potentials=()), "aren't those of the participants"),
        (replace(true, savings=()), "the figures don't follow"),
        (replace(true, currency="EUR"), "the currencies are"),
    ]
    for clearing, message in forged:
        with pytest.raises(ClearingError, match=message):
            check([clearing], obligations)
