"""What settles when limits bind: the choice, its figures, and certificates that a reader checks."""

from __future__ import annotations

import itertools
import random

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.cycle.certificate import Certificate
from compliance.cycle.limits import BilateralLimit, Cap, Limits
from compliance.cycle.liquidity import Choice, Lane, LiquidityRule, check_certificate, choose
from compliance.cycle.positions import Position, digests, of_statement, statement_of
from compliance.statements import Flow, PositionStatement
from netting.liquidity.certificate import CertificateError

OPTIMAL, FIFO = LiquidityRule(mode="optimal", work=1_000_000), LiquidityRule(mode="fifo", work=1_000_000)
BANKS = tuple(f"{letter * 4}DEFF" for letter in "ABCDEFGHIJ")
A, B, C, D = BANKS[:4]
CYCLE = "2026-03-02-01"


def statement(first: str, second: str, forth: int, back: int, currency: str = "EUR") -> Position:
    def flow(sender: str, receiver: str, amount: int) -> Flow:
        count = 1 if amount else 0
        return Flow(
            sender=sender,
            receiver=receiver,
            first_sequence=1,
            last_sequence=count,
            count=count,
            amount_minor=str(amount),
            root="0" * 64,
        )

    flows = (flow(first, second, forth), flow(second, first, back))
    statement = PositionStatement(cycle=CYCLE, currency=currency, pair=(first, second), revision=1, flows=flows)
    return of_statement(statement)


def matched(*positions: Position) -> dict[Lane, tuple[str, Position]]:
    named = zip(digests(CYCLE, positions), positions, strict=True)
    return {(one.currency, (one.low, one.high)): (digest.hex(), one) for digest, one in named}


def capped(minor: int, *banks: str) -> Limits:
    return Limits(caps=tuple(Cap(participant=bank, currency="EUR", cap_minor=str(minor)) for bank in banks))


def drawn(seed: int, banks: int) -> list[Position]:
    """Return heavy-tailed obligations between all pairs, some of them one way."""
    rng = random.Random(seed)
    return [
        statement(*pair, *(int(rng.lognormvariate(9, 2)) * (rng.random() < 0.8) for _ in range(2)))
        for pair in itertools.combinations(BANKS[:banks], 2)
    ]


def pairs(choice: Choice) -> set[tuple[str, str]]:
    return {pair for _, pair in choice.settling}


def test_everything_settles_where_nothing_is_in_the_way() -> None:
    statements = [statement(A, B, 100, 0), statement(B, C, 100, 0), statement(A, C, 0, 100), statement(A, D, 0, 0)]
    choice = choose(matched(*statements), capped(0, A, B, C), OPTIMAL)
    assert pairs(choice) == {(one.low, one.high) for one in statements}
    (eur,), (certificate,) = choice.results, choice.certificates
    assert (eur.matched_minor, eur.value_minor, eur.upper_bound_minor, eur.gap_minor) == ("300", "300", "300", "0")
    assert (eur.optimal, eur.work, certificate.proof) == (True, 0, "everything_settles")
    assert eur.certificate == canonical.digest(canonical.encode(certificate))


def test_the_most_valuable_pairs_settle() -> None:
    statements = [statement(A, B, 60, 0), statement(A, C, 70, 0), statement(A, D, 40, 0)]
    choice = choose(matched(*statements), capped(100, A), OPTIMAL)
    assert pairs(choice) == {(A, B), (A, D)}
    (eur,) = choice.results
    assert (eur.matched_minor, eur.value_minor, eur.upper_bound_minor, eur.optimal) == ("170", "100", "100", True)


def test_a_circle_settles_that_no_pair_of_could_by_itself() -> None:
    statements = [statement(A, B, 500, 0), statement(B, C, 500, 0), statement(A, C, 0, 500), statement(A, D, 1, 0)]
    choice = choose(matched(*statements), capped(0, *BANKS), OPTIMAL)
    assert pairs(choice) == {(A, B), (B, C), (A, C)}


def test_where_nothing_can_settle_the_bound_says_so() -> None:
    choice = choose(matched(statement(A, B, 10, 3)), capped(6, A), OPTIMAL)
    (eur,) = choice.results
    assert (pairs(choice), eur.value_minor, eur.upper_bound_minor, eur.optimal) == (set(), "0", "0", True)


def test_a_bilateral_limit_leaves_its_pair_out() -> None:
    granted = BilateralLimit(participant=B, counterparty=A, currency="EUR", limit_minor="69")
    statements = [statement(A, B, 100, 30), statement(A, C, 5, 0)]
    assert pairs(choose(matched(*statements), Limits(bilateral=(granted,)), OPTIMAL)) == {(A, C)}
    allowed = replace(granted, limit_minor="70")
    assert pairs(choose(matched(*statements), Limits(bilateral=(allowed,)), OPTIMAL)) == {(A, B), (A, C)}


