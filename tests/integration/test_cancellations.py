"""A payment without an answer is cancelled: whether it is in or out, both banks say the same, whatever comes first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bank_ledgers import BETA, HIT, Bank, bank, payment

from participants.audit.fsck import fsck
from participants.ledger import store
from participants.ledger.payment import Payment, Status
from participants.payments.cancellations import CancellationOutcome, CancellationReason, RequestCancellation


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    async with (
        bank(await new_database("participants.ledger")) as alfa,
        bank(await new_database("participants.ledger"), BETA) as beta,
    ):
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", balance=1_000)
        yield alfa, beta


async def standing(one: Bank, id_: str) -> Payment:
    return (await store.read_payments(one.connection, [id_]))[id_]


async def assert_sound(*every: Bank) -> None:
    for one in every:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def cancel(one: Bank, *ids: str) -> list[CancellationOutcome]:
    return await one.ledger.submit(RequestCancellation(ids, "mona"))


async def test_what_is_not_in_is_out_for_good(banks: tuple[Bank, Bank]) -> None:
    """The batch of before, delayed on its way, doesn't bring it in later."""
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    assert await cancel(alfa, order.id) == [CancellationOutcome(order.id, Status.CANCELLING)]
    assert (await alfa.balance("customer", "a-1"), await alfa.balance("reserved", BETA)) == (900, 100)
    assert await alfa.queued() == []
    assert await alfa.deliver_withdrawn(beta) == 1
    assert (await alfa.balance("customer", "a-1"), await alfa.balance("reserved", BETA)) == (1_000, 0)
    cancelled, declined = await standing(alfa, order.id), await standing(beta, order.id)
    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, "cancelled_by_sender")
    assert (declined.status, declined.reason) == (Status.DECLINED, "cancelled_by_sender")
    (late,) = await beta.receive(alfa, order.terms())
    assert (late.status, late.reason) == ("refused", "cancelled_by_sender")
    assert await cancel(alfa, order.id) == [CancellationOutcome(order.id, Status.CANCELLED)]
    (again,) = await alfa.order(order)
    assert (again.status, again.replayed) == ("reserved", True)
    await assert_sound(alfa, beta)


async def test_what_is_in_stays_in_with_its_number(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    (accepted,) = await beta.receive(alfa, order.terms())  # and the answer is lost
    await cancel(alfa, order.id)
    assert await alfa.deliver_withdrawn(beta) == 1
    posted = await standing(alfa, order.id)
    assert (posted.status, posted.sequence, posted.cancelled_by) == (Status.POSTED, accepted.sequence, "mona")
    assert await cancel(alfa, order.id) == [CancellationOutcome(order.id, Status.POSTED)]
    await assert_sound(alfa, beta)


async def test_what_the_other_bank_holds_its_people_decide(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    await beta.receive(alfa, order.terms(), hits=[HIT])
    await cancel(alfa, order.id)
    assert await alfa.deliver_withdrawn(beta) == 0
    assert (await standing(alfa, order.id)).status is Status.CANCELLING
    assert (await standing(beta, order.id)).status is Status.HELD
    await assert_sound(alfa, beta)


async def test_who_is_told_that_it_is_not_cancelled_is_told_why(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    held, paid, unknown = payment(10), payment(10), payment(10)
    await alfa.order(held, hits=[HIT])
    await alfa.order(paid)
    await alfa.deliver(beta)
    reasons = [outcome.reason for outcome in await cancel(alfa, held.id, paid.id, unknown.id)]
    assert reasons == [
        CancellationReason.PAYMENT_HELD, CancellationReason.PAYMENT_ANSWERED, CancellationReason.PAYMENT_UNKNOWN,
    ]  # fmt: skip
    assert [o.reason for o in await cancel(beta, paid.id)] == [CancellationReason.NOT_OUTGOING]


async def test_a_bank_that_says_of_its_own_accord_that_it_was_cancelled_is_not_believed(
    banks: tuple[Bank, Bank],
) -> None:
    """Nobody here asked for that: it is refused, for the reason that the other bank gives."""
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    outcomes = await beta.receive(alfa, order.terms(), withdrawn=True)
    known = await store.read_payments(alfa.connection, [order.id])
    await alfa.ledger.submit(alfa.answers(beta, [known[order.id]], outcomes))
    refused = await standing(alfa, order.id)
    assert (refused.status, refused.reason) == (Status.REFUSED, "cancelled_by_sender")
    await assert_sound(alfa, beta)


async def test_a_return_that_is_cancelled_gives_nothing_back(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = payment(100)
    await alfa.order(order)
    await alfa.deliver(beta)
    back = payment(40, debtor="b-1", creditor="a-1", to=alfa.bic, returns=order.id)
    await beta.order(back)
    await cancel(beta, back.id)
    assert await beta.deliver_withdrawn(alfa) == 1
    assert (await standing(beta, back.id)).status is Status.CANCELLED
    assert (await standing(beta, order.id)).given_back == ()
    await assert_sound(alfa, beta)


@pytest.mark.parametrize("seed", range(3))
async def test_both_banks_agree_whatever_comes_first(banks: tuple[Bank, Bank], seed: int) -> None:
    """Two nodes at each bank send, withdraw, answer and cancel at once; answers are lost, batches come late."""
    alfa, beta = banks
    draw = random.Random(seed)
    orders = [payment(1) for _ in range(40)]
    async with bank(alfa.url) as alfa_replica, bank(beta.url, BETA) as beta_replica:
        # Each bank has one key, whichever of its nodes signs.
        alfa_replica.key, beta_replica.key = alfa.key, beta.key
        senders, receivers = (alfa, alfa_replica), (beta, beta_replica)
        await asyncio.gather(*(alfa.order(order) for order in orders))
        await cancel(alfa, *(order.id for order in orders[:10]))

        async def late(order: Any) -> None:
            await asyncio.sleep(draw.random() / 20)
            await draw.choice(receivers).receive(alfa, order.terms())

        async def cancelled(order: Any) -> None:
            await asyncio.sleep(draw.random() / 20)
            await cancel(draw.choice(senders), order.id)

        async def sending(sender: Bank, receiver: Bank) -> None:
            for _ in range(8):
                await asyncio.sleep(draw.random() / 40)
                await (sender.deliver_withdrawn(receiver) if draw.random() < 0.5 else sender.deliver(receiver))

        await asyncio.gather(
            *map(late, draw.sample(orders[5:], 20)),
            *map(cancelled, draw.sample(orders, 25)),
            *map(sending, senders, receivers),
        )
        while await alfa.deliver(beta) + await alfa.deliver_withdrawn(beta):
            pass
        statuses = []
        for order in orders:
            sent, received = await standing(alfa, order.id), await standing(beta, order.id)
            statuses.append(sent.status)
            assert (sent.status, received.status) in (
                (Status.POSTED, Status.ACCEPTED), (Status.CANCELLED, Status.DECLINED)
            ), order.id  # fmt: skip
            assert sent.sequence == received.sequence
        assert set(statuses) == {Status.POSTED, Status.CANCELLED}
        await assert_sound(alfa, beta)
