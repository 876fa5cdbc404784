"""Paying from a file, through the bank's own API: what `concordat participant import` does.

Only the rows that this bank is the debtor's bank of are taken. Every payment has an id, its own or one derived from
the file and the line, so a run that was interrupted is simply run again: what was taken before is answered as it was
the first time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from compliance.crypto.keys import SigningKey
from gateway.federation.http.client import FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.membership.institution import staff_tokens
from participants.api.messages import OrderBatch, OrderResults
from participants.api.orders import OrderRequest
from participants.intake.files import (
    PaymentFile,
    PaymentRow,
    ReadOptions,
    RefusedRow,
    read_rows,
)
from participants.payments.orders import OrderOutcome
from participants.roles import Role

RETRY_SECONDS_MAX = 5.0
# The request as a whole is refused: some order in it isn't even one, or it is too large.
_STATUSES_TO_DIVIDE = frozenset({400, 413, 422})
_STATUSES_TO_REPEAT = frozenset({429, 502, 503, 504})


class IntakeError(Exception):
    """The bank can't be reached, or doesn't let us in. What was taken so far stays taken."""


@dataclass
class Summary:
    """What became of a file's rows. `of_other_banks` are rows that another bank has to pay."""

    taken: int = 0
    held: int = 0
    of_other_banks: int = 0
    refusals: list[RefusedRow] = field(default_factory=list)


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
    )


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
        on_progress: Callable[[int], None] = _ignore,
        on_refusal: Callable[[RefusedRow], None] = _ignore,
    ) -> None:
        self._client = client
        self._url = url
        self._bank = bank
        self._batch_items = batch_items
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._on_refusal = on_refusal
        self.summary = Summary()

    async def run(self, file: PaymentFile, options: ReadOptions) -> Summary:
        """Take in a whole file. Raises IntakeError, FileRefused."""
        rows = self._own(read_rows(file, options))
        while batch := await asyncio.to_thread(lambda: list(islice(rows, self._batch_items))):
            await self.take(batch)
            self._on_progress(batch[-1].line)
        self._on_progress(file.lines)
        return self.summary

    def _own(self, rows: Iterator[PaymentRow | RefusedRow]) -> Iterator[PaymentRow]:
        for row in rows:
            if isinstance(row, RefusedRow):
                self._refuse(row)
            elif row.debtor_bank == self._bank:
                yield row
            else:
                self.summary.of_other_banks += 1

    async def take(self, rows: Sequence[PaymentRow]) -> None:
        """Submit rows; a request refused as a whole is divided until the row to blame stands alone."""
        try:
            outcomes = await self._submit(rows)
        except RemoteProblem as problem:
            if problem.status not in _STATUSES_TO_DIVIDE:
                raise IntakeError(str(problem)) from problem
            if len(rows) == 1:
                self._refuse(RefusedRow(rows[0].line, problem.code, problem.detail))
                return
            middle = len(rows) // 2
            await self.take(rows[:middle])
            await self.take(rows[middle:])
            return
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome.status == "refused":
                reason = outcome.reason or "unspecified"
                self._refuse(RefusedRow(row.line, reason, f"payment {row.id}: {reason.replace('_', ' ')}"))
            else:
                self.summary.taken += 1
                self.summary.held += outcome.status == "held"

    async def _submit(self, rows: Sequence[PaymentRow]) -> tuple[OrderOutcome, ...]:
        batch = OrderBatch(payments=tuple(map(order_of, rows)))
        give_up_at = time.monotonic() + self._patience_s
        delay = 0.2
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
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
            else:
                return results.results

    def _refuse(self, row: RefusedRow) -> None:
        self.summary.refusals.append(row)
        self._on_refusal(row)


def staff_client(data_dir: Path, *, url: str, subject: str) -> FederationClient:
    """Return a client that orders payments in a person's name, by the `token.pem` of the bank's data directory."""
    path = data_dir / "keys" / "token.pem"
    if not path.exists():
        raise IntakeError(f"{path} is missing: run this where the bank's keys are (concordat participant init)")
    key = SigningKey.load(path)
    tokens = staff_tokens(key, issuer=url, subject=subject, role=Role.ORDERS)
    return FederationClient(subject, key, url, timeout_s=60, token_source=tokens)
