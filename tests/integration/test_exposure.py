"""What a counterparty may owe before it settles: no sequence of commands, writers or restarts gets beyond the limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, connect, giving_back, payment, settle

from compliance.cycle.exposure import UNSTATED_MINOR
from participants.audit.fsck import fsck
from participants.ledger.ceilings import Ceiling, RecordLimits, SetCeiling
from participants.ledger.events import ExposureLimit, ExposureLimits
from participants.ledger.exposure import CEILINGS, Limit, Source
from participants.payments.disputes import Dispute, WithdrawDispute
from participants.payments.holds import DecideHold


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    """ALFA, whose customer has money, and BETA, who grants it 1,000 of EUR."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=10_000)
        await beta.open("b-1", balance=10_000)
        await grant(beta, 1_000)
        yield alfa, beta


async def grant(one: Bank, limit: int | None, *, scheme: int | None = None) -> bool:
    """Let a bank hear from the coordinator of a bilateral limit for ALFA, and of the scheme's default."""
    granted = (ExposureLimit(currency="EUR", limit_minor=str(limit), counterparty=ALFA),) if limit is not None else ()
    default = (ExposureLimit(currency="EUR", limit_minor=str(scheme)),) if scheme is not None else ()
    return await one.ledger.submit(RecordLimits(ExposureLimits(scheme=default, granted=granted)))


async def ceiling(one: Bank, limit: int | None, counterparty: str | None = ALFA) -> tuple[ExposureLimit, ...]:
    text = None if limit is None else str(limit)
    ceiling = Ceiling(counterparty, "EUR", text)
    seen = one.ledger.books.limits.version(CEILINGS)
    command = SetCeiling(ceiling, people=("dora", "egon"), reason="because", seen=seen)
    return await one.ledger.submit(command)


async def pay(alfa: Bank, beta: Bank, *amounts: int, **more: Any) -> list[str]:
    """Pay from ALFA to BETA, and return what became of each payment at ALFA."""
    orders = [payment(amount) for amount in amounts]
    await alfa.order(*orders)
    await alfa.deliver(beta, **more)
    statuses = []
    for one in orders:
        kind, reason = await alfa.connection.fetchrow(
            "SELECT type, data->>'reason' FROM event WHERE subject = $1 ORDER BY version DESC LIMIT 1", one.id
        )
        statuses.append(reason or kind.removeprefix("payment."))
    return statuses


async def assert_sound(*banks: Bank) -> None:
    for one in banks:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def owed(beta: Bank) -> int:
    return await beta.balance("due_from", ALFA)


# --- which limit binds -----------------------------------------------------------------------------------------

# (the scheme's default, what the bank granted, its ceiling for the bank, its ceiling for all): what binds.
LIMITS = [
    (None, None, None, None, Limit(UNSTATED_MINOR, Source.SCHEME)),
    (700, None, None, None, Limit(700, Source.SCHEME)),
    (700, 900, None, None, Limit(900, Source.GRANTED)),
    (700, 0, None, None, Limit(0, Source.GRANTED)),
    (700, 500, 600, None, Limit(500, Source.GRANTED)),
    (700, 900, 600, None, Limit(600, Source.BANK)),
    (700, None, 900, None, Limit(700, Source.SCHEME)),
    (700, None, None, 600, Limit(600, Source.BANK)),
    (700, None, 650, 600, Limit(650, Source.BANK)),
    (700, None, 0, 600, Limit(0, Source.BANK)),
]


@pytest.mark.parametrize(("scheme", "granted", "own", "own_for_all", "expected"), LIMITS)
async def test_which_limit_binds(
    new_database: Any,
    scheme: int | None,
    granted: int | None,
    own: int | None,
    own_for_all: int | None,
    expected: Limit,
) -> None:
    async with bank(await new_database("participants.ledger"), BETA) as beta:
        await grant(beta, granted, scheme=scheme)
        await ceiling(beta, own)
        await ceiling(beta, own_for_all, counterparty=None)
        assert beta.ledger.books.limits.of(ALFA, "EUR") == expected
        assert beta.ledger.books.limits.of(ALFA, "USD") == Limit(UNSTATED_MINOR, Source.SCHEME)


