"""A bank with many counterparties: a cycle costs its database as many statements as with a few."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime

from bank_cycle import Counting, side, wide_ledger
from bank_ledgers import ALFA
from support import NewDatabase
from wide_ledger import CURRENCIES, counterparties, fill

from participants.audit.fsck import fsck

CYCLE = f"{datetime.now(UTC):%Y-%m-%d}-01"


async def statements_of(url: str, others: list[str]) -> dict[str, Counter[str]]:
    """Take a bank with these counterparties through a cycle; return what each step asked its database for."""
    asked: dict[str, Counter[str]] = {}
    async with wide_ledger(url, ALFA) as bank, side(bank, CYCLE, others) as mine:

        def step(name: str) -> None:
            # The writer names the numbers that it moves the ledger's head between.
            asked[name] = Counter(re.sub(r"\d+ ", "", f"{query} ") for query in Counting.asked.elements())
            Counting.asked.clear()

        await fill(bank, others, CURRENCIES)
        # As if the node had just been started: the books have to be read as well.
        bank.ledger.books.clear(bank.ledger.books.head, bank.ledger.books.last_account, bank.ledger.books.last_lane)
        step("filled")
        await mine.cut(CURRENCIES, accepted=1)
        step("cut")
        await mine.attest()
        step("attest")
        mine.coordinator.net()
        await mine.instructions.receive(CYCLE)
        step("verify")
        assert len(mine.coordinator.receipts) == len(CURRENCIES)
        await mine.instructions.settle(CYCLE)
        step("post")
        assert mine.instructions.disagreements == {}
        pairs = len(others) * len(CURRENCIES)
        assert len(mine.coordinator.stated) == pairs
        assert await bank.connection.fetchval("SELECT count(*) FROM lane_settled") == 2 * pairs
    report = await fsck(url, ALFA)
    assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]
    return asked


async def test_statements_do_not_grow_with_counterparties(new_database: NewDatabase) -> None:
    few = await statements_of(await new_database("participants.ledger"), counterparties(3))
    many = await statements_of(await new_database("participants.ledger"), counterparties(30))
    for step in ("cut", "attest", "verify", "post"):
        assert few[step] == many[step], step
        assert 0 < few[step].total() < 60, few[step]
