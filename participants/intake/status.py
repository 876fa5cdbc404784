"""What became of a file at the bank: the batches that it is, its rows that aren't paid, and what is cancelled of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator

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
from participants.payments.orders import OrderReason
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


async def unpaid_orders(client: FederationClient, *, url: str, bank: str, id_: str) -> list[BatchOrderView]:
    """Return a batch's orders that were refused, and those whose payments were after they were taken.

    Not those that were taken under an id that follows. Raises RemoteProblem, RemoteUnavailable.
    """
    orders: list[BatchOrderView] = []
    for what in ({"outcome": "refused"}, *({"status": str(status)} for status in sorted(CAME_TO_NOTHING))):
        async for page in _orders(client, url, bank, id_, **what):
            orders += [order for order in page if not await _follows(client, url=url, bank=bank, order=order)]
    return sorted(orders, key=lambda order: order.line)


async def cancel_batch(client: FederationClient, *, url: str, bank: str, id_: str) -> Counter[str]:
    """Cancel the payments that a batch took in, and count by how they stand, or why they can't be cancelled.

    Raises RemoteProblem, RemoteUnavailable.
    """
    counts: Counter[str] = Counter()
    async for page in _orders(client, url, bank, id_, outcome="taken"):
        asked = Cancellations(payments=tuple(order.id for order in page))
        answer = await client.post(f"{url}/payments/cancellations", CancellationOutcomes, audience=bank, json=asked)
        counts.update(str(outcome.reason or outcome.status) for outcome in answer.results)
    return counts


async def _orders(
    client: FederationClient, url: str, bank: str, id_: str, **which: str
) -> AsyncIterator[tuple[BatchOrderView, ...]]:
    """Yield the orders of a batch that were answered or stand so, page by page."""
    params = {"limit": "1000", **which}
    while True:
        page = await client.get(f"{url}/batches/{id_}/orders", BatchOrderPage, audience=bank, params=params)
        if page.items:
            yield page.items
        if page.next is None:
            return
        params = {**params, "cursor": page.next}


async def _follows(client: FederationClient, *, url: str, bank: str, order: BatchOrderView) -> bool:
    """Tell whether a row is paid under an id that follows from the one that was refused."""
    if order.status not in CAME_TO_NOTHING and order.reason != OrderReason.ID_REUSED:
        return False
    id_ = order.id
    for _ in range(FOLLOWING_MAX):
        id_ = following_id(id_)
        try:
            payment = await client.get(f"{url}/payments/{id_}", PaymentView, audience=bank)
        except RemoteProblem as problem:
            if problem.status != NOT_FOUND:
                raise
            return False
        if payment.status not in CAME_TO_NOTHING:
            return True
    return False
