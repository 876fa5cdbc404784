"""The checks of `fsck` that accounts stand as their events say, and that entries of the bank's own are known once."""

from __future__ import annotations

import asyncpg
from msgspec import Struct

from participants.ledger import events
from participants.ledger.account_events import OwnEntry, Renamed, StateChanged
from participants.ledger.accounts import AccountState

# What happens to accounts is rare among payments, and in the order of the journal.
ACCOUNT_EVENTS = """
SELECT sequence, subject::text, version, type, schema_version, data FROM event
WHERE type LIKE 'account.%' ORDER BY sequence
"""
CHANGED_ACCOUNTS = """
SELECT a.kind, a.code, a.currency, b.state, b.name, b.changes
FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE b.state <> 'open' OR b.name IS NOT NULL OR b.changes <> 0
"""
OWN_ENTRIES = "SELECT id::text, internal, currency, reference, event_sequence FROM own_entry"

Place = tuple[str, str, str]


class _Standing(Struct):
    """Where an account stands by its events."""

    state: str = AccountState.OPEN.value
    name: str | None = None
    changes: int = 0


class AccountFindings(Struct):
    """How many were examined, and the first difference of each check, if there is account."""

    changes: int = 0
    changed_otherwise: str | None = None
    entries: int = 0
    entered_otherwise: str | None = None


async def findings(connection: asyncpg.Connection) -> AccountFindings:
    """Compare accounts and entries with the journal. Needs a transaction."""
    result = AccountFindings()
    standing: dict[Place, _Standing] = {}
    entries: set[tuple[str, str, str, str, int]] = set()
    async for row in connection.cursor(ACCOUNT_EVENTS, prefetch=2_000):
        try:
            event = events.read(events.EventRow(*tuple(row)))
        except events.EventUnreadableError as error:
            result.changed_otherwise = result.changed_otherwise or str(error)
            continue
        data = event.data
        if isinstance(data, OwnEntry):
            result.entries += 1
            entries.add((data.id, data.against, data.currency, data.reference, event.sequence))
            continue
        result.changes += 1
        account = standing.setdefault((data.kind, data.code, data.currency), _Standing())
        account.changes += 1
        if isinstance(data, StateChanged):
            if account.state == AccountState.CLOSED:
                result.changed_otherwise = result.changed_otherwise or f"event {event.sequence} is on a closed account"
            account.state = data.state.value
        elif isinstance(data, Renamed):
            account.name = data.name
    expected = {(*place, account.state, account.name, account.changes) for place, account in standing.items()}
    stored = {tuple(row) for row in await connection.fetch(CHANGED_ACCOUNTS)}
    if different := stored ^ expected:
        result.changed_otherwise = result.changed_otherwise or f"accounts differ from their events: {_first(different)}"
    if different := entries ^ {tuple(row) for row in await connection.fetch(OWN_ENTRIES)}:
        result.entered_otherwise = f"entries differ from their events: {_first(different)}"
    return result


def _first(rows: set[tuple[object, ...]]) -> str:
    return min(map(str, rows))
