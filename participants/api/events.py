"""HTTP: the bank's events for its own systems, as a long poll by cursor and as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, Schema
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from compliance.iban import SPELLED_ACCOUNT_PATTERN, normal_account
from gateway.federation.http.node import requires
from gateway.federation.identity.tokens import Claims
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.storage.failures import failure_of
from participants.feed.feed import LOOK_SECONDS, Selection
from participants.feed.messages import EventType, LedgerEvent, LedgerEvents
from participants.node import BankNode
from participants.roles import Role, Scope

WAIT_S_MAX = 25
LIMIT_MAX = 1_000
STREAM_PAGE = 256
"""Events that a stream holds in memory for a reader who is slow."""
HEARTBEAT_SECONDS = 15.0
STREAM_TYPE = "text/event-stream"
_CURSOR = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]

# What each role hears of; of a token with a scope, only that.
HEARS: dict[str, frozenset[Scope]] = {
    Role.EVENTS: frozenset({Scope.PAYMENTS, Scope.ACCOUNTS, Scope.CYCLES}),
    Role.READ: frozenset({Scope.PAYMENTS, Scope.ACCOUNTS, Scope.CYCLES}),
    Role.ORDERS: frozenset({Scope.PAYMENTS, Scope.CYCLES}),
    Role.SCREENING: frozenset({Scope.PAYMENTS}),
    Role.ACCOUNTS: frozenset({Scope.ACCOUNTS}),
}
_GUARD = requires(*HEARS, scope=(Scope.PAYMENTS, Scope.ACCOUNTS, Scope.CYCLES))
_encode = msgspec.json.Encoder().encode


@dataclass
class _StreamedOperation(Operation):
    """An operation whose answer may be a stream as well."""

    def __post_init__(self) -> None:
        answer: Any = (self.responses or {})["200"]
        answer.content[STREAM_TYPE] = OpenAPIMediaType(
            schema=Schema(description="`id:` is the event's sequence, `event:` its type, `data:` a LedgerEvent.")
        )


@get(
    "/events",
    guards=[_GUARD],
    opt={"quiet": True, "refuses": [409]},
    tags=["events"],
    operation_id="listEvents",
    operation_class=_StreamedOperation,
)
async def list_events(
    request: Request[str, Claims, Any],
    node: NamedDependency[BankNode],
    after: Annotated[int, QueryParameter(ge=0, le=2**53 - 1, description="`next` of the page before.")] = 0,
    wait_s: Annotated[int, QueryParameter(ge=0, le=WAIT_S_MAX, description="How long to wait for the first.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = 100,
    types: Annotated[
        list[EventType] | None, QueryParameter(name="type", max_items=32, description="Only these; repeat it.")
    ] = None,
    account: Annotated[
        str | None, QueryParameter(pattern=SPELLED_ACCOUNT_PATTERN, description="Only of this account of the bank.")
    ] = None,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", max_length=20, description="In place of `after`.")
    ] = None,
) -> Response[LedgerEvents]:
    """Return the ledger's events after a cursor, in their order, waiting for the first if there is none yet.

    With `Accept: text/event-stream` they come as a stream of server-sent events, for as long as the token is good. None
    is left out and none comes twice. What is filtered out, or isn't for the token's role and scope, moves `next` on.
    """
    selection = Selection(_types(request.auth, types), None if account is None else normal_account(account))
    after = after if last_event_id is None else _cursor(last_event_id)
    if STREAM_TYPE not in request.headers.get("Accept", ""):
        with node.feed.place(request.auth.sub) if wait_s else nullcontext():
            page = await node.feed.read(after=after, limit=limit, selection=selection, wait_s=wait_s, for_client=True)
        return Response(page)
    # Read before the answer begins, so that what is refused is refused.
    with node.feed.place(request.auth.sub):
        page = await node.feed.read(after=after, limit=min(limit, STREAM_PAGE), selection=selection, for_client=True)
    content: Any = Stream(
        _stream(node, page, selection, after=after, claims=request.auth),
        media_type=STREAM_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    streamed: Response[LedgerEvents] = content
    return streamed


def _types(claims: Claims, asked: Sequence[EventType] | None) -> frozenset[EventType]:
    """Return the types that somebody hears of. Raises Refusal where he asks for others."""
    scopes = HEARS[claims.role]
    if claims.scope:
        scopes &= {Scope(scope) for scope in claims.scope.split() if scope in tuple(Scope)}
    heard = frozenset(type_ for type_ in EventType if type_.scope in scopes)
    if asked is None:
        return heard
    if others := sorted(set(asked) - heard):
        reason = ServiceReason.SCOPE_NOT_ALLOWED if claims.scope else ServiceReason.ROLE_NOT_ALLOWED
        raise Refusal(reason, f"the token isn't good for {', '.join(others)}")
    return frozenset(asked)


def _cursor(text: str) -> int:
    try:
        return msgspec.convert(int(text), _CURSOR)
    except (ValueError, msgspec.ValidationError):
        raise Refusal(ServiceReason.CURSOR_MALFORMED, "Last-Event-ID isn't the id of an event") from None


async def _stream(
    node: BankNode, page: LedgerEvents, selection: Selection, *, after: int, claims: Claims
) -> AsyncIterator[bytes]:
    """Yield events as they come, and a sign of life where none do, until the token counts no more or the node stops.

    The next are read only when the reader has taken these.
    """
    feed = node.feed
    with ExitStack() as held:
        try:
            held.enter_context(feed.place(claims.sub))
        except Refusal:
            # Others were quicker, and the answer has begun: the reader comes back, and is told why.
            return
        yield b"retry: 1000\n\n"
        while not node.sign_in.withdrawn(claims):
            if page.events:
                yield b"".join(map(_server_sent, page.events))
            else:
                # An id without data moves the reader's cursor past what he isn't told of.
                yield f":\nid: {page.next}\n\n".encode() if page.next > after else b":\n\n"
            after = page.next
            left = claims.exp - time.time()
            if left <= 0 or feed.stopping.is_set():
                return
            if len(page.events) < STREAM_PAGE:
                await asyncio.sleep(LOOK_SECONDS)
            wait_s = min(HEARTBEAT_SECONDS, left)
            try:
                page = await feed.read(
                    after=after, limit=STREAM_PAGE, selection=selection, wait_s=wait_s, for_client=True
                )
            except Exception as error:
                # Here too it can only end.
                if not isinstance(error, Refusal) and failure_of(error) is None:
                    raise
                return


def _server_sent(event: LedgerEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.type.encode(), _encode(event))


HANDLERS = [list_events]
