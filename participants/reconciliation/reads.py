"""What finding differences reads from the ledger: digests of lanes, their payments, and all of them as ids."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from compliance.crypto.merkle import EMPTY_ROOT, Tree
from gateway.federation.messages.payments import leaf_of
from gateway.federation.messages.reconciliation import (
    RECORDS_MAX,
    SETTLED_MAX,
    SettledThrough,
    SharedRecord,
)
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Payment, Status
from participants.ledger.store import payments_here
from participants.reconciliation.lane_tree import Node
from participants.search.terms import term

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from participants.reconciliation.sets import Words

    Numbers = NDArray[np.int64]

LEAF_BYTES = 32
ARCHIVED = "archived"
STRETCH = 2**17
"""Rows of one COPY: 11 MB."""
HEADER_BYTES, TRAILER_BYTES, ROW_BYTES = 19, 2, 82
"""Of PostgreSQL's binary COPY: a row is its number of columns, and each column with its length before it."""

LANES = """
SELECT id, sender, receiver, currency, coalesce((SELECT max(sequence) FROM lane_head WHERE lane_id = lane.id), 0)
FROM lane WHERE $1 IN (sender, receiver) ORDER BY sender, currency
"""
LANE = """
SELECT id, coalesce((SELECT max(sequence) FROM lane_head WHERE lane_id = lane.id), 0)
FROM lane WHERE sender = $1 AND receiver = $2 AND currency = $3
"""
# For each range the nearest stored head inside of it, and the leaves after that: one batch at most, or its own.
DIGESTS = """
SELECT n.after, n.through, h.sequence, h.peaks, e.leaves
FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS n (after, through, place)
LEFT JOIN LATERAL (
    SELECT sequence, peaks FROM lane_head
    WHERE lane_id = $1 AND sequence > n.after AND sequence < n.through ORDER BY sequence DESC LIMIT 1
) h ON true
LEFT JOIN LATERAL (
    SELECT string_agg(leaf, ''::bytea ORDER BY sequence) AS leaves FROM (
        SELECT sequence, leaf FROM lane_entry
        WHERE lane_id = $1 AND sequence > coalesce(h.sequence, n.after) AND sequence <= n.through OFFSET 0
    ) further
) e ON true
ORDER BY n.place
"""
SETTLED = "SELECT cycle, sequence FROM lane_settled WHERE lane_id = $1 ORDER BY sequence DESC LIMIT $2"
DISPUTED = "SELECT sequence FROM dispute WHERE lane_id = $1 ORDER BY sequence LIMIT $2"
ENTRIES = """
SELECT l.sender, l.currency, e.sequence, e.payment_id::text, e.amount, e.leaf
FROM lane l JOIN lane_entry e ON e.lane_id = l.id
WHERE l.sender = $1 AND l.receiver = $2 AND l.currency = $3 AND e.sequence = ANY ($4::bigint[])
"""
# By the numbers that payments say they have: an index by payment would cost each of them.
ENTRIES_OF = """
SELECT l.sender, l.currency, e.sequence, e.payment_id::text, e.amount, e.leaf
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS k (sender, receiver, currency, sequence)
JOIN lane l ON l.sender = k.sender AND l.receiver = k.receiver AND l.currency = k.currency
JOIN lane_entry e ON e.lane_id = l.id AND e.sequence = k.sequence
"""
PAYMENT_EVENTS = """
SELECT DISTINCT k.subject::text FROM event_term t JOIN event_key k ON k.sequence = t.event_sequence
WHERE t.term = ANY ($1::bytea[]) AND NOT k.subject = ANY ($2::uuid[]) LIMIT 16
"""


class LaneHere(NamedTuple):
    """A lane as this bank has it: payments 1..size without a gap."""

    id: int
    key: LaneKey
    size: int


async def lanes(connection: asyncpg.Connection, counterparty: str) -> dict[LaneKey, LaneHere]:
    """Return the lanes with another bank."""
    rows = await connection.fetch(LANES, counterparty)
    return {(key := LaneKey(*row[1:4])): LaneHere(row[0], key, row[4]) for row in rows}


