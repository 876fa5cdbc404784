"""Operators and auditors: who is let in by which key. Each function works in the caller's transaction."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.person import same_person
from gateway.coordinator.registry import operators
from gateway.coordinator.registry.applications import read_key
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.federation.problems import Refusal


async def add(conn: AsyncConnection, client_id: str, role: Literal["operator", "auditor"], x: str) -> str:
    """Let somebody in by a public key, or give one that is known a new key; return the key's id.

    Raises Refusal `name_taken` for another spelling of a name that is known (two names must be two persons),
    `operators_too_few` for another role of an operator whom the house needs, `key_known` for a key of somebody else's.
    """
    kid = read_key(x).kid
    # Nobody adds another one meanwhile.
    await conn.execute(text("LOCK TABLE clients IN SHARE ROW EXCLUSIVE MODE"))
    for known in await conn.execute(text("SELECT client_id FROM clients")):
        if known.client_id != client_id and same_person(known.client_id, client_id):
            raise Refusal(RegistryReason.NAME_TAKEN, f"{client_id} is known as {known.client_id}")
    if role != "operator" and await operators.would_be_too_few(conn, without=client_id):
        raise Refusal(RegistryReason.OPERATORS_TOO_FEW, f"without {client_id} too few operators remain to decide")
    if any(key.kid == kid and key.name != client_id for key in await operators.listed(conn)):
        raise Refusal(RegistryReason.KEY_KNOWN, "the key was somebody else's: a key has one owner")
    stored = await conn.execute(
        text(
            "INSERT INTO clients (client_id, role, kid, x)"
            " SELECT :client_id, :role, :kid, :x"
            " WHERE NOT EXISTS (SELECT FROM member_keys WHERE member_keys.kid = :kid)"
            " AND NOT EXISTS (SELECT FROM clients WHERE clients.kid = :kid AND client_id <> :client_id)"
            " ON CONFLICT (client_id) DO UPDATE"
            " SET role = excluded.role, kid = excluded.kid, x = excluded.x, disabled = false"
            " RETURNING client_id"
        ),
        {"client_id": client_id, "role": role, "kid": kid, "x": x},
    )
    if stored.one_or_none() is None:
        raise Refusal(RegistryReason.KEY_KNOWN, "the key is somebody else's: a key has one owner and one use")
    return kid
