"""Only what can settle is taken, at the sender and at the receiver; what was taken before is named, and can go back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bank_ledgers import ALFA, BETA, Bank, bank, giving_back, payment

from participants.ledger.ceilings import Ceiling, CeilingReason, RecordLimits, SetCeiling
from participants.ledger.events import ExposureLimit, ExposureLimits
from participants.ledger.exposure import CEILINGS
from participants.payments.unsettled import LEFT_OVER, LaneLeft, LeftReason, read_lanes_left, reason_left

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    """ALFA, whose customer has money, and BETA. Neither has heard the rulebook."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=10_000)
        await beta.open("b-1")
        yield alfa, beta


async def clears(one: Bank, *currencies: str) -> None:
    """Let a bank hear a rulebook that clears these currencies."""
    scheme = tuple(ExposureLimit(currency=currency, limit_minor="1000000") for currency in currencies)
    await one.ledger.submit(RecordLimits(ExposureLimits(scheme=scheme)))


async def test_a_currency_that_is_not_cleared_any_more(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    early, late = payment(100), payment(50)
    await alfa.order(early)
    await alfa.deliver(beta)
    await alfa.order(late)
    assert await read_lanes_left(beta.connection) == []
    for one in banks:
        await clears(one, "USD", "JPY")
    (refused,) = await alfa.order(payment(1))
    assert (refused.status, refused.reason) == ("refused", "currency_not_cleared")
    # What was ordered before its bank knew is declined by the other, and its money is free again.
    await alfa.deliver(beta)
    assert await alfa.balance("customer", "a-1") == 9_900
    lane = LaneLeft(ALFA, BETA, "EUR", LeftReason.CURRENCY_NOT_CLEARED)
    assert await read_lanes_left(alfa.connection) == await read_lanes_left(beta.connection) == [lane]
    # A return takes back what would never settle.
    (returned,) = await beta.order(giving_back(early))
    assert returned.status == "reserved", returned
    await beta.deliver(alfa)
    assert await alfa.balance("customer", "a-1") == 10_000


async def test_accounts(banks: tuple[Bank, Bank]) -> None:
    alfa, _ = banks
    unknown = {"ZZZ": "refused", "XAU": "refused", "HRK": "refused", "CHF": "opened"}
    for currency, status in unknown.items():
        (outcome,) = await alfa.open("a-2", currency=currency)
        assert outcome.status == status, "before the rulebook is heard, what ISO 4217 has today"
    await clears(alfa, "EUR")
    (outcome,) = await alfa.open("a-3", currency="CHF")
    assert (outcome.status, outcome.reason) == ("refused", "currency_not_cleared")
    (outcome,) = await alfa.open("a-3")
    assert outcome.status == "opened"


async def test_ceilings(banks: tuple[Bank, Bank]) -> None:
    """Of a currency that isn't cleared none is set; one of before can be lifted."""
    alfa, _ = banks

    async def ceiling(currency: str, limit: str | None) -> object:
        seen = alfa.ledger.books.limits.version(CEILINGS)
        command = SetCeiling(Ceiling(None, currency, limit), people=("dora", "egon"), reason="why", seen=seen)
        return await alfa.ledger.submit(command)

    for currency in ("ZZZ", "XAU", "HRK"):
        assert await ceiling(currency, "5") is CeilingReason.CURRENCY_NOT_CLEARED
    assert await ceiling("EUR", "5") == (ExposureLimit(currency="EUR", limit_minor="5"),)
    await clears(alfa, "USD")
    assert await ceiling("EUR", "4") is CeilingReason.CURRENCY_NOT_CLEARED
    assert await ceiling("EUR", None) == ()


@pytest.mark.parametrize(
    ("age", "cleared", "reason"),
    [
        (timedelta(0), True, None),
        (LEFT_OVER, True, None),
        (LEFT_OVER + timedelta(seconds=1), True, LeftReason.LEFT_OVER),
        (timedelta(0), False, LeftReason.CURRENCY_NOT_CLEARED),
    ],
)
def test_why_a_lane_is_left(age: timedelta, *, cleared: bool, reason: LeftReason | None) -> None:
    assert reason_left(NOW - age, NOW, cleared=cleared) is reason
