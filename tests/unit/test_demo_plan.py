"""The plan of a demonstration day, the placing of its incidents, and its report."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gateway.demo.day import incidents
from gateway.demo.generator import generate
from gateway.demo.names import BANKS
from gateway.demo.plan import NothingToPayError, plan_day
from gateway.demo.report import BankReport, BreakReport, CurrencyLine, CycleReport, DayReport, saved_per_mille, show
from participants.intake.rows import PaymentRow, RefusedRow

BICS = [bic for bic, _ in BANKS[:4]]


def test_every_payment_falls_into_one_cycle_in_the_order_of_the_day() -> None:
    day = generate(BICS, count=1_001, seed=3)
    plan = plan_day(reversed(day.payments), cycles=4, banks=BICS)
    planned = [payment for cycle in plan.cycles for payment in cycle]
    assert planned == list(day.payments)
    assert max(map(len, plan.cycles)) - min(map(len, plan.cycles)) <= 1
    assert plan.payments == 1_001


def test_accounts_open_with_all_that_they_pay() -> None:
    day = generate(BICS, count=800, seed=3)
    plan = plan_day(day.payments, cycles=2, banks=BICS)
    balances = {
        (bank, account.code, account.currency): account.opening_minor
        for bank, accounts in plan.accounts.items()
        for account in accounts
    }
    # Payments in, payments out, in the worst order: everything that goes out goes out first.
    for payment in day.payments:
        balances[payment.debtor_bank, payment.debtor_account, payment.currency] -= payment.amount_minor
        assert (payment.creditor_bank, payment.creditor_account, payment.currency) in balances
    assert set(balances.values()) == {0}
    for bank in BICS:
        spent = sum(p.amount_minor for p in day.payments if (p.debtor_bank, p.currency) == (bank, "EUR"))
        assert plan.liquidity(bank)["EUR"] == spent


def test_refused_rows_are_counted_and_the_first_are_shown() -> None:
    rows = [*generate(BICS, count=20, seed=1).payments, *(RefusedRow(n, "same_bank", "x") for n in range(9))]
    plan = plan_day(rows, cycles=2)
    assert plan.refused == {"same_bank": 9}
    assert len(plan.refused_first) == 5


def test_too_few_payments_are_no_day() -> None:
    rows: list[PaymentRow | RefusedRow] = [RefusedRow(2, "too_many_decimals", "x")]
    with pytest.raises(NothingToPayError, match="0 payments are too few for 4 cycles; refused: 1 too_many_decimals"):
        plan_day(rows, cycles=4)


@pytest.mark.parametrize("cycles", [2, 3, 4, 9])
def test_after_the_break_and_the_kill_comes_another_cycle(cycles: int) -> None:
    placed = incidents(cycles)
    assert placed.broken < cycles
    assert placed.killed < cycles
    assert placed.short <= cycles


def test_one_cycle_is_no_day() -> None:
    with pytest.raises(ValueError, match="at least two"):
        incidents(1)


def report() -> DayReport:
    return DayReport(
        cycles=[CycleReport("2026-01-05-01", "final", (CurrencyLine("EUR", 100_000, 25_050, 25_050),), 3)],
        breaks=[BreakReport("2026-01-05-01", ("A", "B"), "EUR", "disputed", "settled later", "2026-01-05-02")],
        banks=[BankReport("ALDRXXA0", "Alder Bank", 3, 4, 0, True, {"EUR": 5, "USD": 0}, {"EUR": 5})],
        proofs=[("it holds", True)],
    )


def test_a_good_day_has_no_failures_and_shows_what_was_saved() -> None:
    good = report()
    assert good.failures() == []
    out = io.StringIO()
    show(good, Console(file=out, width=140))
    assert "74.9 %" in out.getvalue()
    assert "Everything holds." in out.getvalue()


def test_whatever_does_not_hold_is_named() -> None:
    bad = report()
    bad.cycles[0].state = "abandoned"
    bad.breaks[0].ended_in = None
    bad.banks[0].proven = False
    bad.banks[0].at_agent = {"EUR": 6}
    bad.proofs.append(("this doesn't", False))
    assert len(bad.failures()) == 5
    out = io.StringIO()
    show(bad, Console(file=out, width=140))
    assert "does not hold" in out.getvalue()


def test_savings_are_rounded_down_and_nothing_saves_nothing() -> None:
    assert saved_per_mille(3, 1) == 666
    assert saved_per_mille(0, 0) == 0


def test_two_banks_are_no_federation() -> None:
    with pytest.raises(NothingToPayError, match="2 banks: the day needs 3 at least"):
        plan_day(generate(BICS[:2], count=50, seed=1).payments, cycles=2)
