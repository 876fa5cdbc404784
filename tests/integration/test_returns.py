"""A payment is given back in parts, never beyond what it was, and both banks' books say so alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, connect, payment
from support import uuid7

from gateway.federation.messages.payments import PaymentOutcome
from participants.audit.fsck import fsck
from participants.ledger import store
from participants.ledger.events import PaymentOrder
from participants.ledger.payment import Payment, Status
from participants.payments.disputes import Dispute, DisputeReason
from participants.payments.holds import DecideHold, HoldReason
from participants.payments.returns import RETURNS_MAX


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank, PaymentOrder]]:
    """Two banks and a payment of 300 that the second one has accepted."""
    async with (
        bank(await new_database("participants.ledger")) as alfa,
        bank(await new_database("participants.ledger"), BETA) as beta,
    ):
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", balance=1_000)
        original = payment(300)
        await alfa.order(original)
        await alfa.deliver(beta)
        yield alfa, beta, original


def part(original: PaymentOrder, amount: int, *, id_: str | None = None) -> PaymentOrder:
    return payment(amount, debtor="b-1", creditor="a-1", to=ALFA, returns=original.id, id_=id_)


async def standing(one: Bank, id_: str) -> Payment:
    return (await store.read_payments(one.connection, [id_]))[id_]


async def assert_sound(*every: Bank) -> None:
    for one in every:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def test_parts_come_to_the_whole_at_both_banks(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    alfa, beta, original = banks
    for amount, status, left in ((100, Status.ACCEPTED, 200), (50, Status.ACCEPTED, 150), (150, Status.RETURNED, 0)):
        assert (await beta.order(part(original, left + amount + 1)))[0].reason == "return_exceeds"
        (outcome,) = await beta.order(part(original, amount))
        assert outcome.status == "reserved"
        await beta.deliver(alfa)
        received, sent = await standing(beta, original.id), await standing(alfa, original.id)
        assert (received.status, received.returned) == (status, 300 - left)
        assert sent.given_back == received.given_back
        assert sent.status is (Status.RETURNED if status is Status.RETURNED else Status.POSTED)
    assert (await beta.order(part(original, 1)))[0].reason == "return_of_unknown"
    assert (await alfa.balance("customer", "a-1"), await beta.balance("customer", "b-1")) == (1_000, 1_000)
    await assert_sound(alfa, beta)


async def test_returns_at_once_from_two_nodes_never_exceed_the_payment(
    banks: tuple[Bank, Bank, PaymentOrder],
) -> None:
    alfa, beta, original = banks
    async with bank(beta.url, BETA) as replica:
        outcomes = await asyncio.gather(
            *(one.order(part(original, 70)) for _ in range(5) for one in (beta, replica, beta))
        )
        assert sorted(outcome.status for (outcome,) in outcomes) == ["refused"] * 11 + ["reserved"] * 4
        while await beta.queued():
            await beta.deliver(alfa)
        assert (await standing(alfa, original.id)).returned == (await standing(beta, original.id)).returned == 280
        await assert_sound(alfa, beta)


async def test_a_return_that_fails_gives_its_part_back(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    alfa, beta, original = banks
    whole = [part(original, 100), part(original, 200)]
    await beta.order(*whole)
    assert (await standing(beta, original.id)).status is Status.RETURNED
    known = await store.read_payments(beta.connection, [whole[0].id])
    refusal = PaymentOutcome(id=whole[0].id, status="refused", reason="creditor_account_blocked")
    assert await beta.ledger.submit(beta.answers(alfa, [known[whole[0].id]], [refusal])) == 1
    stands = await standing(beta, original.id)
    assert (stands.status, stands.returned) == (Status.ACCEPTED, 200)
    await beta.deliver(alfa)
    assert (await standing(alfa, original.id)).returned == 200
    assert (await beta.order(part(original, 101)))[0].reason == "return_exceeds"
    await beta.order(part(original, 100))
    await beta.deliver(alfa)
    assert (await standing(alfa, original.id)).status is Status.RETURNED
    await assert_sound(alfa, beta)


async def test_a_hostile_bank_gives_nothing_back_beyond_the_payment(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    """Its books may say what they like: each part is counted here, those that are held when they are released."""
    alfa, beta, original = banks
    (held,) = await alfa.receive(beta, part(original, 200).terms(), hits=[HIT])
    assert held.status == "held"
    accepted, beyond = await alfa.receive(beta, part(original, 200).terms(), part(original, 101).terms())
    assert (accepted.status, beyond.status, beyond.reason) == ("accepted", "refused", "return_exceeds")
    await alfa.ledger.submit(DecideHold(held.id, "dora", "release", "another birthday"))
    released = await alfa.ledger.submit(DecideHold(held.id, "egon", "release", "another birthday"))
    assert released.reason is HoldReason.RETURN_EXCEEDS
    assert (await standing(alfa, original.id)).returned == 200
    await assert_sound(alfa)


async def test_a_payment_has_so_many_returns_at_most(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    alfa, beta, original = banks
    taken = await beta.order(*(part(original, 1) for _ in range(RETURNS_MAX)))
    assert {outcome.status for outcome in taken} == {"reserved"}
    assert (await beta.order(part(original, 1)))[0].reason == "too_many_returns"
    await beta.deliver(alfa)
    assert len((await standing(alfa, original.id)).given_back) == RETURNS_MAX
    (refused,) = await alfa.receive(beta, part(original, 1).terms())
    assert refused.reason == "too_many_returns"
    await assert_sound(alfa, beta)


async def test_a_payment_that_is_given_back_in_part_is_not_contested(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    _, beta, original = banks
    await beta.order(part(original, 1, id_=uuid7()))
    outcome = await beta.ledger.submit(Dispute(original.id, "dora", "no such invoice"))
    assert outcome.reason is DisputeReason.PAYMENT_RETURNED


async def test_fsck_finds_a_part_that_no_return_pays(banks: tuple[Bank, Bank, PaymentOrder]) -> None:
    alfa, beta, original = banks
    await beta.order(part(original, 100))
    connection = await owner_of(beta)
    await connection.execute(
        "UPDATE event SET data = replace(data::text, '\"100\"', '\"90\"')::json WHERE type = 'payment.returned_in_part'"
    )
    await connection.close()
    report = await fsck(beta.url, beta.bic)
    assert [check.name for check in report.checks if not check.ok] == ["returns"]
    assert (await fsck(alfa.url, alfa.bic)).ok


async def owner_of(one: Bank) -> Any:
    connection = await connect(one.url, role=None)
    await connection.execute("SET session_replication_role = replica")
    return connection
