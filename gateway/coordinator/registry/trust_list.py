"""The trust list: who is a member and by which keys, one signed version after another."""

from __future__ import annotations

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.statements import Member, TrustKey, TrustList
from gateway.coordinator.log import events

# An applicant isn't listed: anybody may apply, and nobody has vouched for it yet. Who left stays, for old signatures.
_MEMBERS = text("SELECT bic, name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY bic")
_KEYS = text("SELECT bic, kid, x, use, status FROM member_keys ORDER BY bic, use, since, kid")


async def publish(conn: AsyncConnection, signer: Signer, issuer: str) -> TrustList:
    """Sign the registry as it stands as the next version, in the caller's transaction, and tell everybody.

    The caller has appended the event of the change before: its lock makes versions follow each other.
    """
    document = TrustList(version=await version(conn) + 1, issuer=issuer, members=await _members(conn))
    envelope = dsse.sign(document, signer)
    await conn.execute(
        text("INSERT INTO trust_lists (version, envelope) VALUES (:version, CAST(:envelope AS json))"),
        {"version": document.version, "envelope": msgspec.json.encode(envelope).decode()},
    )
    digest = canonical.digest(envelope.payload_bytes())
    await events.append(conn, "trust_list.published", {"version": document.version, "sha256": digest})
    return document


async def version(conn: AsyncConnection) -> int:
    """Return the newest version, 0 before the first."""
    return int((await conn.execute(text("SELECT coalesce(max(version), 0) FROM trust_lists"))).scalar_one())


async def current(conn: AsyncConnection) -> Envelope | None:
    """Return the newest trust list, signed."""
    row = await conn.execute(text("SELECT envelope::text FROM trust_lists ORDER BY version DESC LIMIT 1"))
    document = row.scalar_one_or_none()
    return None if document is None else msgspec.json.decode(document, type=Envelope)


async def _members(conn: AsyncConnection) -> tuple[Member, ...]:
    keys: dict[str, list[TrustKey]] = {}
    for row in await conn.execute(_KEYS):
        keys.setdefault(row.bic, []).append(
            TrustKey(kid=row.kid, alg="Ed25519", x=row.x, use=row.use, status=row.status)
        )
    return tuple(
        Member(bic=m.bic, name=m.name, kind=m.kind, status=m.status, url=m.url, keys=tuple(keys.get(m.bic, ())))
        for m in await conn.execute(_MEMBERS)
    )
