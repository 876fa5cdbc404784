"""The check of `fsck` that what is detached is what was signed, and that the balances at its end are carried on."""

from __future__ import annotations

import asyncpg
import msgspec

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from participants.archive.document import CLOSING, JournalArchive, stored

ARCHIVES = """
SELECT first, bound, manifest, encode(manifest_sha256, 'hex'), kept, ends_at FROM journal_archive
WHERE attached_at IS NULL ORDER BY first
"""
KEPT = "SELECT count(*) FROM event WHERE sequence >= $1 AND sequence < $2"
UNBALANCED = """
SELECT a.currency, sum(c.balance) FROM journal_closing c JOIN account a ON a.id = c.account_id
WHERE c.bound = $1 GROUP BY 1 HAVING sum(c.balance) <> 0
"""


async def first_difference(connection: asyncpg.Connection) -> tuple[int, str | None]:
    """Return how many parts are detached, and the first thing that is otherwise than was signed, if any."""
    rows = await connection.fetch(ARCHIVES)
    expected, previous = 0, ""
    for first, bound, manifest, sha256, kept, _ in rows:
        place = f"events {first} to {bound - 1}"
        try:
            envelope = msgspec.json.decode(manifest, type=Envelope)
            signed = canonical.decode(envelope.payload_bytes(), JournalArchive)
        except (ValueError, msgspec.MsgspecError) as error:
            return len(rows), f"{place}: {error}"
        if canonical.digest(envelope.payload_bytes()) != sha256 or (signed.first, signed.bound) != (first, bound):
            return len(rows), f"{place}: the manifest is another one"
        if (signed.first, signed.previous) != (expected, previous):
            return len(rows), f"{place}: it doesn't follow the part before"
        if await connection.fetchval(KEPT, first, bound) != kept:
            return len(rows), f"{place}: not the {kept} events that stay"
        if await stored(connection, CLOSING, "", bound) != signed.closing:
            return len(rows), f"{place}: the balances at its end aren't those that were signed"
        if (unbalanced := await connection.fetchrow(UNBALANCED, bound)) is not None:
            return len(rows), f"{place}: the balances at its end come to {unbalanced[1]} {unbalanced[0]}"
        expected, previous = bound, sha256
    return len(rows), None
