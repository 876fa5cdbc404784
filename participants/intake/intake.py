"""Paying from a file, through the bank's own API: what `concordat participant import` does.

Only the rows that this bank is the debtor's bank of are taken. Every payment has an id, its own or one derived from
what its row says, so a run that was interrupted is simply run again: what was taken before, from whatever file, is
answered as known. A file is a batch at the bank, under an id that follows from its content.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from compliance.crypto.keys import SigningKey
from gateway.federation.http.client import FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.membership.institution import staff_tokens
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from participants.api.messages import (
    BatchOrderPage,
    BatchOrderView,
    BatchView,
    CancellationOutcomes,
    Cancellations,
    OrderBatch,
    OrderResults,
)
from participants.api.orders import OrderRequest
from participants.intake.files import (
    FileReason,
    FileRefused,
    PaymentFile,
    PaymentRow,
    ReadOptions,
    RefusedRow,
    read_rows,
)
from participants.payments.orders import OrderOutcome, OrderReason
from participants.roles import Role

RETRY_SECONDS_MAX = 5.0
FILE_NAME_CHARACTERS_MAX = 140
_NAMESPACE = uuid.UUID("6f0b7c3e-4d0f-5a0e-9f39-0d1f6ad0c0de")
# The request as a whole is refused: some order in it isn't even one, or it is too large.
_STATUSES_TO_DIVIDE = frozenset({400, 413, 422})
_STATUSES_TO_REPEAT = frozenset({429, 502, 503, 504})


class IntakeError(Exception):
    """The bank can't be reached, or doesn't let us in. What was taken so far stays taken."""


@dataclass
class Summary:
    """What became of a file's rows, or would become of them.

    `known` are the lines of rows that were paid before, by the id of the batch that took them in: that of another file
    or of this one; "" is for what no batch took in. `of_other_banks` are rows that another bank has to pay.
    """

    taken: int = 0
    held: int = 0
    known: dict[str, list[int]] = field(default_factory=dict)
    of_other_banks: int = 0
    refusals: list[RefusedRow] = field(default_factory=list)

    @property
    def known_rows(self) -> int:
        return sum(map(len, self.known.values()))


def file_id(file: PaymentFile, bank: str) -> str:
    """Return the id of the batch that a file is at a bank: a UUID version 5 of its content."""
    return str(uuid.uuid5(_NAMESPACE, f"{bank}/{file.digest}"))


def order_of(row: PaymentRow) -> OrderRequest:
    """Return the order that a row of a file stands for."""
    return OrderRequest(
        id=row.id,
        creditor_agent=row.creditor_bank,
        amount_minor=str(row.amount_minor),
        currency=row.currency,
        debtor_account=row.debtor_account,
        debtor_name=row.debtor_name,
        creditor_account=row.creditor_account,
        creditor_name=row.creditor_name,
        remittance=row.remittance,
        end_to_end_id=row.references.get("end_to_end_id"),
        instruction_id=row.references.get("instruction_id"),
        uetr=row.references.get("uetr"),
        expires_at=row.references.get("expires_at"),
    )


@dataclass(frozen=True)
class _File:
    id: str | None
    name: str


_NO_FILE = _File(None, "")


def _ignore(_: object) -> None:
    """Watch nothing."""


class Intake:
    """Sends the rows of a file to one bank in batches, each until it is answered."""

    def __init__(
        self,
        client: FederationClient,
        *,
        url: str,
        bank: str,
        batch_items: int = 1_000,
        patience_s: float = 60,
        dry_run: bool = False,
        on_progress: Callable[[int], None] = _ignore,
        on_refusal: Callable[[RefusedRow], None] = _ignore,
    ) -> None:
        self._client = client
        self._url = url
        self._bank = bank
        self._batch_items = BATCH_ITEMS_MAX if dry_run else batch_items
        self._patience_s = patience_s
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._on_refusal = on_refusal
        self._file = _NO_FILE
        self.summary = Summary()

    async def run(self, file: PaymentFile, options: ReadOptions, *, all_or_nothing: bool = False) -> Summary:
        """Take in a file: each row for itself, or all rows of this bank or none.

        Raises IntakeError, FileRefused. `file` was read through before: nothing is sent of one that is refused whole.
        """
        self._file = _File(file_id(file, self._bank), _printable(file.path.name))
        rows = self._own(read_rows(file, options))
        if all_or_nothing:
            await self._take_whole(await asyncio.to_thread(lambda: list(islice(rows, BATCH_ITEMS_MAX + 1))))
        else:
            while batch := await asyncio.to_thread(lambda: list(islice(rows, self._batch_items))):
                await self.take(batch)
                self._on_progress(batch[-1].line)
        self._on_progress(file.lines)
        return self.summary

    async def names(self) -> dict[str, BatchView]:
        """Return what the bank has of the other batches that paid rows of this file before, by their ids."""
        others = {}
        for id_ in self.summary.known:
            if id_ and id_ != self._file.id:
                with contextlib.suppress(RemoteUnavailable, RemoteProblem):
                    others[id_] = await batch_status(self._client, url=self._url, bank=self._bank, id_=id_)
        return others

    def _own(self, rows: Iterator[PaymentRow | RefusedRow]) -> Iterator[PaymentRow]:
        for row in rows:
            if isinstance(row, RefusedRow):
                if row.is_of_other_than(self._bank):
                    self.summary.of_other_banks += 1
                else:
                    self._refuse(row)
            elif row.debtor_bank == self._bank:
                yield row
            else:
                self.summary.of_other_banks += 1

    async def _take_whole(self, rows: Sequence[PaymentRow]) -> None:
        if len(rows) > BATCH_ITEMS_MAX:
            raise FileRefused(
                FileReason.TOO_LARGE, f"all or nothing is for {BATCH_ITEMS_MAX:,} rows at most, and here are more"
            )
        if not rows:
            return
        if self.summary.refusals:
            for row in rows:
                self._refuse(_refused(row, OrderReason.BATCH_NOT_TAKEN))
            return
        try:
            await self._submit(rows, atomic=True)
        except RemoteProblem as problem:
            if problem.status not in _STATUSES_TO_DIVIDE:
                raise IntakeError(str(problem)) from problem
            for row in rows:
                self._refuse(_refused(row, problem.code, problem.detail))

    async def take(self, rows: Sequence[PaymentRow]) -> None:
        """Submit rows; a request refused as a whole is divided until the row to blame stands alone."""
        try:
            await self._submit(rows)
        except RemoteProblem as problem:
            if problem.status not in _STATUSES_TO_DIVIDE:
                raise IntakeError(str(problem)) from problem
            if len(rows) == 1:
                self._refuse(_refused(rows[0], problem.code, problem.detail))
                return
            middle = len(rows) // 2
            await self.take(rows[:middle])
            await self.take(rows[middle:])

    async def _submit(self, rows: Sequence[PaymentRow], *, atomic: bool = False) -> None:
        """Ask until there is an answer, and take it down. Raises IntakeError, RemoteProblem."""
        batch = OrderBatch(
            payments=tuple(map(order_of, rows)),
            id=self._file.id,
            name=self._file.name,
            lines=tuple(row.line for row in rows) if self._file.id else (),
            atomic=atomic,
            dry_run=self._dry_run,
        )
        give_up_at = time.monotonic() + self._patience_s
        delay = 0.2
        unanswered = False
        while True:
            try:
                results = await self._client.post(
                    f"{self._url}/payments/batch",
                    OrderResults,
                    audience=self._bank,
                    json=batch,
                    idempotent=True,
                    attempts_max=1,
                )
            except (RemoteUnavailable, RemoteProblem) as error:
                if isinstance(error, RemoteProblem) and error.status not in _STATUSES_TO_REPEAT:
                    raise
                if time.monotonic() + delay > give_up_at:
                    raise IntakeError(f"{self._url} doesn't answer: {error}") from error
                unanswered = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
            else:
                break
        for row, outcome in zip(rows, results.results, strict=True):
            self._count(row, outcome, unanswered=unanswered)

    def _count(self, row: PaymentRow, outcome: OrderOutcome, *, unanswered: bool) -> None:
        if outcome.status == "refused":
            self._refuse(_refused(row, outcome.reason or "unspecified"))
        # What this file took in may have been taken just now, by a request of which the answer was lost.
        elif outcome.replayed and not (unanswered and outcome.batch == self._file.id):
            self.summary.known.setdefault(outcome.batch or "", []).append(row.line)
        else:
            self.summary.taken += 1
            self.summary.held += outcome.status == "held"

    def _refuse(self, row: RefusedRow) -> None:
        self._on_refusal(row)
        self.summary.refusals.append(replace(row, fields={}))


def _refused(row: PaymentRow, reason: str, detail: str = "") -> RefusedRow:
    return RefusedRow(row.line, reason, detail or f"payment {row.id}: {reason.replace('_', ' ')}", fields=row.fields())


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)[:FILE_NAME_CHARACTERS_MAX]


async def batch_status(client: FederationClient, *, url: str, bank: str, id_: str) -> BatchView:
    """Return what became of a batch. Raises RemoteProblem, RemoteUnavailable."""
    return await client.get(f"{url}/batches/{id_}", BatchView, audience=bank)


async def refused_orders(client: FederationClient, *, url: str, bank: str, id_: str) -> list[BatchOrderView]:
    """Return the orders of a batch that were refused. Raises RemoteProblem, RemoteUnavailable."""
    return [order async for page in _orders(client, url, bank, id_, outcome="refused") for order in page]


async def cancel_batch(client: FederationClient, *, url: str, bank: str, id_: str) -> dict[str, int]:
    """Cancel the payments that a batch took in, and count by how they stand, or why they can't be cancelled.

    Raises RemoteProblem, RemoteUnavailable.
    """
    counts: dict[str, int] = {}
    async for page in _orders(client, url, bank, id_, outcome="taken"):
        asked = Cancellations(payments=tuple(order.id for order in page))
        answer = await client.post(f"{url}/payments/cancellations", CancellationOutcomes, audience=bank, json=asked)
        for outcome in answer.results:
            word = str(outcome.reason or outcome.status)
            counts[word] = counts.get(word, 0) + 1
    return counts


async def _orders(
    client: FederationClient, url: str, bank: str, id_: str, *, outcome: str
) -> AsyncIterator[tuple[BatchOrderView, ...]]:
    """Yield the orders of a batch that were answered so, page by page."""
    params = {"outcome": outcome, "limit": "1000"}
    while True:
        page = await client.get(f"{url}/batches/{id_}/orders", BatchOrderPage, audience=bank, params=params)
        if page.items:
            yield page.items
        if page.next is None:
            return
        params = {**params, "cursor": page.next}


def importing_client(
    *, url: str, client: str | None, key: Path | None, data_dir: Path | None, subject: str | None
) -> FederationClient:
    """Return who orders payments: a client by its key, or somebody named at the bank's machine. Raises IntakeError."""
    if subject is None and client is not None and key is not None:
        try:
            return FederationClient(client, SigningKey.load(key), url, timeout_s=60, scope=Role.ORDERS)
        except (OSError, ValueError) as error:
            raise IntakeError(f"{key}: can't be read as a private key: {error}") from error
    if data_dir is None or subject is None:
        raise IntakeError("who is importing? `concordat login`, or give --client and --key")
    return staff_client(data_dir, url=url, subject=subject)


def staff_client(data_dir: Path, *, url: str, subject: str) -> FederationClient:
    """Return a client that orders payments in a person's name, by the `token.pem` of the bank's data directory."""
    path = data_dir / "keys" / "token.pem"
    if not path.exists():
        raise IntakeError(f"{path} is missing: run this where the bank's keys are (concordat participant init)")
    key = SigningKey.load(path)
    tokens = staff_tokens(key, issuer=url, subject=subject, role=Role.ORDERS)
    return FederationClient(subject, key, url, timeout_s=60, token_source=tokens)
