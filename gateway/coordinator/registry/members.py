"""The registry's tables: members, their keys and settlement accounts. Queries only; decisions are elsewhere.

Each function works in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.keys import VerifyingKey
from gateway.coordinator.clock import timestamp
from gateway.coordinator.registry import limits
from gateway.coordinator.registry.applications import read_key
from gateway.coordinator.registry.lifecycle import RegistryReason, Status
from gateway.federation.membership.documents import SettlementAccount
from gateway.federation.messages.participants import KeyView, ParticipantView
from gateway.federation.problems import Refusal

COORDINATOR = "SELECT bic FROM members WHERE kind = 'coordinator' ORDER BY bic LIMIT 1"
"""Whose registry this is; nobody's before it is founded."""


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """One institution as the registry has it."""

    bic: str
    name: str
    kind: str
    status: Status
    url: str


async def find(conn: AsyncConnection, bic: str, *, lock: bool = False) -> MemberRecord | None:
    """Return a member; `lock` keeps others from changing it until the transaction ends."""
    query = f"SELECT bic, name, kind, status, url FROM members WHERE bic = :bic{' FOR UPDATE' if lock else ''}"  # noqa: S608
    row = (await conn.execute(text(query), {"bic": bic})).one_or_none()
    return None if row is None else _record(row)


async def named(conn: AsyncConnection, *bics: str) -> frozenset[str]:
    """Return those of these BICs that members have."""
    query = text("SELECT bic FROM members WHERE bic = ANY (:bics)")
    return frozenset((await conn.execute(query, {"bics": list(bics)})).scalars())


async def require(conn: AsyncConnection, bic: str, *, lock: bool = False) -> MemberRecord:
    """Return a member; raises Refusal `participant_unknown`."""
    member = await find(conn, bic, lock=lock)
    if member is None:
        raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, f"no participant {bic}")
    return member


async def participants(conn: AsyncConnection, *statuses: Status) -> tuple[MemberRecord, ...]:
    """Return the participants in any of these statuses (all when none is named), ordered by BIC."""
    rows = await conn.execute(
        text(
            "SELECT bic, name, kind, status, url FROM members WHERE kind = 'participant'"
            " AND (cardinality(CAST(:statuses AS text[])) = 0 OR status = ANY (:statuses)) ORDER BY bic"
        ),
        {"statuses": list(statuses)},
    )
    return tuple(_record(row) for row in rows)


@dataclass(frozen=True, slots=True)
class SettlementAgent:
    """The active settlement agent: where it is, and the active `sign` keys by which it answers."""

    bic: str
    url: str
    keys: Mapping[str, VerifyingKey]


async def settlement_agent(conn: AsyncConnection) -> MemberRecord | None:
    """Return the active settlement agent, if there is one."""
    rows = await conn.execute(
        text(
            "SELECT bic, name, kind, status, url FROM members WHERE kind = 'agent' AND status = 'active'"
            " ORDER BY bic LIMIT 1"
        )
    )
    row = rows.one_or_none()
    return None if row is None else _record(row)


async def cycle_to_settle(conn: AsyncConnection, agent: str) -> str | None:
    """Return the cycle that a settlement agent was asked to settle and hasn't answered for, if there is one."""
    query = text(
        "SELECT c.id FROM cycles c JOIN settlement_attempts a ON a.cycle = c.id"
        " WHERE c.state = 'instructed' AND a.agent = :agent AND a.outcome IS NULL"
    )
    cycle = (await conn.execute(query, {"agent": agent})).scalar_one_or_none()
    return None if cycle is None else str(cycle)


async def insert(conn: AsyncConnection, member: MemberRecord) -> None:
    """Add a member, or one anew that had left; raises Refusal `participant_exists`."""
    inserted = await conn.execute(
        text(
            "INSERT INTO members (bic, name, kind, status, url) VALUES (:bic, :name, :kind, :status, :url)"
            " ON CONFLICT (bic) DO UPDATE SET name = excluded.name, status = excluded.status, url = excluded.url,"
            " status_since = now() WHERE members.status = 'left' AND members.kind = excluded.kind RETURNING bic"
        ),
        {"bic": member.bic, "name": member.name, "kind": member.kind, "status": member.status, "url": member.url},
    )
    if inserted.one_or_none() is None:
        raise Refusal(RegistryReason.PARTICIPANT_EXISTS, f"{member.bic} is a member already", pointer="/bic")