async def test_what_is_known_already_is_not_written_again(banks: tuple[Bank, Bank]) -> None:
    _, beta = banks
    head = beta.ledger.books.head
    assert not await grant(beta, 1_000)
    await ceiling(beta, None)
    assert beta.ledger.books.head == head
    first = await ceiling(beta, 400)
    assert first == await ceiling(beta, 400)
    assert beta.ledger.books.head == head + 1
    assert await ceiling(beta, None) == ()


# --- in the transaction that accepts ------------------------------------------------------------------------------


async def test_beyond_the_limit_a_payment_is_declined_and_its_sender_learns_why(banks: tuple[Bank, Bank]) -> None:
    """Its customer's money is free again, what is smaller still fits, and the limit itself may be reached."""
    alfa, beta = banks
    assert await pay(alfa, beta, 600, 401, 399, 2, 1) == [
        "posted",
        "exposure_limit",
        "posted",
        "exposure_limit",
        "posted",
    ]
    assert await owed(beta) == 1_000
    assert await alfa.balance("customer", "a-1") == 9_000
    assert await alfa.balance("reserved", BETA) == 0
    assert await pay(alfa, beta, 1) == ["exposure_limit"]
    await assert_sound(alfa, beta)


async def test_without_any_word_there_is_a_limit_too(new_database: Any) -> None:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=3 * UNSTATED_MINOR)
        await beta.open("b-1")
        assert await pay(alfa, beta, UNSTATED_MINOR, 1) == ["posted", "exposure_limit"]


