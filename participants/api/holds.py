"""HTTP: the payments that screening holds, why, what people said of each, and their decisions, on many at once too."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from compliance.screening import holds
from compliance.screening.holds import HoldState
from compliance.statements import Timestamp
from gateway.federation.http.paging import LIMIT_MAX, Page, Rows, encode_cursor
from gateway.federation.messages.base import Answer, GivenReason, Uuid, open_words
from gateway.federation.messages.base import Request as Body
from participants.api import views
from participants.api.guards import DECIDES_HOLDS, SEES_HOLDS, ConcordatRequest, Node
from participants.api.messages import PaymentView
from participants.api.views import payment_view
from participants.feed.public import timestamp
from participants.ledger import events, store
from participants.ledger.events import Hit, Opinion
from participants.ledger.partitions import require_attached
from participants.payments.holds import DecideHold, HoldOutcome, HoldReason, opinions_on

# A payment waits for people since the event that held it.
HELD = """
SELECT e.sequence, e.subject::text, e.version, e.type, e.schema_version, e.data, e.recorded_at
FROM payment_open o JOIN event e ON e.sequence = o.event_sequence
WHERE o.state = 'held' AND ($1::bigint IS NULL OR o.event_sequence > $1) ORDER BY o.event_sequence LIMIT $2
"""


class HoldView(PaymentView, frozen=True, kw_only=True):
    """A payment that waits for people: since when, for which listed names, and who said what of it, in order."""

    state: Annotated[str, open_words(*HoldState)]
    held_at: Timestamp
    hits: tuple[Hit, ...]
    opinions: tuple[Opinion, ...]


class HoldOpinion(Body, frozen=True, kw_only=True):
    """One person's word on a held payment."""

    decision: Literal["release", "reject"]
    reason: GivenReason


class HoldOpinions(HoldOpinion, frozen=True, kw_only=True):
    """One person's word on many held payments."""

    payments: Annotated[tuple[Uuid, ...], Meta(min_length=1, max_length=LIMIT_MAX)]


class HoldOutcomes(Answer, frozen=True, kw_only=True):
    """Where each hold stands after a person's word, or why the word isn't taken; in the order of the request."""

    results: tuple[HoldOutcome, ...]


@get(
    "/holds",
    guards=SEES_HOLDS,
    tags=["screening"],
    operation_id="listHolds",
)
async def list_holds(node: Node, page: NamedDependency[Page]) -> list[HoldView]:
    """List the payments that wait for two people's decision, oldest first, and why each is held."""
    async with node.pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(HELD, page.number(), page.limit)
        listed = await _views(connection, rows)
    return Rows(listed, encode_cursor(rows[-1]["sequence"]) if len(rows) == page.limit else None)


@post("/holds/decisions", guards=DECIDES_HOLDS, status_code=HTTP_200_OK, tags=["screening"], operation_id="decideHolds")
async def decide_holds(data: JSONBody[HoldOpinions], node: Node, request: ConcordatRequest) -> HoldOutcomes:
    """Give one person's word on up to 1,000 held payments; each has its own result.

    The same request again changes nothing, and is answered with where each hold stands then.
    """
    person = request.auth.sub
    words = [DecideHold(payment_id, person, data.decision, data.reason) for payment_id in data.payments]
    return HoldOutcomes(results=tuple(await asyncio.gather(*map(node.ledger.submit, words))))


@post("/holds/{payment_id:uuid}/decisions", guards=DECIDES_HOLDS, tags=["screening"], operation_id="decideHold")
async def decide_hold(
    payment_id: FromPath[UUID], data: JSONBody[HoldOpinion], node: Node, request: ConcordatRequest
) -> PaymentView:
    """Give one person's word on a held payment; two different people must agree before anything happens."""
    outcome = await node.ledger.submit(DecideHold(str(payment_id), request.auth.sub, data.decision, data.reason))
    if outcome.reason is HoldReason.JOURNAL_DETACHED:
        async with node.pool.acquire() as connection:
            await require_attached(connection, [str(payment_id)])
    outcome.or_refuse()
    return await views.payment(node.pool, str(payment_id))


async def _views(connection: asyncpg.Connection, rows: list[asyncpg.Record]) -> list[HoldView]:
    payments = await store.read_payments(connection, [row["subject"] for row in rows])
    listed = []
    for row in rows:
        payment = payments[row["subject"]]
        listed.append(
            HoldView(
                **msgspec.structs.asdict(payment_view(payment)),
                state=holds.state(opinions_on(payment)),
                held_at=timestamp(row["recorded_at"]),
                hits=events.read(events.EventRow(*tuple(row)[:6])).data.hits,
                opinions=payment.opinions,
            )
        )
    return listed


HOLD_HANDLERS = [list_holds, decide_holds, decide_hold]
