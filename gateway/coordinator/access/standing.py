"""Who has access at the coordinator now, whatever token it holds: a token lives for minutes, and a key may be stolen.

Asked at every request. What the registry says is kept for a second, and not beyond a change that this replica makes; so
another replica knows of it within that second, whether or not it hears of it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.coordinator.access.clients import SPEAKS_TO_COORDINATOR
from gateway.coordinator.registry.lifecycle import Status
from gateway.coordinator.sight import AccessReason
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.identity.tokens import Claims, TokenReason, TokenRefused, signed_in_by
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction

KEPT_SECONDS = 1.0

_QUERY = text(
    "SELECT bic AS name, kind AS role, members.status,"
    " coalesce(array_agg(kid) FILTER (WHERE use = 'auth' AND member_keys.status = 'active'), '{}') AS kids"
    " FROM members LEFT JOIN member_keys USING (bic) GROUP BY bic"
    " UNION ALL SELECT client_id, role, 'active', ARRAY[kid] FROM clients WHERE NOT disabled"
)


@dataclass(frozen=True)
class Subject:
    """Who may speak, as what, and the keys that it signs in by."""

    role: str
    status: Status
    kids: frozenset[str]


class Standing:
    """What the registry says of everybody who may hold a token. Belongs to one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._subjects: Mapping[str, Subject] = {}
        self._read_at = -math.inf
        self._changes = 0
        self._loading = asyncio.Lock()

    async def require(self, claims: Claims, opt: Mapping[str, Any]) -> None:
        """Refuse whoever has no access any more, or none to a route with these options."""
        began = time.monotonic()
        refusal = _refusal(claims, opt, await self._since(began - KEPT_SECONDS))
        if refusal is not None:
            # Nobody is refused by what was so a second ago: who was let in since gets in.
            refusal = _refusal(claims, opt, await self._since(began))
        if refusal is not None:
            raise refusal

    async def status_of(self, name: str) -> Status | None:
        """Return the present status of a subject; None if there is no such."""
        subject = (await self._since(time.monotonic() - KEPT_SECONDS)).get(name)
        return None if subject is None else subject.status

    def forget(self) -> None:
        """Ask the registry again at the next request: something has changed."""
        self._changes += 1
        self._read_at = -math.inf

    async def _since(self, instant: float) -> Mapping[str, Subject]:
        """Return what the registry said at this instant or later."""
        if self._read_at < instant:
            async with self._loading:
                if self._read_at < instant:
                    changes, asked_at = self._changes, time.monotonic()
                    self._subjects = await self._load()
                    # What changed meanwhile may be in it or not.
                    if changes == self._changes:
                        self._read_at = asked_at
        return self._subjects

    async def _load(self) -> Mapping[str, Subject]:
        async with transaction(self._engine) as conn:
            rows = await conn.execute(_QUERY)
            return {row.name: Subject(row.role, Status(row.status), frozenset(row.kids)) for row in rows}


def _refusal(claims: Claims, opt: Mapping[str, Any], subjects: Mapping[str, Subject]) -> Refusal | None:
    subject = subjects.get(claims.sub)
    if subject is None or subject.role != claims.role or subject.status not in SPEAKS_TO_COORDINATOR:
        return TokenRefused(TokenReason.WITHDRAWN, "whoever this token was issued to has no access any more")
    kid = signed_in_by(claims)
    # Tokens of a release that didn't note the key end within minutes.
    if kid is not None and kid not in subject.kids:
        return TokenRefused(TokenReason.WITHDRAWN, "the key that this token was got by counts no more")
    if subject.status is not Status.ACTIVE and not WHILE_INACTIVE.items() <= opt.items():
        return Refusal(AccessReason.MEMBER_NOT_ACTIVE, f"{claims.sub} is {subject.status}")
    return None
