"""HTTP: the event feed, a long poll by cursor."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from compliance.cycle.audience import View
from gateway.coordinator.log.feed import EventFeed
from gateway.coordinator.sight import reader_of, shows
from gateway.federation.messages.events import Events

WAIT_S_MAX = 25
LIMIT_MAX = 1_000
LIMIT_DEFAULT = 100


@get(
    "/events",
    **shows(View.EVENTS, quiet=True),
    tags=["events"],
    operation_id="listEvents",
)
async def feed(
    request: Request[Any, Any, Any],
    events: NamedDependency[EventFeed],
    after: Annotated[
        int,
        QueryParameter(
            ge=-LIMIT_MAX, le=2**53 - 1, description="`next` of the page before; below zero, so far before the newest."
        ),
    ] = 0,
    wait_s: Annotated[int, QueryParameter(ge=0, le=WAIT_S_MAX, description="How long to wait for the first.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
) -> Events:
    """Return the events after a cursor, waiting for the first if there is none yet.

    Who wants the newest only begins with a cursor below zero: -100 stands before the last hundred events.
    A participant sees what concerns everybody and what concerns itself; operators and auditors see all, and operators
    alone who has applied.
    """
    return await events.read(after=after, limit=limit, wait_s=wait_s, reader=lambda: reader_of(request))


route_handlers: list[ControllerRouterHandler] = [feed]