async def lane(connection: asyncpg.Connection, key: LaneKey) -> LaneHere | None:
    """Return a lane, None if this bank has none."""
    row = await connection.fetchrow(LANE, *key)
    return None if row is None else LaneHere(row[0], key, row[1])


async def digests(
    connection: asyncpg.Connection, lane: LaneHere | None, size: int, nodes: Sequence[Node]
) -> list[bytes]:
    """Return the digests of subtrees of a lane's first `size` payments, which it has."""
    if lane is None or not size:
        return [EMPTY_ROOT for _ in nodes]
    ranges = [node.range(size) for node in nodes]
    rows = await connection.fetch(DIGESTS, lane.id, *map(list, zip(*ranges, strict=True))) if ranges else ()
    return [_digest(*row) for row in rows]


def _digest(after: int, through: int, at: int | None, peaks: bytes | None, leaves: bytes | None) -> bytes:
    tree = Tree()
    if at is not None and peaks is not None:
        # The peaks before are those of the payments through `after`, since that is a multiple of the subtree's size.
        tree = Tree(at - after, Tree.from_bytes(at, peaks).peaks[after.bit_count() :])
    if leaves:
        tree = tree.append(leaves[at : at + LEAF_BYTES] for at in range(0, len(leaves), LEAF_BYTES))
    if tree.size != through - after:
        raise LookupError(f"{tree.size} of {through - after} payments after {after}")
    return tree.root()


async def settled(connection: asyncpg.Connection, lane: LaneHere) -> tuple[SettledThrough, ...]:
    """Return through which number the newest cycles settled a lane, the newest first."""
    rows = await connection.fetch(SETTLED, lane.id, SETTLED_MAX)
    return tuple(SettledThrough(cycle=row[0], sequence=row[1]) for row in rows)


async def disputed(connection: asyncpg.Connection, lane: LaneHere) -> tuple[int, ...]:
    """Return the numbers of a lane's payments that this bank contests."""
    return tuple(row[0] for row in await connection.fetch(DISPUTED, lane.id, RECORDS_MAX))


async def numbered(connection: asyncpg.Connection, key: LaneKey, numbers: Sequence[int]) -> dict[str, SharedRecord]:
    """Return the payments under numbers of a lane, by their ids, as far as its entries tell of them."""
    return _entries(await connection.fetch(ENTRIES, *key, list(numbers)))


def _entries(rows: Iterable[Sequence[Any]]) -> dict[str, SharedRecord]:
    return {
        payment: SharedRecord(
            payment=payment,
            sender=sender,
            currency=currency,
            amount_minor=str(amount),
            leaf=leaf.hex(),
            status=ARCHIVED,
            sequence=sequence,
        )
        for sender, currency, sequence, payment, amount, leaf in rows
    }


async def records(
    connection: asyncpg.Connection,
    bank: str,
    counterparty: str,
    payments: Iterable[str],
    *,
    entries: dict[str, SharedRecord],
) -> list[SharedRecord]:
    """Return payments with another bank. `entries` are those of its lanes that are read already.

    Of one whose events are archived it is what its entry says.
    """
    asked = list(dict.fromkeys([*entries, *payments]))
    known, _ = await payments_here(connection, asked)
    numbers = [
        (*_lane_of(payment, bank), payment.sequence)
        for payment in known.values()
        if payment.sequence is not None and payment.id not in entries
    ]
    if numbers:
        entries = entries | _entries(await connection.fetch(ENTRIES_OF, *map(list, zip(*numbers, strict=True))))
    made = []
    for payment_id in asked:
        payment, entry = known.get(payment_id), entries.get(payment_id)
        if payment is not None and payment.counterparty == counterparty and not _is_unsent(payment):
            made.append(record(payment, bank, entry))
        elif entry is not None and payment is None:
            made.append(entry)
    return made


