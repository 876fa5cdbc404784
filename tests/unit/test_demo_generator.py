"""The invented day: repeatable, and of the shape it claims."""

from __future__ import annotations

from collections import Counter
from statistics import median

import pytest

from gateway.demo.generator import core_size, generate
from gateway.demo.names import BANKS

BICS = [bic for bic, _ in BANKS[:8]]


def test_the_same_seed_gives_the_same_day() -> None:
    assert generate(BICS, count=500, seed=7) == generate(BICS, count=500, seed=7)
    assert generate(BICS, count=500, seed=7) != generate(BICS, count=500, seed=8)


def test_the_first_payment_never_changes() -> None:
    first = generate(BICS, count=1, seed=1).payments[0]
    again = generate(BICS, count=1, seed=1).payments[0]
    assert first == again
    assert first.debtor_bank != first.creditor_bank
    assert first.amount_minor > 0


def test_core_banks_trade_with_all_and_the_periphery_mainly_with_the_core() -> None:
    day = generate(BICS, count=8_000, seed=1)
    core = set(BICS[: core_size(len(BICS))])
    inside = Counter((p.debtor_bank in core) + (p.creditor_bank in core) for p in day.payments)
    assert inside[0] < 0.1 * len(day.payments)
    links = {(p.debtor_bank, p.creditor_bank) for p in day.payments}
    assert all((a, b) in links for a in core for b in core if a != b)
    assert set(BICS) == {p.debtor_bank for p in day.payments} | {p.creditor_bank for p in day.payments}


def test_values_have_a_heavy_tail_and_currencies_their_exponents() -> None:
    day = generate(BICS, count=8_000, seed=1)
    euros = sorted(p.amount_minor for p in day.payments if p.currency == "EUR")
    assert 60_000 < median(euros) < 120_000
    assert sum(euros[-len(euros) // 100 :]) > sum(euros) // 10
    assert {p.currency for p in day.payments} == {"EUR", "USD", "JPY"}


def test_payments_come_in_the_order_of_the_day_with_unique_ids() -> None:
    day = generate(BICS, count=3_000, seed=1)
    steps = [p.step for p in day.payments]
    assert steps == sorted(steps)
    assert sum(8 * 60 <= step < 18 * 60 for step in steps) > 0.8 * len(steps)
    assert len({p.id for p in day.payments}) == 3_000
    assert 0 < len(day.returned) < 60


def test_one_bank_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two banks"):
        generate(BICS[:1], count=1, seed=1)
