"""A bank's HTTP API: payments and books for its own people and systems, the federation API for other members."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from compliance.crypto.dsse import Envelope
from compliance.iban import normal_account
from compliance.statements import CurrencyCode, ScreeningList
from gateway.federation.http.answer_headers import IDEMPOTENCY_HIT
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.http.paging import Page, Rows, encode_cursor, envelope_key, rows_of
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.base import GivenReason
from gateway.federation.messages.cycles import ResultProof
from gateway.federation.messages.lanes import SharedLanes
from gateway.federation.messages.results import SharedResult
from gateway.federation.problems import Refusal
from gateway.federation.sharing import in_slices
from participants import bookkeeping
from participants.account_statements import FIRST_YEAR, LAST_YEAR
from participants.api import batches, events, exposures, orders_log, views, webhooks
from participants.api.guards import (
    KEEPS_ACCOUNTS,
    KEEPS_LISTS,
    MEMBERS,
    ORDERS,
    SEES_ACCOUNTS,
    SEES_CYCLES,
    SEES_LISTS,
    SEES_PROPOSALS,
    AccountPath,
    ConcordatRequest,
    CyclePath,
    Node,
)
from participants.api.messages import (
    BATCH_BYTES_MAX,
    BODY_BYTES_MAX,
    AccountBatch,
    AccountPage,
    CycleView,
    LaneView,
    ListImport,
    OrderBatch,
    OrderResults,
    PaymentView,
    PostingPage,
    StatedReason,
    WaitingView,
)
from participants.api.orders import OrderRequest, ReturnRequest, SpelledAccount
from participants.api.returns import return_order
from participants.audit.replay import balances_at
from participants.continuity import reads as shared
from participants.cycle import reads
from participants.ledger.accounts import AccountOutcome, Kind
from participants.ledger.partitions import JournalDetached, require_attached
from participants.payments.disputes import Dispute, WithdrawDispute
from participants.payments.orders import OrderOutcome, readable
from participants.roles import Role
from participants.search.of_cycle import settled_currencies

_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


# --- payments ------------------------------------------------------------------------------------------------


@post(
    "/payments",
    guards=ORDERS,
    tags=["payments"],
    operation_id="submitPayment",
    response_headers=[IDEMPOTENCY_HIT],
)
async def submit_payment(data: JSONBody[OrderRequest], node: Node, request: ConcordatRequest) -> Response[OrderOutcome]:
    """Reserve the debtor's money and queue the payment; 201 once that is durable.

    BICs, IBANs and texts may be spelled as people do: their normal form is what is paid by, signed and stored.
    The client makes the id. The same order again gives the same answer (with `Idempotency-Hit: true`); another
    order under the id is refused with 409 `id_reused`, and one that can't be taken with 422 and its reason.
    """
    (outcome,) = await node.submit(readable([node.addressed(data.order())], maker=request.auth.sub))
    outcome.or_refuse()
    orders_log.taken(request.auth.sub, (outcome.id,))
    headers = {"Idempotency-Hit": "true"} if outcome.replayed else {}
    return Response(outcome.answer(), headers=headers)


@post(
    "/payments/batch",
    guards=ORDERS,
    status_code=HTTP_200_OK,
    request_max_body_size=BATCH_BYTES_MAX,
    tags=["payments"],
    operation_id="submitPayments",
)
async def submit_payments(data: JSONBody[OrderBatch], node: Node, request: ConcordatRequest) -> OrderResults:
    """Submit up to 8,192 orders; each has its own result, in the order of the request.

    With `atomic` all are taken or, if one is refused, none; with `dry_run` none, and the results say what would be. One
    that was known before is marked `replayed`. A batch that has an id has a status: `GET /batches/{id}`. The body may
    have 64 MiB, which holds 8,192 of the longest orders with every character escaped.
    """
    asked = [node.addressed(order.order()) for order in data.payments]
    orders = await in_slices(partial(readable, maker=request.auth.sub), asked)
    batch = batches.batch_of(data, made_by=request.auth.sub)
    outcomes = await node.submit_batch(orders, batch, atomic=data.atomic, dry_run=data.dry_run)
    if not data.dry_run:
        orders_log.taken(request.auth.sub, [outcome.id for outcome in outcomes if outcome.status != "refused"])
    return OrderResults(results=tuple(outcomes))


@post("/payments/{payment_id:uuid}/return", guards=ORDERS, tags=["payments"], operation_id="returnPayment")
async def return_payment(
    payment_id: FromPath[UUID], data: JSONBody[ReturnRequest], node: Node, request: ConcordatRequest
) -> OrderOutcome:
    """Pay an accepted incoming payment back, in full or in part, by a payment linked to it.

    All its returns that haven't failed come to its amount at most. Asked again under the same id, without an amount as
    well, it returns once.
    """
    order = await return_order(node.pool, str(payment_id), data)
    (outcome,) = await node.submit(readable([order], maker=request.auth.sub))
    outcome.or_refuse()
    orders_log.taken(request.auth.sub, (outcome.id,))
    return outcome.answer()


@put("/payments/{payment_id:uuid}/dispute", guards=ORDERS, tags=["payments"], operation_id="disputePayment")
async def dispute_payment(
    payment_id: FromPath[UUID], data: JSONBody[StatedReason], node: Node, request: ConcordatRequest
) -> PaymentView:
    """Contest an accepted incoming payment that isn't settled: statements leave it out until this is withdrawn."""
    (await node.ledger.submit(Dispute(str(payment_id), request.auth.sub, data.reason))).or_refuse()
    node.follower.mend()
    return await views.payment(node.pool, str(payment_id))


