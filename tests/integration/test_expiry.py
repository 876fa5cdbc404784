"""A payment that isn't accepted by its expiry isn't accepted at all: at either bank, by people too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bank_ledgers import BETA, HIT, Bank, bank, payment
from msgspec.structs import replace

from compliance.screening.holds import HoldState
from participants.audit.fsck import fsck
from participants.ledger import store
from participants.ledger.events import PaymentOrder
from participants.ledger.payment import Payment, Status
from participants.payments.holds import DecideHold

PAST = "2026-11-01T08:00:00Z"


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    async with (
        bank(await new_database("participants.ledger")) as alfa,
        bank(await new_database("participants.ledger"), BETA) as beta,
    ):
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", balance=1_000)
        yield alfa, beta


def expiring(seconds: float) -> PaymentOrder:
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return replace(payment(100), expires_at=at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


async def standing(one: Bank, id_: str) -> Payment:
    return (await store.read_payments(one.connection, [id_]))[id_]


async def assert_sound(*every: Bank) -> None:
    for one in every:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def let_expire(one: Bank, id_: str) -> None:
    """Wait until a payment has expired by the clock that its bank decides by."""
    expires_at = datetime.fromisoformat((await standing(one, id_)).terms.expires_at or "")
    while datetime.now(UTC) <= expires_at:
        await one.connection.execute("SELECT pg_sleep(0.05)")


async def test_an_order_that_has_expired_is_no_order(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    (refused,) = await alfa.order(replace(payment(100), expires_at=PAST))
    assert (refused.status, refused.reason) == ("refused", "expired")
    assert await alfa.balance("customer", "a-1") == 1_000


async def test_what_comes_in_time_is_accepted_and_stays_so(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = expiring(600)
    await alfa.order(order)
    assert await alfa.deliver(beta) == 1
    assert (await standing(alfa, order.id)).status is Status.POSTED
    # Whatever the time is when it is asked about again.
    (again,) = await beta.receive(alfa, order.terms())
    assert again.status == "accepted"


async def test_what_comes_late_is_refused_by_the_receivers_clock(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    order = expiring(1)
    assert (await alfa.order(order))[0].status == "reserved"
    await let_expire(alfa, order.id)
    assert await alfa.deliver(beta) == 1
    for one in (alfa, beta):
        assert (await standing(one, order.id)).reason == "expired"
    assert (await alfa.balance("customer", "a-1"), await beta.balance("customer", "b-1")) == (1_000, 1_000)
    await assert_sound(alfa, beta)


@pytest.mark.parametrize("holder", ["sender", "receiver"])
async def test_a_hold_that_is_released_late_is_refused(banks: tuple[Bank, Bank], holder: str) -> None:
    alfa, beta = banks
    order = expiring(3)
    at = alfa if holder == "sender" else beta
    await alfa.order(order, hits=[HIT] if at is alfa else ())
    if at is beta:
        await alfa.deliver(beta, hits=[HIT])
    assert (await standing(at, order.id)).status is Status.HELD
    await let_expire(at, order.id)
    for person in ("dora", "egon"):
        outcome = await at.ledger.submit(DecideHold(order.id, person, "release", "another birthday"))
    assert outcome.state is HoldState.RELEASED
    ended = await standing(at, order.id)
    assert (ended.status, ended.reason) == (Status.REFUSED, "expired")
    await alfa.deliver(beta)
    assert (await standing(alfa, order.id)).reason == "expired"
    assert (await alfa.balance("customer", "a-1"), await alfa.balance("reserved", BETA)) == (1_000, 0)
    assert await beta.balance("customer", "b-1") == 1_000
    await assert_sound(alfa, beta)
