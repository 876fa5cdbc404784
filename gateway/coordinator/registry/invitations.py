"""Invitations to apply: a code for one BIC, good once and for a time. The database holds the digest of a code only.

Each function works in the caller's transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.coordinator.clock import now
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.federation.problems import Refusal

VALID_DAYS = 14
_CODE_BYTES = 20
"""Nobody guesses 160 bits, so one round of SHA-256 is enough to keep a code."""
_NOBODYS = "0" * 64


async def invite(conn: AsyncConnection, bic: str, *, days: int = VALID_DAYS) -> tuple[str, datetime]:
    """Make the one code by which a BIC may apply, and say until when; an earlier one counts no more."""
    code, expires_at = secrets.token_urlsafe(_CODE_BYTES), now() + timedelta(days=days)
    await conn.execute(
        text(
            "INSERT INTO invitations (bic, code_sha256, expires_at) VALUES (:bic, :code_sha256, :expires_at)"
            " ON CONFLICT (bic) DO UPDATE SET code_sha256 = excluded.code_sha256, expires_at = excluded.expires_at"
        ),
        {"bic": bic, "code_sha256": _digest(code), "expires_at": expires_at},
    )
    return code, expires_at


async def use_up(conn: AsyncConnection, bic: str, code: str | None) -> None:
    """Take a BIC's invitation; raises Refusal `invitation_refused`, in the same words whatever is wrong.

    Whether the BIC is known, invited, or was, is nobody's business who has no code for it.
    """
    rows = await conn.execute(
        text("SELECT code_sha256 FROM invitations WHERE bic = :bic AND expires_at > :now FOR UPDATE"),
        {"bic": bic, "now": now()},
    )
    expected = rows.scalar_one_or_none()
    matches = hmac.compare_digest(_digest(code or ""), expected or _NOBODYS)
    if expected is None or not matches:
        detail = "an application needs a code that the clearing house gave out for its BIC, is used once and expires"
        raise Refusal(RegistryReason.INVITATION_REFUSED, detail)
    await conn.execute(text("DELETE FROM invitations WHERE bic = :bic"), {"bic": bic})


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
