"""HTTP: payments found and explained, and what a cycle settled of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from compliance.bic import normal_bic
from compliance.iban import normal_account
from compliance.statements import CurrencyCode, whole
from gateway.federation.http.paging import NUMBER_MAX, Page, encode_cursor
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.base import REFERENCE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX, SpelledBic, Uetr
from gateway.federation.problems import Refusal, ServiceReason
from participants.api.guards import SEES_PAYMENTS, CyclePath, Node
from participants.api.messages import (
    CycleLaneView,
    CyclePayments,
    PaymentEvent,
    PaymentPage,
    PaymentView,
    RefusedOrderView,
    SettlementView,
)
from participants.api.orders import SpelledAccount
from participants.api.routes import instant
from participants.api.views import RequestReason, detached_until, payment_view
from participants.feed.messages import EventType
from participants.feed.public import PAYMENTS, VALUE_DATE_CHARS, timestamp
from participants.ledger.partitions import require_attached
from participants.ledger.payment import Direction, Status
from participants.node import BankNode
from participants.search.criteria import Criteria
from participants.search.known import KnownPayment, RefusedOrder, read_known, read_refused, refusals_of
from participants.search.of_batches import FIRST, Line, find_of_batches
from participants.search.of_cycle import settled_currencies, settled_lanes, settled_payments
from participants.search.search import find
from participants.search.settlement import Standing, not_taken, read_standings
from participants.search.sources import START, Place

AMOUNT_PATTERN = whole(r"[0-9]{1,15}")

Instant = Annotated[str | None, QueryParameter(format="date-time", description="RFC 3339 instant.")]
Amount = Annotated[str | None, QueryParameter(pattern=AMOUNT_PATTERN, description="In minor units.")]
Reference = Annotated[
    str | None, QueryParameter(min_length=1, max_length=REFERENCE_CHARACTERS_MAX, description="Exactly this one.")
]
Counterparty = Annotated[str | None, QueryParameter(**form_of(SpelledBic))]
Currency = Annotated[str | None, QueryParameter(**form_of(CurrencyCode))]


@get("/payments", guards=SEES_PAYMENTS, tags=["payments"], operation_id="listPayments")
async def list_payments(
    node: Node,
    page: NamedDependency[Page],
    status: Annotated[list[Status] | None, QueryParameter(max_items=16, description="Only these; repeat it.")] = None,
    direction: Annotated[Direction | None, QueryParameter()] = None,
    account: Annotated[str | None, QueryParameter(**form_of(SpelledAccount))] = None,
    counterparty: Counterparty = None,
    currency: Currency = None,
    amount_from: Amount = None,
    amount_to: Amount = None,
    created_from: Instant = None,
    created_to: Instant = None,
    updated_from: Instant = None,
    updated_to: Instant = None,
    end_to_end_id: Reference = None,
    instruction_id: Reference = None,
    uetr: Annotated[str | None, QueryParameter(**form_of(Uetr))] = None,
    batch: Annotated[UUID | None, QueryParameter(description="The id of a batch.")] = None,
    file: Annotated[
        str | None, QueryParameter(min_length=1, max_length=TEXT_CHARACTERS_MAX, description="The name of a file.")
    ] = None,
) -> PaymentPage:
    """List payments, and orders that were refused: those that match all that is asked for.

    Times and amounts are from one on; `…_to` is the instant before which, and the largest amount. The newest comes
    first. With `updated_from` or `updated_to` what changed last does; of a `batch` or `file` each comes once, in the
    order of its lines, those of files of one name as they were imported. A page may be short, or empty, while there is
    more: go on for as long as there is `next`. What comes in moves nothing.
    """
    criteria = Criteria(
        statuses=frozenset(status or ()),
        direction=direction,
        account=None if account is None else normal_account(account),
        counterparty=None if counterparty is None else normal_bic(counterparty),
        currency=currency,
        amount_from=None if amount_from is None else int(amount_from),
        amount_to=None if amount_to is None else int(amount_to),
        created_from=None if created_from is None else instant(created_from),
        created_to=None if created_to is None else instant(created_to),
        updated_from=None if updated_from is None else instant(updated_from),
        updated_to=None if updated_to is None else instant(updated_to),
        end_to_end_id=_text(end_to_end_id),
        instruction_id=_text(instruction_id),
        uetr=uetr,
        batch=None if batch is None else str(batch),
        file=_text(file),
    )
    following: str | None = None
    if criteria.batch is not None or criteria.file is not None:
        orders, line = await find_of_batches(node.pool, criteria, after=_line(page), limit=page.limit)
        hits = [(order.payment_id, order.refusal) for order in orders]
        following = None if line is None else encode_cursor(*line)
    else:
        listed = await find(node.pool, criteria, before=_place(page), limit=page.limit)
        hits = [(hit.payment_id, hit.place[1]) for hit in listed.hits]
        following = None if listed.next is None else encode_cursor(*listed.next)
    async with node.pool.acquire() as connection:
        return PaymentPage(
            items=tuple(await _shown(connection, node, hits)),
            next=following,
            detached_until=await detached_until(connection),
        )


@get("/payments/{payment_id:uuid}", guards=SEES_PAYMENTS, tags=["payments"], operation_id="getPayment")
async def get_payment(payment_id: FromPath[UUID], node: Node) -> PaymentView:
    """Show one payment as it stands, whether it is settled or why not, and what happened to it.

    Orders under its id that were refused, before it or since, are `refused_orders`. Where none was taken, there is no
    payment; the refusal says when and why.
    """
    id_ = str(payment_id)
    async with node.pool.acquire() as connection:
        known = await read_known(connection, [id_])
        refusals = await refusals_of(connection, id_)
        if id_ not in known:
            await require_attached(connection, [id_])
            refused = "".join(f": {order.reason}, refused at {timestamp(order.at)}" for order in refusals[:1])
            raise Refusal(RequestReason.PAYMENT_UNKNOWN, f"no payment {payment_id}{refused}")
        (view,) = await _payments(connection, node, [known[id_]])
    history = sorted(_history(known[id_], view.settlement), key=lambda event: event.at)
    refused_orders = tuple(_refused_order(order) for order in refusals)
    return msgspec.structs.replace(view, history=tuple(history), refused_orders=refused_orders)


@get("/cycles/{cycle:str}/payments", guards=SEES_PAYMENTS, tags=["cycles"], operation_id="listCyclePayments")
async def list_cycle_payments(
    cycle: CyclePath,
    node: Node,
    page: NamedDependency[Page],
    currency: Currency = None,
    counterparty: Counterparty = None,
    direction: Annotated[Direction | None, QueryParameter()] = None,
) -> CyclePayments:
    """List what a cycle settled of this bank's payments, lane by lane and number by number.

    What the payments of a lane come to is its `amount_minor`, which both banks attested. `settled` is empty until the
    cycle is final here; one in which this bank has cut nothing off is 404 `cycle_unknown`.
    """
    match page.after:
        case None:
            after = 0, 0
        case (int(lane), int(sequence)) if 0 <= lane < 2**31 and 0 <= sequence <= NUMBER_MAX:
            after = lane, sequence
        case _:
            raise _malformed()
    other = None if counterparty is None else normal_bic(counterparty)
    async with node.pool.acquire() as connection:
        settled = await settled_currencies(connection, cycle, node.bic)
        if settled is None:
            raise Refusal(RequestReason.CYCLE_UNKNOWN, f"this bank has cut nothing off for a cycle {cycle}")
        lanes = await settled_lanes(
            connection, cycle, bank=node.bic, currency=currency, counterparty=other, direction=direction
        )
        entries = await settled_payments(connection, lanes, after=after, limit=page.limit)
        items = await _shown(connection, node, [(entry.payment_id, 0) for entry in entries])
    last = entries[-1] if len(entries) == page.limit else None
    return CyclePayments(
        cycle=cycle,
        value_date=cycle[:VALUE_DATE_CHARS],
        settled=tuple(settled),
        lanes=tuple(CycleLaneView(**msgspec.structs.asdict(lane.settled), currency=lane.currency) for lane in lanes),
        items=tuple(items),
        next=None if last is None else encode_cursor(last.lane, last.sequence),
    )


# --- what is shown -------------------------------------------------------------------------------------------


async def _shown(connection: asyncpg.Connection, node: BankNode, hits: Iterable[tuple[str, int]]) -> list[PaymentView]:
    """Return payments, and orders that were refused, in the order of the hits: an id, and a refusal's number or 0."""
    hits = list(hits)
    ids = [id_ for id_, refusal in hits if not refusal]
    known = await read_known(connection, ids)
    if len(known) < len(ids):
        await require_attached(connection, ids)
    refused = await read_refused(connection, [refusal for _, refusal in hits if refusal])
    views = {view.id: view for view in await _payments(connection, node, known.values())}
    return [_refused(refused[refusal]) if refusal else views[id_] for id_, refusal in hits]


