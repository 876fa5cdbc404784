"""HTTP: comparing the books with another bank's, for the bank's own people and for the other bank."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from compliance.bic import normal_bic
from compliance.crypto.dsse import Envelope
from compliance.statements import Bic, CurrencyCode
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.base import Answer, SpelledBic
from gateway.federation.messages.base import Request as Body
from gateway.federation.messages.reconciliation import (
    LaneAnswer,
    LaneQuestion,
    RecordQuestion,
    SetAnswer,
    SetQuestion,
    SharedRecords,
)
from participants.api.guards import MEMBERS, ORDERS, SEES_CYCLES, ConcordatRequest, Node
from participants.reconciliation import store
from participants.reconciliation.store import Reconciliation

SHARE_BYTES_MAX = 8 * 1024
QUESTION_BYTES_MAX = 128 * 1024
OCTETS = "application/octet-stream"
SYMBOLS_MAX = 8192
"""In one answer."""


class ReconciliationRequest(Body, frozen=True, kw_only=True):
    """With whom the books are to be compared; without a currency in all of them."""

    counterparty: SpelledBic
    currency: CurrencyCode | None = None


class ReconciliationPage(Answer, frozen=True, kw_only=True):
    """Reconciliations, the newest first, without their reports. `next` is the cursor of the following page."""

    items: tuple[Reconciliation, ...]
    next: str | None = None


@post(
    "/reconciliations",
    guards=ORDERS,
    status_code=HTTP_202_ACCEPTED,
    tags=["reconciliation"],
    operation_id="reconcile",
)
async def reconcile(data: JSONBody[ReconciliationRequest], node: Node, request: ConcordatRequest) -> Reconciliation:
    """Compare what both banks hold of the payments between them; 202, and `GET /reconciliations/{id}` says what came.

    The other bank is asked in the background. Nothing that it answers is adopted: what differs is listed, and signed
    answers that are missing are asked for.
    """
    return await node.reconciliations.request(normal_bic(data.counterparty), data.currency, request.auth.sub)


@get("/reconciliations", guards=SEES_CYCLES, tags=["reconciliation"], operation_id="listReconciliations")
async def list_reconciliations(
    node: Node,
    page: NamedDependency[Page],
    counterparty: Annotated[str | None, QueryParameter(**form_of(Bic))] = None,
) -> ReconciliationPage:
    """List comparisons with other banks that people asked for or that followed from breaks."""
    async with node.pool.acquire() as connection:
        items, after = await store.listed(connection, page.number(), page.limit, counterparty=counterparty)
    return ReconciliationPage(items=tuple(items), next=None if after is None else encode_cursor(after))


@get(
    "/reconciliations/{reconciliation_id:uuid}",
    guards=SEES_CYCLES,
    tags=["reconciliation"],
    operation_id="getReconciliation",
)
async def get_reconciliation(reconciliation_id: FromPath[UUID], node: Node) -> Reconciliation:
    """Show what came of a comparison: lanes, breaks with their kinds, what heals by itself, what it cost."""
    return await node.reconciliations.kept(str(reconciliation_id))


# --- federation ----------------------------------------------------------------------------------------------


@post(
    "/federation/reconciliation/lanes",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=QUESTION_BYTES_MAX,
    tags=["federation"],
    operation_id="compareLane",
)
async def compare_lane(data: JSONBody[LaneQuestion], node: Node, request: ConcordatRequest) -> LaneAnswer:
    """Show how far a lane of the two banks goes, and digests of its Merkle tree."""
    return await node.reconciliations.answering.lane(request.auth.sub, data)


@post(
    "/federation/reconciliation/agreements",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=SHARE_BYTES_MAX,
    tags=["federation"],
    operation_id="agreeSecret",
)
async def agree_secret(data: JSONBody[Envelope], node: Node, request: ConcordatRequest) -> Envelope:
    """Agree on the secret of the pair that payments are named under, by signed halves of X25519; good for a day."""
    return await node.reconciliations.answering.agree(request.auth.sub, data)


@post(
    "/federation/reconciliation/sets",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=QUESTION_BYTES_MAX,
    tags=["federation"],
    operation_id="openSet",
)
async def open_set(data: JSONBody[SetQuestion], node: Node, request: ConcordatRequest) -> SetAnswer:
    """Name payments of lanes of the two banks by keyed ids, and say how many there are, and their root.

    The set is kept for two minutes since it was last asked about, one for each bank.
    """
    return await node.reconciliations.answering.open(request.auth.sub, data)


@get(
    "/federation/reconciliation/sets/{session_id:uuid}/symbols",
    guards=MEMBERS,
    media_type=OCTETS,
    tags=["federation"],
    operation_id="getSymbols",
)
async def get_symbols(
    session_id: FromPath[UUID],
    node: Node,
    request: ConcordatRequest,
    first: Annotated[int, QueryParameter(ge=0, le=2**31)],
    count: Annotated[int, QueryParameter(ge=1, le=SYMBOLS_MAX)],
) -> Response[bytes]:
    """Show coded symbols of a set, 24 bytes each: an xor of ids, and one of their checks."""
    symbols = await node.reconciliations.answering.symbols(request.auth.sub, str(session_id), first, count)
    return Response(symbols, media_type=OCTETS)


@post(
    "/federation/reconciliation/records",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=QUESTION_BYTES_MAX,
    tags=["federation"],
    operation_id="getRecords",
)
async def get_records(data: JSONBody[RecordQuestion], node: Node, request: ConcordatRequest) -> SharedRecords:
    """Tell how this bank has payments between the two, by their ids, numbers or keyed ids."""
    return await node.reconciliations.answering.records(request.auth.sub, data)


RECONCILIATION_HANDLERS = [
    reconcile, list_reconciliations, get_reconciliation,
    compare_lane, agree_secret, open_set, get_symbols, get_records,
]  # fmt: skip