def _lane_of(payment: Payment, bank: str) -> LaneKey:
    ends = (bank, payment.counterparty) if payment.direction == "out" else (payment.counterparty, bank)
    return LaneKey(*ends, payment.terms.currency)


def _is_unsent(payment: Payment) -> bool:
    """Tell whether a payment waits for this bank's own people: nobody else knows of it yet."""
    return payment.direction == "out" and payment.status is Status.HELD


def record(payment: Payment, bank: str, entry: SharedRecord | None = None) -> SharedRecord:
    """Return a payment as this bank has it, with what its lane's entry says. Without one it has no number in a lane."""
    terms = payment.terms
    return SharedRecord(
        payment=payment.id,
        sender=bank if payment.direction == "out" else payment.counterparty,
        currency=terms.currency if entry is None else entry.currency,
        amount_minor=terms.amount_minor if entry is None else entry.amount_minor,
        leaf=leaf_of(terms).hex() if entry is None else entry.leaf,
        status=payment.status,
        sequence=None if entry is None else entry.sequence,
        end_to_end_id=terms.end_to_end_id,
        uetr=terms.uetr,
    )


async def same_reference(connection: asyncpg.Connection, bank: str, shown: SharedRecord) -> str | None:
    """Return another payment of this bank that has the references of one: its UETR, or its end-to-end id and amount."""
    said = [
        term(member, value)
        for member, value in (("uetr", shown.uetr), ("end_to_end_id", shown.end_to_end_id))
        if value is not None
    ]
    if not said:
        return None
    ids = [row[0] for row in await connection.fetch(PAYMENT_EVENTS, said, [shown.payment])]
    others, _ = await payments_here(connection, ids)
    for payment in others.values():
        other = record(payment, bank)
        if (other.sender, other.currency) != (shown.sender, shown.currency):
            continue
        same_end = (other.end_to_end_id, other.amount_minor) == (shown.end_to_end_id, shown.amount_minor)
        if (shown.uetr is not None and other.uetr == shown.uetr) or (shown.end_to_end_id is not None and same_end):
            return payment.id
    return None


class LaneRecords(NamedTuple):
    """The records that ids are made of, 64 bytes each, and under which number of the lane each stands."""

    records: Words
    numbers: Numbers


async def lane_records(
    acquire: Callable[[], asyncpg.pool.PoolAcquireContext], lane: LaneHere, after: int, through: int
) -> list[LaneRecords]:
    """Return a lane's payments after a number through another, as ids are made of them.

    By COPY, in stretches: between two of them others have the connection.
    """
    parts: list[LaneRecords] = []
    for start in range(after, through, STRETCH):
        data = bytearray()

        async def take(more: bytes, data: bytearray = data) -> None:
            data += more

        query = (
            "SELECT sequence, payment_id, amount, leaf FROM lane_entry"  # noqa: S608 - integers
            f" WHERE lane_id = {lane.id:d} AND sequence > {start:d} AND sequence <= {min(through, start + STRETCH):d}"
            " ORDER BY sequence"
        )
        async with acquire() as connection:
            await connection.copy_from_query(query, output=take, format="binary")
        parts.append(await asyncio.to_thread(_lane_records, data))
    return parts


def _lane_records(data: bytearray) -> LaneRecords:
    import numpy as np

    from participants.reconciliation.sets import RECORD_BYTES

    rows = np.frombuffer(data, np.uint8)[HEADER_BYTES : len(data) - TRAILER_BYTES].reshape(-1, ROW_BYTES)
    made = np.zeros((len(rows), RECORD_BYTES), np.uint8)
    made[:, 0:16], made[:, 16:24], made[:, 24:56] = rows[:, 18:34], rows[:, 38:46], rows[:, 50:82]
    numbers = np.ascontiguousarray(rows[:, 6:14]).view(">i8").astype(np.int64).reshape(-1)
    return LaneRecords(made.view(np.uint64), numbers)
