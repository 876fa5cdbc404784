"""The liquidity-saving engine against brute force, and what must hold of every resolution."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.certificate import CertificateError, check
from netting.gridlock import Mode, resolve
from netting.gridlock import check as check_bound
from netting.liquidity.branch import Branching
from netting.liquidity.instance import Instance, instance_of
from netting.queue import Aggregate, Limits, Payment, canonical_queue, due, link_groups

BANKS = ("A", "B", "C", "D")


@st.composite
def queues(
    draw: st.DrawFn, *, payments_max: int = 7, links: bool = True, splits: bool = False, currencies: int = 1
) -> tuple[list[Payment], Limits]:
    """Draw a queue with limits of every kind."""
    count = draw(st.integers(0, payments_max))
    of = [f"C{n}" for n in range(currencies)]
    payments: list[Payment] = []
    for at in range(count):
        debtor, creditor = draw(st.permutations(BANKS))[:2]
        split = splits and draw(st.booleans())
        link = None
        if links and payments and not split and draw(st.integers(0, 4)) == 0:
            target = draw(st.sampled_from(payments))
            link = None if target.split else target.id
        payments.append(
            Payment(
                f"T{at + 1}", debtor, creditor, draw(st.integers(1, 12)), draw(st.sampled_from(of)),
                priority=draw(st.integers(0, 2)), sequence=draw(st.integers(0, 2)), split=split, link=link,
            )
        )  # fmt: skip
    accounts = [(bank, currency) for bank in BANKS for currency in of]
    amounts = st.integers(0, 12)

    def some(values: st.SearchStrategy[int | None]) -> st.SearchStrategy[dict[tuple[str, str], int | None]]:
        return st.dictionaries(st.sampled_from(accounts), values, max_size=4)

    aggregate = None
    if currencies > 1:
        aggregate = Aggregate(
            rates={currency: draw(st.integers(1, 3)) for currency in of},
            haircuts_ppm={of[0]: draw(st.integers(0, 300_000))},
            limits=draw(st.dictionaries(st.sampled_from(BANKS), st.integers(0, 20), max_size=3)),
        )
    pairs = [(a, b, currency) for a in BANKS for b in BANKS if a != b for currency in of]
    limits = Limits(
        balances=draw(some(st.integers(-5, 15))),  # type: ignore[arg-type]
        caps=draw(some(st.one_of(st.none(), amounts))),
        default_cap=draw(st.sampled_from([0, 0, 3, None])),
        reserved=draw(some(amounts)),  # type: ignore[arg-type]
        bilateral=draw(st.dictionaries(st.sampled_from(pairs), amounts, max_size=3)),
        aggregate=aggregate,
    )
    return payments, limits


def allowed(amounts: dict[str, int], payments: list[Payment], limits: Limits) -> bool:
    """Tell whether amounts may settle: the limits written down once more, straight from their definitions."""
    amounts = {p.id: amounts.get(p.id, 0) for p in payments}
    for group in link_groups(tuple(payments)):
        if len({amounts[p.id] > 0 for p in group}) > 1:
            return False

    def total(**where: str) -> int:
        return sum(amounts[p.id] for p in payments if all(getattr(p, key) == value for key, value in where.items()))

    currencies = {p.currency for p in payments}
    for bank, currency in product(BANKS, currencies):
        balance, cap = limits.balances.get((bank, currency), 0), limits.cap((bank, currency))
        if cap is None:
            continue
        received, paid = total(creditor=bank, currency=currency), total(debtor=bank, currency=currency)
        if max(0, balance + cap) + received - paid < 0:
            return False
        reserved = limits.reserved.get((bank, currency), 0)
        of = [p for p in payments if p.debtor == bank and p.currency == currency]
        normal = sum(amounts[p.id] for p in of if p.priority > limits.urgent)
        if reserved and max(0, balance + cap - reserved) + received - normal < 0:
            return False
    for (debtor, creditor, currency), limit in limits.bilateral.items():
        forth = total(debtor=debtor, creditor=creditor, currency=currency)
        if forth - total(debtor=creditor, creditor=debtor, currency=currency) > limit:
            return False
    return limits.aggregate is None or all(_worth_is_enough(bank, amounts, payments, limits) for bank in BANKS)


def _worth_is_enough(bank: str, amounts: dict[str, int], payments: list[Payment], limits: Limits) -> bool:
    rule = limits.aggregate
    if rule is None or bank not in rule.limits:
        return True

    def worth(after_settlement: bool) -> int:
        total = 0
        for currency, rate in rule.rates.items():
            position = limits.balances.get((bank, currency), 0)
            if after_settlement:
                position += sum(amounts[p.id] for p in payments if p.creditor == bank and p.currency == currency)
                position -= sum(amounts[p.id] for p in payments if p.debtor == bank and p.currency == currency)
            haircut = rule.haircuts_ppm.get(currency, 0)
            total += position * rate * (1_000_000 - haircut if position > 0 else 1_000_000 + haircut)
        return total

    return worth(True) >= min(worth(False), -rule.limits[bank] * 1_000_000)


def value_of(amounts: dict[str, int], payments: list[Payment], limits: Limits) -> int:
    return sum(amounts.get(p.id, 0) * limits.rates.get(p.currency, 1) for p in payments)


def brute_force(payments: list[Payment], limits: Limits) -> list[str]:
    """Return the best selection: greatest value, then most payments, then the first item in the queue's order."""
    groups = link_groups(canonical_queue(payments, limits))
    best: tuple[tuple[int, int, tuple[bool, ...]], list[str]] = ((-1, -1, ()), [])
    for choices in product((True, False), repeat=len(groups)):
        chosen = {p.id: p.amount for group, takes in zip(groups, choices, strict=True) if takes for p in group}
        if allowed(chosen, payments, limits):
            best = max(best, ((value_of(chosen, payments, limits), len(chosen), choices), sorted(chosen)))
    return best[1]


