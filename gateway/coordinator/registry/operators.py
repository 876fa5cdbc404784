"""The register of operators: who they are and by which keys they decide, one signed version after another.

Each version names the digest of the one before, and the event log names each version: whoever has seen one knows when
another history is shown.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.decisions import OperatorKeys, operator_keys
from compliance.statements import OperatorKey, OperatorRegister
from gateway.coordinator.log import events
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.federation.problems import Refusal

OPERATORS_MIN = 2
"""As many as it takes to decide anything."""


async def publish(conn: AsyncConnection, signer: Signer) -> None:
    """Sign the register as it stands as the next version, in the caller's transaction; nothing if nothing has changed.

    The event log's lock makes versions follow each other.
    """
    await events.lock(conn)
    newest = await current(conn)
    before = None if newest is None else _read(newest)
    operators = await _operators(conn, () if before is None else before.operators)
    if before is not None and operators == before.operators:
        return
    bic = (await conn.execute(text("SELECT bic FROM members WHERE kind = 'coordinator'"))).scalar_one()
    document = OperatorRegister(
        coordinator=bic,
        version=1 if before is None else before.version + 1,
        supersedes=None if newest is None else canonical.digest(newest.payload_bytes()),
        operators=operators,
    )
    envelope = dsse.sign(document, signer)
    await conn.execute(
        text("INSERT INTO operator_registers (version, envelope) VALUES (:version, CAST(:envelope AS json))"),
        {"version": document.version, "envelope": msgspec.json.encode(envelope).decode()},
    )
    digest = canonical.digest(envelope.payload_bytes())
    await events.append(conn, "operators.published", {"version": document.version, "sha256": digest})


async def named(conn: AsyncConnection) -> dict[str, str]:
    """Return the digest of the register in force, as a cycle's opening names it."""
    newest = await current(conn)
    return {} if newest is None else {"operators": canonical.digest(newest.payload_bytes())}


async def current(conn: AsyncConnection) -> Envelope | None:
    """Return the newest register, signed."""
    row = await conn.execute(text("SELECT envelope::text FROM operator_registers ORDER BY version DESC LIMIT 1"))
    document = row.scalar_one_or_none()
    return None if document is None else msgspec.json.decode(document, type=Envelope)


async def listed(conn: AsyncConnection) -> tuple[OperatorKey, ...]:
    """Return the keys of the newest register."""
    newest = await current(conn)
    return () if newest is None else _read(newest).operators


async def keys(conn: AsyncConnection) -> OperatorKeys:
    """Return the keys by which operators decide now."""
    newest = await current(conn)
    return {} if newest is None else operator_keys((_read(newest),))


async def remove(conn: AsyncConnection, client_id: str) -> None:
    """Take an operator's or auditor's access away. Raises Refusal; who remains can still decide."""
    await conn.execute(text("LOCK TABLE clients IN SHARE ROW EXCLUSIVE MODE"))
    if await _able(conn, without=client_id) < OPERATORS_MIN:
        detail = f"{OPERATORS_MIN} other operators must remain: let somebody else in first"
        raise Refusal(RegistryReason.OPERATORS_TOO_FEW, detail)
    removed = await conn.execute(
        text("UPDATE clients SET disabled = true WHERE client_id = :it AND NOT disabled RETURNING role"),
        {"it": client_id},
    )
    if removed.one_or_none() is None:
        raise Refusal(RegistryReason.CLIENT_UNKNOWN, f"no operator or auditor {client_id}")


async def would_be_too_few(conn: AsyncConnection, *, without: str) -> bool:
    """Tell whether there are operators enough to decide, and aren't without this one."""
    return await _able(conn, without=without) < OPERATORS_MIN <= await _able(conn)


async def _able(conn: AsyncConnection, *, without: str = "") -> int:
    """Return how many operators can decide, but for one."""
    query = text("SELECT count(*) FROM clients WHERE role = 'operator' AND NOT disabled AND client_id <> :it")
    able: int = (await conn.execute(query, {"it": without})).scalar_one()
    return able


async def founded(conn: AsyncConnection) -> bool:
    """Tell whether the house is at work: a cycle was cut off, and operators are there to decide."""
    query = text("SELECT EXISTS (SELECT FROM cycles WHERE state <> 'open')")
    return await _able(conn) >= OPERATORS_MIN and bool((await conn.execute(query)).scalar_one())


async def require_founding(conn: AsyncConnection) -> None:
    """Refuse what one person does at the machine once the house is founded. Raises Refusal `four_eyes_needed`."""
    if await founded(conn):
        detail = "the house is founded: one operator proposes this (POST /proposals), another confirms it"
        raise Refusal(RegistryReason.FOUR_EYES_NEEDED, detail)


async def during(conn: AsyncConnection, first: int, last: int) -> tuple[Envelope, ...]:
    """Return the registers up to an event of the log from the very first one on, oldest first.

    None if there was none yet at another event: of that time nobody can say who the operators were.
    """
    query = text(
        "SELECT envelope::text FROM operator_registers WHERE"
        " EXISTS (SELECT FROM events WHERE type = :type AND id < :first)"
        " AND version <= (SELECT max((data->>'version')::bigint) FROM events WHERE type = :type AND id <= :last)"
        " ORDER BY version"
    )
    rows = await conn.execute(query, {"type": "operators.published", "first": first, "last": last})
    return tuple(msgspec.json.decode(document, type=Envelope) for document in rows.scalars())


async def _operators(conn: AsyncConnection, before: Iterable[OperatorKey]) -> tuple[OperatorKey, ...]:
    """Return who operates now, and by which keys nobody does any more."""
    listed = {key.kid: msgspec.structs.replace(key, status="removed") for key in before}
    for row in await conn.execute(text("SELECT client_id, role, kid, x, disabled FROM clients")):
        listed[row.kid] = OperatorKey(
            name=row.client_id,
            role=row.role,
            kid=row.kid,
            alg="Ed25519",
            x=row.x,
            status="removed" if row.disabled else "active",
        )
    return tuple(sorted(listed.values(), key=lambda key: (key.name, key.kid)))


def _read(envelope: Envelope) -> OperatorRegister:
    return canonical.decode(envelope.payload_bytes(), OperatorRegister)