async def set_status(conn: AsyncConnection, bic: str, status: Status) -> None:
    await conn.execute(
        text("UPDATE members SET status = :status, status_since = now() WHERE bic = :bic"),
        {"bic": bic, "status": status},
    )


async def forget(conn: AsyncConnection, bic: str) -> None:
    """Remove an applicant that was never a member, with all that it brought and all that was set towards it."""
    await conn.execute(text("DELETE FROM bilateral_limits WHERE counterparty = :bic"), {"bic": bic})
    for table in ("bilateral_limits", "prefunding", "caps", "settlement_accounts", "member_keys", "members"):
        await conn.execute(text(f"DELETE FROM {table} WHERE bic = :bic"), {"bic": bic})  # noqa: S608 - constants only


async def restore(conn: AsyncConnection, bic: str, *, name: str, url: str) -> None:
    """Let an applicant that was a member before be what it was: one that has left."""
    await conn.execute(text("DELETE FROM member_keys WHERE bic = :bic AND status = 'active'"), {"bic": bic})
    await conn.execute(text("DELETE FROM settlement_accounts WHERE bic = :bic"), {"bic": bic})
    await conn.execute(
        text("UPDATE members SET name = :name, url = :url, status = 'left', status_since = now() WHERE bic = :bic"),
        {"bic": bic, "name": name, "url": url},
    )


async def set_url(conn: AsyncConnection, bic: str, url: str) -> None:
    await conn.execute(text("UPDATE members SET url = :url WHERE bic = :bic"), {"bic": bic, "url": url})


# --- keys -----------------------------------------------------------------------------------------------


async def add_key(conn: AsyncConnection, bic: str, use: str, x: str) -> str:
    """Add an active key and return its id; raises Refusal `key_known` if any member or client ever had it."""
    kid = read_key(x).kid
    inserted = await conn.execute(
        text(
            "INSERT INTO member_keys (kid, bic, x, use, status, not_before)"
            " SELECT :kid, :bic, :x, :use, 'active', now()"
            " WHERE NOT EXISTS (SELECT FROM clients WHERE clients.kid = :kid)"
            " ON CONFLICT DO NOTHING RETURNING kid"
        ),
        {"kid": kid, "bic": bic, "x": x, "use": use},
    )
    if inserted.one_or_none() is None:
        raise Refusal(RegistryReason.KEY_KNOWN, f"the {use} key is known already: a key has one owner and one use")
    return kid


async def retire_key(conn: AsyncConnection, bic: str, use: str, kid: str) -> None:
    """Retire an active key; raises Refusal `key_unknown`."""
    retired = await conn.execute(
        text(
            "UPDATE member_keys SET status = 'retired', since = now(), not_after = now()"
            " WHERE kid = :kid AND bic = :bic AND use = :use AND status = 'active' RETURNING kid"
        ),
        {"kid": kid, "bic": bic, "use": use},
    )
    if retired.one_or_none() is None:
        raise Refusal(RegistryReason.KEY_UNKNOWN, f"{bic} has no active {use} key {kid}", pointer="/replaces")


async def retire_all(conn: AsyncConnection, bic: str, uses: Iterable[str]) -> list[str]:
    """Retire every active key of a member for these uses; return their ids."""
    retired = await conn.execute(
        text(
            "UPDATE member_keys SET status = 'retired', since = now(), not_after = now()"
            " WHERE bic = :bic AND use = ANY (:uses) AND status = 'active' RETURNING kid"
        ),
        {"bic": bic, "uses": list(uses)},
    )
    return sorted(retired.scalars())


async def revoke_key(conn: AsyncConnection, bic: str, kid: str) -> str:
    """Revoke an active or retired key and return its use; raises Refusal `key_unknown`."""
    revoked = await conn.execute(
        text(
            "UPDATE member_keys SET status = 'revoked', since = now(), revoked_at = now()"
            " WHERE kid = :kid AND bic = :bic AND status IN ('active', 'retired') RETURNING use"
        ),
        {"kid": kid, "bic": bic},
    )
    use: str | None = revoked.scalar_one_or_none()
    if use is None:
        raise Refusal(RegistryReason.KEY_UNKNOWN, f"{bic} has no key {kid} that isn't revoked")
    return use


