"""A bank that repeats itself costs itself: one batch at a time, and what is known is read beside the writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from running_banks import RunningBank, Town, order, terms
from running_coordinator import ALPHA, CARLO
from support import uuid7

from compliance.crypto.dsse import Envelope
from gateway.federation.messages.payments import PaymentTerms
from gateway.federation.storage.postgres import dsn
from participants.payments.inbound import WAITING_MAX
from participants.payments.incoming import OTHERS_MAX, OTHERS_PER_NEW_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")
COUNT = 600
"""More than one slice."""


@asynccontextmanager
async def locked(bank: RunningBank) -> AsyncIterator[None]:
    """Keep the bank's writer from deciding with the lock, and from writing: only what is read beside it is answered."""
    connection = await asyncpg.connect(dsn(bank.node.database_url))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            yield
    finally:
        await connection.close()


async def repeated(town: Town, *payments: PaymentTerms) -> Envelope:
    """Deliver a batch twice, so that the sender is one that repeats itself; return it."""
    batch = town.sealed(*payments)
    first = town.acknowledged(await town.deliver(batch))
    assert town.acknowledged(await town.deliver(batch)) == first
    return batch


def some(count: int) -> list[PaymentTerms]:
    return [terms(1) for _ in range(count)]


async def test_what_is_read_is_answered_as_the_writer_answers(town: Town) -> None:
    """Every kind of outcome, in the order of the batch; the first repetition goes to the writer, the second doesn't."""
    own = order(1, creditor_agent=ALPHA, debtor_account="b-1", creditor_account="a-1")
    assert (await town.bravo.send("POST", "/payments", own)).status_code == 201
    await town.bravo.until(own["id"], "posted")
    accepted, foreign, other_terms = terms(1), terms(1), terms(1)
    town.acknowledged(await town.deliver(town.sealed(accepted, other_terms)))
    town.acknowledged(await town.deliver(town.sealed(foreign, sender=CARLO), sender=CARLO))
    id_ = uuid7()
    payments = [
        accepted,
        terms(1, creditor_account="nobody"),
        terms(1, returns=uuid7()),
        terms(2, id=other_terms.id),
        foreign,
        terms(1, id=own["id"]),
        terms(1, id=f"{id_[:14]}8{id_[15:]}"),
        *some(COUNT),
    ]
    batch = await repeated(town, *payments)
    decided = town.acknowledged(await town.deliver(town.sealed(*payments[::-1])))
    async with locked(town.bravo):
        again = town.acknowledged(await town.deliver(batch))
    assert again.outcomes == decided.outcomes[::-1]
    assert [outcome.reason for outcome in again.outcomes[:7]] == [
        None,
        "creditor_account_unknown",
        "return_of_unknown",
        *["id_reused"] * 3,
        "id_reserved",
    ]


async def test_a_repetition_is_in_nobodys_way(town: Town) -> None:
    known = some(COUNT)
    batch = await repeated(town, *known)
    ledger = town.bravo.node.ledger
    async with locked(town.bravo):
        # Nothing can be written, so what is answered hasn't been in the writer's queue, and stands before nobody in it.
        for _ in range(3):
            assert len(town.acknowledged(await town.deliver(batch)).outcomes) == COUNT
        too_few = await town.deliver(town.sealed(terms(1), *known))
        assert (too_few.status_code, too_few.json()["code"]) == (422, "too_few_new")
        assert ledger._queued_items == 0
    written = ledger.transactions
    await asyncio.gather(*(town.deliver(batch) for _ in range(3)))
    assert ledger.transactions == written
    one = order(1, creditor_agent=ALPHA, debtor_account="b-1", creditor_account="a-1")
    assert (await town.bravo.send("POST", "/payments", one)).status_code == 201
    assert ledger.transactions > written
    # What becomes of it is written too, and not while another test counts.
    await town.bravo.until(one["id"], "posted")


async def test_with_something_new_the_writer_decides(town: Town) -> None:
    known, new = some(OTHERS_MAX + OTHERS_PER_NEW_MAX), terms(1)
    first = town.acknowledged(await town.deliver(await repeated(town, *known))).outcomes
    mixed = town.sealed(*known, new)
    ledger = town.bravo.node.ledger
    written = ledger.transactions
    outcomes = town.acknowledged(await town.deliver(mixed)).outcomes
    assert ledger.transactions == written + 1
    assert outcomes[:-1] == first
    assert (outcomes[-1].id, outcomes[-1].status) == (new.id, "accepted")
    assert town.acknowledged(await town.deliver(mixed)).outcomes == outcomes
    assert ledger.transactions == written + 1


async def test_who_has_sent_as_much_anew_is_taken_at_once_again(town: Town) -> None:
    await repeated(town, *some(3))
    sender = town.bravo.node.inbound._senders[ALPHA]
    before = sender.repeated
    assert before >= 3
    town.acknowledged(await town.deliver(town.sealed(*some(before - 1))))
    assert sender.repeated == 1
    town.acknowledged(await town.deliver(town.sealed(*some(2))))
    assert sender.repeated == 0


async def test_one_batch_of_a_sender_is_decided_at_a_time_and_few_wait(town: Town) -> None:
    town.acknowledged(await town.deliver(town.sealed(terms(1))))
    ledger = town.bravo.node.ledger
    async with locked(town.bravo):
        batches = [town.sealed(terms(1)) for _ in range(WAITING_MAX + 2)]
        deliveries = [asyncio.create_task(town.deliver(batch)) for batch in batches]
        done, waiting = await asyncio.wait(deliveries, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        answer = refused.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_batches")
        assert int(answer.headers["Retry-After"]) >= 1
        # One is with the writer; the others wait outside of its queue.
        assert len(waiting) == WAITING_MAX + 1
        assert ledger._queued_items <= 1
    for delivery in waiting:
        town.acknowledged(await delivery)
    assert town.acknowledged(await town.deliver(batches[deliveries.index(refused)])).outcomes[0].status == "accepted"
