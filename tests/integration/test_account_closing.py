"""An account closes only if nothing waits for it, as it is decided, whoever else writes at that moment."""

from __future__ import annotations

import asyncio
from typing import Any

from bank_ledgers import BETA, HIT, bank, payment

from participants.ledger.account_changes import ChangeReason, ChangeState
from participants.ledger.accounts import AccountKey, AccountState


def closing(code: str) -> ChangeState:
    key = AccountKey("customer", code, "EUR")
    return ChangeState(key, AccountState.CLOSED, people=("mona",), reason="why", seen=0)


async def test_a_hold_that_came_in_since_it_was_looked_at(new_database: Any) -> None:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await beta.open("b-1")
        (held,) = await beta.receive(alfa, payment(5).terms(), hits=[HIT])
        assert held.status == "held"
        assert await beta.ledger.submit(closing("b-1")) is ChangeReason.PAYMENTS_WAITING


async def test_holds_and_closings_at_the_same_moment(new_database: Any) -> None:
    """By one node and by two: a payment is held, or its account closed, and never both."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta, bank(urls[1], BETA) as other:
        codes = [f"b-{number}" for number in range(24)]
        await beta.open(*codes)
        done = []
        for number, code in enumerate(codes):
            closer = (beta, other)[number % 2]
            work = [
                beta.receive(alfa, payment(5, creditor=code).terms(), hits=[HIT]),
                closer.ledger.submit(closing(code)),
            ]
            results = await asyncio.gather(*(reversed(work) if number % 3 else work))
            outcome, refusal = reversed(results) if number % 3 else results
            done.append((outcome[0].status, outcome[0].reason, refusal))
        held, closed = ("held", None, ChangeReason.PAYMENTS_WAITING), ("refused", "creditor_account_closed", None)
        assert set(done) <= {held, closed}
        assert {held, closed} & set(done)
