"""Whether a node lives, has started and can serve: yes or no for everybody, and why for its own people.

The public port tells strangers nothing by which they could learn whom the node deals with or what it runs on. What it
depends on, and its metrics, are asked of the private port.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from litestar import Litestar, MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.federation.build import build
from gateway.federation.http.edge import Edge
from gateway.federation.http.problem_documents import EXCEPTION_HANDLERS
from gateway.federation.problems import Refusal, RefusalReason, ServiceReason
from gateway.federation.storage.failures import database_refusal, failure_of
from gateway.federation.telemetry import REGISTRY

READY_TIMEOUT_S = 5
KEPT_SECONDS = 1.0
"""How long the public port answers by one look, however many strangers ask: a look asks the database."""
_UNATTENDED: dict[str, Any] = {"public": True, "quiet": True}
_log = structlog.get_logger()

Ready = Callable[[], Awaitable[dict[str, str]]]


class Readiness:
    """What a node says of itself, and whether it has started."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._told: tuple[str, str] | None = None
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self._refusal: Refusal | None = None
        self.started = False
        self.waits_for("it is starting")

    def waits_for(self, what: str, reason: RefusalReason = ServiceReason.NOT_READY) -> None:
        """Say from now on, until it has started, that it waits for this."""
        self._starting = (reason, what)

    def not_started(self) -> Refusal:
        """Return why it hasn't started."""
        return Refusal(*self._starting, retry_after_s=5)

    async def refusal(self) -> Refusal | None:
        """Return why the node can't serve, if it can't, by a look that was taken within the last second."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= KEPT_SECONDS:
                try:
                    await self.details()
                    self._refusal = None
                except Refusal as refusal:
                    self._refusal = refusal
                # That it is starting is known without a look, and is news at once when it has started.
                self._looked_at = time.monotonic() if self.started else -math.inf
            return self._refusal

    async def details(self) -> dict[str, str]:
        """Name what the node depends on and the state of each; raises Refusal if it can't serve.

        Why it can't is logged once for each change, for a node without a private port.
        """
        try:
            conditions = await self._look()
        except Refusal as refusal:
            self._tell((refusal.reason, refusal.detail))
            raise
        self._tell(None)
        return conditions

    async def _look(self) -> dict[str, str]:
        if not self.started:
            raise self.not_started()
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                return await self._ready()
        except Refusal:
            raise
        except Exception as error:  # whatever is wrong, the answer is "not ready"
            if (reason := failure_of(error)) is not None:
                raise database_refusal(reason) from error
            _log.warning("readiness not found out", exc_info=error)
            raise Refusal(ServiceReason.NOT_READY, type(error).__name__, retry_after_s=5) from error

    def _tell(self, why_not: tuple[str, str] | None) -> None:
        # By the code alone: a detail may hold seconds, and would be news each time.
        if (self._told and self._told[0]) == (why_not and why_not[0]):
            return
        self._told = why_not
        if why_not is None:
            _log.info("ready again")
        else:
            _log.warning("not ready", reason=why_not[0], detail=why_not[1])


@get("/health/live", opt=_UNATTENDED, tags=["health"], operation_id="isLive")
async def live() -> dict[str, str]:
    """The process runs."""
    return {"status": "live"}


@get("/health/startup", opt=_UNATTENDED, tags=["health"], operation_id="isStarted")
async def startup() -> dict[str, str]:
    """The node has started: its database is migrated, its keys and trust list are loaded."""
    return {"status": "started"}


@get("/metrics", opt=_UNATTENDED, media_type=MediaType.TEXT, sync_to_thread=False)
def _metrics() -> Response[bytes]:
    """The process's metrics in Prometheus's text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def public_readiness(readiness: Readiness) -> HTTPRouteHandler:
    """Return the route by which anybody learns whether the node can serve, and the stable reason if not."""

    @get("/health/ready", opt=_UNATTENDED, tags=["health"], operation_id="isReady")
    async def ready() -> dict[str, str]:
        """The node can serve, or not; the private port says why."""
        refusal = await readiness.refusal()
        if refusal is not None:
            raise Refusal(
                refusal.reason,
                "the node isn't ready",
                status=refusal.status,
                retry_after_s=refusal.retry_after_s,
            )
        return {"status": "ready"}

    return ready


def private_app(readiness: Readiness) -> Litestar:
    """Return what a node's private port serves: its metrics, and its readiness in detail."""

    @get("/health/ready", opt=_UNATTENDED)
    async def ready() -> dict[str, str]:
        return {"build": str(build()), **await readiness.details()}

    @get("/health/startup", opt=_UNATTENDED)
    async def started() -> dict[str, str]:
        if not readiness.started:
            raise readiness.not_started()
        return {"status": "started"}

    app = Litestar(
        route_handlers=[live, started, ready, _metrics],
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=Request,
        openapi_config=None,
        logging_config=None,
    )
    app.asgi_handler = Edge(app.asgi_handler)
    return app