async def _payments(
    connection: asyncpg.Connection, node: BankNode, payments: Iterable[KnownPayment]
) -> list[PaymentView]:
    payments = list(payments)
    standings = await read_standings(connection, node.bic, payments, node.outbound.undeliverable())
    return [
        msgspec.structs.replace(
            payment_view(known.payment),
            created_at=timestamp(known.created_at),
            updated_at=timestamp(known.updated_at),
            settlement=_settlement(standings[known.payment.id]),
        )
        for known in payments
    ]


def _refused(refused: RefusedOrder) -> PaymentView:
    order = refused.order
    if order is None:
        raise RuntimeError(f"of refusal {refused.id} nothing was kept")
    return PaymentView(
        id=order.id,
        direction="out",
        counterparty=order.creditor_agent,
        status=Status.REFUSED.value,
        version=0,
        currency=order.currency,
        amount_minor=order.amount_minor,
        debtor_account=order.debtor_account,
        debtor_name=order.debtor_name,
        creditor_account=order.creditor_account,
        creditor_name=order.creditor_name,
        remittance=order.remittance,
        reason=refused.reason,
        returns=order.returns,
        return_reason=order.return_reason,
        end_to_end_id=order.end_to_end_id,
        instruction_id=order.instruction_id,
        uetr=order.uetr,
        expires_at=order.expires_at,
        ordered_by=order.actor,
        created_at=timestamp(refused.at),
        updated_at=timestamp(refused.at),
        settlement=_settlement(not_taken(refused.reason, refused.at)),
    )


