"""An account's postings are numbered once, in whichever part of the journal they are and whoever wrote them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from bank_ledgers import ALFA, BETA, Bank, bank, connect, payment
from support import uuid7

TWICE = "SELECT count(*) FROM (SELECT FROM posting GROUP BY account_id, version HAVING count(*) > 1) t"
AHEAD = """
SELECT coalesce((SELECT max(sequence) + 1 FROM event WHERE sequence >= p.first), p.first)
FROM (SELECT min(first) AS first FROM journal_partition WHERE first > 0) p
"""
STOOD = """
SELECT b.account_id, b.version, b.balance FROM account_balance b JOIN account a ON a.id = b.account_id
WHERE (a.kind, a.code) IN (('customer', 'a-1'), ('reserved', $1)) ORDER BY a.kind
"""
MOVED = "UPDATE account_balance SET version = $2, balance = $3 WHERE account_id = $1"


async def post_beside(one: Bank, amount: int) -> None:
    """Post from the one to the other account as a writer would that nothing fences, into the part ahead."""
    connection = await connect(one.url)
    async with connection.transaction():
        sequence = await connection.fetchval(AHEAD)
        await connection.execute(
            "INSERT INTO event (sequence, subject, version, type, schema_version, data)"
            " VALUES ($1, $2, 1, 'a', 1, '{}')",
            sequence,
            uuid7(),
        )
        rows = await connection.fetch(STOOD, BETA)
        for (account, version, balance), moved in zip(rows, (amount, -amount), strict=True):
            await connection.execute(MOVED, account, version + 1, balance + moved)
        records = [
            (account, version + 1, sequence, moved, balance, balance + moved)
            for (account, version, balance), moved in zip(rows, (amount, -amount), strict=True)
        ]
        await connection.copy_records_to_table(
            "posting",
            records=records,
            columns=["account_id", "version", "event_sequence", "amount", "previous_balance", "balance"],
        )
    await connection.close()


@pytest.mark.parametrize("orders", [1, 300], ids=["in one statement", "in a transaction"])
async def test_a_posting_number_is_given_once_in_all_parts(
    new_database: Callable[[str], Awaitable[str]], orders: int
) -> None:
    async with bank(await new_database("participants.ledger"), ALFA) as alfa:
        await alfa.open("a-1", balance=100_000)
        await alfa.order(payment(10))
        for _ in range(2):
            await post_beside(alfa, 5)
            outcomes = await alfa.order(*[payment(1) for _ in range(orders)])
            assert {outcome.status for outcome in outcomes} == {"reserved"}
        assert await alfa.connection.fetchval(TWICE) == 0
        assert await alfa.balance("customer", "a-1") == 100_000 - 10 - 2 * (5 + orders)
        assert await alfa.balance("reserved", BETA) == 10 + 2 * (5 + orders)
