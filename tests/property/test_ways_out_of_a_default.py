"""What must hold of the ways out of a default: clearing payments, the waterfall, unwinding, and the dry run of all."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.default import DefaultReason, dry_run
from netting.loss_allocation import clearing_vector as module
from netting.loss_allocation.clearing_vector import ClearingReason, ClearingVector, clear_edges, clearing_vector
from netting.loss_allocation.unwind import unwind, without_defaulters
from netting.loss_allocation.waterfall import LAYERS, Layer, LayerKind, ShareRule, Waterfall, WaterfallReason, apply
from netting.model import AMOUNT_MAX, Obligation
from netting.multilateral import Position, net
from netting.refusal import RefusedError

BANKS = ("A", "B", "C", "D")
ARROWS = list(itertools.permutations(BANKS, 2))


def obligations_of(amounts: st.SearchStrategy[int], banks: tuple[str, ...] = BANKS) -> st.SearchStrategy[Any]:
    arrows = list(itertools.permutations(banks, 2))
    return st.dictionaries(st.sampled_from(arrows), amounts, min_size=1, max_size=len(arrows)).map(
        lambda chosen: [Obligation("EUR", *arrow, amount) for arrow, amount in chosen.items()]
    )


money = st.one_of(st.integers(0, 20), st.integers(0, 10**36))
owed = st.one_of(st.integers(1, 20), st.integers(1, 10**36))
cash_sets = st.dictionaries(st.tuples(st.sampled_from(BANKS), st.just("EUR")), money)


def shares(total: int, claims: list[int]) -> list[int]:
    """Share by giving unit after unit to the greatest quotient: the definition, step by step."""
    given_to = [0] * len(claims)
    for _ in range(total):
        best = max(range(len(claims)), key=lambda at: (Fraction(claims[at], given_to[at] + 1), -at))
        given_to[best] += 1
    return given_to


def fixpoints(obligations: list[Obligation], cash: dict[tuple[str, str], int]) -> list[dict[str, int]]:
    """Return every set of payments that agrees with itself, by looking at all there are."""
    names = sorted({name for obligation in obligations for name in obligation.pair})
    owes = {name: sum(obligation.amount for obligation in obligations if obligation.debtor == name) for name in names}
    fixpoints_of_all = []
    for paid in itertools.product(*(range(owes[name] + 1) for name in names)):
        received = dict.fromkeys(names, 0)
        for name, total in zip(names, paid, strict=True):
            own = sorted(obligation for obligation in obligations if obligation.debtor == name)
            for obligation, amount in zip(own, shares(total, [obligation.amount for obligation in own]), strict=True):
                received[obligation.creditor] += amount
        payable = tuple(min(owes[name], cash.get((name, "EUR"), 0) + received[name]) for name in names)
        if payable == paid:
            fixpoints_of_all.append(dict(zip(names, paid, strict=True)))
    return fixpoints_of_all


def cleared(obligations: list[Obligation], cash: dict[tuple[str, str], int], **options: Any) -> ClearingVector:
    (vector,) = clearing_vector(obligations, cash, **options)
    return vector


@settings(max_examples=60, deadline=None)
@given(
    obligations_of(st.integers(1, 4), ("A", "B", "C")),
    st.dictionaries(st.tuples(st.sampled_from("ABC"), st.just("EUR")), st.integers(0, 3)),
)
def test_the_payments_are_the_greatest_that_agree_with_themselves(
    obligations: list[Obligation], cash: dict[tuple[str, str], int]
) -> None:
    vector = cleared(obligations, cash)
    paid = {bank.participant: bank.paid for bank in vector.banks}
    every = fixpoints(obligations, cash)
    assert paid in every
    assert all(fixpoint[name] <= paid[name] for fixpoint in every for name in paid)


@settings(deadline=None)
@given(obligations_of(owed), cash_sets, st.booleans())
def test_clearing_conserves_money_and_is_pro_rata(
    obligations: list[Obligation], cash: dict[tuple[str, str], int], set_off: bool
) -> None:
    try:
        vectors = clearing_vector(obligations, cash, set_off=set_off, work=50_000)
    except RefusedError:
        return  # a circle of banks that owe nearly all to each other
    for vector in vectors:
        assert sum(bank.paid for bank in vector.banks) == sum(bank.received for bank in vector.banks)
        assert sum(bank.remaining for bank in vector.banks) == sum(bank.cash for bank in vector.banks)
        for bank in vector.banks:
            assert bank.cash + bank.received == bank.paid + bank.remaining
            assert 0 <= bank.paid <= bank.owed
            assert bank.remaining == 0 or bank.paid == bank.owed
            assert (bank.failing_round > 0) == (bank.paid < bank.owed)
        paid = {bank.participant: (bank.paid, bank.owed) for bank in vector.banks}
        for cut in vector.cuts:
            total, whole = paid[cut.debtor]
            assert total * cut.owed // whole <= cut.paid < cut.owed or cut.paid == cut.owed - 1
        assert sum(cut.owed - cut.paid for cut in vector.cuts) == vector.unpaid


@settings(deadline=None)
@given(obligations_of(st.integers(1, 500)), st.integers(0, 300), st.randoms(use_true_random=False))
def test_no_order_plays_a_part(obligations: list[Obligation], amount: int, order: random.Random) -> None:
    cash = {(name, "EUR"): amount for name in BANKS[:2]}
    shuffled = list(obligations)
    order.shuffle(shuffled)
    assert repr(clearing_vector(shuffled, dict(reversed(cash.items())))) == repr(clearing_vector(obligations, cash))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40), st.data())
def test_a_share_is_what_giving_unit_after_unit_gives(claims: list[int], data: st.DataObject) -> None:
    claims = [claim % 60 + 1 for claim in claims]
    total = data.draw(st.integers(0, sum(claims)))
    count = len(claims)
    # Bank 0 owes all others; it has `total`.
    start = [0, count, *([count] * count)]
    paid, _ = clear_edges(start, list(range(1, count + 1)), claims, [total, *([0] * count)])
    assert list(paid) == shares(total, claims)


def test_compiled_and_interpreted_agree_up_to_the_limit_of_the_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    count = 30
    start, creditor, amount = [0], [], []
    for bank in range(count):
        for payee in range(count):
            if payee != bank and chance.random() < 0.5:
                creditor.append(payee)
                amount.append(chance.choice((chance.randrange(1, 100), chance.randrange(1, 2**49))))
        start.append(len(creditor))
    cash = [chance.randrange(2**48) * (bank % 2) for bank in range(count)]
    interpreted = clear_edges(start, creditor, amount, cash)
    monkeypatch.setattr(module, "_COMPILED_FROM", 0)
    compiled = clear_edges(start, creditor, amount, cash)
    assert sum(amount) < module._COMPILED_SUM_MAX
    assert [list(map(int, column)) for column in compiled] == [list(column) for column in interpreted]
    assert any(interpreted[1])


def test_contagion_is_counted_in_rounds() -> None:
    chain = [Obligation("EUR", "A", "B", 10), Obligation("EUR", "B", "C", 8), Obligation("EUR", "C", "D", 3)]
    vector = cleared(chain, {("A", "EUR"): 2})
    assert [(bank.paid, bank.failing_round) for bank in vector.banks] == [(2, 1), (2, 2), (2, 3), (0, 0)]
    assert vector.rounds == 3


def test_a_circle_of_defaulters_loses_nothing_to_rounding() -> None:
    # Seven units go round; rounding down would lose one on every turn until nobody pays anything.
    circle = [Obligation("EUR", *arrow) for arrow in (("A", "B", 3), ("A", "C", 4), ("B", "A", 2), ("B", "C", 9))]
    vector = cleared([*circle, Obligation("EUR", "C", "A", 8)], {})
    assert [(bank.paid, bank.owed) for bank in vector.banks] == [(7, 7), (3, 11), (7, 8)]


def test_the_largest_amounts_are_shared_exactly() -> None:
    half = AMOUNT_MAX // 3
    owing = [Obligation("EUR", "A", "B", half), Obligation("EUR", "A", "C", 2 * half)]
    vector = cleared(owing, {("A", "EUR"): half})
    assert [cut.paid for cut in vector.cuts] == [half // 3, half - half // 3]


def test_work_is_bounded() -> None:
    lost = 10**20
    circle = [Obligation("EUR", *arrow) for arrow in (("A", "B", 10**30), ("B", "A", 10**30), ("B", "C", lost))]
    with pytest.raises(RefusedError) as refused:
        clearing_vector(circle, {}, work=1_000)
    assert refused.value.reason is ClearingReason.WORK_EXHAUSTED
    assert cleared(circle, {}, set_off=True).unpaid == lost


@pytest.mark.parametrize(
    ("cash", "reason", "place"),
    [
        ({("X", "EUR"): 1}, ClearingReason.UNKNOWN_PARTICIPANT, "cash of X in EUR"),
        ({("A", "EUR"): -1}, ClearingReason.CASH_NEGATIVE, "cash of A in EUR"),
        ({("A", "EUR"): AMOUNT_MAX + 1}, ClearingReason.CASH_OVERFLOW, "cash of A in EUR"),
    ],
)
def test_refusals_of_cash(cash: dict[tuple[str, str], int], reason: ClearingReason, place: str) -> None:
    with pytest.raises(RefusedError) as refused:
        clearing_vector([Obligation("EUR", "A", "B", 1)], cash, participants=frozenset("AB"))
    assert (refused.value.reason, refused.value.place) == (reason, place)


accounts = st.tuples(st.sampled_from(BANKS), st.just("EUR"))
layers = st.permutations(
    [Layer(kind, rule) for kind, rule in zip(LayerKind, itertools.cycle(ShareRule), strict=False)]
).flatmap(lambda every: st.integers(0, 5).map(lambda count: tuple(every[:count])))
waterfalls = st.builds(
    Waterfall,
    layers=st.one_of(st.just(LAYERS), layers),
    collateral=st.dictionaries(accounts, money),
    contributions=st.dictionaries(accounts, money),
    capital=st.dictionaries(st.just("EUR"), money),
    assessment_caps=st.dictionaries(accounts, money),
    limits=st.dictionaries(accounts, money),
)


@given(waterfalls, st.dictionaries(st.sampled_from(BANKS[:2]), money, min_size=1), st.data())
def test_the_layers_pay_the_loss_in_their_order_and_from_what_they_have(
    waterfall: Waterfall, losses: dict[str, int], data: st.DataObject
) -> None:
    survivors = data.draw(st.permutations([name for name in BANKS if name not in losses]))
    exposures = data.draw(st.dictionaries(st.sampled_from(survivors), money))
    outcome = apply(waterfall, "EUR", losses, survivors, exposures)
    assert outcome == apply(waterfall, "EUR", dict(reversed(losses.items())), sorted(survivors), exposures)
    uncovered = outcome.loss
    for layer in outcome.layers:
        assert layer.loss == uncovered
        assert sum(share.amount for share in layer.shares) == layer.paid <= min(uncovered, layer.available)
        uncovered -= layer.paid
        assert layer.remaining == uncovered
        for share in layer.shares:
            source = {
                LayerKind.DEFAULTER_COLLATERAL: waterfall.collateral,
                LayerKind.DEFAULTER_CONTRIBUTION: waterfall.contributions,
                LayerKind.SURVIVOR_CONTRIBUTIONS: waterfall.contributions,
                LayerKind.SURVIVOR_ASSESSMENTS: waterfall.assessment_caps,
                LayerKind.SCHEME_CAPITAL: {("", "EUR"): waterfall.capital.get("EUR", 0)},
            }[layer.layer.kind]
            assert share.amount <= source[share.participant, "EUR"]
    assert (outcome.covered, outcome.uncovered) == (outcome.loss - uncovered, uncovered)


def test_a_waterfall_worked_by_hand() -> None:
    waterfall = Waterfall(
        collateral={("A", "EUR"): 30},
        contributions={("A", "EUR"): 10, ("B", "EUR"): 20, ("C", "EUR"): 10},
        capital={"EUR": 5},
        assessment_caps={("B", "EUR"): 12, ("C", "EUR"): 100},
    )
    outcome = apply(waterfall, "EUR", {"A": 120}, ("B", "C", "D"), {"B": 50, "C": 25})
    assert [(layer.loss, layer.paid, layer.remaining) for layer in outcome.layers] == [
        (120, 30, 90),
        (90, 10, 80),
        (80, 5, 75),
        (75, 30, 45),
        (45, 45, 0),
    ]
    assert [outcome.paid_by(name) for name in ("A", "", "B", "C", "D")] == [40, 5, 32, 43, 0]


@pytest.mark.parametrize(
    ("waterfall", "losses", "reason", "place"),
    [
        (Waterfall((*LAYERS, LAYERS[0])), {"A": 1}, WaterfallReason.LAYER_REPEATED, "layer 6"),
        (Waterfall(collateral={("A", "EUR"): -1}), {"A": 1}, WaterfallReason.NEGATIVE, "collateral of A in EUR"),
        (Waterfall(capital={"EUR": AMOUNT_MAX + 1}), {"A": 1}, WaterfallReason.OVERFLOW, "scheme capital in EUR"),
        (Waterfall(), {"A": -1}, WaterfallReason.NEGATIVE, "loss of A in EUR"),
    ],
)
def test_refusals_of_waterfalls(
    waterfall: Waterfall, losses: dict[str, int], reason: WaterfallReason, place: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        apply(waterfall, "EUR", losses, ("B",))
    assert (refused.value.reason, refused.value.place) == (reason, place)


def positions(obligations: Iterable[Obligation]) -> list[Position]:
    return [position for netting in net(obligations) for position in netting.positions]


@given(obligations_of(owed), st.sets(st.sampled_from(BANKS)))
def test_unwinding_nets_what_the_survivors_owe_each_other(obligations: list[Obligation], gone: set[str]) -> None:
    caps = {(name, "EUR"): 5 for name in BANKS}
    (unwound,) = unwind(obligations, gone, caps)
    survivors_only = without_defaulters(obligations, gone)
    nets = {position.participant: position.net for position in positions(survivors_only)}
    before = {position.participant: position.net for position in positions(obligations)}
    assert unwound.removed == sum(obligation.amount for obligation in obligations) - sum(
        obligation.amount for obligation in survivors_only
    )
    assert sum(change.after for change in unwound.changes) == 0
    for change in unwound.changes:
        assert change.participant not in gone
        assert (change.before, change.after) == (before[change.participant], nets.get(change.participant, 0))
        assert change.beyond == max(0, -change.after - 5)


@settings(deadline=None)
@given(obligations_of(owed), waterfalls, st.data())
def test_a_dry_run_shows_the_alternatives_and_no_order_plays_a_part(
    obligations: list[Obligation], waterfall: Waterfall, data: st.DataObject
) -> None:
    taking_part = sorted({name for obligation in obligations for name in obligation.pair})
    gone = data.draw(st.sets(st.sampled_from(taking_part), min_size=1))
    shuffled = data.draw(st.permutations(obligations))
    run = dry_run(obligations, gone, waterfall, work=20_000)
    assert repr(run) == repr(dry_run(shuffled, sorted(gone), waterfall, work=20_000))
    before = {p.participant: p.net for p in positions(obligations)}
    (euro,) = run.currencies
    assert euro.waterfall.loss == sum(max(0, -before[name]) for name in gone)
    assert run.covered == (euro.waterfall.uncovered == 0)
    assert euro.unwind == unwind(obligations, gone)[0]
    if euro.clearing is not None and euro.waterfall.loss == 0:
        assert euro.clearing.unpaid == 0
    if euro.clearing is not None:
        # Nobody who is owed by nobody in trouble gets into any.
        assert euro.clearing.unpaid == 0 or any(
            bank.failing_round == 1 for bank in euro.clearing.banks if bank.participant in gone
        )


def test_a_part_of_the_debit_can_be_short() -> None:
    owing = [Obligation("EUR", "A", "B", 10), Obligation("EUR", "B", "C", 10), Obligation("EUR", "C", "A", 4)]
    run = dry_run(owing, {"A"}, Waterfall(), shortfalls={("A", "EUR"): 2}, cash={("B", "EUR"): 1})
    (euro,) = run.currencies
    assert (euro.shortfalls, euro.waterfall.uncovered) == ((("A", 2),), 2)
    assert euro.clearing is not None
    assert [(cut.debtor, cut.creditor, cut.owed - cut.paid) for cut in euro.clearing.cuts] == [
        ("A", "B", 2),
        ("B", "C", 1),
    ]


@pytest.mark.parametrize(
    ("defaulters", "shortfalls", "reason", "place"),
    [
        (set(), {}, DefaultReason.NO_DEFAULTER, "defaulters"),
        ({"X"}, {}, DefaultReason.UNKNOWN_PARTICIPANT, "X"),
        ({"A"}, {("B", "EUR"): 1}, DefaultReason.UNKNOWN_PARTICIPANT, "shortfall of B in EUR"),
        ({"A"}, {("A", "EUR"): -1}, DefaultReason.NEGATIVE, "shortfall of A in EUR"),
        ({"A"}, {("A", "EUR"): 11}, DefaultReason.SHORTFALL_TOO_LARGE, "shortfall of A in EUR"),
    ],
)
def test_refusals_of_dry_runs(
    defaulters: set[str], shortfalls: dict[tuple[str, str], int], reason: DefaultReason, place: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        dry_run([Obligation("EUR", "A", "B", 10)], defaulters, Waterfall(), shortfalls=shortfalls)
    assert (refused.value.reason, refused.value.place) == (reason, place)


_EVERYTHING = """
from random import Random
from netting.advice import TimedObligation, advise
from netting.default import dry_run
from netting.model import Obligation
from netting.plan import Net, plan
from netting.loss_allocation.waterfall import Waterfall
chance = Random(7)
names = [f"BANK{number}" for number in range(12)]
pairs = [(a, b) for a in names for b in names if a != b]
owing = [Obligation(c, *pair, chance.randrange(1, 10**6)) for c in ("EUR", "USD") for pair in pairs]
chance.shuffle(owing)
money = {(name, c): chance.randrange(10**5) for name in names for c in ("EUR", "USD")}
print(dry_run(set(owing), {"BANK3", "BANK5"}, Waterfall(contributions=money, assessment_caps=money), caps=money))
nets = [chance.randrange(-9, 10) for _ in names[1:]]
print(plan({Net("EUR", name, net) for name, net in zip(names, [*nets, -sum(nets)])}, account="X"))
day = [TimedObligation(o.currency, chance.randrange(86400), o.debtor, o.creditor, o.amount) for o in sorted(owing)]
print(advise(set(day)))
"""


def test_every_process_and_hash_seed_gives_the_same_bytes() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", _EVERYTHING],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(printed) == 1
    assert len(printed.pop()) > 1_000