def test_a_limit_in_one_currency_leaves_the_others_alone() -> None:
    statements = [statement(A, B, 100, 0), statement(A, B, 100, 0, "JPY")]
    choice = choose(matched(*statements), capped(0, A), OPTIMAL)
    assert choice.settling == {("JPY", (A, B))}
    assert [(one.currency, one.value_minor) for one in choice.results] == [("EUR", "0"), ("JPY", "100")]


@pytest.mark.parametrize("rule", [OPTIMAL, FIFO], ids=["optimal", "fifo"])
@pytest.mark.parametrize(("seed", "banks"), [(1, 5), (2, 6), (3, 8), (4, 10)])
def test_limits_are_kept_and_the_certificate_proves_the_bound(seed: int, banks: int, rule: LiquidityRule) -> None:
    statements, limits = drawn(seed, banks), capped(20_000, *BANKS)
    choice = choose(matched(*statements), limits, rule)
    owes = dict.fromkeys(BANKS, 0)
    value = 0
    for one in statements:
        if (one.low, one.high) in pairs(choice):
            for flow in statement_of(CYCLE, one).flows:
                owes[flow.sender] += int(flow.amount_minor)
                owes[flow.receiver] -= int(flow.amount_minor)
                value += int(flow.amount_minor)
    assert max(owes.values()) <= 20_000
    if rule is OPTIMAL:
        # Nothing that could move is left standing.
        for one in statements:
            low, high = one.low, one.high
            if (low, high) not in pairs(choice):
                difference = int(one.forth_minor) - int(one.back_minor)
                assert max(owes[low] + difference, owes[high] - difference) > 20_000
    (eur,), (certificate,) = choice.results, choice.certificates
    assert value == int(eur.value_minor) <= int(eur.upper_bound_minor)
    assert int(eur.gap_minor) == int(eur.upper_bound_minor) - value
    check_certificate(statements, limits, certificate)


@pytest.mark.parametrize(("seed", "banks"), [(1, 5), (2, 6), (3, 8)])
def test_optimal_is_never_below_fifo(seed: int, banks: int) -> None:
    statements, limits = matched(*drawn(seed, banks)), capped(20_000, *BANKS)
    (optimal,), (fifo,) = choose(statements, limits, OPTIMAL).results, choose(statements, limits, FIFO).results
    assert int(fifo.value_minor) <= int(optimal.value_minor)


def test_the_order_of_the_input_does_not_matter() -> None:
    statements, limits = drawn(5, 7), capped(10_000, *BANKS)
    expected = choose(matched(*statements), limits, OPTIMAL)
    for seed in range(3):
        random.Random(seed).shuffle(statements)
        assert choose(matched(*statements), limits, OPTIMAL) == expected


def test_the_lot_changes_with_any_statement() -> None:
    """Of two pairs that are worth the same, it isn't always the one with the names earlier in the alphabet."""
    taken: set[tuple[str, str]] = set()
    for amount in range(1, 20):
        equal = (statement(A, B, 5, 0), statement(A, C, 5, 0), statement(B, D, amount, amount))
        taken |= pairs(choose(matched(*equal), capped(5, A), OPTIMAL)) - {(B, D)}
    assert taken == {(A, B), (A, C)}


def test_a_certificate_that_proves_less_than_it_says_is_refused() -> None:
    statements, limits = drawn(3, 8), capped(20_000, *BANKS)
    (certificate,) = choose(matched(*statements), limits, OPTIMAL).certificates
    (eur,) = choose(matched(*statements), limits, OPTIMAL).results
    leaf = max(range(len(certificate.nodes)), key=lambda at: len(certificate.nodes[at].multipliers))
    short = replace(certificate.nodes[leaf], multipliers=certificate.nodes[leaf].multipliers[1:])
    forged: list[Certificate] = [
        replace(certificate, upper_bound_minor=str(int(eur.value_minor) - 1)),
        replace(certificate, nodes=()),
        replace(certificate, nodes=certificate.nodes[:-1]),
        replace(certificate, nodes=(*certificate.nodes[:leaf], short, *certificate.nodes[leaf + 1 :])),
        replace(certificate, proof="enumerated"),
        replace(certificate, proof="everything_settles"),
        replace(certificate, nodes=(*certificate.nodes, replace(certificate.nodes[-1], pair=(A, "ZZZZDEFF")))),
    ]
    for one in forged:
        with pytest.raises(CertificateError):
            check_certificate(statements, limits, one)
    check_certificate(statements, limits, certificate)
