"""What the ledger reads and writes: the one module that knows the tables behind the books."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any

import asyncpg

from compliance.crypto.merkle import Tree
from gateway.federation.storage.failures import TRIAL
from participants.ledger import events
from participants.ledger.accounts import Account, AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.exposure import SUBJECTS, Limits
from participants.ledger.lanes import Lane, LaneKey
from participants.ledger.partitions import require_none
from participants.ledger.payment import Payment, apply
from participants.ledger.rows import EVENT_COLUMNS, OPEN_PAYMENT_COLUMNS, POSTING_COLUMNS, Rows

READ_ACCOUNTS = """
SELECT a.id, a.kind, a.code, a.currency, b.balance, b.version, b.lowest, b.highest, b.state, b.changes
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (kind, code, currency)
JOIN account a ON a.kind = k.kind AND a.code = k.code AND a.currency = k.currency
JOIN account_balance b ON b.account_id = a.id
"""
# Payments that may still come back to an account, or go on from it or to it.
READ_AWAITED = """
SELECT count(*) FROM payment_open o JOIN subject_event e ON e.subject = o.payment_id AND e.version = 1,
    LATERAL (SELECT coalesce(e.data -> 'order', e.data -> 'terms', e.data) AS terms) t
WHERE o.state <> 'recalled' AND t.terms ->> 'currency' = $2
  AND t.terms ->> CASE o.direction WHEN 'out' THEN 'debtor_account' ELSE 'creditor_account' END = $1
"""
READ_LANES = """
SELECT l.id, l.sender, l.receiver, l.currency, h.sequence, h.total, h.peaks,
    (SELECT coalesce(max(sequence), 0) FROM lane_settled WHERE lane_id = l.id)
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (sender, receiver, currency)
JOIN lane l ON l.sender = k.sender AND l.receiver = k.receiver AND l.currency = k.currency
LEFT JOIN LATERAL (
    SELECT sequence, total, peaks FROM lane_head WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1
) h ON true
"""
# LATERAL and OFFSET leave the planner no other way than each lane's end, however many lanes are asked for at once.
READ_BEYOND = """
SELECT e.* FROM unnest($1::integer[], $2::bigint[]) AS b (id, size) CROSS JOIN LATERAL (
    SELECT lane_id, sequence, leaf, amount FROM lane_entry WHERE lane_id = b.id AND sequence > b.size OFFSET 0
) e
"""
# An event that is detached has its key alone.
READ_EVENTS = """
SELECT k.sequence, k.subject::text, k.version, e.type, e.schema_version, e.data
FROM event_key k LEFT JOIN event e ON e.sequence = k.sequence
WHERE k.subject = ANY($1::uuid[]) AND (e.type LIKE 'payment.%' OR e.type IS NULL) ORDER BY k.subject, k.version
"""
READ_LIMITS = """
SELECT DISTINCT ON (subject) sequence, subject::text, version, type, schema_version, data FROM subject_event
WHERE subject = ANY($1::uuid[]) ORDER BY subject, version DESC
"""
LATER_EVENT = """
SELECT EXISTS (
    SELECT FROM unnest($1::uuid[], $2::integer[]) AS u (id, version)
    JOIN event_key e ON e.subject = u.id AND e.version = u.version + 1
)
"""
RECORDED = """
SELECT u.subject::text FROM unnest($1::uuid[], $2::integer[]) AS u (subject, version)
JOIN event_key e ON e.subject = u.subject AND e.version = u.version LIMIT 1
"""
# From where the postings begin, and from nowhere else: a version of NULL is refused, and the transaction with it. So an
# account's postings are numbered once in all partitions, each of which has an index of its own.
MOVE_BALANCES = """
UPDATE account_balance b SET balance = u.balance, version = CASE b.version WHEN u.before THEN u.version END
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (id, balance, version, before)
WHERE b.account_id = u.id
"""
CHANGE_ACCOUNT = """
UPDATE account_balance SET state = $2, changes = $3, name = coalesce($4, name) WHERE account_id = $1
"""
OPEN_BALANCES = """
INSERT INTO account_balance (account_id, balance, version, lowest, highest)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
"""
# A whole transaction in one round trip: nothing is written unless the head is where it was read. A column comes as one
# text with a line for each row, since the driver looks at each element of an array for arrays within it.
WRITE_AT_ONCE = r"""
WITH head AS (
    UPDATE ledger_head SET sequence = $2 WHERE sequence = $1 RETURNING sequence
), events AS (
    INSERT INTO event (sequence, subject, version, type, schema_version, effective_at, data)
    SELECT u.* FROM head, unnest(
        string_to_array($3, E'\n')::bigint[], string_to_array($4, E'\n')::uuid[],
        string_to_array($5, E'\n')::integer[], string_to_array($6, E'\n'), string_to_array($7, E'\n')::smallint[],
        string_to_array($8, E'\n', 'None')::timestamptz[], string_to_array($9, E'\n')::json[]) u
), postings AS (
    INSERT INTO posting (account_id, version, event_sequence, amount, previous_balance, balance)
    SELECT u.* FROM head, unnest(
        string_to_array($10, E'\n')::bigint[], string_to_array($11, E'\n')::bigint[],
        string_to_array($12, E'\n')::bigint[], string_to_array($13, E'\n')::bigint[],
        string_to_array($14, E'\n')::bigint[], string_to_array($15, E'\n')::bigint[]) u
), balances AS (
    UPDATE account_balance b SET balance = u.balance, version = CASE b.version WHEN u.before THEN u.version END
    FROM head, unnest(
        string_to_array($16, E'\n')::bigint[], string_to_array($17, E'\n')::bigint[],
        string_to_array($18, E'\n')::bigint[], string_to_array($19, E'\n')::bigint[]) u (id, balance, version, before)
    WHERE b.account_id = u.id
), opened AS (
    INSERT INTO payment_open (payment_id, direction, counterparty, state, event_sequence)
    SELECT u.* FROM head, unnest(
        string_to_array($20, E'\n')::uuid[], string_to_array($21, E'\n'), string_to_array($22, E'\n'),
        string_to_array($23, E'\n'), string_to_array($24, E'\n')::bigint[]) u
)
SELECT count(*) FROM head
"""
CLOSE_PAYMENTS = """
DELETE FROM payment_open o USING unnest($1::text[], $2::bigint[]) AS c (counterparty, event_sequence)
WHERE o.counterparty = c.counterparty AND o.event_sequence = c.event_sequence
"""
KEEP_EVIDENCE = """
INSERT INTO evidence (sha256, kind, counterparty, recorded_at, envelope) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""
KEEP_BATCHES = """
INSERT INTO batch (id, name, made_by, recorded_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) ON CONFLICT DO NOTHING
"""
KEEP_BATCH_ORDERS = """
INSERT INTO batch_order (batch_id, payment_id, line, outcome, reason)
SELECT o.batch_id, o.payment_id, o.line, o.outcome, o.reason
FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[])
    AS o (batch_id, payment_id, line, outcome, reason, made_by)
JOIN batch b ON b.id = o.batch_id AND b.made_by = o.made_by
ON CONFLICT (batch_id, payment_id) DO UPDATE SET line = EXCLUDED.line, outcome = EXCLUDED.outcome,
    reason = EXCLUDED.reason WHERE batch_order.outcome <> 'taken'
"""


