"""Who may ask for access tokens, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.keys import VerifyingKey
from gateway.coordinator.registry import members
from gateway.coordinator.registry.lifecycle import Status
from gateway.federation.access.oauth import NAME

# Whom a role speaks to, by kind of member. Everybody else is out of reach, whatever a token request says; and a bank
# is out of everybody's: it believes its own issuer, and what other members sign themselves.
REACH: dict[str, frozenset[str]] = {
    "participant": frozenset({"coordinator", "agent"}),
    "coordinator": frozenset({"agent"}),
    "agent": frozenset({"coordinator"}),
    "operator": frozenset({"coordinator"}),
    "auditor": frozenset({"coordinator"}),
}
# In these states a member still settles its affairs with the coordinator; among each other only active ones talk.
SPEAKS_TO_COORDINATOR = frozenset({Status.APPROVED, Status.ACTIVE, Status.SUSPENDED})


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who asks: a member by its BIC, or an operator or auditor by name."""

    client_id: str
    role: str
    status: Status
    keys: Mapping[str, VerifyingKey]


@dataclass(frozen=True, kw_only=True)
class Audience:
    """The one member that a token is for."""

    bic: str
    kind: str
    status: Status


def may_speak(client: Client, audience: Audience) -> bool:
    """Tell whether a client may have a token for an audience."""
    if audience.kind not in REACH[client.role]:
        return False
    if audience.kind == "coordinator":
        return client.status in SPEAKS_TO_COORDINATOR
    return client.status is Status.ACTIVE and audience.status is Status.ACTIVE


async def load_client(conn: AsyncConnection, client_id: str) -> Client | None:
    """Return a client with its active authentication keys."""
    if not NAME.fullmatch(client_id):
        return None
    member = await members.find(conn, client_id)
    if member is not None:
        keys = await members.keys(conn, client_id, "auth")
        return Client(client_id=client_id, role=member.kind, status=member.status, keys=keys)
    row = (
        await conn.execute(
            text("SELECT role, kid, x FROM clients WHERE client_id = :client_id AND NOT disabled"),
            {"client_id": client_id},
        )
    ).one_or_none()
    if row is None:
        return None
    return Client(client_id=client_id, role=row.role, status=Status.ACTIVE, keys={row.kid: VerifyingKey(row.x)})


async def load_audience(conn: AsyncConnection, bic: str) -> Audience | None:
    """Return the member that a token is asked for."""
    member = await members.find(conn, bic) if NAME.fullmatch(bic) else None
    return None if member is None else Audience(bic=member.bic, kind=member.kind, status=member.status)
