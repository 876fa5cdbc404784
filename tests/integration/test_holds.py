"""Held payments wait for two people; contested ones stay out of statements until they are settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, connect, giving_back, payment, settle
from support import uuid7

from compliance.screening.holds import HoldState
from gateway.federation.problems import Refusal
from participants.audit.fsck import fsck
from participants.ledger import store
from participants.ledger.payment import Status
from participants.payments.disputes import Dispute, DisputeReason, WithdrawDispute
from participants.payments.holds import DecideHold, HoldOutcome, HoldReason
from participants.payments.screening import screening_counts


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    async with (
        bank(await new_database("participants.ledger")) as alfa,
        bank(await new_database("participants.ledger"), BETA) as beta,
    ):
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", balance=1_000)
        yield alfa, beta


async def assert_sound(*all_banks: Bank) -> None:
    for one in all_banks:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def say(one: Bank, id_: str, person: str, decision: Any, reason: str = "looked into it") -> HoldOutcome:
    return await one.ledger.submit(DecideHold(id_, person, decision, reason))


async def status(one: Bank, id_: str) -> Status:
    return (await store.read_payments(one.connection, [id_]))[id_].status


async def open_states(one: Bank) -> list[str]:
    return [row[0] for row in await one.connection.fetch("SELECT state FROM payment_open")]


# --- outgoing ----------------------------------------------------------------------------------------------


async def test_an_outgoing_payment_is_sent_after_two_people_released_it(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    (outcome,) = await alfa.order(order, hits=[HIT])
    assert outcome.status == "held"
    assert (await alfa.balance("customer", "a-1"), await alfa.balance("reserved", BETA)) == (900, 100)
    assert await alfa.deliver(beta) == 0
    assert await say(alfa, order.id, "dora", "release") == HoldOutcome(order.id, HoldState.FIRST_RELEASE)
    assert await alfa.queued() == []
    assert await say(alfa, order.id, "egon", "release") == HoldOutcome(order.id, HoldState.RELEASED)
    assert await open_states(alfa) == ["queued"]
    assert await alfa.deliver(beta) == 1
    assert await beta.balance("customer", "b-1") == 1_100
    (again,) = await alfa.order(order)
    assert (again.status, again.replayed) == ("held", True)
    await assert_sound(alfa, beta)


async def test_a_rejected_outgoing_payment_frees_the_money(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order, hits=[HIT])
    await say(alfa, order.id, "dora", "reject")
    assert (await say(alfa, order.id, "egon", "reject")).state is HoldState.REJECTED
    assert (await alfa.balance("customer", "a-1"), await alfa.balance("reserved", BETA)) == (1_000, 0)
    refused = (await store.read_payments(alfa.connection, [order.id]))[order.id]
    assert (refused.status, refused.reason) == (Status.REFUSED, "screening_rejected")
    assert await open_states(alfa) == []
    assert await alfa.deliver(beta) == 0
    await assert_sound(alfa)


async def test_a_rejected_return_leaves_the_payment_that_it_gives_back(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    original = payment(100)
    await alfa.order(original)
    await alfa.deliver(beta)
    back = giving_back(original)
    await beta.order(back, hits=[HIT])
    assert await status(beta, original.id) is Status.RETURNED
    for person in ("dora", "egon"):
        await say(beta, back.id, person, "reject")
    assert await status(beta, original.id) is Status.ACCEPTED
    await assert_sound(alfa, beta)


# --- incoming ----------------------------------------------------------------------------------------------


async def test_an_incoming_payment_is_credited_after_two_people_released_it(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    assert await alfa.deliver(beta, hits=[HIT]) == 0
    assert await beta.balance("customer", "b-1") == 1_000
    for person in ("dora", "egon"):
        await say(beta, order.id, person, "release")
    assert await beta.balance("customer", "b-1") == 1_100
    assert await alfa.deliver(beta, hits=[HIT]) == 1
    assert (await alfa.balance("due_to", BETA), await beta.balance("due_from", ALFA)) == (100, 100)
    heads = [await one.connection.fetchrow("SELECT sequence, total, peaks FROM lane_head") for one in banks]
    assert heads[0] == heads[1]
    await assert_sound(alfa, beta)


async def test_a_rejected_incoming_payment_is_refused_to_the_sender(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    await alfa.deliver(beta, hits=[HIT])
    for person in ("dora", "egon"):
        await say(beta, order.id, person, "reject")
    assert await alfa.deliver(beta) == 1
    assert (await alfa.balance("customer", "a-1"), await beta.balance("customer", "b-1")) == (1_000, 1_000)
    refused = (await store.read_payments(alfa.connection, [order.id]))[order.id]
    assert refused.reason == "screening_rejected"
    await assert_sound(alfa, beta)


async def test_a_released_return_marks_the_payment_returned(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    original = payment(100)
    await alfa.order(original)
    await alfa.deliver(beta)
    back = giving_back(original)
    await beta.order(back)
    await beta.deliver(alfa, hits=[HIT])
    assert await status(alfa, original.id) is Status.POSTED
    for person in ("dora", "egon"):
        await say(alfa, back.id, person, "release")
    assert await status(alfa, original.id) is Status.RETURNED
    await beta.deliver(alfa)
    await assert_sound(alfa, beta)


async def test_a_second_return_of_one_payment_can_only_be_rejected(banks: tuple[Bank, Bank]) -> None:
    """A dishonest bank sends two returns while the first is held."""
    alfa, beta = banks
    original = payment(100)
    await alfa.order(original)
    await alfa.deliver(beta)
    first, second = giving_back(original), giving_back(original)
    for back in (first, second):
        await alfa.receive(beta, back.terms(), hits=[HIT])
    for person in ("dora", "egon"):
        await say(alfa, first.id, person, "release")
    await say(alfa, second.id, "dora", "release")
    assert (await say(alfa, second.id, "egon", "release")).reason is HoldReason.RETURN_OF_UNKNOWN
    await say(alfa, second.id, "egon", "reject")
    assert (await say(alfa, second.id, "fritz", "reject")).state is HoldState.REJECTED
    assert await alfa.balance("customer", "a-1") == 1_000
    await assert_sound(alfa)


# --- four eyes ---------------------------------------------------------------------------------------------


async def test_refused_words_change_nothing(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    order, plain = payment(100), payment(1)
    await alfa.order(order, hits=[HIT])
    await alfa.order(plain)
    await say(alfa, order.id, "dora", "release")
    before = await alfa.connection.fetchval("SELECT sequence FROM ledger_head")
    assert (await say(alfa, uuid7(), "egon", "release")).reason is HoldReason.PAYMENT_UNKNOWN
    assert (await say(alfa, plain.id, "egon", "release")).reason is HoldReason.NOT_HELD
    assert (await say(alfa, order.id, " DORA", "reject")).reason is HoldReason.SAME_PERSON
    assert (await say(alfa, order.id, "egon", "release", " ")).reason is HoldReason.REASON_MISSING
    assert (await say(alfa, order.id, "egon", "release", "x" * 501)).reason is HoldReason.REASON_TOO_LONG
    assert await alfa.connection.fetchval("SELECT sequence FROM ledger_head") == before
    await say(alfa, order.id, "egon", "release")
    assert (await say(alfa, order.id, "fritz", "reject")).reason is HoldReason.ALREADY_DECIDED
    with pytest.raises(Refusal) as refused:
        (await say(alfa, order.id, "fritz", "reject")).or_refuse()
    assert (refused.value.reason, refused.value.status) == ("hold_already_decided", 409)


@pytest.mark.parametrize("spelling", ["mona", " MONA ", "Ｍｏｎａ", "mo\u200bna"])
async def test_who_ordered_a_payment_has_no_word_on_it(banks: tuple[Bank, Bank], spelling: str) -> None:
    """Neither alone nor as one of two, to release or to reject; the other bank's people have nothing to do with it."""
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order, hits=[HIT], maker="mona")
    assert (await say(alfa, order.id, spelling, "release")).reason is HoldReason.MAKER_IS_CHECKER
    await say(alfa, order.id, "dora", "release")
    assert (await say(alfa, order.id, spelling, "release")).reason is HoldReason.MAKER_IS_CHECKER
    assert (await say(alfa, order.id, spelling, "reject")).reason is HoldReason.MAKER_IS_CHECKER
    async with bank(alfa.url) as again:
        assert (await say(again, order.id, spelling, "release")).reason is HoldReason.MAKER_IS_CHECKER
    assert (await say(alfa, order.id, "egon", "release")).state is HoldState.RELEASED
    await alfa.deliver(beta, hits=[HIT])
    for person in (spelling, "egon"):
        released = await say(beta, order.id, person, "release")
    assert released.state is HoldState.RELEASED
    await assert_sound(alfa, beta)