async def read_head(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Return the numbers of the last event, account and lane."""
    row = await connection.fetchrow(
        "SELECT h.sequence, (SELECT coalesce(max(id), 0) FROM account), (SELECT coalesce(max(id), 0) FROM lane)"
        " FROM ledger_head h"
    )
    return row[0], row[1], row[2]


async def take_head(connection: asyncpg.Connection, before: int, after: int) -> bool:
    """Begin a transaction and move the ledger's head; False if it isn't where it was read."""
    status: str = await connection.execute(f"BEGIN; {_move(before, after)}")
    return status == "UPDATE 1"


async def move_head(connection: asyncpg.Connection, before: int, after: int) -> None:
    """Move the ledger's head, in a transaction that has locked it."""
    status: str = await connection.execute(_move(before, after))
    if status != "UPDATE 1":
        raise RuntimeError(f"the ledger's head isn't at {before}, where it was locked")


def _move(before: int, after: int) -> str:
    return f"UPDATE ledger_head SET sequence = {after:d} WHERE sequence = {before:d}"  # noqa: S608 - integers


async def lock_head(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Begin a transaction that keeps other writers waiting, and return what `read_head` does."""
    await connection.execute("BEGIN; SELECT FROM ledger_head FOR UPDATE")
    # A statement of its own, since one that has waited for a lock still sees what was there before.
    return await read_head(connection)


async def read_limits(connection: asyncpg.Connection) -> Limits:
    """Return what counterparties may owe, as the newest events say."""
    newest = [events.read(events.EventRow(*row)) for row in await connection.fetch(READ_LIMITS, list(SUBJECTS))]
    return Limits({event.type: event for event in newest})


async def try_writing(connection: asyncpg.Connection) -> None:
    """Do what writing needs: lock the head, and find room on the disk. Leaves nothing."""
    await connection.execute(f"BEGIN; SELECT FROM ledger_head FOR UPDATE; {TRIAL}; ROLLBACK")


async def any_later_event(connection: asyncpg.Connection, versions: Mapping[str, int]) -> bool:
    """Tell whether any of these payments has an event after the version given."""
    return bool(await connection.fetchval(LATER_EVENT, list(versions), list(versions.values())))


async def recorded(connection: asyncpg.Connection, named: Collection[tuple[str, int]]) -> str | None:
    """Return a subject of these subjects and versions of which there is an event, None if there is none."""
    if not named:
        return None
    subject: str | None = await connection.fetchval(RECORDED, *map(list, zip(*named, strict=True)))
    return subject


async def read_into(
    connection: asyncpg.Connection, books: Books, commands: Sequence[Command[Any]], *, read_all: bool
) -> tuple[dict[str, Payment], Set[str]]:
    """Read into the books what the commands need and the books don't hold yet.

    Returns the payments that they name, and those whose events are detached. Raises JournalDetached where a command
    can't say so itself.
    """
    accounts: set[AccountKey] = set()
    lanes: set[LaneKey] = set()
    payments: set[str] = set()
    books.awaited = {}
    for command in commands:
        if (awaited := command.awaited_account()) is not None:
            books.awaited[awaited] = await connection.fetchval(READ_AWAITED, awaited.code, awaited.currency)
        accounts.update(command.account_keys(books))
        lanes.update(command.lane_keys(books))
        payments.update(command.known_payment_ids())
        if read_all or not command.assumes_new:
            payments.update(command.payment_ids())
    named, detached = await payments_here(connection, payments) if payments else ({}, frozenset())
    for command in commands if detached else ():
        if not command.judges_detached:
            named_here = [*command.payment_ids(), *command.known_payment_ids()]
            await require_none(connection, detached.intersection(named_here))
    # What happens to a return happens to the payment that it gives back.
    originals = {p.terms.returns for p in named.values() if p.terms.returns} - named.keys()
    if originals:
        named.update(await read_payments(connection, originals))
    for payment in named.values():
        # Ending a payment moves the accounts it began with.
        accounts.update(accounts_of(payment))
        if payment.direction == "in":
            lanes.add(LaneKey(payment.counterparty, books.bank, payment.terms.currency))
    await _read_accounts(connection, books, [key for key in accounts if key not in books.accounts])
    await _read_lanes(connection, books, [key for key in lanes if key not in books.lanes])
    return named, detached


async def _read_accounts(connection: asyncpg.Connection, books: Books, keys: Sequence[AccountKey]) -> None:
    if not keys:
        return
    books.accounts.update(dict.fromkeys(keys))
    for row in await connection.fetch(READ_ACCOUNTS, *map(list, zip(*keys, strict=True))):
        key = AccountKey(row[1], row[2], row[3])
        books.accounts[key] = Account(row[0], key, row[4], row[5], row[6], row[7], AccountState(row[8]), row[9])


async def _read_lanes(connection: asyncpg.Connection, books: Books, keys: Sequence[LaneKey]) -> None:
    if not keys:
        return
    read: dict[int, Lane] = {}
    for row in await connection.fetch(READ_LANES, *map(list, zip(*keys, strict=True))):
        lane = read[row[0]] = Lane(row[0], LaneKey(row[1], row[2], row[3]), settled_sequence=row[7])
        if row[4] is not None:
            lane.tree = Tree.from_bytes(row[4], row[6])
            lane.total = int(row[5])
    for entry in await connection.fetch(READ_BEYOND, list(read), [lane.tree.size for lane in read.values()]):
        read[entry[0]].beyond[entry[1]] = (entry[2], entry[3])
    books.lanes.update((lane.key, lane) for lane in read.values())


def accounts_of(payment: Payment) -> list[AccountKey]:
    """Return the accounts that events of a payment post to."""
    terms = payment.terms
    if payment.direction == "out":
        return [
            AccountKey("customer", terms.debtor_account, terms.currency),
            AccountKey("reserved", payment.counterparty, terms.currency),
            AccountKey("due_to", payment.counterparty, terms.currency),
        ]
    return [
        AccountKey("customer", terms.creditor_account, terms.currency),
        AccountKey("due_from", payment.counterparty, terms.currency),
    ]


async def read_payments(connection: asyncpg.Connection, ids: Iterable[str]) -> dict[str, Payment]:
    """Return the payments that exist under these ids, each as its events tell it. Raises JournalDetached."""
    payments, detached = await payments_here(connection, ids)
    await require_none(connection, detached)
    return payments


async def payments_here(
    connection: asyncpg.Connection, ids: Iterable[str]
) -> tuple[dict[str, Payment], frozenset[str]]:
    """Return payments, and the ids of those whose events are detached."""
    rows = await connection.fetch(READ_EVENTS, list(ids))
    detached = frozenset(row[1] for row in rows if row[3] is None)
    here = (row for row in rows if row[1] not in detached) if detached else rows
    return fold(events.EventRow(row[0], row[1], row[2], row[3], row[4], row[5]) for row in here), detached


def fold(rows: Iterable[events.EventRow]) -> dict[str, Payment]:
    """Return payments from their events, in the order of versions. Events of other subjects are passed over.

    Raises EventUnreadableError, ImpossibleEventError.
    """
    payments: dict[str, Payment] = {}
    for row in rows:
        if row.type.startswith("payment."):
            payments[row.subject] = apply(payments.get(row.subject), events.read(row))
    return payments


async def write_at_once(connection: asyncpg.Connection, rows: Rows, before: int, after: int) -> bool:
    """Write a small group of orders and commit, in one statement; False if the head isn't where it was read.

    A COPY is cheaper by the row, and each costs a round trip; so this is for groups that wait more than they work.
    """
    heads: int = await connection.fetchval(
        WRITE_AT_ONCE,
        before,
        after,
        *_columns(rows.events, len(EVENT_COLUMNS)),
        *_columns(rows.postings, len(POSTING_COLUMNS)),
        *_columns(rows.balance_changes, 4),
        *_columns(list(rows.open_payments.values()), len(OPEN_PAYMENT_COLUMNS)),
    )
    return heads == 1


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[str]:
    """Return each column as a text of lines: nothing in it holds a line break, since canonical JSON writes none."""
    return ["\n".join(map(str, column)) for column in zip(*rows, strict=True)] if rows else [""] * count


async def write(connection: asyncpg.Connection, rows: Rows) -> None:
    """Write a transaction's rows. Raises asyncpg.IntegrityConstraintViolationError where the database knows better."""
    if rows.events:
        await connection.copy_records_to_table("event", records=rows.events, columns=EVENT_COLUMNS)
    if rows.new_accounts:
        await connection.copy_records_to_table(
            "account", records=rows.new_accounts, columns=["id", "kind", "code", "currency", "name", "opened_by"]
        )
        await connection.execute(OPEN_BALANCES, *map(list, zip(*rows.new_balances, strict=True)))
    if rows.postings:
        await connection.copy_records_to_table("posting", records=rows.postings, columns=POSTING_COLUMNS)
    if rows.balance_changes:
        await connection.execute(MOVE_BALANCES, *map(list, zip(*rows.balance_changes, strict=True)))
    if rows.account_changes:
        await connection.executemany(CHANGE_ACCOUNT, rows.account_changes)
    if rows.own_entries:
        await connection.copy_records_to_table(
            "own_entry", records=rows.own_entries, columns=["id", "internal", "currency", "reference", "event_sequence"]
        )
    await _write_open_payments(connection, rows)
    await _write_lanes(connection, rows)
    if rows.evidence:
        await connection.executemany(
            KEEP_EVIDENCE,
            [(bytes.fromhex(e.sha256), e.kind, e.counterparty, now, e.envelope) for now, e in rows.evidence],
        )
    if rows.refused_orders:
        await connection.copy_records_to_table(
            "refusal",
            records=rows.refused_orders,
            columns=["recorded_at", "payment_id", "reason", "head", "asked"],
        )
    if rows.batches:
        await connection.execute(KEEP_BATCHES, *map(list, zip(*rows.batches.values(), strict=True)))
    if rows.batch_orders:
        await connection.execute(KEEP_BATCH_ORDERS, *map(list, zip(*rows.batch_orders.values(), strict=True)))
    if rows.disputes:
        await connection.copy_records_to_table(
            "dispute", records=rows.disputes, columns=["payment_id", "lane_id", "sequence", "amount"]
        )
    if rows.ended_disputes:
        await connection.execute("DELETE FROM dispute WHERE payment_id = ANY($1::uuid[])", rows.ended_disputes)


async def _write_open_payments(connection: asyncpg.Connection, rows: Rows) -> None:
    if rows.ended_waits:
        await connection.execute(CLOSE_PAYMENTS, *map(list, zip(*rows.ended_waits, strict=True)))
    if rows.open_payments:
        await connection.copy_records_to_table(
            "payment_open",
            records=rows.open_payments.values(),
            columns=OPEN_PAYMENT_COLUMNS,
        )


async def _write_lanes(connection: asyncpg.Connection, rows: Rows) -> None:
    if rows.new_lanes:
        await connection.copy_records_to_table(
            "lane", records=rows.new_lanes, columns=["id", "sender", "receiver", "currency"]
        )
    if rows.entries:
        await connection.copy_records_to_table(
            "lane_entry", records=rows.entries, columns=["lane_id", "sequence", "payment_id", "amount", "leaf"]
        )
    if rows.heads:
        await connection.copy_records_to_table(
            "lane_head", records=rows.heads, columns=["lane_id", "sequence", "total", "peaks"]
        )
    if rows.settlements:
        await connection.copy_records_to_table(
            "lane_settled", records=rows.settlements, columns=["lane_id", "cycle", "sequence", "total"]
        )
