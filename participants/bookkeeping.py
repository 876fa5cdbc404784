"""What a bank's people do to its accounts and ceilings: who agrees is looked up, then the ledger decides."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from gateway.federation.problems import Refusal
from participants.ledger import events
from participants.ledger.account_changes import ChangeReason, ChangeState, Rename, unblocking
from participants.ledger.account_events import AccountOpening
from participants.ledger.accounts import AccountKey, AccountOutcome, AccountState
from participants.ledger.ceilings import Ceiling, CeilingReason, SetCeiling
from participants.ledger.command import RecordedAlreadyError
from participants.ledger.events import ExposureLimit
from participants.ledger.exposure import CEILINGS, raised
from participants.ledger.opening import AskedOpening, OpenAccounts, proposal
from participants.ledger.own_entries import AskedEntry, EntryReason, MakeEntry
from participants.ledger.store import read_limits
from participants.ledger.writer import Ledger
from participants.proposals import propose

ENTRY = """
SELECT sequence, subject::text, version, type, schema_version, data FROM subject_event
WHERE subject = $1::uuid AND version = 1
"""
EARLIER_REFERENCE = "SELECT id::text FROM own_entry WHERE (internal, currency, reference) = ($1, $2, $3)"
REFERENCE_UNIQUE = "own_entry_reference"
ACCOUNT = """
SELECT a.kind, a.code, a.currency, b.state, b.changes
FROM account a JOIN account_balance b ON b.account_id = a.id WHERE a.id = $1
"""


async def open_accounts(
    ledger: Ledger, pool: asyncpg.Pool, openings: Sequence[AccountOpening], person: str
) -> list[AccountOutcome]:
    """Open accounts that `person` asks for; those that hold money once somebody else has asked too."""
    proposals = {opening: proposal(opening) for opening in openings if opening.opening_balance_minor != "0"}
    others: dict[AccountOpening, str | None] = {}
    if proposals:
        async with pool.acquire() as connection, connection.transaction():
            people = await propose(connection, "opening", list(proposals.values()), person)
        others = dict(zip(proposals, people, strict=True))
    asked = [
        AskedOpening(opening, (person,) if (other := others.get(opening)) is None else (other, person))
        for opening in openings
    ]
    return await ledger.submit(OpenAccounts(asked))


async def set_ceiling(
    ledger: Ledger, pool: asyncpg.Pool, ceiling: Ceiling, *, person: str, reason: str
) -> tuple[ExposureLimit, ...]:
    """Set a ceiling that `person` asks for, one that lets others owe more once somebody else has asked too.

    Raises Refusal with a CeilingReason.
    """
    other = None
    async with pool.acquire() as connection, connection.transaction():
        limits = await read_limits(connection)
        if (fault := ceiling.fault(limits)) is not None:
            raise _unset(ceiling, fault)
        if raised(limits.ceilings, ceiling.among(limits.ceilings)):
            (other,) = await propose(connection, "ceiling", [ceiling.proposal(limits)], person)
    people = (person,) if other is None else (other, person)
    outcome = await ledger.submit(SetCeiling(ceiling, people=people, reason=reason, seen=limits.version(CEILINGS)))
    if isinstance(outcome, CeilingReason):
        raise _unset(ceiling, outcome)
    return outcome


def _unset(ceiling: Ceiling, reason: CeilingReason) -> Refusal:
    if reason is CeilingReason.CURRENCY_NOT_CLEARED:
        return Refusal(reason, f"the rulebook doesn't clear {ceiling.currency}")
    return Refusal(reason, "it lets others owe more: another person must ask for the very same within a week")


async def make_entry(ledger: Ledger, pool: asyncpg.Pool, asked: AskedEntry, person: str) -> bool:
    """Make an entry that `person` asks for; True if it was made before. Raises Refusal with an EntryReason.

    One that takes two people is kept for another person, who has to ask for the very same within a week.
    """
    if await _made_before(pool, asked):
        return True
    people: tuple[str, ...] = (person,)
    if asked.needs_second_person:
        # Whatever is in its way is said before anybody is asked to agree.
        reason = await ledger.submit(MakeEntry(asked, people=people))
        if reason is not EntryReason.SECOND_PERSON_MISSING:
            raise _refused(asked, reason or EntryReason.SECOND_PERSON_MISSING)
        async with pool.acquire() as connection, connection.transaction():
            (other,) = await propose(connection, "entry", [asked.proposal()], person)
        people = (person,) if other is None else (other, person)
    try:
        reason = await ledger.submit(MakeEntry(asked, people=people))
    except RecordedAlreadyError:
        return await _made_before(pool, asked)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != REFERENCE_UNIQUE:
            raise
        raise _refused(asked, EntryReason.REFERENCE_KNOWN) from error
    if reason is not None:
        raise _refused(asked, reason)
    return False


async def entry(connection: asyncpg.Connection, entry_id: str) -> events.Event | None:
    """Return the event of an entry that the bank made itself, or None."""
    row = await connection.fetchrow(ENTRY, events.entry_subject(entry_id))
    return None if row is None else events.read(events.EventRow(*row))


async def _made_before(pool: asyncpg.Pool, asked: AskedEntry) -> bool:
    """Tell whether the very same entry was made. Raises Refusal for another under its id, or its reference."""
    terms = asked.terms
    async with pool.acquire() as connection:
        earlier = await entry(connection, terms.id)
        other = await connection.fetchval(EARLIER_REFERENCE, terms.against, terms.currency, terms.reference)
    if earlier is not None:
        if (earlier.type, earlier.data) == (asked.type, asked.by(earlier.data.people)):
            return True
        raise _refused(asked, EntryReason.ID_REUSED)
    if other is not None:
        raise _refused(asked, EntryReason.REFERENCE_KNOWN)
    return False


def _refused(asked: AskedEntry, reason: EntryReason) -> Refusal:
    terms = asked.terms
    said = _ENTRY_DETAILS.get(reason, reason.replace("_", " "))
    return Refusal(reason, said.format(**msgspec.structs.asdict(terms)))


_ENTRY_DETAILS = {
    EntryReason.ID_REUSED: "id: {id} is that of another entry; what isn't the very same entry takes an id of its own",
    EntryReason.REFERENCE_KNOWN: "reference: '{reference}' was booked on '{against}' before, by another entry",
    EntryReason.ACCOUNT_UNKNOWN: (
        "account: this bank has no customer's account '{account}' in {currency}; each account has one currency"
    ),
    EntryReason.INTERNAL_UNKNOWN: "against: this bank has no open internal account '{against}' in {currency}",
    EntryReason.ACCOUNT_CLOSED: "account: '{account}' in {currency} is closed",
    EntryReason.ACCOUNT_BLOCKED: "account: '{account}' in {currency} is blocked for this",
    EntryReason.INSUFFICIENT_FUNDS: "amount_minor: {amount_minor} is more than there is on '{account}' in {currency}",
    EntryReason.BALANCE_OUT_OF_RANGE: "amount_minor: with {amount_minor} more there is too much for one account",
}


async def change_state(
    ledger: Ledger, pool: asyncpg.Pool, account: int, state: AccountState, *, person: str, reason: str
) -> None:
    """Block, unblock or close an account as `person` asks for. Raises Refusal with a ChangeReason.

    What lets more be posted is kept for another person, who has to ask for the very same within a week.
    """
    async with pool.acquire() as connection, connection.transaction():
        key, now, changes = await _account(connection, account)
        people: tuple[str, ...] = (person,)
        if now is not AccountState.CLOSED and state.loosens(now):
            (other,) = await propose(connection, "unblocking", [unblocking(key, now, state, changes)], person)
            people = people if other is None else (other, person)
    command = ChangeState(key, state, people=people, reason=reason, seen=changes)
    _require_changed(key, await ledger.submit(command))


async def rename(ledger: Ledger, pool: asyncpg.Pool, account: int, name: str, *, person: str, reason: str) -> None:
    """Give an account another name. Raises Refusal with a ChangeReason."""
    async with pool.acquire() as connection:
        key, *_ = await _account(connection, account)
    _require_changed(key, await ledger.submit(Rename(key, name, people=(person,), reason=reason)))


async def _account(connection: asyncpg.Connection, account: int) -> tuple[AccountKey, AccountState, int]:
    """Return an account that people opened, its state, and how often it was changed."""
    row = await connection.fetchrow(ACCOUNT, account)
    if row is None:
        raise Refusal(ChangeReason.ACCOUNT_UNKNOWN, f"no account {account}")
    key = AccountKey(row[0], row[1], row[2])
    if key.kind not in ("customer", "internal"):
        raise Refusal(ChangeReason.ACCOUNT_OF_CHART, f"account {account} is {'/'.join(key)}, which opens by itself")
    return key, AccountState(row[3]), row[4]


def _require_changed(key: AccountKey, reason: ChangeReason | None) -> None:
    if reason is not None:
        said = _CHANGE_DETAILS.get(reason, f"account {{0}} stays as it is: {reason.replace('_', ' ')}")
        raise Refusal(reason, said.format(f"'{key.code}' in {key.currency}"))


_CHANGE_DETAILS = {
    ChangeReason.ACCOUNT_CLOSED: "account {0} is closed for good",
    ChangeReason.ACCOUNT_MOVED: "something was changed about account {0} while it was looked at: ask again",
    ChangeReason.BALANCE_NOT_ZERO: "there is money on account {0}, or it owes some: only one without is closed",
    ChangeReason.PAYMENTS_WAITING: "payments of account {0} wait for the other bank's answer, or before people",
}