async def test_what_is_settled_frees_room_at_once(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    assert await pay(alfa, beta, 1_000, 1) == ["posted", "exposure_limit"]
    await settle("2026-10-02-01", alfa, beta)
    assert await pay(alfa, beta, 1_000, 1) == ["posted", "exposure_limit"]
    await assert_sound(alfa, beta)


async def test_neither_what_the_bank_owes_nor_what_it_sends_makes_room(banks: tuple[Bank, Bank]) -> None:
    """What BETA sends is ALFA's exposure: it counts for nothing at BETA, queued or posted."""
    alfa, beta = banks
    await alfa.open("a-2")
    await beta.order(payment(5_000, debtor="b-1", creditor="a-2", to=ALFA))
    assert await pay(alfa, beta, 1_000, 1) == ["posted", "exposure_limit"]
    await beta.deliver(alfa)
    assert await beta.balance("due_to", ALFA) == 5_000
    assert await pay(alfa, beta, 1) == ["exposure_limit"]


async def test_a_lower_limit_takes_back_nothing_and_lets_nothing_more_in(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    assert await pay(alfa, beta, 900) == ["posted"]
    await ceiling(beta, 500)
    assert await pay(alfa, beta, 1) == ["exposure_limit"]
    await settle("2026-10-02-01", alfa, beta)
    assert await pay(alfa, beta, 500, 1) == ["posted", "exposure_limit"]
    await assert_sound(beta)


# --- what comes back to be accepted ------------------------------------------------------------------------------


async def test_a_held_payment_is_released_only_where_there_is_room(banks: tuple[Bank, Bank]) -> None:
    """Held, it is nobody's money here and takes no room; the second word waits for the settlement."""
    alfa, beta = banks
    held = payment(300)
    assert [o.status for o in await beta.receive(alfa, held.terms(), hits=[HIT])] == ["held"]
    assert await pay(alfa, beta, 1_000) == ["posted"]
    await beta.ledger.submit(DecideHold(held.id, "dora", "release", "not the one"))
    refused = await beta.ledger.submit(DecideHold(held.id, "egon", "release", "not the one"))
    assert (refused.state, refused.reason) == (None, "exposure_limit")
    assert await owed(beta) == 1_000
    await settle("2026-10-02-01", alfa, beta)
    assert (await beta.ledger.submit(DecideHold(held.id, "egon", "release", "not the one"))).state == "released"
    assert await owed(beta) == 300
    await assert_sound(beta)


async def test_a_dispute_makes_no_room(banks: tuple[Bank, Bank]) -> None:
    """Its money is credited still; so there is nothing to decide when it is withdrawn."""
    alfa, beta = banks
    disputed = payment(1_000)
    await alfa.order(disputed)
    await alfa.deliver(beta)
    await beta.ledger.submit(Dispute(disputed.id, "dora", "no such invoice"))
    assert await pay(alfa, beta, 1) == ["exposure_limit"]
    await beta.ledger.submit(WithdrawDispute(disputed.id, "dora", "found it"))
    assert await owed(beta) == 1_000
    await assert_sound(beta)


async def test_a_return_makes_no_room_and_one_that_fails_takes_none(banks: tuple[Bank, Bank]) -> None:
    """The return is owed to the sender; what it gives back is unsettled like anything else."""
    alfa, beta = banks
    original = payment(1_000)
    await alfa.order(original)
    await alfa.deliver(beta)
    await alfa.ledger.submit(SetCeiling(Ceiling(BETA, "EUR", "0"), people=("d",), reason="r"))
    await beta.order(giving_back(original))
    assert await pay(alfa, beta, 1) == ["exposure_limit"]
    await beta.deliver(alfa)
    # ALFA takes nothing from BETA, the return neither: its customer keeps the money, and the payment stands again.
    assert await beta.balance("customer", "b-1") == 11_000
    assert await owed(beta) == 1_000
    await assert_sound(alfa, beta)


# --- several writers, restarts ------------------------------------------------------------------------------------


async def test_batches_at_once_at_several_writers_stay_within_the_limit(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    async with bank(beta.url, BETA) as second, bank(beta.url, BETA) as third:
        batches = [[payment(7).terms() for _ in range(20)] for _ in range(30)]
        answers = await asyncio.gather(
            *((beta, second, third)[n % 3].receive(alfa, *batch) for n, batch in enumerate(batches))
        )
        outcomes = Counter(outcome.reason or outcome.status for answer in answers for outcome in answer)
    assert outcomes == {"accepted": 142, "exposure_limit": 458}
    assert await owed(beta) == 994
    await assert_sound(beta)


async def test_another_writer_keeps_a_limit_from_the_moment_it_is_set(banks: tuple[Bank, Bank]) -> None:
    """It has decided under the old one before, and holds its books in memory."""
    alfa, beta = banks
    async with bank(beta.url, BETA) as second:
        assert [o.status for o in await second.receive(alfa, payment(100).terms())] == ["accepted"]
        await ceiling(beta, 150)
        assert [o.reason for o in await second.receive(alfa, payment(100).terms())] == ["exposure_limit"]
        await ceiling(beta, None)
        assert [o.status for o in await second.receive(alfa, payment(100).terms())] == ["accepted"]


async def test_a_restart_forgets_no_limit(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    await ceiling(beta, 400)
    await pay(alfa, beta, 300)
    async with bank(beta.url, BETA) as again:
        assert again.ledger.books.limits.of(ALFA, "EUR") == Limit(400, Source.BANK)
        assert [o.reason for o in await again.receive(alfa, payment(101).terms())] == ["exposure_limit"]
        await ceiling(again, None)
        assert again.ledger.books.limits.of(ALFA, "EUR") == Limit(1_000, Source.GRANTED)


# --- fsck -----------------------------------------------------------------------------------------------------------


async def test_fsck_names_the_payment_that_went_beyond(banks: tuple[Bank, Bank]) -> None:
    """Here because the limit in the journal is lowered afterwards, behind the ledger's back."""
    alfa, beta = banks
    await pay(alfa, beta, 300, 300)
    await ceiling(beta, 500)
    await settle("2026-10-02-01", alfa, beta)
    await pay(alfa, beta, 300)
    report = await fsck(beta.url, BETA)
    assert (report.ok, report["exposure"].examined) == (True, 3)
    owner = await connect(beta.url, role=None)
    await owner.execute("SET session_replication_role = replica")
    await owner.execute(
        "UPDATE event SET data = replace(data::text, '\"1000\"', '\"599\"')::json WHERE type = 'exposure.limits'"
    )
    second = await owner.fetchval(
        "SELECT max(sequence) FROM (SELECT * FROM event WHERE type = 'payment.accepted' ORDER BY sequence LIMIT 2) e"
    )
    await owner.close()
    report = await fsck(beta.url, BETA)
    assert [check.name for check in report.checks if not check.ok] == ["exposure"]
    assert report["exposure"].difference == (
        f"event {second}: {ALFA} owes EUR beyond 599, the limit then (granted): up to 600"
    )
