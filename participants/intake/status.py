"""What became of a file at the bank: the batches that it is, its rows that aren't paid, and what is cancelled of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from gateway.federation.http.client import FederationClient, RemoteProblem
from participants.api.messages import (
    BatchOrderPage,
    BatchOrderView,
    BatchView,
    CancellationOutcomes,
    Cancellations,
    PaymentView,
)
from participants.intake.files import PaymentFile
from participants.ledger.payment import CAME_TO_NOTHING
from participants.payments.cancellations import CancellationOutcome
from participants.payments.row_identity import following_id

FOLLOWING_MAX = 16
"""Ids that are tried for a row, or for a file, after the first."""
NOT_FOUND = 404
_NAMESPACE = uuid.UUID("6f0b7c3e-4d0f-5a0e-9f39-0d1f6ad0c0de")


def file_id(file: PaymentFile, bank: str) -> str:
    """Return the id of the batch that a file is at a bank: a UUID version 5 of its content."""
    return str(uuid.uuid5(_NAMESPACE, f"{bank}/{file.digest}"))


async def batch_status(client: FederationClient, *, url: str, bank: str, id_: str) -> BatchView:
    """Return what became of a batch. Raises RemoteProblem, RemoteUnavailable."""
    return await client.get(f"{url}/batches/{id_}", BatchView, audience=bank)


async def file_batches(client: FederationClient, *, url: str, bank: str, file: PaymentFile) -> list[BatchView]:
    """Return the batches of a file, one of each who imported it. Raises RemoteProblem, RemoteUnavailable."""
    batches: list[BatchView] = []
    id_ = file_id(file, bank)
    while len(batches) < FOLLOWING_MAX:
        try:
            batches.append(await batch_status(client, url=url, bank=bank, id_=id_))
        except RemoteProblem as problem:
            if problem.status != NOT_FOUND:
                raise
            break
        id_ = following_id(id_)
    return batches


async def row_ends(client: FederationClient, *, url: str, bank: str, id_: str) -> AsyncIterator[BatchOrderView]:
    """Yield each row of a batch once, in their order, by the order that says what became of it in the end.

    A row has several orders where it was paid anew: under ids that follow one from the other, each because the payment
    before came to nothing, perhaps as a row of another file. Raises RemoteProblem, RemoteUnavailable.
    """
    row: list[BatchOrderView] = []
    async for page in _orders(client, url, bank, id_):
        for order in page:
            if row and row[0].line != order.line:
                yield await _end(client, url=url, bank=bank, row=row)
                row = []
            row.append(order)
    if row:
        yield await _end(client, url=url, bank=bank, row=row)


def is_unpaid(order: BatchOrderView) -> bool:
    """Tell whether an order was refused, or its payment was after it was taken."""
    return order.outcome == "refused" or order.status in CAME_TO_NOTHING


async def cancel_batch(
    client: FederationClient, *, url: str, bank: str, id_: str
) -> AsyncIterator[tuple[BatchOrderView, CancellationOutcome]]:
    """Cancel the payments that a batch took in; yield how each stands, or why it can't be cancelled.

    Raises RemoteProblem, RemoteUnavailable.
    """
    async for page in _orders(client, url, bank, id_, outcome="taken"):
        asked = Cancellations(payments=tuple(order.id for order in page))
        answer = await client.post(f"{url}/payments/cancellations", CancellationOutcomes, audience=bank, json=asked)
        for pair in zip(page, answer.results, strict=True):
            yield pair


async def _orders(
    client: FederationClient, url: str, bank: str, id_: str, **which: str
) -> AsyncIterator[tuple[BatchOrderView, ...]]:
    """Yield the orders of a batch that were answered or stand so, page by page."""
    asked = f"{url}/batches/{id_}/orders"
    async for page in client.pages(asked, BatchOrderPage, audience=bank, params=which):
        if page.items:
            yield page.items


async def _end(client: FederationClient, *, url: str, bank: str, row: Sequence[BatchOrderView]) -> BatchOrderView:
    """Return the order that says what became of a row, given all that the batch has of it."""
    ids = {order.id for order in row}
    end = min(row, key=lambda order: (is_unpaid(order), following_id(order.id) in ids))
    if end.status not in CAME_TO_NOTHING:
        return end
    id_ = end.id
    for _ in range(FOLLOWING_MAX):
        id_ = following_id(id_)
        try:
            payment = await client.get(f"{url}/payments/{id_}", PaymentView, audience=bank)
        except RemoteProblem as problem:
            if problem.status != NOT_FOUND:
                raise
            break
        end = BatchOrderView(
            line=end.line, id=payment.id, outcome="known", reason=payment.reason, status=payment.status
        )
        if not is_unpaid(end):
            break
    return end
