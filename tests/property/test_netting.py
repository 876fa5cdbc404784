"""What must hold of netting for every set of obligations."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.caps import apply_caps
from netting.model import AMOUNT_MAX, Obligation, ObligationReason, ObligationRefusedError, canonicalise
from netting.multilateral import net

BANKS = ("AAAADEFF", "BBBBFRPP", "CCCCITRR", "DDDDESMM", "EEEENL2A")
CURRENCIES = ("EUR", "JPY", "KWD")

ARROWS = [(c, a, b) for c in CURRENCIES for a, b in itertools.permutations(BANKS, 2)]
amounts = st.one_of(st.integers(1, 50), st.integers(1, 10**36))
obligation_sets = st.dictionaries(st.sampled_from(ARROWS), amounts, max_size=len(ARROWS)).map(
    lambda chosen: [Obligation(*arrow, amount) for arrow, amount in chosen.items()]
)
cap_sets = st.dictionaries(
    st.tuples(st.sampled_from(BANKS), st.sampled_from(CURRENCIES)),
    st.one_of(st.integers(0, 40), st.integers(0, 10**36)),
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


@given(obligation_sets, cap_sets, st.randoms(use_true_random=False))
def test_the_order_of_obligations_changes_no_byte(
    obligations: list[Obligation], caps: dict[tuple[str, str], int], random: object
) -> None:
    shuffled = list(obligations)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert repr(net(shuffled)).encode() == repr(net(obligations)).encode()
    shuffled_caps = dict(reversed(caps.items()))
    assert repr(apply_caps(shuffled, shuffled_caps)).encode() == repr(apply_caps(obligations, caps)).encode()


@settings(max_examples=300)
@given(obligation_sets, cap_sets)
def test_caps_are_never_exceeded_and_nothing_is_lost(
    obligations: list[Obligation], caps: dict[tuple[str, str], int]
) -> None:
    selection = apply_caps(obligations, caps)
    assert not exceeded(selection.kept, caps)

    left_out = {(exclusion.currency, exclusion.pair) for exclusion in selection.excluded}
    assert len(left_out) == len(selection.excluded)
    assert selection.kept == tuple(o for o in canonicalise(obligations) if (o.currency, o.pair) not in left_out)
    for exclusion in selection.excluded:
        assert exclusion.excess > 0
        assert exclusion.participant in exclusion.pair
        assert (exclusion.participant, exclusion.currency) in caps


@settings(max_examples=300)
@given(obligation_sets, cap_sets)
def test_no_excluded_pair_would_have_fitted(obligations: list[Obligation], caps: dict[tuple[str, str], int]) -> None:
    selection = apply_caps(obligations, caps)
    for exclusion in selection.excluded:
        pair = [o for o in obligations if (o.currency, o.pair) == (exclusion.currency, exclusion.pair)]
        assert exceeded((*selection.kept, *pair), caps)


@given(obligation_sets)
def test_without_a_binding_cap_everything_is_kept(obligations: list[Obligation]) -> None:
    caps = {(p.participant, n.currency): max(0, -p.net) for n in net(obligations) for p in n.positions}
    assert apply_caps(obligations, caps) == apply_caps(obligations, {})
    assert apply_caps(obligations, caps).excluded == ()


def exceeded(obligations: tuple[Obligation, ...], caps: dict[tuple[str, str], int]) -> bool:
    return any(
        -p.net > caps.get((p.participant, n.currency), AMOUNT_MAX) for n in net(obligations) for p in n.positions
    )


def test_the_pair_that_lowers_the_largest_excess_most_is_left_out() -> None:
    a, b, c, _, _ = BANKS
    obligations = [
        Obligation("EUR", a, b, 100),
        Obligation("EUR", a, c, 60),
        Obligation("EUR", c, a, 10),
    ]
    selection = apply_caps(obligations, {(a, "EUR"): 60})
    assert [(e.pair, e.participant, e.excess) for e in selection.excluded] == [((a, b), a, 90)]
    assert [o.amount for o in selection.kept] == [60, 10]


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


def test_a_negative_cap_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative cap"):
        apply_caps([], {("A", "EUR"): -1})
