"""A payment's own deadline counts by the receiver's clock when it decides, however long the commit before takes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from bank_ledgers import BETA, bank, payment
from support import NewDatabase


async def test_what_comes_after_its_expiry_while_a_commit_takes_long_is_declined(new_database: NewDatabase) -> None:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", "b-2")
        await alfa.order(payment(1))
        await alfa.deliver(beta)
        session, committing, may_commit = beta.ledger._session, asyncio.Event(), asyncio.Event()
        write = session.write

        async def slow(group: Any) -> None:
            committing.set()
            await may_commit.wait()  # as for the disk, or for a standby
            await write(group)

        session.write = slow  # type: ignore[method-assign]
        first = asyncio.create_task(beta.receive(alfa, payment(1).terms()))
        await committing.wait()
        # By now the next group is begun.
        expires_at = datetime.now(UTC) + timedelta(seconds=0.3)
        late = msgspec.structs.replace(payment(7), expires_at=expires_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        await asyncio.sleep(0.4)
        assert datetime.now(UTC) > expires_at
        second = asyncio.create_task(beta.receive(alfa, late.terms()))
        await asyncio.sleep(0.2)
        may_commit.set()
        (outcome,) = await second
        await first
        assert (outcome.status, outcome.reason) == ("refused", "expired")
