"""The trust list: who is a member and by which keys, one signed version after another.

Each version is published in two forms: with the times from when to when keys count, and without, as members of 0.1
read it. That a list is the newest, and until when it counts, is a document of its own, signed whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.statements import DATED_TRUST_LIST_TYPE, Member, TrustKey, TrustList, TrustListConfirmation
from compliance.trust import undated
from gateway.coordinator.clock import now, timestamp
from gateway.coordinator.log import events

VALID_HOURS = 24
"""How long a list counts after the coordinator's last word. A member may choose to rely on it for less."""

_MEMBERS = text("SELECT bic, name, kind, status, url FROM members ORDER BY bic")
_KEYS = text(
    "SELECT bic, kid, x, use, status, not_before, not_after, revoked_at FROM member_keys ORDER BY bic, use, since, kid"
)


async def publish(conn: AsyncConnection, signer: Signer, issuer: str) -> TrustList:
    """Sign the registry as it stands as the next version, in the caller's transaction, and tell everybody.

    The caller has appended the event of the change before: its lock makes versions follow each other.
    """
    document = TrustList(version=await version(conn) + 1, issuer=issuer, members=await _members(conn))
    dated = dsse.sign(document, signer, payload_type=DATED_TRUST_LIST_TYPE)
    await conn.execute(
        text(
            "INSERT INTO trust_lists (version, envelope, dated)"
            " VALUES (:version, CAST(:envelope AS json), CAST(:dated AS json))"
        ),
        {
            "version": document.version,
            "envelope": msgspec.json.encode(dsse.sign(undated(document), signer)).decode(),
            "dated": msgspec.json.encode(dated).decode(),
        },
    )
    digest = canonical.digest(dated.payload_bytes())
    await events.append(conn, "trust_list.published", {"version": document.version, "sha256": digest})
    return document


async def version(conn: AsyncConnection) -> int:
    """Return the newest version, 0 before the first."""
    return int((await conn.execute(text("SELECT coalesce(max(version), 0) FROM trust_lists"))).scalar_one())


async def named(conn: AsyncConnection) -> dict[str, int | str]:
    """Return version and digest of the list in force, as a cycle's opening names them."""
    newest = await current(conn, dated=True)
    digest = {} if newest is None else {"trust_list": canonical.digest(newest.payload_bytes())}
    return {"trust_list_version": await version(conn), **digest}


async def current(conn: AsyncConnection, *, dated: bool) -> Envelope | None:
    """Return the newest trust list, signed; None if there is none in this form yet."""
    column = "dated" if dated else "envelope"
    row = await conn.execute(text(f"SELECT {column}::text FROM trust_lists ORDER BY version DESC LIMIT 1"))  # noqa: S608
    document = row.scalar_one_or_none()
    return None if document is None else msgspec.json.decode(document, type=Envelope)


def confirm(dated: Envelope, signer: Signer) -> Envelope:
    """Say that a list, the newest, is the newest now."""
    payload = dated.payload_bytes()
    at = now()
    confirmation = TrustListConfirmation(
        version=canonical.decode(payload, TrustList).version,
        sha256=canonical.digest(payload),
        confirmed_at=timestamp(at),
        expires_at=timestamp(at + timedelta(hours=VALID_HOURS)),
    )
    return dsse.sign(confirmation, signer)


async def listed(conn: AsyncConnection, bic: str) -> Member | None:
    """Return what the newest list says of a member."""
    return (await _listed(conn)).get(bic)


async def _listed(conn: AsyncConnection) -> Mapping[str, Member]:
    newest = await current(conn, dated=True)
    if newest is None:
        return {}
    return {member.bic: member for member in canonical.decode(newest.payload_bytes(), TrustList).members}


async def _members(conn: AsyncConnection) -> tuple[Member, ...]:
    """Return the members as the next list names them.

    An applicant isn't listed: nobody has vouched for it yet. Who left stays, for old signatures, and so it does while
    it asks to come back.
    """
    keys: dict[str, list[TrustKey]] = {}
    for row in await conn.execute(_KEYS):
        keys.setdefault(row.bic, []).append(
            TrustKey(
                kid=row.kid,
                alg="Ed25519",
                x=row.x,
                use=row.use,
                status=row.status,
                not_before=_written(row.not_before),
                not_after=_written(row.not_after),
                revoked_at=_written(row.revoked_at),
            )
        )
    rows = (await conn.execute(_MEMBERS)).all()
    before = await _listed(conn) if any(row.status == "applied" for row in rows) else {}
    members = []
    for row in rows:
        own = tuple(keys.get(row.bic, ()))
        if row.status != "applied":
            entry = Member(bic=row.bic, name=row.name, kind=row.kind, status=row.status, url=row.url, keys=own)
            members.append(entry)
        elif (former := before.get(row.bic)) is not None:
            ended = tuple(key for key in own if key.status != "active")
            members.append(msgspec.structs.replace(former, keys=ended))
    return tuple(members)


def _written(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)
