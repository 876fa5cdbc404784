"""Sending queued payments to the banks they go to, until each has an answer.

One worker a counterparty, one batch under way at a time, so answers come in the order of the numbers. A lost answer
costs nothing: the batch is sent again and the other bank answers what it answered before. What stays queued is looked
at by time too: another replica may have committed it, or the answer to a commit was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial

import asyncpg
import msgspec
import structlog

from compliance.crypto.keys import Signer
from gateway.federation import correlation
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.membership.trust import TrustStore
from gateway.federation.supervision import Supervised
from participants.ledger import store
from participants.ledger.payment import Status
from participants.ledger.rows import Evidence, Rows
from participants.ledger.writer import Ledger
from participants.payments.answers import EVIDENCE_KIND, UNANSWERED, ApplyAnswers, SentPayment
from participants.payments.circuit import Circuit
from participants.payments.failures import (
    EXPECTED,
    NOT_UNDERSTOOD,
    OURS,
    AnswerRefusedError,
    is_of_content,
    is_of_size,
)
from participants.payments.queue import (
    CANCELLING,
    COUNTERPARTIES_CANCELLING,
    QUEUED,
    STANDING,
    STILL_QUEUED,
    STILL_UNANSWERED,
    STILL_WAITING,
)
from participants.payments.refused_batches import RefusedBatches
from participants.payments.sent_batch import Kind, SentBatch

LOOK_SECONDS = 3.0
SENT_ITEMS_MAX = 2_048
"""Of a batch: more at once saves next to nothing, and keeps others waiting at both banks."""
ACKNOWLEDGEMENT_BYTES_MAX = 4_096
"""And for each payment of the batch `OUTCOME_BYTES_MAX` more."""
OUTCOME_BYTES_MAX = 512
AGAIN_ITEMS_MAX = 32
"""Of payments that were asked about before in a batch: the answer is kept whole if one of them was decided."""
HELD_RETRY_SECONDS_MIN = 1.0
HELD_RETRY_SECONDS_MAX = 60.0
REFUSED_SECONDS = 0.1
"""Between a batch that is refused for what it is and the next one: whoever refuses lives, and takes others."""
ORDINARY_SECONDS = 600.0
"""How long payments that their sender withdraws go the ordinary way to a bank that doesn't know of withdrawing."""

log = structlog.get_logger(__name__)