@delete(
    "/payments/{payment_id:uuid}/dispute",
    guards=ORDERS,
    status_code=HTTP_200_OK,
    tags=["payments"],
    operation_id="withdrawDispute",
)
async def withdraw_dispute(
    payment_id: FromPath[UUID],
    node: Node,
    request: ConcordatRequest,
    reason: Annotated[str, QueryParameter(**form_of(GivenReason))] = "dispute withdrawn",
) -> PaymentView:
    """Contest a payment no longer; a break that came of it is attested anew."""
    (await node.ledger.submit(WithdrawDispute(str(payment_id), request.auth.sub, reason))).or_refuse()
    node.follower.mend()
    return await views.payment(node.pool, str(payment_id))


# --- sanctions lists -----------------------------------------------------------------------------------------


@post(
    "/screening/lists",
    guards=KEEPS_LISTS,
    request_max_body_size=BODY_BYTES_MAX,
    tags=["screening"],
    operation_id="importList",
)
async def import_list(data: JSONBody[ListImport], node: Node, request: ConcordatRequest) -> ScreeningList:
    """Import a sanctions list (OFAC's sdn.csv and alt.csv, its one-file CSV, the UN's XML); it is in force at once.

    One that takes more than 5 % of the names out is refused with 409 `list_needs_second_person`, until another person
    imports the very same within a week.
    """
    return await node.screener.import_list(data.name, data.files, request.auth.sub)


@get("/screening/lists", guards=SEES_LISTS, tags=["screening"], operation_id="listLists", sync_to_thread=False)
def list_lists(node: Node, part: NamedDependency[Page]) -> list[ScreeningList]:
    """List the sanctions lists in force."""
    return rows_of(part, node.screener.lists, lambda listed: (listed.name,))


@get("/proposals", guards=SEES_PROPOSALS, tags=["books"], operation_id="listWaiting")
async def list_waiting(node: Node, page: NamedDependency[Page], request: ConcordatRequest) -> list[WaitingView]:
    """List what one person proposed and a second one has to confirm by asking for the same, newest first.

    `content` says exactly what it is: amounts, accounts, names. Whoever may see lists only is told that of lists only.
    """
    shown = ("list",) if request.auth.role == Role.LISTS else None
    async with node.pool.acquire() as connection:
        listed, after = await views.waiting(connection, page.number(), page.limit, shown=shown)
    return Rows(listed, None if after is None else encode_cursor(after))


# --- books ---------------------------------------------------------------------------------------------------


