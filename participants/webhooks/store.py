"""The table of webhooks: the one module that knows it.

A node sends for a webhook while it holds its lease, which another takes over once it is over; whatever is written down
of a delivery is written by the holder of the lease only, from where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

LEASE_SECONDS = 30
"""Longer than a wait for news and a delivery take together; a node that ends lets go of its leases at once."""
WEBHOOKS_MAX = 64
COLUMNS = """id::text, url, types, account, created_at, created_by, secret_generation, secret_sha256,
    previous_secret_until, cursor, batch_through, replays, failures, failing_since, last_error, next_attempt_at,
    disabled
"""
ADD = f"""
INSERT INTO webhook (id, url, types, account, created_by, secret_generation, secret_sha256, cursor)
SELECT $1::uuid, $2, $3::text[], $4, $5, $6, $7, $8 WHERE (SELECT count(*) FROM webhook) < {WEBHOOKS_MAX}
ON CONFLICT (id) DO NOTHING RETURNING {COLUMNS}
"""  # noqa: S608 - names and a number of ours
LEASE = f"""
UPDATE webhook SET lease = $2::uuid, leased_until = now() + interval '{LEASE_SECONDS} seconds'
WHERE id = $1::uuid AND disabled IS NULL AND next_attempt_at <= now()
  AND (lease IS NULL OR lease = $2::uuid OR leased_until < now())
RETURNING {COLUMNS}
"""  # noqa: S608
MINE = "WHERE id = $1::uuid AND lease = $2::uuid AND cursor = $3 AND replays = $4"
BEGIN = f"""
UPDATE webhook SET batch_through = $5, leased_until = now() + interval '{LEASE_SECONDS} seconds' {MINE}
RETURNING {COLUMNS}
"""  # noqa: S608
DELIVERED = f"""
UPDATE webhook SET cursor = $5, batch_through = NULL, failures = 0, failing_since = NULL, last_error = NULL {MINE}
RETURNING true
"""  # noqa: S608
FAILED = f"""
UPDATE webhook SET failures = failures + 1, failing_since = coalesce(failing_since, now()), last_error = $5,
    next_attempt_at = now() + make_interval(secs => $6), disabled = $7 {MINE} RETURNING true
"""  # noqa: S608
ROTATE = f"""
UPDATE webhook SET secret_generation = secret_generation + 1, secret_sha256 = $3,
    previous_secret_until = now() + make_interval(secs => $4)
WHERE id = $1::uuid AND secret_generation = $2 RETURNING {COLUMNS}
"""  # noqa: S608
REPLAY = f"""
UPDATE webhook SET cursor = $2, batch_through = NULL, replays = replays + 1, failures = 0, failing_since = NULL,
    last_error = NULL, next_attempt_at = now(), disabled = NULL
WHERE id = $1::uuid RETURNING {COLUMNS}
"""  # noqa: S608


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook as it stands."""

    id: str
    url: str
    types: tuple[str, ...]
    account: str | None
    created_at: datetime
    created_by: str
    secret_generation: int
    secret_sha256: bytes
    previous_secret_until: datetime | None
    cursor: int
    batch_through: int | None
    replays: int
    failures: int
    failing_since: datetime | None
    last_error: str | None
    next_attempt_at: datetime
    disabled: str | None

    @property
    def state(self) -> str:
        if self.disabled is not None:
            return "disabled"
        return "failing" if self.failures else "active"

    def generations(self) -> list[int]:
        """Return which secrets are valid now, the newest first."""
        until = self.previous_secret_until
        both = until is not None and until > datetime.now(UTC)
        return [self.secret_generation, *([self.secret_generation - 1] if both else [])]


def _webhook(row: asyncpg.Record | None) -> Webhook | None:
    if row is None:
        return None
    return Webhook(**{**dict(row), "types": tuple(row["types"])})


class WebhookTable:
    """Webhooks in the bank's database, as one node works on them."""

    def __init__(self, pool: asyncpg.Pool, node: UUID) -> None:
        self._pool = pool
        self._node = node

    async def add(
        self,
        id_: str,
        *,
        url: str,
        types: Sequence[str],
        account: str | None,
        by: str,
        generation: int,
        sha256: bytes,
        cursor: int,
    ) -> Webhook | None:
        """Add a webhook; None where its id is taken, or there are too many."""
        return _webhook(await self._pool.fetchrow(ADD, id_, url, list(types), account, by, generation, sha256, cursor))

    async def every(self) -> list[Webhook]:
        rows = await self._pool.fetch(f"SELECT {COLUMNS} FROM webhook ORDER BY created_at, id")  # noqa: S608
        return [webhook for row in rows if (webhook := _webhook(row)) is not None]

    async def get(self, id_: str) -> Webhook | None:
        return _webhook(
            await self._pool.fetchrow(f"SELECT {COLUMNS} FROM webhook WHERE id = $1::uuid", id_)  # noqa: S608
        )

    async def delete(self, id_: str) -> bool:
        status: str = await self._pool.execute("DELETE FROM webhook WHERE id = $1::uuid", id_)
        return status == "DELETE 1"

    async def rotate(self, webhook: Webhook, sha256: bytes, overlap_s: float) -> Webhook | None:
        """Change the secret for the next one; None where somebody else has changed it meanwhile."""
        return _webhook(await self._pool.fetchrow(ROTATE, webhook.id, webhook.secret_generation, sha256, overlap_s))

    async def replay(self, id_: str, after: int) -> Webhook | None:
        """Begin again after an event, also where nothing was sent any more."""
        return _webhook(await self._pool.fetchrow(REPLAY, id_, after))

    # --- for whoever sends -----------------------------------------------------------------------------

    async def lease(self, id_: str) -> Webhook | None:
        """Take or keep the lease; None where another node has it, it isn't time yet, or nothing is to be sent."""
        return _webhook(await self._pool.fetchrow(LEASE, id_, self._node))

    async def begin(self, webhook: Webhook, through: int) -> Webhook | None:
        """Fix what is sent next, and return the webhook as it is now; None where it isn't ours or has been moved."""
        return _webhook(await self._pool.fetchrow(BEGIN, *self._mine(webhook), through))

    async def delivered(self, webhook: Webhook, through: int) -> bool:
        """Note that its place has the events up to one; False where it isn't ours or has been moved."""
        return bool(await self._pool.fetchval(DELIVERED, *self._mine(webhook), through))

    async def failed(self, webhook: Webhook, *, error: str, again_s: float, disabled: str | None) -> bool:
        """Note that a message wasn't taken; False where it isn't ours or has been moved."""
        return bool(await self._pool.fetchval(FAILED, *self._mine(webhook), error, again_s, disabled))

    async def let_go(self) -> None:
        """Let another node take over at once."""
        await self._pool.execute("UPDATE webhook SET lease = NULL WHERE lease = $1::uuid", self._node)

    def _mine(self, webhook: Webhook) -> tuple[str, UUID, int, int]:
        return webhook.id, self._node, webhook.cursor, webhook.replays