def _refused_order(refused: RefusedOrder) -> RefusedOrderView:
    by = None if refused.order is None else refused.order.actor
    return RefusedOrderView(at=timestamp(refused.at), reason=refused.reason, ordered_by=by)


def _settlement(standing: Standing) -> SettlementView:
    return SettlementView(
        state=standing.state.value,
        explanation=standing.explanation,
        since=_time(standing.since),
        cycle=standing.cycle,
        value_date=standing.value_date,
        settled_at=_time(standing.settled_at),
    )


def _history(known: KnownPayment, settlement: SettlementView | None) -> list[PaymentEvent]:
    """Return what happened to a payment, without who said what of it while it was held."""
    history = [
        PaymentEvent(
            type=PAYMENTS[recorded.event.type][0].value,
            at=timestamp(recorded.at),
            status=recorded.status.value,
            event_sequence=recorded.event.sequence,
            sequence=getattr(recorded.event.data, "sequence", None),
            reason=getattr(recorded.event.data, "reason", None),
            returned_by=getattr(recorded.event.data, "by", None),
        )
        for recorded in known.history
        if recorded.event.type in PAYMENTS
    ]
    if settlement is not None and settlement.settled_at is not None:
        at = settlement.settled_at
        before = [recorded.status for recorded in known.history if timestamp(recorded.at) <= at]
        status = before[-1] if before else known.payment.status
        settled = PaymentEvent(type=EventType.CYCLE_SETTLED.value, at=at, status=status.value, cycle=settlement.cycle)
        history.append(settled)
    return history


def _time(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def _text(text: str | None) -> str | None:
    """Return a text that a database can look for. Raises Refusal `validation_failed`."""
    if text is not None and "\x00" in text:
        raise Refusal(ServiceReason.VALIDATION_FAILED, "no text holds a character of number 0")
    return text


def _place(page: Page) -> Place:
    match page.after:
        case None:
            return START
        case (int(sequence), int(refusal)) if 0 <= sequence <= NUMBER_MAX and 0 <= refusal <= NUMBER_MAX:
            return sequence, refusal
    raise _malformed()


def _line(page: Page) -> Line:
    match page.after:
        case None:
            return FIRST
        case (str(batch), int(line), str(payment)) if -1 <= line < 2**31 and _is_uuid(batch) and _is_uuid(payment):
            return batch, line, payment
    raise _malformed()


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _malformed() -> Refusal:
    return Refusal(ServiceReason.CURSOR_MALFORMED, "not a cursor of this list")


PAYMENT_HANDLERS = [list_payments, get_payment, list_cycle_payments]
