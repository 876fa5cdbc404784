"""What a caller may see here: the tables of `compliance.cycle.audience`, asked about its role and present standing.

A token says who calls and in which role, and not whether that member has been suspended since; the registry does.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from compliance.cycle.audience import Reader, View, readers
from gateway.federation.http.node import requires
from gateway.federation.problems import Refusal, RefusalReason

KNOWN_SECONDS = 1.0
"""How long a standing is taken for the present one: hundreds of banks ask for their events at the same moment."""

Caller = Request[Any, Any, Any]
_Connection = ASGIConnection[Any, Any, Any, Any]


class SightReason(RefusalReason):
    """Why the coordinator doesn't show a participant what is its own."""

    STANDING_TOO_LOW = "standing_too_low", 403
    """It isn't active, and a participant of its status sees less: while suspended, what it needs to settle."""


class Standings:
    """The standing of each member that calls, in `app.state.standings`; `ask` the registry for it."""

    def __init__(self, ask: Callable[[str], Awaitable[str | None]]) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, str | None]] = {}

    async def of(self, bic: str) -> str | None:
        """Return the status of a member, None if there is no such."""
        known = self._known.get(bic)
        if known is None or known[0] < time.monotonic():
            known = self._known[bic] = (time.monotonic() + KNOWN_SECONDS, await self._ask(bic))
        return known[1]


def reads(view: View) -> list[Guard]:
    """Return the guards of a view: its readers' roles, and of participants those whose standing lets them."""
    return [requires(*readers(view)), _InStanding(view)]


async def reader_of(connection: _Connection) -> Reader:
    """Return who calls, with its present standing."""
    caller = connection.auth
    standing = await connection.app.state.standings.of(caller.sub) if caller.role == "participant" else None
    return Reader(caller.role, caller.sub, standing)


@dataclass(frozen=True)
class _InStanding:
    view: View

    async def __call__(self, connection: _Connection, _: BaseRouteHandler) -> None:
        reader = await reader_of(connection)
        if not reader.sees(self.view):
            detail = f"a participant that is {reader.status or 'unknown'} doesn't see this"
            raise Refusal(SightReason.STANDING_TOO_LOW, detail)
