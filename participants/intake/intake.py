"""Paying from a file, through the bank's own API: what `concordat participant import` does.

Only the rows that this bank is the debtor's bank of are taken. Every payment has an id, its own or one derived from
what its row says, so a run that was interrupted is simply run again: what was taken before, from whatever file, is
answered as known. A file is a batch at the bank, under an id that follows from its content.

Other ids follow from these, one after the other, for three reasons:

- a derived id is an order's that says something else: somebody took it, on purpose or not, and the row is still paid;
- the payment was refused after it was taken, so its money is free: the row is refused, and paid anew only if asked for;
- the file's batch is somebody else's: everybody who imports a file has a batch of his own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from gateway.federation.http.client import FederationClient, RemoteProblem, RemoteUnavailable, TokenNotGranted
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from participants.api.messages import BatchView, OrderBatch, OrderResults
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
from participants.intake.status import FOLLOWING_MAX, batch_status, file_id
from participants.payments.batches import BatchRequestReason
from participants.payments.incoming import DeclineReason
from participants.payments.orders import OrderOutcome, OrderReason
from participants.payments.row_identity import following_id

RETRY_SECONDS_MAX = 5.0
FILE_NAME_CHARACTERS_MAX = 140
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
    batch: str | None = None
    """The id of the batch that the file is, once a row was sent."""

    @property
    def known_rows(self) -> int:
        return sum(map(len, self.known.values()))


@dataclass(frozen=True)
class Attempt:
    """A row under an id by which it is paid: its own, or one that follows. `earlier` are those before."""

    row: PaymentRow
    id: str
    earlier: int = 0
    refused: str | None = None
    """Why its payment was refused after it was taken, under an id before."""

    def next(self, outcome: OrderOutcome) -> Attempt | None:
        """Return what is to be tried after an answer; None if that answer stands."""
        derived = self.row.equal_before is not None
        taken_by_another = outcome.reason == OrderReason.ID_REUSED and (derived or self.earlier > 0)
        if self.earlier >= FOLLOWING_MAX or not (taken_by_another or outcome.payment_reason):
            return None
        return Attempt(self.row, following_id(self.id), self.earlier + 1, outcome.payment_reason or self.refused)


def order_of(row: PaymentRow, id_: str | None = None) -> OrderRequest:
    """Return the order that a row of a file stands for, under its own id or another."""
    return OrderRequest(
        id=id_ or row.id,
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
        pay_again: bool = False,
        on_progress: Callable[[int], None] = _ignore,
        on_refusal: Callable[[RefusedRow], None] = _ignore,
    ) -> None:
        self._client = client
        self._url = url
        self._bank = bank
        self._batch_items = BATCH_ITEMS_MAX if dry_run else batch_items
        self._patience_s = patience_s
        self._dry_run = dry_run
        self._pay_again = pay_again
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
            if id_ and id_ != self.summary.batch:
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
        judged = await self._judge([Attempt(row, row.id) for row in rows])
        bad = {attempt.row.line for attempt, outcome in judged if self._is_bad(attempt, outcome)}
        if not bad and not self.summary.refusals:
            try:
                await self._submit([attempt for attempt, _ in judged], atomic=True)
            except RemoteProblem as problem:
                raise IntakeError(str(problem)) from problem
            return
        for attempt, outcome in judged:
            if attempt.row.line in bad:
                self._refuse(self._refused(attempt, outcome))
            elif outcome.replayed:
                self._count(attempt, outcome, unanswered=False)
            else:
                self._refuse(_refused(attempt, OrderOutcome(attempt.id, "refused", OrderReason.BATCH_NOT_TAKEN)))

    def _is_bad(self, attempt: Attempt, outcome: OrderOutcome) -> bool:
        """Tell whether a row isn't to be paid, given the last answer on it."""
        free = attempt.refused is not None and not outcome.replayed
        return outcome.status == "refused" or (free and not self._pay_again)

    def _refused(self, attempt: Attempt, outcome: OrderOutcome) -> RefusedRow:
        """Return the refusal of a bad row: by what was answered last, which counts only for what is to be paid."""
        said = outcome if attempt.refused is None or self._pay_again else OrderOutcome(attempt.id, "refused")
        return _refused(attempt, said)

    async def take(self, rows: Sequence[PaymentRow]) -> None:
        """Submit rows, each for itself."""
        await self._take([Attempt(row, row.id) for row in rows])

    async def _take(self, attempts: Sequence[Attempt]) -> None:
        """Submit rows; a request refused as a whole is divided until the row to blame stands alone."""
        try:
            await self._submit(attempts)
        except RemoteProblem as problem:
            for some in _divided(attempts, problem):
                await self._take(some)
            if len(attempts) == 1:
                said = "; ".join(map(str, problem.problem.errors)) or problem.detail
                self._refuse(_refused(attempts[0], _outcome_of(attempts[0], problem), said))

    async def _submit(self, attempts: Sequence[Attempt], *, atomic: bool = False) -> None:
        """Ask until there is an answer, and take it down. Raises IntakeError, RemoteProblem."""
        outcomes, unanswered = await self._ask(attempts, atomic=atomic, dry_run=self._dry_run)
        again, looked_up = [], []
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            following = None if atomic else attempt.next(outcome)
            if following is None:
                self._count(attempt, outcome, unanswered=unanswered)
            elif following.refused is None or self._pay_again:
                again.append(following)
            else:
                looked_up.append(following)
        if looked_up:
            judged = await self._judge(looked_up)
            good = [pair for pair in judged if not self._is_bad(*pair)]
            if good and not self._dry_run:
                # They are paid, by other files perhaps: so this file's batch has the payments that paid its rows.
                await self._ask([attempt for attempt, _ in good], dry_run=False)
            for attempt, outcome in judged:
                if self._is_bad(attempt, outcome):
                    self._refuse(self._refused(attempt, outcome))
                else:
                    self._count(attempt, outcome, unanswered=False)
        if again:
            await self._take(again)

    async def _judge(self, attempts: Sequence[Attempt]) -> list[tuple[Attempt, OrderOutcome]]:
        """Return each row under the id by which it is paid or would be, and what would be answered. Pays nothing."""
        if not attempts:
            return []
        try:
            outcomes, _ = await self._ask(attempts, dry_run=True)
        except RemoteProblem as problem:
            judged = [pair for some in _divided(attempts, problem) for pair in await self._judge(some)]
            return judged or [(attempts[0], _outcome_of(attempts[0], problem))]
        judged = list(zip(attempts, outcomes, strict=True))
        following = [after for attempt, outcome in judged if (after := attempt.next(outcome)) is not None]
        later = {attempt.row.line: (attempt, outcome) for attempt, outcome in await self._judge(following)}
        return [later.get(attempt.row.line, (attempt, outcome)) for attempt, outcome in judged]

    async def _ask(
        self, attempts: Sequence[Attempt], *, atomic: bool = False, dry_run: bool
    ) -> tuple[Sequence[OrderOutcome], bool]:
        """Return the bank's answers, and whether one was lost before. Raises IntakeError, RemoteProblem."""
        tried = 0
        while True:
            batch = OrderBatch(
                payments=tuple(order_of(attempt.row, attempt.id) for attempt in attempts),
                id=self._file.id,
                name=self._file.name,
                lines=tuple(attempt.row.line for attempt in attempts) if self._file.id else (),
                atomic=atomic,
                dry_run=dry_run,
            )
            try:
                outcomes = await self._answers(batch)
            except RemoteProblem as problem:
                if problem.code != BatchRequestReason.BATCH_OF_ANOTHER or self._file.id is None:
                    raise
                tried += 1
                following = following_id(self._file.id) if tried < FOLLOWING_MAX else str(uuid.uuid4())
                self._file = replace(self._file, id=following)
            else:
                self.summary.batch = self._file.id
                return outcomes

    async def _answers(self, batch: OrderBatch) -> tuple[Sequence[OrderOutcome], bool]:
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
                if isinstance(error, TokenNotGranted) and error.status not in _STATUSES_TO_REPEAT:
                    raise IntakeError(f"{self._url} lets nobody in by this name to order payments: {error}") from error
                if isinstance(error, RemoteProblem) and error.status not in _STATUSES_TO_REPEAT:
                    raise
                if time.monotonic() + delay > give_up_at:
                    raise IntakeError(f"{self._url} doesn't answer: {error}") from error
                unanswered = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
            else:
                return results.results, unanswered

    def _count(self, attempt: Attempt, outcome: OrderOutcome, *, unanswered: bool) -> None:
        if outcome.status == "refused":
            self._refuse(_refused(attempt, outcome))
        elif outcome.payment_reason is not None:
            self._refuse(_refused(replace(attempt, refused=outcome.payment_reason), outcome))
        # What this file took in may have been taken just now, by a request of which the answer was lost.
        elif outcome.replayed and not (unanswered and outcome.batch == self._file.id):
            self.summary.known.setdefault(outcome.batch or "", []).append(attempt.row.line)
        else:
            self.summary.taken += 1
            self.summary.held += outcome.status == "held"

    def _refuse(self, row: RefusedRow) -> None:
        self._on_refusal(row)
        self.summary.refusals.append(replace(row, fields={}))


