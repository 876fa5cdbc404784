"""What must hold of netting for every set of obligations."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.batch import Batch, Entry, collect
from netting.figures import bilateral, multilateral
from netting.model import AMOUNT_MAX, Obligation, ObligationReason, ObligationRefusedError
from netting.multilateral import net, net_batch, net_pairs

BANKS = ("AAAADEFF", "BBBBFRPP", "CCCCITRR", "DDDDESMM", "EEEENL2A")
CURRENCIES = ("EUR", "JPY", "KWD")

ARROWS = [(c, a, b) for c in CURRENCIES for a, b in itertools.permutations(BANKS, 2)]
amounts = st.one_of(st.integers(1, 50), st.integers(1, 10**36))
obligation_sets = st.dictionaries(st.sampled_from(ARROWS), amounts, max_size=len(ARROWS)).map(
    lambda chosen: [Obligation(*arrow, amount) for arrow, amount in chosen.items()]
)


@given(obligation_sets)
def test_value_is_conserved_and_nets_sum_to_zero(obligations: list[Obligation]) -> None:
    nettings = net(obligations)
    assert [n.currency for n in nettings] == sorted({o.currency for o in obligations})
    for netting in nettings:
        own = [o for o in obligations if o.currency == netting.currency]
        gross = sum(o.amount for o in own)
        assert netting.gross == gross
        assert netting.obligations == len(own)
        assert sum(p.pays for p in netting.positions) == sum(p.receives for p in netting.positions) == gross
        assert sum(p.net for p in netting.positions) == 0
        for position in netting.positions:
            assert position.pays == sum(o.amount for o in own if o.debtor == position.participant)
            assert position.receives == sum(o.amount for o in own if o.creditor == position.participant)


@given(obligation_sets)
def test_each_netting_moves_no_more_than_the_one_before(obligations: list[Obligation]) -> None:
    for netting in net(obligations):
        assert 0 <= netting.multilateral <= netting.bilateral <= netting.gross
        assert netting.saving == netting.gross - netting.multilateral


@given(obligation_sets, st.sampled_from(CURRENCIES), st.randoms(use_true_random=False))
def test_pairs_net_to_the_same_as_their_obligations(
    obligations: list[Obligation], currency: str, random: object
) -> None:
    own = [o for o in obligations if o.currency == currency]
    owed = {(o.debtor, o.creditor): o.amount for o in own}
    pairs = [(a, b, owed.get((a, b), 0), owed.get((b, a), 0)) for a, b in {o.pair for o in own}]
    random.shuffle(pairs)  # type: ignore[attr-defined]
    (expected,) = net(own) or (None,)
    netted = net_pairs(currency, pairs)
    assert netted.positions == (() if expected is None else expected.positions)
    if expected is not None:
        assert netted == replace(expected, pairs=())
    (idle,) = net_pairs(currency, [(*BANKS[:2], 0, 0)]).positions[:1]
    assert (idle.participant, idle.receives, idle.pays) == (BANKS[0], 0, 0)


def test_pairs_are_refused_for_the_obligation_that_is_too_much() -> None:
    pairs = [(BANKS[0], BANKS[1], 6 * 10**37, 1), (BANKS[0], BANKS[2], 0, 6 * 10**37)]
    for given_pairs in (pairs, pairs[::-1]):
        with pytest.raises(ObligationRefusedError) as refused:
            net_pairs("EUR", given_pairs)
        assert refused.value.reason is ObligationReason.SUM_OVERFLOW
        assert refused.value.obligation == Obligation("EUR", BANKS[2], BANKS[0], 6 * 10**37)


@given(obligation_sets, st.randoms(use_true_random=False))
def test_the_order_of_obligations_changes_no_byte(obligations: list[Obligation], random: object) -> None:
    shuffled = list(obligations)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert repr(net(shuffled)).encode() == repr(net(obligations)).encode()


REFUSED = [
    ([Obligation("EUR", "A", "A", 1)], ObligationReason.SELF_PAYMENT),
    ([Obligation("EUR", "A", "B", 0)], ObligationReason.AMOUNT_NOT_POSITIVE),
    ([Obligation("EUR", "A", "B", -1)], ObligationReason.AMOUNT_NOT_POSITIVE),
    ([Obligation("EUR", "A", "B", AMOUNT_MAX + 1)], ObligationReason.AMOUNT_OVERFLOW),
    ([Obligation("EUR", "A", "B", 1), Obligation("EUR", "A", "B", 2)], ObligationReason.DUPLICATE),
    ([Obligation("EUR", "A", "B", AMOUNT_MAX), Obligation("EUR", "B", "A", 1)], ObligationReason.SUM_OVERFLOW),
    ([Obligation("EUR", "A", "A", -1)], ObligationReason.SELF_PAYMENT),
]


@pytest.mark.parametrize(("obligations", "reason"), REFUSED)
def test_refusals(obligations: list[Obligation], reason: ObligationReason) -> None:
    for order in itertools.permutations(obligations):
        with pytest.raises(ObligationRefusedError) as refused:
            net(order)
        assert refused.value.reason is reason


def test_the_largest_amount_is_netted_exactly_in_every_currency_on_its_own() -> None:
    nettings = net([Obligation(currency, "A", "B", AMOUNT_MAX) for currency in ("EUR", "USD")])
    assert [n.positions[1].net for n in nettings] == [AMOUNT_MAX, AMOUNT_MAX]


# --- single obligations, many of a pair -------------------------------------------------------------------

entry_lists = st.lists(
    st.tuples(st.none(), st.sampled_from(("", *CURRENCIES)), st.sampled_from(BANKS), st.sampled_from(BANKS), amounts)
    .filter(lambda entry: entry[2] != entry[3]),
    max_size=60,
)  # fmt: skip
small_entry_lists = entry_lists.map(lambda entries: [(*entry[:4], entry[4] % 2**61 + 1) for entry in entries])


@given(entry_lists)
def test_a_batch_nets_to_what_the_sums_of_its_obligations_net_to(entries: list[Entry]) -> None:
    sums: dict[tuple[str, str, str], int] = {}
    for _, currency, debtor, creditor, amount in entries:
        sums[currency, debtor, creditor] = sums.get((currency, debtor, creditor), 0) + amount
    of_sums = net(Obligation(*arrow, amount) for arrow, amount in sums.items())
    assert [replace(netting, obligations=0) for netting in net_batch(collect(entries))] == [
        replace(netting, obligations=0) for netting in of_sums
    ]
    for netting in of_sums:
        assert sum(pair.forth + pair.back for pair in netting.pairs) == netting.gross
        for position in netting.positions:
            own = [p.net if p.first == position.participant else -p.net for p in netting.pairs
                   if position.participant in (p.first, p.second)]  # fmt: skip
            assert -sum(own) == position.net


@given(entry_lists, st.randoms(use_true_random=False))
def test_the_order_of_single_obligations_changes_no_byte(entries: list[Entry], random: object) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert repr(net_batch(collect(shuffled))).encode() == repr(net_batch(collect(entries))).encode()


def as_arrays(batch: Batch, bank: type = np.int16) -> Batch:
    return Batch(
        batch.currencies,
        batch.participants,
        np.array(batch.currency, np.int16),
        np.array(batch.debtor, bank),
        np.array(batch.creditor, bank),
        np.array(batch.amount, np.int64),
    )


@settings(deadline=None)  # the first call loads the kernels
@given(small_entry_lists, st.sampled_from((np.int16, np.int32)))
def test_arrays_net_to_what_python_s_integers_net_to(entries: list[Entry], bank: type) -> None:
    batch = collect(entries)
    arrays = as_arrays(batch, bank)
    assert repr(net_batch(arrays)) == repr(net_batch(batch))
    nets, pairs = multilateral(batch), bilateral(batch)
    assert list(multilateral(arrays).receives) == list(nets.receives)
    assert list(multilateral(arrays).pays) == list(nets.pays)
    assert list(multilateral(arrays).net) == list(nets.net)
    pairs_of_arrays = bilateral(arrays)
    for column in ("start", "second", "forth", "back"):
        assert list(getattr(pairs_of_arrays, column)) == list(getattr(pairs, column))


@pytest.mark.parametrize(
    ("currencies", "banks", "count", "amount_max"),
    [
        pytest.param(3, 40, 600_000, 10**9, id="several threads"),
        pytest.param(2, 5_000, 30_000, 10**9, id="many banks, few pairs each"),
        pytest.param(1, 2, 600_000, 10**9, id="one pair"),
        pytest.param(1, 100, 30_000, 2**46, id="sums near the guard"),
        pytest.param(1, 100, 30_000, 2**62, id="sums beyond the guard"),
        pytest.param(2, 70_000, 30_000, 10**9, id="more banks than int16 can number"),
    ],
)
def test_many_obligations_net_to_the_same_in_arrays_in_lists_and_permuted(
    currencies: int, banks: int, count: int, amount_max: int
) -> None:
    random = np.random.default_rng(7)
    bank = np.int16 if banks <= 2**15 else np.int32
    debtor = random.integers(0, banks, count)
    columns = (
        random.integers(0, currencies, count).astype(np.int16),
        debtor.astype(bank),
        ((debtor + random.integers(1, banks, count)) % banks).astype(bank),
        random.integers(1, amount_max, count),
    )
    names = (tuple(f"C{at}" for at in range(currencies)), tuple(f"B{at:06}" for at in range(banks)))
    order = random.permutation(count)
    arrays, permuted = Batch(*names, *columns), Batch(*names, *(column[order] for column in columns))
    lists = Batch(*names, *(column.tolist() for column in columns))
    assert net_batch(arrays) == net_batch(permuted) == net_batch(lists)


@pytest.mark.parametrize("seed", ["1", "2", "random"])
def test_every_process_and_hash_seed_nets_to_the_same_bytes(seed: str) -> None:
    def answer(hash_seed: str) -> bytes:
        program = (
            "from netting.batch import collect; from netting.multilateral import net_batch\n"
            "names = [f'BANK{at}' for at in range(50)]\n"
            "print(net_batch(collect({(None, c, a, b, len(a) * 7 + ord(b[-1])) for c in ('EUR', 'USD')"
            " for a in names for b in names if a != b})))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment).stdout

    assert answer(seed) == answer("0")


A, B, C = BANKS[:3]


@pytest.mark.parametrize(
    ("entries", "reason", "at", "field"),
    [
        ([("T", "EUR", A, B, 1), ("T", "EUR", A, A, 0)], ObligationReason.DUPLICATE_ID, 1, "id"),
        ([(None, "EUR", "X", A, 1)], ObligationReason.UNKNOWN_PARTICIPANT, 0, "debtor"),
        ([(None, "EUR", A, "X", 0)], ObligationReason.UNKNOWN_PARTICIPANT, 0, "creditor"),
        ([(None, "EUR", A, B, 1), (None, "EUR", A, A, 0)], ObligationReason.SELF_PAYMENT, 1, "creditor"),
        ([(None, "EUR", A, B, 0)], ObligationReason.AMOUNT_NOT_POSITIVE, 0, "amount"),
        ([(None, "EUR", A, B, -1)], ObligationReason.AMOUNT_NOT_POSITIVE, 0, "amount"),
        ([(None, "EUR", A, B, AMOUNT_MAX + 1)], ObligationReason.AMOUNT_OVERFLOW, 0, "amount"),
        (
            [(None, "EUR", A, B, AMOUNT_MAX), (None, "JPY", A, B, 1), (None, "EUR", B, C, 1)],
            ObligationReason.SUM_OVERFLOW,
            2,
            "amount",
        ),
    ],
)
def test_a_single_obligation_is_refused_with_its_place(
    entries: list[Entry], reason: ObligationReason, at: int, field: str
) -> None:
    with pytest.raises(ObligationRefusedError) as refused:
        collect(entries, participants=BANKS)
    assert (refused.value.reason, refused.value.at, refused.value.field) == (reason, at, field)
    assert refused.value.obligation == Obligation(*entries[at][1:])


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize(
    ("debtor", "creditor", "amount", "reason"),
    [
        ([0, 1], [1, 1], [1, 1], ObligationReason.SELF_PAYMENT),
        ([0, 1], [1, 0], [1, 0], ObligationReason.AMOUNT_NOT_POSITIVE),
        ([0, 1], [1, 0], [1, -(2**63)], ObligationReason.AMOUNT_NOT_POSITIVE),
    ],
)
def test_a_batch_refuses_what_can_t_be_netted(
    arrays: bool, debtor: list[int], creditor: list[int], amount: list[int], reason: ObligationReason
) -> None:
    columns: list[Any] = [[0, 0], debtor, creditor, amount]
    if arrays:
        columns = [np.array(column, kind) for column, kind in zip(columns, "hhhq", strict=True)]
    with pytest.raises(ObligationRefusedError) as refused:
        Batch(("EUR",), (A, B), *columns)
    assert (refused.value.reason, refused.value.at) == (reason, 1)


@pytest.mark.parametrize("index", [-1, 2])
@pytest.mark.parametrize("kind", [list, lambda column: np.array(column, np.int16)])
def test_a_batch_refuses_an_index_without_a_name(index: int, kind: Callable[[list[int]], Any]) -> None:
    amounts_ = [1] if kind is list else np.array([1], np.int64)
    with pytest.raises(ValueError, match="of 2 names"):
        Batch(("EUR",), (A, B), kind([0]), kind([index]), kind([1]), amounts_)


def test_a_batch_refuses_names_out_of_order() -> None:
    with pytest.raises(ValueError, match="sorted"):
        Batch(("EUR",), (B, A), [0], [0], [1], [1])
