"""Payments whose events are in a part of the journal that was taken out: nobody is told that there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from bank_ledgers import ALFA, HIT, Bank, connect, giving_back, payment
from journal_parts import assert_proved, built, copied, put_back, take_out
from support import uuid7

from gateway.federation.storage.postgres import dsn
from participants.archive.document import ArchiveReason, ArchiveRefusedError
from participants.ledger import store
from participants.payments.batches import SubmitBatch, tried
from participants.payments.cancellations import RequestCancellation
from participants.payments.incoming import read_outcomes
from participants.payments.orders import CheckedOrder, readable

DETACHED = """
SELECT k.subject::text FROM event_key k LEFT JOIN event e ON e.sequence = k.sequence
WHERE e.sequence IS NULL ORDER BY k.sequence LIMIT 1
"""


@pytest.fixture(scope="module")
def journals(postgres_url: str) -> Iterator[list[str]]:
    with built(postgres_url) as urls:
        yield urls


@pytest.fixture
async def pair(postgres_url: str, journals: list[str]) -> AsyncIterator[tuple[Bank, Bank]]:
    async with copied(postgres_url, journals) as banks:
        yield banks


async def test_a_detached_payment_holds_up_no_other_of_its_batch(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, beta = pair
    archive = await take_out(beta, tmp_path)
    old = await beta.connection.fetchval(DETACHED)
    known = (await store.read_payments(alfa.connection, [old]))[old].terms
    new = payment(3).terms()
    back = giving_back(payment(1, id_=uuid7())).terms()
    outcomes = await beta.receive(alfa, known, new)
    assert [outcome.status for outcome in outcomes] == ["held", "accepted"]
    # Nothing of it is recorded: what was said of it first stays the only word.
    assert await beta.connection.fetchval("SELECT count(*) FROM event_key WHERE subject = $1", old) == 1
    pool = await asyncpg.create_pool(dsn(beta.url), min_size=1, max_size=2)
    try:
        assert await read_outcomes(pool, alfa.bic, [known, new]) == outcomes
    finally:
        await pool.close()
    assert [outcome.status for outcome in await beta.receive(alfa, known, withdrawn=True)] == ["held"]
    assert [outcome.status for outcome in await beta.receive(alfa, back, payment(2).terms())] == ["refused", "accepted"]
    await put_back(beta, archive.path)
    (outcome,) = await beta.receive(alfa, known)
    assert (outcome.status, outcome.sequence) == ("accepted", 1)
    await assert_proved(beta)


async def test_a_return_of_a_detached_payment_is_refused_by_itself(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, beta = pair
    archive = await take_out(beta, tmp_path)
    old = await beta.connection.fetchval(DETACHED)
    original = (await store.read_payments(alfa.connection, [old]))[old]
    gives_back = giving_back(payment(original.amount, id_=old))
    await beta.open("b-2", balance=1_000)
    outcomes = await beta.order(gives_back, payment(1, debtor="b-2", creditor="a-1", to=ALFA))
    assert [outcome.reason for outcome in outcomes] == ["return_of_detached", None]
    await put_back(beta, archive.path)
    assert (await beta.order(giving_back(payment(original.amount, id_=old))))[0].status == "reserved"
    # At the other bank, which has the payment in a part that was taken out.
    await take_out(alfa, tmp_path)
    sent = (await beta.queued())[-1]
    coming = (await store.read_payments(beta.connection, [sent]))[sent].terms
    outcomes = await alfa.receive(beta, coming, payment(1, debtor="b-2", creditor="a-1", to=ALFA).terms())
    assert [(one.status, one.reason) for one in outcomes] == [("refused", "return_of_detached"), ("accepted", None)]
    for one in pair:
        await assert_proved(one)


async def test_all_or_none_counts_detached_ids(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    await take_out(alfa, tmp_path)
    old = await alfa.connection.fetchval(DETACHED)
    orders = [CheckedOrder(order) for order in readable([payment(1, id_=old), payment(2)], maker="mona")]
    expected = ["id_detached", "batch_not_taken"]
    outcomes = await alfa.ledger.submit(SubmitBatch(orders, atomic=True))
    assert [outcome.reason for outcome in outcomes] == expected
    connection = await connect(alfa.url)
    async with connection.transaction():
        outcomes = await tried(connection, orders, bank=ALFA, agent="AGNTBEB1", atomic=True)
    assert [outcome.reason for outcome in outcomes] == expected
    await connection.close()


async def test_each_cancellation_is_answered(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    await take_out(alfa, tmp_path)
    old = await alfa.connection.fetchval(DETACHED)
    new = payment(1)
    await alfa.order(new)
    outcomes = await alfa.ledger.submit(RequestCancellation([old, new.id, uuid7()], "mona"))
    assert [outcome.reason or outcome.status for outcome in outcomes] == [
        "journal_detached", "cancelling", "payment_unknown",
    ]  # fmt: skip


async def test_what_an_open_return_gives_back_is_kept(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    """Else nobody could release it, nor reject it."""
    alfa, beta = pair
    sent = "SELECT subject::text FROM event WHERE type = 'payment.posted' AND sequence < 32 ORDER BY sequence LIMIT 1"
    old = await alfa.connection.fetchval(sent)
    original = (await store.read_payments(alfa.connection, [old]))[old]
    gives_back = giving_back(payment(original.amount, id_=old))
    await beta.order(gives_back)
    await beta.deliver(alfa, hits=[HIT])
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.PAYMENTS_OPEN):
        await take_out(alfa, tmp_path)
