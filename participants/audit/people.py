"""The check of `fsck` that what takes two people was done by two, as the journal and the lists name them.

Journals of earlier releases don't name everybody: who isn't named can't be compared, and passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from compliance.person import one_person, same_person
from compliance.screening import holds
from compliance.screening.holds import Decision, HoldRefusal, HoldState, Opinion
from compliance.screening.weakening import weakens
from participants.ledger import events
from participants.ledger.account_events import ENTRY_TYPES, AccountsOpened, StateChanged
from participants.ledger.accounts import AccountState
from participants.ledger.exposure import CEILINGS, raised
from participants.ledger.payment import Payment, Status
from participants.payments.incoming import DeclineReason
from participants.payments.screening import AGREED_BEFORE, stored

MADE_BY_PEOPLE = f"""
SELECT sequence, subject::text, version, type, schema_version, data FROM event
WHERE type IN ('accounts.opened', '{ENTRY_TYPES["deposit"]}', '{CEILINGS}') OR type LIKE 'account.%blocked'
ORDER BY sequence
"""  # noqa: S608 - a constant
IMPORTS = "SELECT name, imported_at, imported_by, proposed_by, names_lost FROM screening_list ORDER BY 1, 2"
LIST_BEFORE = """
SELECT name, imported_at, files, content FROM screening_list WHERE name = $1 AND imported_at < $2
ORDER BY imported_at DESC LIMIT 1
"""
NAMES_PEOPLE_FROM = {"accounts.opened": 2, CEILINGS: 2}
"""The version of events from which on they name everybody who had a part; others always did."""


def hold_fault(payment: Payment) -> str | None:
    """Return what is wrong with the decision on a payment that was held, or None: nobody has two words on it."""
    taken: list[Opinion] = []
    for word in payment.opinions:
        opinion = Opinion(word.person, Decision(word.decision), word.reason)
        decided = holds.decide(taken, opinion, maker=payment.maker)
        if isinstance(decided, HoldRefusal):
            return f"payment {payment.id}: {word.person!r} had a word on it: {decided}"
        taken.append(opinion)
    state = holds.state(taken)
    if payment.status is Status.HELD:
        follows = not state.decided
    elif payment.reason == DeclineReason.SCREENING_REJECTED:
        follows = state.decided  # Released, the other bank's people may have rejected it.
    else:
        follows = state is HoldState.RELEASED
    return None if follows else f"payment {payment.id} is {payment.status}, what people said of it makes it {state}"


async def faults(connection: asyncpg.Connection) -> AsyncIterator[str | None]:
    """Yield what is wrong with each opening, deposit, block, ceiling and import of a list, or None.

    Needs a transaction.
    """
    ceilings: tuple[events.ExposureLimit, ...] = ()
    states: dict[tuple[str, str, str], AccountState] = {}
    async for row in connection.cursor(MADE_BY_PEOPLE, prefetch=2_000):
        try:
            event = events.read(events.EventRow(*tuple(row)))
        except events.EventUnreadableError as error:
            yield str(error)
            continue
        data = event.data
        named = row["schema_version"] >= NAMES_PEOPLE_FROM.get(event.type, 1)
        if isinstance(data, AccountsOpened):
            needs_two = any(account.opening_balance_minor != "0" for account in data.accounts)
        elif isinstance(data, StateChanged):
            place = (data.kind, data.code, data.currency)
            needs_two = data.state.loosens(states.get(place, AccountState.OPEN))
            states[place] = data.state
        elif isinstance(data, events.ExposureCeilings):
            needs_two = raised(ceilings, data.ceilings)
            ceilings = data.ceilings
        else:
            needs_two = True
        alone = needs_two and named and one_person(data.people)
        yield f"event {event.sequence} ({event.type}) is by {data.people} alone" if alone else None
    async for fault in _faults_of_imports(connection):
        yield fault


async def _faults_of_imports(connection: asyncpg.Connection) -> AsyncIterator[str | None]:
    name, lost = "", 0
    for row in await connection.fetch(IMPORTS):
        name, lost = row["name"], row["names_lost"] + (lost if row["name"] == name else 0)
        place = f"list {name} of {row['imported_at']:%Y-%m-%d %H:%M:%S} is by {row['imported_by']!r} alone"
        if row["proposed_by"] is not None:
            lost = 0
            yield place if same_person(row["proposed_by"], row["imported_by"]) else None
        elif row["names_lost"]:
            agreed, before = [
                await connection.fetchrow(q, name, row["imported_at"]) for q in (AGREED_BEFORE, LIST_BEFORE)
            ]
            weakened = before is not None and weakens(stored(*agreed), stored(*before), lost)
            yield f"{place}, and {lost} names were lost" if weakened else None
        else:
            yield None
