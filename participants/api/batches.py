"""HTTP: what became of a batch that has an id, for the bank's own people."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.problems import Refusal, ServiceReason
from participants.api import views
from participants.api.guards import SEES_ORDERS, Node
from participants.api.messages import BatchOrderPage, BatchOutcome, BatchView, OrderBatch
from participants.ledger.payment import Status
from participants.payments.batches import Batch, BatchRequestReason


def batch_of(asked: OrderBatch, *, made_by: str) -> Batch | None:
    """Return the batch that a request names; None if it names none. Raises Refusal."""
    if asked.id is None:
        if asked.name or asked.lines:
            raise Refusal(BatchRequestReason.BATCH_ID_MISSING, "name and lines are of a batch that has an id")
        return None
    if asked.lines and len(asked.lines) != len(asked.payments):
        detail = f"{len(asked.lines)} lines for {len(asked.payments)} payments"
        raise Refusal(BatchRequestReason.BATCH_LINES_DIFFER, detail)
    lines = asked.lines or range(1, len(asked.payments) + 1)
    return Batch(asked.id, asked.name, made_by, lines)


@get("/batches/{batch_id:uuid}", guards=SEES_ORDERS, tags=["payments"], operation_id="getBatch")
async def get_batch(batch_id: FromPath[UUID], node: Node) -> BatchView:
    """Sum up what became of a batch's payments."""
    async with node.pool.acquire() as connection:
        batch = await views.batch(connection, str(batch_id))
    if batch is None:
        raise Refusal(BatchRequestReason.BATCH_UNKNOWN, f"no batch {batch_id}")
    return batch


@get("/batches/{batch_id:uuid}/orders", guards=SEES_ORDERS, tags=["payments"], operation_id="listBatchOrders")
async def list_batch_orders(
    batch_id: FromPath[UUID],
    node: Node,
    page: NamedDependency[Page],
    outcome: Annotated[BatchOutcome | None, QueryParameter(description="Only orders that were answered so.")] = None,
    status: Annotated[Status | None, QueryParameter(description="Only orders whose payments stand so.")] = None,
) -> BatchOrderPage:
    """List a batch's orders by their numbers, each with what was answered and how its payment stands."""
    match page.after:
        case None:
            after = 0, str(UUID(int=0))
        case (int(line), str(text)) if 0 <= line < 2**31 and _is_uuid(text):
            after = line, text
        case _:
            raise Refusal(ServiceReason.CURSOR_MALFORMED, "not a cursor of this list")
    async with node.pool.acquire() as connection:
        items = await views.batch_orders(connection, str(batch_id), outcome, status, after, page.limit)
        until = await views.detached_until(connection)
    following = encode_cursor(items[-1].line, items[-1].id) if len(items) == page.limit else None
    return BatchOrderPage(items=tuple(items), next=following, detached_until=until)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


HANDLERS = [get_batch, list_batch_orders]
