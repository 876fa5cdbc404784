"""The coordinator's event log: append-only, ids without a gap, each hash over its predecessor's.

An event is appended in the transaction that does what it tells of, so neither exists without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical
from compliance.cycle.audience import audience
from compliance.event_log import GENESIS, ChainError, LoggedEvent, check_link
from gateway.coordinator.clock import now, timestamp
from gateway.coordinator.log.sinks.sink import AddressedEvent
from gateway.federation.messages.events import Event

CHANNEL = "concordat_events"

# One key for all writers: whoever holds the lock knows the newest event until it commits.
_LOCK_KEY = 0x6576656E  # "even"

_HEAD = text("SELECT id, hash FROM events ORDER BY id DESC LIMIT 1")
_INSERT = text(
    "INSERT INTO events (id, type, at, cycle, data, audience, prev_hash, hash)"
    " VALUES (:id, :type, :at, :cycle, CAST(:data AS json), CAST(:audience AS text[]), :prev_hash, :hash)"
)
_COLUMNS = "id, type, at, cycle, data::text AS data, audience, prev_hash, hash"
# The condition is `compliance.cycle.audience.concerns`.
_READ = text(
    f"SELECT {_COLUMNS} FROM events"  # noqa: S608 - constants only
    " WHERE id > :after AND (CAST(:viewer AS text) IS NULL OR audience IS NULL OR :viewer = ANY (audience))"
    " ORDER BY id LIMIT :limit"
)
_OF_CYCLE = text(f"SELECT {_COLUMNS} FROM events WHERE cycle = :cycle ORDER BY id")  # noqa: S608
_DATA_OF = text("SELECT id, data::text FROM events WHERE cycle = :cycle AND type = :type AND id > :after ORDER BY id")
_NEXT = f"SELECT {_COLUMNS} FROM events WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608
_LAST = text("SELECT coalesce(max(id), 0) FROM events")
_CHAIN = text(f"SELECT {_COLUMNS} FROM events WHERE id > :after ORDER BY id LIMIT 1000")  # noqa: S608


async def append(conn: AsyncConnection, type_: str, data: dict[str, Any], *, cycle: str | None = None) -> Event:
    """Append an event in the caller's transaction and return it; listeners learn of it when that commits.

    `compliance.cycle.audience` says who sees it. Other writers wait until the transaction ends, so do it last. `data`
    holds no floating-point number.
    """
    [event] = await append_all(conn, type_, [data], cycle=cycle)
    return event


async def append_all(
    conn: AsyncConnection, type_: str, every: Sequence[dict[str, Any]], *, cycle: str | None = None
) -> list[Event]:
    """Append several events of one type, as `append` does one."""
    if not every:
        return []
    await lock(conn)
    # A statement of its own: under READ COMMITTED it sees what was committed before the lock was given.
    head = (await conn.execute(_HEAD)).one_or_none()
    number, prev_hash = (0, GENESIS) if head is None else (head.id, head.hash)
    at, entries = now(), list[LoggedEvent]()
    for data in every:
        number += 1
        entry = LoggedEvent(
            id=number,
            type=type_,
            at=timestamp(at),
            cycle=cycle,
            data=data,
            audience=audience(type_, data),
            prev_hash=prev_hash,
        )
        entries.append(entry)
        prev_hash = entry.hash
    rows = [
        {
            "id": entry.id,
            "type": entry.type,
            "at": at,
            "cycle": entry.cycle,
            "data": canonical.encode(entry.data).decode(),
            "audience": None if entry.audience is None else list(entry.audience),
            "prev_hash": entry.prev_hash,
            "hash": entry.hash,
        }
        for entry in entries
    ]
    await conn.execute(_INSERT, rows if len(rows) > 1 else rows[0])
    return [_event(entry) for entry in entries]


async def lock(conn: AsyncConnection) -> None:
    """Keep other writers waiting until the caller's transaction ends."""
    await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


async def acted(conn: AsyncConnection, by: str, action: str, subject: str, reason: str, **more: Any) -> Event:
    """Append who of the operators did what and why; members see the outcome, not this."""
    data = {"by": by, "action": action, "subject": subject, "reason": reason, **more}
    return await append(conn, "operator.acted", data)


async def read(conn: AsyncConnection, *, after: int, limit: int, viewer: str | None) -> tuple[Event, ...]:
    """Return the events after `after` that a member may see; `viewer` None sees all."""
    rows = await conn.execute(_READ, {"after": after, "viewer": viewer, "limit": limit})
    return tuple(_event(_logged(row)) for row in rows)


async def last(conn: AsyncConnection) -> int:
    """Return the id of the newest event, 0 before the first."""
    number: int = (await conn.execute(_LAST)).scalar_one()
    return number


async def newest_id(conn: asyncpg.Connection) -> int:
    """Return what `last` does, over the driver's own connection."""
    number: int = await conn.fetchval(_LAST.text)
    return number


async def read_addressed(conn: asyncpg.Connection, *, after: int, limit: int) -> list[AddressedEvent]:
    """Return the events after `after`, with whom each is for."""
    rows = await conn.fetch(_NEXT, after, limit)
    return [(_event(entry), entry.audience) for entry in (_logged(row) for row in rows)]


async def data_of(conn: AsyncConnection, cycle: str, type_: str, *, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
    """Return what a cycle's events of one type after `after` say, each with its id, in their order."""
    rows = await conn.execute(_DATA_OF, {"cycle": cycle, "type": type_, "after": after})
    return [(row[0], msgspec.json.decode(row[1])) for row in rows]


async def of_cycle(conn: AsyncConnection, cycle: str) -> tuple[Event, ...]:
    """Return all events of one cycle."""
    return tuple(_event(_logged(row)) for row in await conn.execute(_OF_CYCLE, {"cycle": cycle}))


async def verify_chain(conn: AsyncConnection) -> int:
    """Return how many events there are; raises ChainError at the first that was changed, removed or inserted."""
    previous: LoggedEvent | None = None
    while rows := (await conn.execute(_CHAIN, {"after": 0 if previous is None else previous.id})).all():
        for row in rows:
            event = _logged(row)
            if previous is None and event.id != 1:
                raise ChainError(1, f"missing: event {event.id} is the first")
            check_link(previous, event)
            if event.hash != row.hash:
                raise ChainError(event.id, "was changed")
            previous = event
    return 0 if previous is None else previous.id


def _logged(row: Iterable[Any]) -> LoggedEvent:
    """Read a row of _COLUMNS."""
    number, type_, at, cycle, data, audience, prev_hash, _ = row
    return LoggedEvent(
        id=number,
        type=type_,
        at=timestamp(at),
        cycle=cycle,
        data=msgspec.json.decode(data),
        audience=None if audience is None else tuple(audience),
        prev_hash=prev_hash,
    )


def _event(entry: LoggedEvent) -> Event:
    return Event(id=entry.id, type=entry.type, at=entry.at, cycle=entry.cycle, data=entry.data)
