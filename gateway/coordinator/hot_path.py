"""The short way for what every bank does in every cycle: reading the feed, its cut, its attestation, its instructions.

All banks do each of them at the same moment, so what one request costs is multiplied by their number while a cycle
waits. A request is taken only when all is as it should be: the token of an active participant, a query and a body in
the form in which they nearly always come. Any other is handed to the application as it came, and what ends in a refusal
is told by the application, so guards, validation and problem documents are written once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import Reader
from compliance.statements import CycleId, inside
from gateway.coordinator.access.standing import Standing
from gateway.coordinator.cycles.api import ATTESTATION_BYTES_MAX, CUT_BYTES_MAX
from gateway.coordinator.cycles.rows import NotPlainError, split_submission
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.log.api import LIMIT_DEFAULT, LIMIT_MAX, WAIT_S_MAX
from gateway.coordinator.log.feed import EventFeed
from gateway.federation.http.bare import JSON_HEADERS, JSON_TYPES, answer, read_body
from gateway.federation.http.edge import ADMITTED, Authentication, header
from gateway.federation.http.node import OUTCOME
from gateway.federation.identity.tokens import TokenRefused, TokenVerifier
from gateway.federation.problems import Refusal
from gateway.federation.sharing import Turns
from gateway.federation.strict_json import read_strictly

_FEED = re.compile(rb"after=(0|[1-9][0-9]{0,14})(?:&wait_s=([0-9]{1,2}))?(?:&limit=([1-9][0-9]{0,3}))?")
_OF_CYCLE = re.compile(rf"/cycles/({inside(CycleId)})/(cuts|attestations|instructions)", re.ASCII)
_OPERATIONS = {
    ("PUT", "cuts"): "submitCut",
    ("GET", "cuts"): "getCuts",
    ("POST", "attestations"): "submitAttestation",
    ("GET", "instructions"): "listCycleInstructions",
}
_ROLE = "participant"
_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(Envelope).decode

Work = Callable[[str, bytes], Awaitable[bytes]]
"""Does what a bank asks for by a body, and returns the body of the answer."""


class HotPath:
    """An ASGI layer around the application that answers the good requests of active participants itself."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Litestar,
        authentication: Authentication,
        *,
        verifier: TokenVerifier,
        standing: Standing,
        feed: EventFeed,
        cycles: CycleService,
    ) -> None:
        """`routes` are the application's own, by whose operations answers are counted and logged.

        `authentication` is its own too: callers have one rate and one share, whichever way their requests go.
        """
        self._app = app
        self._verifier = verifier
        self._standing = standing
        self._callers, self._shares = authentication.clients, authentication.shares
        self._turns = Turns()
        self._feed = feed
        self._cycles = cycles
        self._operations = {
            str(handler.operation_id): (route.path_format, handler)
            for route in routes.routes
            for handler in getattr(route, "route_handlers", ())
            if isinstance(handler, HTTPRouteHandler)
        }

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if (asked := self._asked(scope)) is None:
            return await self._app(scope, receive, send)
        operation, bytes_max, work = asked
        await self._turns.take()
        try:
            claims = self._verifier.verify_authorization(header(scope, b"authorization"))
            if claims.role != _ROLE or claims.scope:
                return await self._app(scope, receive, send)
            await self._standing.require(claims, {})
        except (TokenRefused, Refusal):
            return await self._app(scope, receive, send)
        if bytes_max and header(scope, b"content-type") not in JSON_TYPES:
            return await self._app(scope, receive, send)
        if self._callers.take(claims.sub) is not None:
            return await self._app(scope, receive, send)
        scope[ADMITTED] = True
        with ExitStack() as held:
            if bytes_max:
                try:
                    held.enter_context(self._shares.share_of(claims.sub))
                except Refusal as refused:
                    scope[OUTCOME] = refused
                    return await self._app(scope, receive, send)
                body, receive = await read_body(receive, bytes_max)
            else:
                body = b""
            written = None if body is None else await _outcome(scope, work, claims.sub, body)
            if written is None:
                return await self._app(scope, receive, send)
        scope["path_template"], scope["route_handler"] = self._operations[operation]
        scope["auth"], scope["user"] = claims, claims.sub
        return await answer(send, 200, JSON_HEADERS, written)

    def _asked(self, scope: Any) -> tuple[str, int, Work] | None:
        """Return the operation that a request asks for, how long its body may be, and what does it."""
        if scope["type"] != "http":
            return None
        method, path = scope["method"], scope["path"]
        if path == "/events":
            page = _FEED.fullmatch(scope["query_string"]) if method == "GET" else None
            if page is None or _says_anything(scope):
                return None
            after, wait_s, limit = int(page[1]), int(page[2] or 0), int(page[3] or LIMIT_DEFAULT)
            if wait_s > WAIT_S_MAX or limit > LIMIT_MAX:
                return None
            return "listEvents", 0, lambda bank, _: self._events(bank, after, wait_s, limit)
        of_cycle = None if scope["query_string"] else _OF_CYCLE.fullmatch(path)
        operation = None if of_cycle is None else _OPERATIONS.get((method, of_cycle[2]))
        if operation is None or of_cycle is None:
            return None
        cycle = of_cycle[1]
        match operation:
            case "submitCut":
                return operation, CUT_BYTES_MAX, lambda bank, body: self._submit_cut(bank, cycle, body)
            case "submitAttestation":
                return operation, ATTESTATION_BYTES_MAX, lambda bank, body: self._submit_attestation(bank, cycle, body)
        if _says_anything(scope):
            return None
        if operation == "getCuts":
            return operation, 0, lambda bank, _: self._cuts(bank, cycle)
        return operation, 0, lambda bank, _: self._cycles.delivery.own(cycle, bank)

    async def _events(self, bank: str, after: int, wait_s: int, limit: int) -> bytes:
        async def reader() -> Reader:
            return Reader(_ROLE, bank, await self._standing.status_of(bank))

        return _encode(await self._feed.read(after=after, limit=limit, wait_s=wait_s, reader=reader))

    async def _submit_cut(self, bank: str, cycle: str, body: bytes) -> bytes:
        read_strictly(body)
        return _encode((await self._cycles.cuts.submit(bank, cycle, _envelope(body))).message())

    async def _cuts(self, bank: str, cycle: str) -> bytes:
        return _encode(await self._cycles.cuts.cuts_for(bank, cycle))

    async def _submit_attestation(self, bank: str, cycle: str, body: bytes) -> bytes:
        submission, rows = split_submission(body)
        return _encode(await self._cycles.attestation.submit_attestation(bank, cycle, submission, rows))


async def _outcome(scope: Any, work: Work, bank: str, body: bytes) -> bytes | None:
    """Do what a bank asks for and return the body of the answer; None where the application has to tell what it is."""
    try:
        return await work(bank, body)
    except (NotPlainError, msgspec.MsgspecError):
        return None
    except Exception as error:
        scope[OUTCOME] = error
        return None


def _says_anything(scope: Any) -> bool:
    """Tell whether a request that takes no body may have one."""
    return header(scope, b"content-length") not in (None, b"0") or header(scope, b"transfer-encoding") is not None
