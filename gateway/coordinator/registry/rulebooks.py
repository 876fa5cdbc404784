"""Which rulebook is in force: the one of the founding, until two operators agree on another.

Whoever starts the coordinator gives it a file, and changes no rules by that: a file that nobody agreed on
waits, and the coordinator goes on by the rulebook in force. Each function works in the caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical
from gateway.coordinator.log import events
from gateway.coordinator.registry import operators
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.coordinator.rulebook import Rulebook, stored
from gateway.federation.problems import Refusal

AGREED = "rulebook"
"""The action of the event by which two operators agree on a rulebook."""


async def in_force(conn: AsyncConnection) -> Rulebook | None:
    """Return the rulebook adopted last; None before the coordinator is founded."""
    adopted = await _adopted(conn)
    return None if adopted is None else stored(adopted[1])


async def to_go_by(conn: AsyncConnection, given: Rulebook) -> Rulebook:
    """Return the rulebook that a coordinator starts with, given a file: the file's, or the one in force meanwhile."""
    adopted = await _adopted(conn)
    if adopted is None or await _may_follow(conn, adopted, given):
        return given
    return stored(adopted[1])


async def next_sha256(conn: AsyncConnection) -> str | None:
    """Return the digest of the rulebook that a start may go by: agreed on last, or in force. None before founding."""
    agreed, adopted = await _agreed(conn), await _adopted(conn)
    return agreed[0] if agreed is not None else None if adopted is None else adopted[0]


async def require_other(conn: AsyncConnection, sha256: str) -> None:
    """Refuse what needn't be agreed on: the rulebook in force. Raises Refusal `rulebook_in_force`.

    Where another was agreed on and isn't in force yet, this one is agreed on to take that back.
    """
    adopted = await _adopted(conn)
    if adopted is not None and adopted[0] == sha256 == await next_sha256(conn):
        raise Refusal(RegistryReason.RULEBOOK_IN_FORCE, "this rulebook is in force", pointer="/act/terms")


async def adopt(conn: AsyncConnection, rulebook: Rulebook) -> None:
    """Put a rulebook in force, so that cycles can name it; nothing if it is. Raises Refusal `four_eyes_needed`."""
    adopted = await _adopted(conn)
    if adopted is not None and adopted[0] == rulebook.sha256:
        return
    if adopted is not None and not await _may_follow(conn, adopted, rulebook):
        named = f"{rulebook.sha256}, version {rulebook.version}"
        detail = f"another rulebook is in force: two operators agree on {named}, first (rulebook.adopt)"
        raise Refusal(RegistryReason.FOUR_EYES_NEEDED, detail)
    await conn.execute(
        text(
            "INSERT INTO rulebooks (sha256, document) VALUES (:sha256, CAST(:document AS json)) ON CONFLICT DO NOTHING"
        ),
        {"sha256": rulebook.sha256, "document": canonical.encode(rulebook).decode()},
    )
    await events.append(conn, "rulebook.adopted", {"sha256": rulebook.sha256, "version": rulebook.version})


async def _may_follow(conn: AsyncConnection, adopted: tuple[str, str], rulebook: Rulebook) -> bool:
    """Tell whether a rulebook may be in force after the one adopted last, or is that one.

    Two operators agreed on it since, or the house is still being founded. The same rules as this release writes them,
    with what releases before took for granted, are no others.
    """
    if rulebook.sha256 == adopted[0] or rulebook == stored(adopted[1]):
        return True
    agreed = (rulebook.sha256, rulebook.version)
    return await _agreed(conn) == agreed or not await operators.founded(conn)


async def _agreed(conn: AsyncConnection) -> tuple[str, str] | None:
    """Return digest and version of the rulebook that two operators agreed on last, since one was adopted."""
    query = (
        "SELECT data->>'sha256', data->>'version' FROM events"
        " WHERE type = 'operator.acted' AND data->>'action' = :action"
        " AND id > (SELECT max(id) FROM events WHERE type = 'rulebook.adopted') ORDER BY id DESC LIMIT 1"
    )
    row = (await conn.execute(text(query), {"action": AGREED})).one_or_none()
    return None if row is None else (row[0], row[1])


async def _adopted(conn: AsyncConnection) -> tuple[str, str] | None:
    """Return digest and text of the rulebook adopted last."""
    rows = await conn.execute(
        text(
            "SELECT sha256, document::text AS document FROM rulebooks WHERE sha256 ="
            " (SELECT data->>'sha256' FROM events WHERE type = 'rulebook.adopted' ORDER BY id DESC LIMIT 1)"
        )
    )
    row = rows.one_or_none()
    return None if row is None else (row.sha256, row.document)
