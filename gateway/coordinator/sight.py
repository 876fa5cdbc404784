"""What a caller may see here: the tables of `compliance.cycle.audience`, asked about its role and present status.

A token says who calls and in which role, and not whether that member has been suspended since; the registry does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from compliance.cycle.audience import Reader, View, readers
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.http.node import requires
from gateway.federation.problems import Refusal, RefusalReason

Caller = Request[Any, Any, Any]
_Connection = ASGIConnection[Any, Any, Any, Any]


class AccessReason(RefusalReason):
    """Why a member with a good token is refused nevertheless."""

    MEMBER_NOT_ACTIVE = "member_not_active", 403
    """It is approved only, or suspended: it settles what it owes, and sees and does nothing else."""


def shows(view: View, *, only: Sequence[str] | None = None, **opt: Any) -> dict[str, Any]:
    """Return what makes a route show a view, for its decorator: who reads it (or `only` some), and in which status."""
    return {"guards": [requires(*(only or readers(view))), _WhileSeen(view)], "opt": {**WHILE_INACTIVE, **opt}}


async def reader_of(connection: _Connection) -> Reader:
    """Return who calls, with its present status."""
    caller = connection.auth
    status = await connection.app.state.standing.status_of(caller.sub) if caller.role == "participant" else None
    return Reader(caller.role, caller.sub, status)


@dataclass(frozen=True)
class _WhileSeen:
    """Refuses a participant that doesn't see a view in its present status."""

    view: View

    async def __call__(self, connection: _Connection, _: BaseRouteHandler) -> None:
        reader = await reader_of(connection)
        if not reader.sees(self.view):
            detail = f"a participant that is {reader.status or 'unknown'} doesn't see this"
            raise Refusal(AccessReason.MEMBER_NOT_ACTIVE, detail)
