"""What is kept of a batch is in proportion to what is new in it, at the receiver and, of the answer, at the sender."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from running_banks import LISTED, SANCTIONS, RunningBank, Town, order, terms
from support import uuid7

from compliance.crypto.dsse import Envelope
from gateway.federation.messages.payments import Acknowledgement, PaymentOutcome, PaymentTerms
from gateway.federation.storage.postgres import dsn
from participants.audit.fsck import fsck
from participants.payments.incoming import OTHERS_MAX, OTHERS_PER_NEW_MAX, TooFewNew
from participants.payments.outbound import AGAIN_ITEMS_MAX
from tests.bank_ledgers import BETA, Bank, bank
from tests.conftest import NewDatabase

OF_THE_ANSWER = "SELECT envelope FROM evidence WHERE kind = 'acknowledgement' ORDER BY recorded_at DESC LIMIT 1"


async def kept(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM evidence")
    return found


@pytest.fixture
async def banks(new_database: NewDatabase) -> AsyncIterator[tuple[Bank, Bank]]:
    async with (
        bank(await new_database("participants.ledger")) as alfa,
        bank(await new_database("participants.ledger"), BETA) as beta,
    ):
        await beta.open("b-1", balance=1_000)
        yield alfa, beta


def some(count: int) -> list[PaymentTerms]:
    return [terms(1) for _ in range(count)]


def reserved(count: int) -> list[PaymentTerms]:
    """Payments under ids that the ledger keeps for itself: refused, and nothing of them is recorded."""
    ids = [uuid7() for _ in range(count)]
    return [terms(1, id=f"{id_[:14]}8{id_[15:]}") for id_ in ids]


@pytest.mark.parametrize(
    ("known", "reserved_ids", "new", "taken"),
    [
        (0, 0, 1, True),
        (OTHERS_MAX + OTHERS_PER_NEW_MAX, 0, 1, True),
        (OTHERS_MAX + OTHERS_PER_NEW_MAX + 1, 0, 1, False),
        (OTHERS_MAX, OTHERS_PER_NEW_MAX + 1, 1, False),
        (0, OTHERS_MAX + OTHERS_PER_NEW_MAX + 1, 1, False),
        (OTHERS_MAX + 2 * OTHERS_PER_NEW_MAX, 0, 2, True),
        (200, 0, 1, False),
        (200, 100, 0, True),
    ],
)
async def test_a_batch_is_taken_in_proportion_to_what_is_new(
    banks: tuple[Bank, Bank], known: int, reserved_ids: int, new: int, taken: bool
) -> None:
    alfa, beta = banks
    before, fresh = some(known), some(new)
    if known:
        await beta.receive(alfa, *before)
    at_first = await kept(beta.connection)
    answer = await beta.receive(alfa, *before, *reserved(reserved_ids), *fresh)
    if taken:
        assert isinstance(answer, list)
        statuses = ["accepted"] * known + ["refused"] * reserved_ids + ["accepted"] * new
        assert [outcome.status for outcome in answer] == statuses
    else:
        assert answer == TooFewNew(new, known + reserved_ids)
        # Nothing was touched: the new ones by themselves are new still.
        assert [o.status for o in _outcomes(await beta.receive(alfa, *fresh))] == ["accepted"] * new
    assert await kept(beta.connection) == at_first + (new > 0)
    report = await fsck(beta.url, BETA)
    assert report.ok, [check for check in report.checks if not check.ok]


def _outcomes(answer: list[PaymentOutcome] | TooFewNew) -> list[PaymentOutcome]:
    assert isinstance(answer, list)
    return answer


async def test_nothing_new_leaves_nothing_also_beside_what_is(banks: tuple[Bank, Bank]) -> None:
    """Both are written in one transaction; only one of them has something to be kept for."""
    alfa, beta = banks
    before = some(50)
    await beta.receive(alfa, *before)
    at_first = await kept(beta.connection)
    for turn in range(5):
        known = beta.receive(alfa, *before[turn:], *before[:turn])
        await asyncio.gather(known, beta.receive(alfa, *some(1)), known_again(alfa, beta, before, turn))
    assert await kept(beta.connection) == at_first + 5


async def known_again(alfa: Bank, beta: Bank, before: list[PaymentTerms], turn: int) -> None:
    await beta.receive(alfa, *reversed(before[turn:]))


# --- over HTTP -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def looking_at(one: RunningBank) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn(one.node.database_url))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_thousands_of_known_payments_with_one_new_are_refused_and_leave_nothing(town: Town) -> None:
    before = some(2_000)
    known = town.sealed(*before)
    town.acknowledged(await town.deliver(known))
    async with looking_at(town.bravo) as bravo:
        at_first = await kept(bravo)
        for _ in range(3):
            answer = await town.deliver(town.sealed(*before, terms(1)))
            assert (answer.status_code, answer.json()["code"]) == (422, "too_few_new")
            # A lost answer is asked for again as ever.
            assert len(town.acknowledged(await town.deliver(known)).outcomes) == 2_000
        assert await kept(bravo) == at_first


@pytest.mark.asyncio(loop_scope="module")
async def test_payments_that_wait_for_people_hold_up_no_other_and_their_answers_are_small(town: Town) -> None:
    """The sender asks about them apart from new ones; one that forgot which they are finds out."""
    files = {"list.csv": b64encode(SANCTIONS).decode()}
    assert (await town.bravo.send("POST", "/screening/lists", {"name": "test", "files": files})).status_code == 201
    held = [order(1, creditor_name=LISTED) for _ in range(2 * AGAIN_ITEMS_MAX)]
    for one in held:
        assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    for one in held:
        await town.bravo.until(one["id"], "held")
    await paid(town)
    # As after a restart: they are sent like new ones, before the one that is new.
    town.alpha.node.outbound._held.clear()
    await paid(town)
    async with looking_at(town.alpha) as alpha:
        for person in ("ann", "ben"):
            word = {"decision": "release", "reason": f"{person} looked at it"}
            answer = await town.bravo.send("POST", f"/holds/{held[5]['id']}/decisions", word, subject=person)
            assert answer.is_success, answer.text
        await town.alpha.until(held[5]["id"], "posted")
        envelope = msgspec.json.decode(await alpha.fetchval(OF_THE_ANSWER), type=Envelope)
        outcomes = msgspec.json.decode(envelope.payload_bytes(), type=Acknowledgement).outcomes
        assert held[5]["id"] in [outcome.id for outcome in outcomes]
        assert len(outcomes) <= AGAIN_ITEMS_MAX


async def paid(town: Town) -> None:
    one = order(1)
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    await town.alpha.until(one["id"], "posted")