def _divided(attempts: Sequence[Attempt], problem: RemoteProblem) -> list[Sequence[Attempt]]:
    """Return the halves of what was refused as a whole, none of what is one row. Raises IntakeError for the rest."""
    if problem.status not in _STATUSES_TO_DIVIDE:
        raise IntakeError(str(problem)) from problem
    middle = len(attempts) // 2
    return [attempts[:middle], attempts[middle:]] if middle else []


def _outcome_of(attempt: Attempt, problem: RemoteProblem) -> OrderOutcome:
    return OrderOutcome(attempt.id, "refused", problem.code)


def _refused(attempt: Attempt, outcome: OrderOutcome, detail: str = "") -> RefusedRow:
    """Return the refusal of a row; one without a reason is of a payment that was refused after it was taken."""
    reason = (outcome.reason or attempt.refused) or "unspecified"
    if outcome.reason is None:
        ended = "cancelled" if reason == DeclineReason.CANCELLED_BY_SENDER else "refused"
        detail = f"it was taken, and {ended} afterwards ({reason}): its money is free, and --pay-again pays it anew"
    said = detail or f"payment {attempt.id}: {reason.replace('_', ' ')}"
    return RefusedRow(attempt.row.line, reason, said, fields=attempt.row.fields())


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)[:FILE_NAME_CHARACTERS_MAX]