class Outbound:
    """The sending side of the federation API."""

    def __init__(
        self,
        *,
        bank: str,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        signer: Signer,
        agree_with: Callable[[str], Awaitable[None]],
    ) -> None:
        """`agree_with` makes sure that a receiver has no payment of ours that the ledger lacks."""
        self._agree_with = agree_with
        self._bank = bank
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._client = client
        self._signer = signer
        self._workers: dict[str, Supervised] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._held: dict[str, dict[str, tuple[float, float]]] = {}
        self._circuits: dict[str, Circuit] = {}
        self._held_there: dict[str, set[str]] = {}
        self._refused: dict[str, RefusedBatches] = {}
        self._withdrawing: set[str] = set()
        self._ordinary_until: dict[str, float] = {}
        self.task = Supervised("outbound-look", self._look_by_time)

    def start(self) -> None:
        """Begin to send, first of all what the last process left unanswered."""
        self._ledger.listeners.append(self._committed)
        self.task.start()

    async def stop(self) -> None:
        """Stop sending; what has no answer yet is sent again after the next start."""
        # What the ledger still writes while it stops would begin workers that nobody ends.
        self._ledger.listeners.remove(self._committed)
        await asyncio.gather(*(task.stop() for task in (self.task, *self._workers.values())))

    def condition(self) -> str:
        """Tell how many counterparties are sent to, and name those whose worker isn't going on: it costs no other."""
        ended = [f"{name}: {worker.failure}" for name, worker in sorted(self._workers.items()) if worker.failure]
        older = [f"{name} takes no cancellations" for name in sorted(self._ordinary_until) if self._ordinary(name)]
        return "; ".join([f"{len(self._workers)} counterparties", *ended, *older])

    def heard_from(self, counterparty: str) -> None:
        """A counterparty called: if it couldn't be paid, it is tried at once."""
        if (circuit := self._circuits.get(counterparty)) is not None:
            circuit.heard()

    def undeliverable(self) -> dict[str, datetime]:
        """Return which counterparties can't be paid, and since when."""
        since = {counterparty: circuit.undeliverable_since for counterparty, circuit in self._circuits.items()}
        return {counterparty: instant for counterparty, instant in sorted(since.items()) if instant is not None}

    @property
    def set_aside(self) -> dict[str, set[str]]:
        """By counterparty, the payments that it refuses to answer, each for itself."""
        return {counterparty: set(refused.set_aside) for counterparty, refused in self._refused.items()}

    def held_elsewhere(self) -> list[str]:
        """Return the payments that other banks have answered to hold: they wait for people there."""
        return [payment for held in self._held_there.values() for payment in held]

    def wake(self, counterparty: str, *, payments: Iterable[str] = ()) -> None:
        """Send what is queued for a bank now, also those of these payments that the bank holds.

        Each that is asked about too early keeps its back-off, and so do all others.
        """
        held, payments = self._held.get(counterparty, {}), list(payments)
        if (refused := self._refused.get(counterparty)) is not None:
            refused.wake(payments)
        for payment_id in payments:
            if payment_id in held:
                held[payment_id] = (0.0, held[payment_id][1])
        self._wakes.setdefault(counterparty, asyncio.Event()).set()
        if counterparty not in self._workers:
            worker = Supervised(f"outbound-{counterparty}", partial(self._work, counterparty))
            self._workers[counterparty] = worker
            worker.start()

    def _committed(self, rows: Rows) -> None:
        waiting = {(to, state) for _, _, to, state, _ in rows.open_payments.values()}
        for counterparty, state in waiting:
            if state == "queued":
                self.wake(counterparty)
            elif state == "cancelling":
                self._withdrawing.add(counterparty)
                withdrawn = [row[0] for row in rows.open_payments.values() if row[2:4] == (counterparty, state)]
                self.wake(counterparty, payments=withdrawn)

    async def _look_by_time(self) -> None:
        """Send what is queued at the start, then what has stood still between two looks, whoever queued it."""
        standing: dict[str, int] | None = None
        while True:
            try:
                queued = dict(await self._pool.fetch(STANDING))
                for counterparty, oldest in queued.items():
                    if standing is None or standing.get(counterparty) == oldest:
                        self.wake(counterparty)
                standing = queued
                for (counterparty,) in await self._pool.fetch(COUNTERPARTIES_CANCELLING):
                    self._withdrawing.add(counterparty)
                    self.wake(counterparty)
            except EXPECTED as error:
                log.warning("queue not looked at", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _work(self, counterparty: str) -> None:
        circuit = self._circuits.setdefault(counterparty, Circuit(counterparty))
        batch: SentBatch | None = None
        items_max = SENT_ITEMS_MAX
        last = Kind.REFUSED
        while True:
            self._wakes[counterparty].clear()
            try:
                # What nobody answered is sent again as it is: nothing is signed twice while a bank is away, unless
                # something of it is to be paid no more, or has been answered to another replica.
                if batch is not None and not await self._still_waits(counterparty, batch):
                    batch = None
                batch = batch or await self._next_batch(counterparty, items_max, after=last)
                if batch is None:
                    # Nothing waits, whoever delivered it: nothing is undeliverable.
                    circuit.succeeded()
                    await self._wait(counterparty)
                    continue
                correlation.begin()
                await self._send(counterparty, batch)
                last, batch, items_max = batch.kind, None, min(items_max * 2, SENT_ITEMS_MAX)
                circuit.succeeded()
            except Exception as error:  # whatever went wrong, queued payments must be tried again
                if batch is not None and is_of_content(error):
                    circuit.succeeded()
                    if is_of_size(error):
                        items_max = max(1, len(batch.payments) // 2)
                    self._apart(counterparty, batch, error)
                    last, batch = batch.kind, None
                    await asyncio.sleep(REFUSED_SECONDS)
                    continue
                retry_s = circuit.failed(
                    ours=isinstance(error, OURS) or not isinstance(error, EXPECTED),
                    retry_after_s=error.retry_after_s if isinstance(error, RemoteProblem) else None,
                )
                log.warning(
                    "payments not delivered",
                    counterparty=counterparty,
                    error=str(error)[:200],
                    retry_s=round(retry_s, 1),
                    circuit=circuit.state,
                    exc_info=None if isinstance(error, EXPECTED) else error,
                )
                await circuit.rest(retry_s)

    def _apart(self, counterparty: str, batch: SentBatch, error: Exception) -> None:
        """Keep what was refused for what it is from holding up the rest."""
        if batch.document.withdrawn and getattr(error, "code", None) == NOT_UNDERSTOOD:
            self._ordinary_until[counterparty] = time.monotonic() + ORDINARY_SECONDS
            event = "payments can't be withdrawn there: the other bank runs an earlier release"
        else:
            self._refused_by(counterparty).refused(batch.payments)
            event = "payments refused as a whole"
        log.warning(event, counterparty=counterparty, payments=len(batch.payments), error=str(error)[:200])

    async def _wait(self, counterparty: str) -> None:
        """Wait for a new payment, or until a held or a refused one is to be asked about again."""
        times = [due for due, _ in self._held.get(counterparty, {}).values()]
        if (due_at := self._refused_by(counterparty).due_at()) is not None:
            times.append(due_at)
        timeout = max(0.05, min(times) - time.monotonic()) if times else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wakes[counterparty].wait()

    async def _next_batch(self, counterparty: str, items_max: int, *, after: Kind) -> SentBatch | None:
        """Read and sign what waits for a bank, at most `items_max` payments; None if nothing does.

        Of the first kind of which anything does, `after` the one of which the last batch was.
        """
        kinds = list(Kind)
        turns = [*kinds[kinds.index(after) + 1 :], *kinds[: kinds.index(after) + 1]]
        async with self._pool.acquire() as connection:
            for kind in turns:
                ids = await self._waiting(connection, kind, counterparty, items_max)
                by_id = await store.read_payments(connection, ids) if ids else {}
                # Another node of this bank may have had an answer since, or somebody may have cancelled one.
                payments = [by_id[id_] for id_ in ids if by_id[id_].status in UNANSWERED]
                if payments:
                    break
            else:
                return None
        cancelling = [payment for payment in payments if payment.status is Status.CANCELLING]
        withdrawn = bool(cancelling) and not self._ordinary(counterparty)
        return await SentBatch.signed(
            kind, cancelling or payments, self._signer, sender=self._bank, withdrawn=withdrawn
        )

    async def _waiting(
        self, connection: asyncpg.Connection, kind: Kind, counterparty: str, items_max: int
    ) -> list[str]:
        """Return the payments of a kind that are to be sent now."""
        held, refused = self._held.setdefault(counterparty, {}), self._refused_by(counterparty)
        match kind:
            case Kind.WITHDRAWN:
                return await self._withdrawn(connection, counterparty, items_max)
            case Kind.NEW:
                rows = await connection.fetch(QUEUED, counterparty, [*held, *refused.ids()], items_max)
                return [row[0] for row in rows]
            case Kind.ASKED:
                return await self._due(connection, counterparty, items_max)
            case Kind.REFUSED:
                if not (due := refused.due()):
                    return []
                waiting = [row[0] for row in await connection.fetch(STILL_UNANSWERED, counterparty, due)]
                refused.forget(set(due).difference(waiting))
                return waiting[:items_max]

    async def _withdrawn(self, connection: asyncpg.Connection, counterparty: str, items_max: int) -> list[str]:
        """Return payments that are to be withdrawn now, but those kept apart, or held and not asked about yet."""
        if counterparty not in self._withdrawing:
            return []
        self._withdrawing.discard(counterparty)  # before looking: whoever adds to them says so again
        held, now, refused = self._held[counterparty], time.monotonic(), set(self._refused_by(counterparty).ids())
        rows = await connection.fetch(CANCELLING, counterparty, items_max + len(held) + len(refused))
        if rows:
            self._withdrawing.add(counterparty)
        due = [row[0] for row in rows if held.get(row[0], (0.0,))[0] <= now]
        return [id_ for id_ in due if id_ not in refused][:items_max]

    def _ordinary(self, counterparty: str) -> bool:
        """Tell whether a bank, which doesn't know of withdrawing, is asked the ordinary way."""
        return time.monotonic() < self._ordinary_until.get(counterparty, 0.0)

    def _refused_by(self, counterparty: str) -> RefusedBatches:
        return self._refused.setdefault(counterparty, RefusedBatches())

    async def _still_waits(self, counterparty: str, batch: SentBatch) -> bool:
        """Tell whether all payments of a batch still wait as they did when it was made."""
        since = [payment.waiting_since for payment in batch.payments]
        waiting = await self._pool.fetchval(STILL_WAITING, counterparty, batch.state, since)
        return bool(waiting == len(batch.payments))

    async def _due(self, connection: asyncpg.Connection, counterparty: str, items_max: int) -> list[str]:
        """Return payments to ask about again, and forget those that another replica had answered."""
        held, now = self._held[counterparty], time.monotonic()
        asked = [id_ for id_, (at, _) in held.items() if at <= now][: min(items_max, AGAIN_ITEMS_MAX)]
        queued = [row[0] for row in await connection.fetch(STILL_QUEUED, counterparty, asked)] if asked else []
        for id_ in set(asked).difference(queued):
            del held[id_]
            self._held_there.get(counterparty, set()).discard(id_)
        return queued

    async def _send(self, counterparty: str, batch: SentBatch) -> None:
        """Send a batch and apply the answers. Raises RemoteError, AnswerRefusedError, EvidenceError, Refusal."""
        self._trust.require_fresh()
        member = self._trust.member(counterparty)
        if member is None or member.status != "active":
            raise AnswerRefusedError(f"{counterparty} isn't active on the trust list")
        await self._agree_with(counterparty)
        response = await self._client.request(
            "POST",
            f"{member.url}/federation/payments",
            audience=counterparty,
            content=msgspec.json.encode(batch.envelope),
            headers={"Content-Type": "application/json"},
            timeout_s=60,
            attempts_max=1,
            answer_bytes_max=ACKNOWLEDGEMENT_BYTES_MAX + OUTCOME_BYTES_MAX * len(batch.payments),
        )
        envelope, answers = batch.answered(response.content, self._trust.signing_keys(counterparty))
        command = ApplyAnswers(Evidence.of(EVIDENCE_KIND, counterparty, envelope), answers)
        await self._ledger.submit(command)
        if command.conflicts:
            log.error("numbers given twice", counterparty=counterparty, payments=len(command.conflicts))
        self._remember_held(counterparty, answers, set(command.conflicts))

    def _remember_held(self, counterparty: str, answers: list[SentPayment], conflicts: set[str]) -> None:
        held = self._held.setdefault(counterparty, {})
        there = self._held_there.setdefault(counterparty, set())
        self._refused_by(counterparty).answered([answer.payment.id for answer in answers])
        for answer in answers:
            if answer.outcome.status == "held":
                there.add(answer.payment.id)
            else:
                there.discard(answer.payment.id)
            if answer.outcome.status == "held" or answer.payment.id in conflicts:
                _, delay = held.get(answer.payment.id, (0.0, HELD_RETRY_SECONDS_MIN / 2))
                delay = min(delay * 2, HELD_RETRY_SECONDS_MAX)
                held[answer.payment.id] = (time.monotonic() + delay, delay)
            else:
                held.pop(answer.payment.id, None)