async def keys(
    conn: AsyncConnection, bic: str, use: str, *, statuses: Iterable[str] = ("active",), scheme: str | None = None
) -> dict[str, VerifyingKey]:
    """Return a member's keys for one use, by key id; those that verify documents are known in a scheme."""
    rows = await conn.execute(
        text("SELECT kid, x FROM member_keys WHERE bic = :bic AND use = :use AND status = ANY (:statuses)"),
        {"bic": bic, "use": use, "statuses": list(statuses)},
    )
    return {row.kid: VerifyingKey(row.x).within(scheme) for row in rows}


async def key_uses(conn: AsyncConnection, bic: str) -> frozenset[str]:
    """Return the uses for which a member has an active key."""
    rows = await conn.execute(
        text("SELECT DISTINCT use FROM member_keys WHERE bic = :bic AND status = 'active'"), {"bic": bic}
    )
    return frozenset(rows.scalars())


# --- settlement accounts --------------------------------------------------------------------------------


async def set_settlement_account(conn: AsyncConnection, bic: str, settlement: SettlementAccount) -> None:
    """Set where a member settles; raises Refusal `account_taken` for an account of another member."""
    others = await conn.execute(
        text("SELECT bic FROM settlement_accounts WHERE agent = :agent AND account = :account AND bic <> :bic"),
        {"bic": bic, "agent": settlement.agent, "account": settlement.account},
    )
    if others.one_or_none() is not None:
        raise Refusal(RegistryReason.ACCOUNT_TAKEN, "another participant settles on this account", pointer="/account")
    await conn.execute(
        text(
            "INSERT INTO settlement_accounts (bic, agent, account) VALUES (:bic, :agent, :account)"
            " ON CONFLICT (bic) DO UPDATE SET agent = excluded.agent, account = excluded.account"
        ),
        {"bic": bic, "agent": settlement.agent, "account": settlement.account},
    )


async def settlement_accounts(conn: AsyncConnection) -> dict[str, SettlementAccount]:
    """Return where each member settles, by BIC."""
    rows = await conn.execute(text("SELECT bic, agent, account FROM settlement_accounts"))
    return {row.bic: SettlementAccount(agent=row.agent, account=row.account) for row in rows}


# --- views ----------------------------------------------------------------------------------------------


async def page(conn: AsyncConnection, *, after: str, limit: int) -> tuple[ParticipantView, ...]:
    """Return the participants whose BIC comes after `after`."""
    rows = await conn.execute(
        text("SELECT bic FROM members WHERE kind = 'participant' AND bic > :after ORDER BY bic LIMIT :limit"),
        {"after": after, "limit": limit},
    )
    return await views(conn, rows.scalars().all())


async def view(conn: AsyncConnection, bic: str) -> ParticipantView:
    """Return one participant; raises Refusal `participant_unknown`."""
    matching = await views(conn, [bic])
    if not matching:
        raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, f"no participant {bic}")
    return matching[0]


async def views(conn: AsyncConnection, bics: Sequence[str]) -> tuple[ParticipantView, ...]:
    """Return these members in full, ordered by BIC."""
    named = {"bics": list(bics)}
    limit_views = await limits.views(conn, bics)
    key_views: dict[str, list[KeyView]] = {}
    for row in await conn.execute(
        text("SELECT bic, kid, use, status, since FROM member_keys WHERE bic = ANY (:bics) ORDER BY use, since, kid"),
        named,
    ):
        key = KeyView(kid=row.kid, use=row.use, status=row.status, since=timestamp(row.since))
        key_views.setdefault(row.bic, []).append(key)
    members = await conn.execute(
        text(
            "SELECT bic, name, status, url, status_since, last_seen_at, agent, account"
            " FROM members LEFT JOIN settlement_accounts USING (bic) WHERE bic = ANY (:bics) ORDER BY bic"
        ),
        named,
    )
    return tuple(
        ParticipantView(
            bic=row.bic,
            name=row.name,
            status=row.status,
            url=row.url,
            since=timestamp(row.status_since),
            settlement_account=None if row.agent is None else f"{row.agent}/{row.account}",
            caps=tuple(limit_views[row.bic].caps),
            prefunding=tuple(limit_views[row.bic].prefunding),
            bilateral_limits=tuple(limit_views[row.bic].bilateral),
            keys=tuple(key_views.get(row.bic, ())),
            last_seen_at=None if row.last_seen_at is None else timestamp(row.last_seen_at),
        )
        for row in members
    )


def _record(row: Any) -> MemberRecord:
    return MemberRecord(bic=row.bic, name=row.name, kind=row.kind, status=Status(row.status), url=row.url)
