"""HTTP: what a bank's people do to its accounts, and what they read of one."""

from __future__ import annotations

from uuid import UUID

from litestar import Response, get, post, put
from litestar.params import FromPath, JSONBody

from gateway.federation.http.answer_headers import IDEMPOTENCY_HIT
from participants import bookkeeping
from participants.api import views
from participants.api.guards import KEEPS_ACCOUNTS, SEES_ACCOUNTS, AccountPath, ConcordatRequest, Node
from participants.api.messages import AccountView, EntryRequest, EntryView, NameChange, StateChange
from participants.ledger.account_events import EntryTerms
from participants.ledger.own_entries import AskedEntry


@post("/entries", guards=KEEPS_ACCOUNTS, tags=["books"], operation_id="makeEntry", response_headers=[IDEMPOTENCY_HIT])
async def make_entry(data: JSONBody[EntryRequest], node: Node, request: ConcordatRequest) -> Response[EntryView]:
    """Book a deposit, a withdrawal or a fee between a customer's account and an internal one; 201 once durable.

    The same entry again gives the same answer (with `Idempotency-Hit: true`). A deposit is refused with 409
    `entry_needs_second_person`, until another person asks for the very same within a week.
    """
    terms = EntryTerms(
        id=data.id,
        account=data.account,
        currency=data.currency,
        amount_minor=data.amount_minor,
        against=data.against,
        reference=data.reference,
        text=data.text,
    )
    replayed = await bookkeeping.make_entry(node.ledger, node.pool, AskedEntry(data.kind, terms), request.auth.sub)
    async with node.pool.acquire() as connection:
        made = await views.entry(connection, data.id)
    return Response(made, headers={"Idempotency-Hit": "true"} if replayed else {})


@get("/entries/{entry_id:uuid}", guards=SEES_ACCOUNTS, tags=["books"], operation_id="getEntry")
async def get_entry(entry_id: FromPath[UUID], node: Node) -> EntryView:
    """Show an entry that the bank's own people made."""
    async with node.pool.acquire() as connection:
        return await views.entry(connection, str(entry_id))


@get("/accounts/{account_id:int}", guards=SEES_ACCOUNTS, tags=["books"], operation_id="getAccount")
async def get_account(account_id: AccountPath, node: Node) -> AccountView:
    """Show an account and where it stands."""
    async with node.pool.acquire() as connection:
        return await views.account(connection, account_id)


@put("/accounts/{account_id:int}/state", guards=KEEPS_ACCOUNTS, tags=["books"], operation_id="setAccountState")
async def set_state(
    account_id: AccountPath, data: JSONBody[StateChange], node: Node, request: ConcordatRequest
) -> AccountView:
    """Block an account (`debits_blocked`, `blocked`), unblock it (`open`), or close it for good (`closed`).

    It is closed at a balance of zero, with no payment of it waiting. What lets more be posted than now is refused with
    409 `unblocking_needs_second_person`, until another person asks for the same within a week.
    """
    await bookkeeping.change_state(
        node.ledger, node.pool, account_id, data.state, person=request.auth.sub, reason=data.reason
    )
    return await _account(node, account_id)


@put("/accounts/{account_id:int}/name", guards=KEEPS_ACCOUNTS, tags=["books"], operation_id="renameAccount")
async def rename(
    account_id: AccountPath, data: JSONBody[NameChange], node: Node, request: ConcordatRequest
) -> AccountView:
    """Give an account another name; the journal keeps the ones before."""
    await bookkeeping.rename(node.ledger, node.pool, account_id, data.name, person=request.auth.sub, reason=data.reason)
    return await _account(node, account_id)


async def _account(node: Node, account_id: int) -> AccountView:
    async with node.pool.acquire() as connection:
        return await views.account(connection, account_id)


ACCOUNT_HANDLERS = [make_entry, get_entry, get_account, set_state, rename]
