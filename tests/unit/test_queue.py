"""The queue: its order, what may settle when, what senders may do, and every refusal with its reason and place."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations

import pytest

from netting.model import AMOUNT_MAX
from netting.queue import (
    Action,
    ActionReason,
    Aggregate,
    Limits,
    Payment,
    QueueReason,
    QueueRefusedError,
    act,
    canonical_queue,
    due,
    link_groups,
    natural,
)


def pay(name: str, *, link: str | None = None, **members: object) -> Payment:
    return replace(Payment(name, "A", "B", 1), link=link, **members)  # type: ignore[arg-type]


def ids(payments: tuple[Payment, ...]) -> list[str]:
    return [payment.id for payment in payments]


# --- order ------------------------------------------------------------------------------------------------


def test_the_order_is_priority_then_age_then_id_whatever_the_order_given() -> None:
    payments = [
        pay("T10", priority=-1, sequence=9),
        pay("Z", sequence=-5),
        pay("T2"),
        pay("T10b"),
        pay("A", sequence=1),
        pay("AA", priority=1, sequence=-9),
    ]
    for arrangement in permutations(payments):
        assert ids(canonical_queue(arrangement, Limits())) == ["T10", "Z", "T2", "T10b", "A", "AA"]


def test_ids_are_in_natural_order() -> None:
    expected = ["1", "01", "2", "10", "A", "A1", "A01", "A1B2", "A1B10", "A2", "B", "a", "é1"]
    assert len({natural(text) for text in expected}) == len(expected)
    for seed in range(20):
        arrangement = random.Random(seed).sample(expected, len(expected))
        by_queue = ids(canonical_queue((pay(name) for name in arrangement), Limits()))
        assert by_queue == sorted(arrangement, key=natural)
        assert [name for name in by_queue if name in {"1", "2", "10"}] == ["1", "2", "10"]
        assert [name for name in by_queue if name in {"A1B2", "A1B10", "A2"}] == ["A1B2", "A1B10", "A2"]


def test_natural_order_takes_numbers_of_any_length() -> None:
    long = "9" * 5_000
    assert natural("T" + long) < natural("T1" + long)
    assert natural("T2") < natural("T" + long)
    assert natural("T0") != natural("T00")


# --- what may settle --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payment", "at", "may"),
    [
        (pay("T"), None, True),
        (pay("T"), 5, True),
        (pay("T", held=True), None, False),
        (pay("T", held=True), 5, False),
        (pay("T", earliest=6), None, True),
        (pay("T", earliest=6), 5, False),
        (pay("T", earliest=5), 5, True),
        (pay("T", latest=4), None, True),
        (pay("T", latest=4), 5, False),
        (pay("T", latest=5), 5, True),
        (pay("T", earliest=5, latest=5), 5, True),
        (pay("T", earliest=-3, latest=-1), 0, False),
    ],
)
def test_a_payment_is_due_within_its_window_unless_it_is_held(payment: Payment, at: int | None, may: bool) -> None:
    assert bool(due([payment], at)) is may


def test_payments_wait_for_those_they_are_linked_with() -> None:
    payments = (pay("T1", link="T2"), pay("T2", held=True), pay("T3", link="T1"), pay("T4"), pay("T5", link="T4"))
    assert ids(due(payments)) == ["T4", "T5"]
    assert ids(due((*payments[:3], replace(payments[3], latest=3), payments[4]), 4)) == []
    assert ids(due(payments, 4)) == ["T4", "T5"]


def test_links_make_groups() -> None:
    payments = (pay("T1"), pay("T2", link="T4"), pay("T3"), pay("T4", link="T2"), pay("T5", link="T3"), pay("T6"))
    for seed in range(10):
        arrangement = canonical_queue(random.Random(seed).sample(payments, len(payments)), Limits())
        assert [ids(group) for group in link_groups(arrangement)] == [["T1"], ["T2", "T4"], ["T3", "T5"], ["T6"]]


def test_a_chain_of_links_is_one_group() -> None:
    payments = canonical_queue([pay(f"T{at}", link=f"T{at + 1}" if at < 50 else None) for at in range(51)], Limits())
    assert link_groups(payments) == [payments]


# --- what senders do --------------------------------------------------------------------------------------


def test_hold_and_release() -> None:
    queue = (pay("T1"), pay("T2"))
    held = act(queue, Action.HOLD, "T1")
    assert held == (replace(queue[0], held=True), queue[1])
    assert act(held, Action.RELEASE, "T1") == queue


def test_cancelling_takes_out_what_could_never_settle_without_it() -> None:
    queue = (pay("T1", link="T2"), pay("T2", link="T1"), pay("T3"), pay("T4", link="T1", held=True))
    assert act(queue, Action.CANCEL, "T3") == (queue[0], queue[1], queue[3])
    for name in ("T1", "T2", "T4"):
        assert act(queue, Action.CANCEL, name) == (queue[2],)


@pytest.mark.parametrize(
    ("action", "name", "reason"),
    [
        (Action.HOLD, "T3", ActionReason.UNKNOWN_PAYMENT),
        (Action.RELEASE, "", ActionReason.UNKNOWN_PAYMENT),
        (Action.CANCEL, "t1", ActionReason.UNKNOWN_PAYMENT),
        (Action.HOLD, "T2", ActionReason.ALREADY_HELD),
        (Action.RELEASE, "T1", ActionReason.NOT_HELD),
    ],
)
def test_an_action_is_refused(action: Action, name: str, reason: ActionReason) -> None:
    queue = (pay("T1"), pay("T2", held=True))
    assert act(queue, action, name) is reason
    assert act((), action, name) is ActionReason.UNKNOWN_PAYMENT


def test_every_reason_of_an_action_is_tried() -> None:
    assert list(ActionReason) == ["unknown_payment", "already_held", "not_held"]


# --- refusals ---------------------------------------------------------------------------------------------

GOOD = pay("T1")
KEY = ("A", "EUR")
RATES = {"EUR": 1, "": 1}

REFUSALS: list[tuple[list[Payment], Limits, str, str]] = [
    ([GOOD, pay("T1", amount=2)], Limits(), "duplicate_id", "T1"),
    ([pay("T9"), pay("T9"), pay("T10"), pay("T10")], Limits(), "duplicate_id", "T9"),
    ([GOOD], Limits(participants=frozenset("A")), "unknown_participant", "T1"),
    ([GOOD], Limits(participants=frozenset("B")), "unknown_participant", "T1"),
    ([GOOD, pay("T2", creditor="A")], Limits(), "self_payment", "T2"),
    ([GOOD, pay("T2", amount=0)], Limits(), "amount_not_positive", "T2"),
    ([GOOD, pay("T2", amount=-1)], Limits(), "amount_not_positive", "T2"),
    ([GOOD, pay("T2", amount=AMOUNT_MAX + 1)], Limits(), "amount_overflow", "T2"),
    ([GOOD], Limits(balances={KEY: AMOUNT_MAX + 1}), "amount_overflow", "A/EUR balance"),
    ([GOOD], Limits(balances={KEY: -AMOUNT_MAX - 1}), "amount_overflow", "A/EUR balance"),
    ([GOOD], Limits(caps={KEY: AMOUNT_MAX + 1}), "amount_overflow", "A/EUR cap"),
    ([GOOD], Limits(default_cap=AMOUNT_MAX + 1), "amount_overflow", "default cap"),
    ([GOOD, pay("T2", earliest=2, latest=1)], Limits(), "window_empty", "T2"),
    ([GOOD, pay("T2", link="T3")], Limits(), "link_unknown", "T2"),
    ([GOOD, pay("T2", link="")], Limits(), "link_unknown", "T2"),
    ([pay("T1", link="T1")], Limits(), "link_cycle", "T1"),
    ([pay("T3", link="T2"), pay("T2", link="T10"), pay("T10", link="T3")], Limits(), "link_cycle", "T2"),
    (
        [pay("T0", link="T3"), pay("T3", link="T2"), pay("T2", link="T10"), pay("T10", link="T3")],
        Limits(),
        "link_cycle",
        "T2",
    ),
    ([GOOD, pay("T2", link="T1", split=True)], Limits(), "link_split", "T2"),
    ([GOOD, pay("T2", currency="USD")], Limits(aggregate=Aggregate(RATES)), "rate_missing", "T2"),
    ([GOOD], Limits(caps={KEY: -1}), "limit_negative", "A/EUR cap"),
    ([GOOD], Limits(default_cap=-1), "limit_negative", "default cap"),
    ([GOOD], Limits(reserved={KEY: -1}), "limit_negative", "A/EUR reserved"),
    ([GOOD], Limits(bilateral={("A", "B", "EUR"): -1}), "limit_negative", "A/B/EUR bilateral limit"),
    ([GOOD], Limits(aggregate=Aggregate(RATES, limits={"A": -1})), "limit_negative", "A aggregate limit"),
    ([GOOD], Limits(aggregate=Aggregate(RATES, haircuts_ppm={"EUR": -1})), "limit_negative", "EUR haircut"),
    ([GOOD], Limits(aggregate=Aggregate({"": 1, "EUR": 0})), "limit_negative", "EUR rate"),
    ([pay("T1", amount=AMOUNT_MAX), pay("T2")], Limits(), "sum_overflow", "T2"),
    ([pay("T1")], Limits(balances={("B", ""): AMOUNT_MAX}), "sum_overflow", "T1"),
    ([pay("T1")], Limits(balances={("A", ""): -AMOUNT_MAX}), "sum_overflow", "T1"),
    ([GOOD, pay("T2")], Limits(aggregate=Aggregate({"": AMOUNT_MAX})), "sum_overflow", "T2"),
    ([GOOD], Limits(aggregate=Aggregate({"": AMOUNT_MAX + 1})), "amount_overflow", " rate"),
    ([GOOD], Limits(balances={("Z", ""): 1}, participants=frozenset("ABC")), "unknown_participant", "Z/ balance"),
    (
        [GOOD],
        Limits(bilateral={("A", "Z", ""): 1}, participants=frozenset("ABC")),
        "unknown_participant",
        "A/Z/ bilateral limit",
    ),
]


@pytest.mark.parametrize(("payments", "limits", "reason", "place"), REFUSALS)
def test_every_order_is_refused_for_the_same_reason_at_the_same_place(
    payments: list[Payment], limits: Limits, reason: str, place: str
) -> None:
    refusals = set()
    for arrangement in permutations(payments):
        with pytest.raises(QueueRefusedError) as refused:
            canonical_queue(arrangement, limits)
        assert (refused.value.reason, refused.value.place) == (QueueReason(reason), place)
        refusals.add(str(refused.value))
    assert len(refusals) == 1
    assert refusals.pop() == f"{reason}: {place}: {refused.value.detail}"


def test_every_reason_is_tried() -> None:
    assert {reason for _, _, reason, _ in REFUSALS} == {reason.value for reason in QueueReason}


def test_the_first_payment_of_the_queue_that_can_not_be_worked_with_is_named() -> None:
    payments = [pay("T2", amount=0), pay("T10", creditor="A"), pay("T1", priority=1, earliest=2, latest=1)]
    for arrangement in permutations(payments):
        with pytest.raises(QueueRefusedError) as refused:
            canonical_queue(arrangement, Limits())
        assert (refused.value.reason, refused.value.place) == (QueueReason.AMOUNT_NOT_POSITIVE, "T2")


def test_what_is_at_the_edge_is_taken() -> None:
    payments = [
        pay("T1", amount=AMOUNT_MAX // 4),
        pay("T2", amount=AMOUNT_MAX // 4, currency="EUR", earliest=1, latest=1),
        pay("T3", currency="USD", link="T4"),
        pay("T4", currency="USD", link="T3"),
    ]
    limits = Limits(
        balances={("C", ""): -(AMOUNT_MAX // 4)},
        caps={KEY: AMOUNT_MAX, ("B", "EUR"): None},
        default_cap=None,
        participants=frozenset("ABC"),
        aggregate=Aggregate({"": 1, "EUR": 1, "USD": 1}, {"EUR": 0}, {"A": 0}),
    )
    assert len(canonical_queue(payments, limits)) == 4
    assert canonical_queue([], Limits()) == ()
