"""`fsck` names an account whose state, name or entries aren't what the journal says, and what one made alone."""

from __future__ import annotations

from typing import Any

import pytest
from bank_ledgers import Bank, bank, connect
from support import uuid7

from participants.audit.fsck import fsck
from participants.ledger.account_changes import ChangeState, Rename
from participants.ledger.account_events import AccountOpening, EntryTerms
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.own_entries import AskedEntry, MakeEntry

A_1 = AccountKey("customer", "a-1", "EUR")


async def build(alfa: Bank) -> None:
    await alfa.open("a-1")
    cash = AccountOpening(code="cash", currency="EUR", name="Cash", kind="internal")
    await alfa.ledger.submit(OpenAccounts([AskedOpening(cash, ("mona",))]))
    terms = EntryTerms(
        id=uuid7(), account="a-1", currency="EUR", amount_minor="500", against="cash", reference="slip 17"
    )
    assert await alfa.ledger.submit(MakeEntry(AskedEntry("deposit", terms), people=("mona", "nora"))) is None
    for number, state in enumerate((AccountState.BLOCKED, AccountState.OPEN, AccountState.DEBITS_BLOCKED)):
        change = ChangeState(A_1, state, people=("mona", "nora"), reason="why", seen=number)
        assert await alfa.ledger.submit(change) is None
    assert await alfa.ledger.submit(Rename(A_1, "Ann", people=("mona",), reason="married")) is None


@pytest.mark.parametrize(
    ("corruption", "check"),
    [
        ("SELECT 1", None),
        ("UPDATE account_balance SET state = 'open'", "account_states"),
        ("UPDATE account_balance SET name = 'Eve' WHERE name IS NOT NULL", "account_states"),
        ("UPDATE account_balance SET changes = 0", "account_states"),
        ("UPDATE own_entry SET reference = 'slip 18'", "own_entries"),
        ("DELETE FROM own_entry", "own_entries"),
        (
            "UPDATE event SET data = replace(data::text, 'nora', 'MONA')::json WHERE type = 'account.deposited'",
            "four_eyes",
        ),
        (
            "UPDATE event SET data = replace(data::text, ',\"nora\"', '')::json WHERE type = 'account.unblocked'",
            "four_eyes",
        ),
        (
            "UPDATE event SET type = 'account.charged' WHERE type = 'account.deposited'",
            "postings_follow_events",
        ),
    ],
)
async def test_what_is_named(new_database: Any, corruption: str, check: str | None) -> None:
    url = await new_database("participants.ledger")
    async with bank(url) as alfa:
        await build(alfa)
    owner = await connect(url, role=None)
    await owner.execute("SET session_replication_role = replica")
    await owner.execute(corruption)
    await owner.close()
    report = await fsck(url, alfa.bic)
    assert [one.name for one in report.checks if not one.ok] == ([] if check is None else [check])