@given(st.one_of(queues(), queues(currencies=2)))
@settings(max_examples=150, deadline=None)
def test_a_small_queue_is_resolved_like_by_brute_force(queue: tuple[list[Payment], Limits]) -> None:
    payments, limits = queue
    resolution = resolve(payments, limits)
    assert sorted(resolution.settled) == brute_force(payments, limits)
    assert resolution.optimal
    assert resolution.upper_bound == resolution.value


def search_of(payments: list[Payment], limits: Limits, *, steps: int = 10_000) -> tuple[Branching, Instance]:
    instance = instance_of(due(canonical_queue(payments, limits)), limits)
    search = Branching(instance)
    for _ in range(steps):
        if not search.step():
            break
    return search, instance


@given(st.one_of(queues(), queues(currencies=2)))
@settings(max_examples=150, deadline=None)
def test_the_search_proves_the_optimum_and_its_certificate_holds(queue: tuple[list[Payment], Limits]) -> None:
    payments, limits = queue
    search, instance = search_of(payments, limits)
    best = dict.fromkeys(brute_force(payments, limits), 1)
    assert search.value == value_of({p.id: p.amount * best.get(p.id, 0) for p in payments}, payments, limits)
    assert search.bound == search.value
    check(instance, search.certificate())


@given(queues(payments_max=5, splits=True, links=False))
@settings(max_examples=150, deadline=None)
def test_splits_settle_in_the_best_parts(queue: tuple[list[Payment], Limits]) -> None:
    payments, limits = queue
    payments = [replace(p, amount=p.amount // 3 + 1) for p in payments]
    resolution = resolve(payments, limits)
    choices = [range(p.amount + 1) if p.split else (0, p.amount) for p in payments]
    best = 0
    for amounts in product(*choices):
        chosen = {p.id: amount for p, amount in zip(payments, amounts, strict=True)}
        if sum(amounts) > best and allowed(chosen, payments, limits):
            best = sum(amounts)
    assert resolution.value <= best <= resolution.upper_bound
    # Beside reserved liquidity, a bilateral limit isn't in the relaxation, and a part can't be branched on.
    if not (limits.reserved and limits.bilateral):
        assert (resolution.value, resolution.upper_bound) == (best, best)


@given(queues(), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_certificate_that_says_less_is_refused(queue: tuple[list[Payment], Limits], less: int) -> None:
    search, instance = search_of(*queue)
    certificate = search.certificate()
    if search.value > less:
        with pytest.raises(CertificateError):
            check(instance, replace(certificate, upper_bound=search.value - less - 1))


@given(st.one_of(queues(), queues(currencies=2)))
@settings(max_examples=200, deadline=None)
def test_fifo_settles_the_largest_set_of_prefixes(queue: tuple[list[Payment], Limits]) -> None:
    payments, limits = queue
    resolution = resolve(payments, limits, mode="fifo")
    ordered = canonical_queue(payments, limits)
    prefixes_settled = dict.fromkeys(resolution.settled, 1)
    amounts = {p.id: p.amount for p in ordered if p.id in prefixes_settled}
    assert allowed(amounts, payments, limits)
    assert _prefixes(set(prefixes_settled), ordered)
    assert resolution.value <= resolve(payments, limits).value <= resolution.upper_bound
    if limits.aggregate is not None and limits.aggregate.limits:
        return
    for choice in product((True, False), repeat=len(ordered)):
        selection = {p.id: p.amount for p, takes in zip(ordered, choice, strict=True) if takes}
        if _prefixes(set(selection), ordered) and allowed(selection, payments, limits):
            assert selection.keys() <= prefixes_settled.keys()


def _prefixes(ids: set[str], ordered: tuple[Payment, ...]) -> bool:
    stopped: set[tuple[str, str]] = set()
    for payment in ordered:
        if payment.id not in ids:
            stopped.add((payment.debtor, payment.currency))
        elif (payment.debtor, payment.currency) in stopped:
            return False
    return True


def drawn(seed: int, *, banks: int = 6, count: int = 90) -> tuple[list[Payment], Limits]:
    chance = random.Random(seed)
    names = [f"B{at}" for at in range(banks)]
    payments = []
    for at in range(count):
        debtor, creditor = chance.sample(names, 2)
        payments.append(Payment(f"T{at}", debtor, creditor, int(chance.lognormvariate(8, 1.5)) + 1))
    limits = Limits(
        balances={(name, ""): chance.randrange(30_000) for name in names},
        reserved={("B0", ""): 500},
        bilateral={("B1", "B2", ""): 9_000},
    )
    return payments, limits


@pytest.mark.parametrize("seed", range(3))
def test_compiled_kernels_take_the_steps_of_interpreted_ones(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    payments, limits = drawn(seed)
    compiled = resolve(payments, limits, work=300_000)
    monkeypatch.setattr("netting.liquidity.branch.INTERPRETED_MAX", 10_000)
    assert resolve(payments, limits, work=300_000) == compiled


def test_climbing_finds_what_plunging_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [drawn(seed, banks=20, count=600) for seed in range(1, 4)]
    climbed = [resolve(payments, limits, work=20_000_000) for payments, limits in queues]
    for (payments, limits), resolution in zip(queues, climbed, strict=True):
        check_bound(payments, limits, resolution.certificate)
    monkeypatch.setattr("netting.liquidity.branch.CLIMB_SHARE", 10**9)
    plunged = [resolve(payments, limits, work=20_000_000) for payments, limits in queues]
    assert all(high.value > low.value for high, low in zip(climbed, plunged, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_amounts_beyond_a_machine_word_are_searched_exactly(seed: int) -> None:
    payments, limits = drawn(seed, banks=8, count=120)
    scale = 10**28
    great = Limits(
        balances={account: amount * scale for account, amount in limits.balances.items()},
        reserved={account: amount * scale for account, amount in limits.reserved.items()},
        bilateral={pair: amount * scale for pair, amount in limits.bilateral.items()},
    )
    resolution = resolve([replace(p, amount=p.amount * scale) for p in payments], great, work=500_000)
    small = resolve(payments, limits, work=500_000)
    assert (resolution.settled, resolution.value, resolution.upper_bound) == (
        small.settled,
        small.value * scale,
        small.upper_bound * scale,
    )


@pytest.mark.parametrize("mode", ["optimal", "fifo"])
def test_the_order_of_the_payments_changes_nothing(mode: Mode) -> None:
    payments, limits = drawn(11)
    resolution = resolve(payments, limits, mode=mode, work=300_000)
    for seed in range(3):
        shuffled = random.Random(seed).sample(payments, len(payments))
        assert repr(resolve(shuffled, limits, mode=mode, work=300_000)) == repr(resolution)


def test_more_work_never_settles_less_nor_allows_more() -> None:
    payments, limits = drawn(5)
    before = resolve(payments, limits, mode="fifo")
    for work in (1, 30_000, 100_000, 300_000, 1_000_000):
        resolution = resolve(payments, limits, work=work)
        assert resolution.value >= before.value
        assert resolution.upper_bound <= before.upper_bound
        check_bound(payments, limits, resolution.certificate)
        before = resolution


def test_every_process_finds_the_same() -> None:
    program = (
        "from tests.property.test_gridlock import drawn\n"
        "from netting.gridlock import resolve\n"
        "from hashlib import sha256\n"
        "print(sha256(repr(resolve(*drawn(7), work=300_000)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("length", [2, 5, 30, 200])
def test_a_ring_without_money_is_resolved(length: int) -> None:
    """Nobody can pay first, and all can pay together."""
    ring = [Payment(f"T{at}", f"B{at}", f"B{(at + 1) % length}", 10**9 + 7) for at in range(length)]
    resolution = resolve(ring, Limits(), work=1)
    assert resolution.count == length
    assert resolution.optimal


def test_what_settles_keeps_every_limit_and_leaves_nothing_that_fits() -> None:
    payments, limits = drawn(3)
    resolution = resolve(payments, limits, work=300_000)
    instance = instance_of(canonical_queue(payments, limits), limits)
    amounts = [item.amount if item.id in set(resolution.settled) else 0 for item in instance.items]
    assert instance.fits(instance.rooms(amounts))
    for at, item in enumerate(instance.items):
        if not amounts[at]:
            assert not instance.fits(instance.rooms([*amounts[:at], item.amount, *amounts[at + 1 :]]))