async def test_who_ordered_a_return_has_no_word_on_it(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    original = payment(100)
    await alfa.order(original)
    await alfa.deliver(beta)
    back = giving_back(original)
    await beta.order(back, hits=[HIT], maker="bert")
    assert (await say(beta, back.id, "Bert", "release")).reason is HoldReason.MAKER_IS_CHECKER


async def test_the_journal_says_who_made_each_order(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    plain, held = payment(1), payment(2)
    await alfa.order(plain, maker="mona")
    await alfa.order(held, hits=[HIT], maker='N"ora')
    (again,) = await alfa.order(plain, maker="nora")
    assert again.replayed
    found = await store.read_payments(alfa.connection, [plain.id, held.id])
    assert (found[plain.id].maker, found[held.id].maker) == ("mona", 'N"ora')


async def test_a_payment_that_was_held_before_makers_were_recorded_is_still_decided(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    order = payment(100)
    await alfa.order(order, hits=[HIT])
    owner = await connect(alfa.url, role=None)
    await owner.execute("ALTER TABLE event DISABLE TRIGGER event_append_only")
    await owner.execute(
        "UPDATE event SET schema_version = 1, data = (data::jsonb - 'actor')::json WHERE type = 'payment.held_out'"
    )
    await owner.execute("ALTER TABLE event ENABLE TRIGGER event_append_only")
    await owner.close()
    async with bank(alfa.url) as later:
        for person in ("dora", "mona"):
            outcome = await say(later, order.id, person, "release")
        assert outcome.state is HoldState.RELEASED
        await assert_sound(later)


async def test_a_repeated_word_is_answered_and_counted_once(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    order = payment(100)
    await alfa.order(order, hits=[HIT])
    outcomes = await asyncio.gather(*(say(alfa, order.id, "dora", "release") for _ in range(5)))
    assert {o.state for o in outcomes} == {HoldState.FIRST_RELEASE}
    assert (await say(alfa, order.id, "egon", "release")).state is HoldState.RELEASED
    assert (await say(alfa, order.id, "dora", "release")).state is HoldState.RELEASED
    await assert_sound(alfa)


async def test_two_who_differ_need_a_third(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    order = payment(100)
    await alfa.order(order, hits=[HIT])
    outcomes = [
        await say(alfa, order.id, "dora", "release"),
        await say(alfa, order.id, "egon", "reject"),
        await say(alfa, order.id, "fritz", "release"),
    ]
    assert [o.state for o in outcomes] == [HoldState.FIRST_RELEASE, HoldState.ESCALATED, HoldState.RELEASED]
    people = await alfa.connection.fetchval("SELECT data->'people' FROM event WHERE type = 'payment.released'")
    assert people == '["dora","fritz"]'


async def test_many_people_at_once_decide_once(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    orders = [payment(10) for _ in range(5)]
    await alfa.order(*orders, hits=[HIT])
    async with bank(alfa.url) as replica:
        outcomes = await asyncio.gather(
            *(
                say(one, order.id, person, "release")
                for order in orders
                for one, person in ((alfa, "dora"), (replica, "egon"), (alfa, "fritz"), (replica, "greta"))
            )
        )
    decided = [o for o in outcomes if o.state is HoldState.RELEASED]
    assert len(decided) == 5
    assert sum(o.reason is HoldReason.ALREADY_DECIDED for o in outcomes) == 10
    await assert_sound(alfa)


async def test_decisions_are_counted_between_cuts(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    released, rejected, pending, incoming = (payment(10) for _ in range(4))
    await alfa.order(released, rejected, pending, hits=[HIT])
    back = payment(5, debtor="b-1", creditor="a-1", to=ALFA)
    await alfa.receive(beta, back.terms(), hits=[HIT])
    for person in ("dora", "egon"):
        await say(alfa, released.id, person, "release")
        await say(alfa, rejected.id, person, "reject")
        await say(alfa, back.id, person, "release")
    await say(alfa, pending.id, "dora", "release")
    await alfa.deliver(beta)
    await beta.order(back)
    await beta.deliver(alfa)
    (statement,) = await settle("2026-10-02-01", alfa, beta)
    taken_in = sum(flow.count for flow in statement.flows)
    counts = await screening_counts(alfa.connection, "2026-10-02-01", taken_in)
    assert (counts.screened, counts.hits, counts.released, counts.rejected, counts.pending) == (4, 4, 2, 1, 1)
    for person in ("egon", "fritz"):
        await say(alfa, pending.id, person, "reject")
    await alfa.order(incoming)
    await alfa.deliver(beta)
    await settle("2026-10-02-02", alfa, beta)
    counts = await screening_counts(alfa.connection, "2026-10-02-02", 1)
    assert (counts.screened, counts.hits, counts.released, counts.rejected, counts.pending) == (2, 1, 0, 1, 0)
    assert (await screening_counts(alfa.connection, "2026-10-02-01", 2)).rejected == 1
    assert (await screening_counts(alfa.connection, "2026-10-02-99", 0)).hits == 0


# --- disputes ----------------------------------------------------------------------------------------------


async def test_a_disputed_payment_stays_out_of_the_statement_until_withdrawn(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    contested, other = payment(100), payment(1)
    await alfa.order(contested, other)
    await alfa.deliver(beta)
    for _ in range(2):
        outcome = await beta.ledger.submit(Dispute(contested.id, "dora", "unknown payer"))
        assert (outcome.disputed, outcome.reason) == (True, None)
    assert await beta.connection.fetchval("SELECT amount FROM dispute") == 100
    await assert_sound(beta)
    for _ in range(2):
        outcome = await beta.ledger.submit(WithdrawDispute(contested.id, "dora", "cleared up"))
        assert (outcome.disputed, outcome.reason) == (False, None)
    assert await beta.connection.fetchval("SELECT count(*) FROM dispute") == 0
    await assert_sound(beta)


async def test_a_change_of_mind_in_one_transaction_leaves_what_was_last(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    contested = payment(100)
    await alfa.order(contested)
    await alfa.deliver(beta)
    for kinds, rows in (((Dispute, WithdrawDispute, Dispute), 1), ((WithdrawDispute, Dispute, WithdrawDispute), 0)):
        before = beta.ledger.transactions
        await asyncio.gather(*(beta.ledger.submit(kind(contested.id, "dora", "hm")) for kind in kinds))
        assert beta.ledger.transactions == before + 1
        assert await beta.connection.fetchval("SELECT count(*) FROM dispute") == rows
    await assert_sound(beta)


async def test_only_unsettled_accepted_incoming_payments_are_disputed(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    settled, disputed, declined, returned, held = (
        payment(1),
        payment(2),
        payment(3, creditor="nobody"),
        payment(4),
        payment(5),
    )
    await alfa.order(settled, disputed, declined, returned)
    await alfa.deliver(beta)
    await beta.order(giving_back(returned))
    await beta.receive(alfa, held.terms(), hits=[HIT])

    async def refused(one: Bank, id_: str, kind: Any = Dispute) -> DisputeReason | None:
        return (await one.ledger.submit(kind(id_, "dora", "why"))).reason

    assert await refused(beta, uuid7()) is DisputeReason.PAYMENT_UNKNOWN
    assert await refused(alfa, settled.id) is DisputeReason.NOT_INCOMING
    for id_ in (declined.id, returned.id, held.id):
        assert await refused(beta, id_) is DisputeReason.NOT_ACCEPTED
    assert await refused(beta, disputed.id) is None
    await beta.deliver(alfa)
    async with bank(beta.url, BETA) as replica:
        assert await refused(replica, disputed.id) is None
        # The sender's statement is of the receiver's mind here, as after a mended break.
        lane, sequence, amount = await beta.connection.fetchrow("SELECT lane_id, sequence, amount FROM dispute")
        owner = await connect(alfa.url, role=None)
        await owner.execute("INSERT INTO dispute VALUES ($1, $2, $3, $4)", disputed.id, lane, sequence, amount)
        await settle("2026-10-02-01", alfa, beta)
        await owner.execute("DELETE FROM dispute")
        await owner.close()
        for one in (beta, replica):
            assert await refused(one, settled.id) is DisputeReason.PAYMENT_SETTLED
            assert await refused(one, disputed.id, WithdrawDispute) is DisputeReason.PAYMENT_SETTLED
    assert await alfa.balance("due_to", BETA) == 2
    assert await beta.balance("due_from", ALFA) == 2
    await assert_sound(alfa, beta)