@post(
    "/accounts",
    guards=KEEPS_ACCOUNTS,
    status_code=HTTP_200_OK,
    request_max_body_size=BATCH_BYTES_MAX,
    tags=["books"],
    operation_id="openAccounts",
)
async def open_accounts(data: JSONBody[AccountBatch], node: Node, request: ConcordatRequest) -> list[AccountOutcome]:
    """Open accounts; what they open with is on the internal account `against`, or on the one against the nostro.

    One that opens with money is `proposed` at first, and opened once another person has asked for the same within a
    week. One that opens empty needs one person.
    """
    openings = [asked.opening() for asked in data.accounts]
    return await bookkeeping.open_accounts(node.ledger, node.pool, openings, request.auth.sub)


@get("/accounts", guards=SEES_ACCOUNTS, tags=["books"], operation_id="listAccounts")
async def list_accounts(
    node: Node,
    page: NamedDependency[Page],
    kind: Annotated[Kind | None, QueryParameter()] = None,
    code: Annotated[str | None, QueryParameter(**form_of(SpelledAccount))] = None,
    currency: Annotated[str | None, QueryParameter(**form_of(CurrencyCode))] = None,
) -> AccountPage:
    """List accounts and where they stand."""
    after = page.number() or 0
    async with node.pool.acquire() as connection:
        code = None if code is None else normal_account(code)
        items = await views.accounts(connection, after, kind, code, currency, page.limit)
    return AccountPage(items=tuple(items), next=encode_cursor(items[-1].id) if len(items) == page.limit else None)


@get("/accounts/{account_id:int}/postings", guards=SEES_ACCOUNTS, tags=["books"], operation_id="listPostings")
async def list_postings(account_id: AccountPath, node: Node, page: NamedDependency[Page]) -> PostingPage:
    """List an account's postings, newest first, each with the balance before and after."""
    before = page.number()
    async with node.pool.acquire() as connection:
        items = await views.postings(connection, account_id, before, page.limit)
    return PostingPage(items=tuple(items), next=encode_cursor(items[-1].version) if len(items) == page.limit else None)


@get("/balances", guards=SEES_ACCOUNTS, tags=["books"], operation_id="balancesAt")
async def list_balances(
    node: Node,
    part: NamedDependency[Page],
    at: Annotated[
        str | None, QueryParameter(format="date-time", description="RFC 3339 instant; now if left out.")
    ] = None,
) -> list[dict[str, str]]:
    """Show the balance of every kind of account and currency as of an instant."""
    moment = None if at is None else instant(at)
    async with node.pool.acquire() as connection:
        balances = await balances_at(connection, moment)
    return rows_of(part, balances, lambda row: (row["kind"], row["code"], row["currency"]))


# --- cycles --------------------------------------------------------------------------------------------------


@get("/lanes", guards=SEES_CYCLES, tags=["cycles"], operation_id="listLanes")
async def list_lanes(node: Node, part: NamedDependency[Page]) -> list[LaneView]:
    """List the lanes to and from other banks: accepted, settled, and what is between."""
    async with node.pool.acquire() as connection:
        lanes = await views.lanes(connection, node.outbound.undeliverable())
    return rows_of(part, lanes, lambda lane: (lane.sender, lane.receiver, lane.currency))


@get("/cycles/{cycle:str}", guards=SEES_CYCLES, tags=["cycles"], operation_id="getCycleMembership")
async def get_cycle(cycle: CyclePath, node: Node) -> CycleView:
    """Show this bank's part in a cycle."""
    async with node.pool.acquire() as connection:
        cut, _ = await reads.cut(connection, cycle)
        attested = await reads.attested(connection, cycle)
        settled = await settled_currencies(connection, cycle, node.bic)
    return CycleView(cycle=cycle, cut=cut is not None, submissions=len(attested), settled=tuple(settled or ()))


@get("/cycles/{cycle:str}/attestations", guards=SEES_CYCLES, tags=["cycles"], operation_id="listAttestations")
async def list_attestations(cycle: CyclePath, node: Node, part: NamedDependency[Page]) -> list[Envelope]:
    """Show every document that this bank signed in a cycle: its cut and its attestations.

    What an attestation covers is listed by `listPositions`. Of a cycle before there were attestations it is each
    statement and the screening.
    """
    async with node.pool.acquire() as connection:
        _, cut = await reads.cut(connection, cycle)
        attested = await reads.attested(connection, cycle)
    signed = [envelope for said in attested for envelope in said.signed]
    return rows_of(part, signed if cut is None else [cut, *signed], envelope_key)


@get("/cycles/{cycle:str}/instructions", guards=SEES_CYCLES, tags=["cycles"], operation_id="listInstructions")
async def list_instructions(cycle: CyclePath, node: Node, part: NamedDependency[Page]) -> list[Envelope]:
    """Show the settlement instructions of a cycle that this bank verified."""
    async with node.pool.acquire() as connection:
        instructions = await reads.instructions(connection, cycle, node.bic)
    return rows_of(part, instructions, envelope_key)


# --- federation ----------------------------------------------------------------------------------------------


@post(
    "/federation/payments",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=BODY_BYTES_MAX,
    tags=["federation"],
    operation_id="receivePayments",
    opt={"body": Envelope, "shared": True},  # read by itself, because its very bytes count
)
async def receive_payments(request: ConcordatRequest, node: Node) -> Envelope:
    """Take a signed PaymentBatch from another bank (a DSSE envelope) and answer with a signed Acknowledgement.

    Each payment is accepted with its number, refused with a reason, or held. The same payments again give the
    same outcomes, so a lost answer is fetched by sending again.
    """
    node.outbound.heard_from(request.auth.sub)
    return await node.inbound.receive(request.auth.sub, request.body)


@get("/federation/lanes", guards=MEMBERS, tags=["federation"], operation_id="listSharedLanes")
async def list_shared_lanes(request: ConcordatRequest, node: Node) -> SharedLanes:
    """Show the lanes between the caller and this bank, each with its newest payments."""
    node.outbound.heard_from(request.auth.sub)
    async with node.pool.acquire() as connection:
        return SharedLanes(lanes=await shared.shared_lanes(connection, request.auth.sub))


@get(
    "/federation/payments/{payment_id:uuid}/evidence",
    guards=MEMBERS,
    tags=["federation"],
    operation_id="getEvidence",
)
async def get_evidence(payment_id: FromPath[UUID], request: ConcordatRequest, node: Node) -> Envelope:
    """Show what the caller signed of a payment: the batch with one that it sent, the acknowledgement of another."""
    async with node.pool.acquire() as connection:
        envelope = await shared.evidence(connection, str(payment_id), request.auth.sub)
        if envelope is None:
            try:
                await require_attached(connection, [str(payment_id)])
            except JournalDetached as refusal:
                raise refusal.for_others() from None
    if envelope is None:
        raise Refusal(views.RequestReason.PAYMENT_UNKNOWN, f"nothing that {request.auth.sub} signed of {payment_id}")
    return envelope


@post(
    "/federation/results",
    guards=MEMBERS,
    opt=WHILE_INACTIVE,
    status_code=HTTP_200_OK,
    tags=["federation"],
    operation_id="compareResults",
)
async def compare_results(request: ConcordatRequest, data: JSONBody[SharedResult], node: Node) -> ResultProof:
    """Compare what the coordinator showed the caller of a result, and show what it showed this bank of the pair.

    Whatever contradicts it is kept as evidence: the coordinator signed both.
    """
    return await node.follower.results.answer(request.auth.sub, data)


def instant(text: str) -> datetime:
    """Return an instant of RFC 3339, which says its offset. Raises Refusal `instant_malformed`."""
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise ValueError
        return moment
    except (ValueError, OverflowError):
        detail = f"not an RFC 3339 instant such as 2026-11-27T15:30:00Z: {text[:40]!r}"
        raise Refusal(views.RequestReason.INSTANT_MALFORMED, detail) from None


ROUTE_HANDLERS = [
    submit_payment, submit_payments, return_payment, dispute_payment, withdraw_dispute,
    import_list, list_lists, list_waiting, open_accounts, list_accounts, list_postings,
    list_balances, list_lanes, get_cycle, list_attestations, list_instructions, receive_payments, list_shared_lanes,
    get_evidence, compare_results, *batches.HANDLERS, *exposures.HANDLERS, *events.HANDLERS, *webhooks.HANDLERS,
]  # fmt: skip
