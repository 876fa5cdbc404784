"""Sending queued payments to the banks they go to, until each has an answer.

One worker a counterparty, one batch under way at a time, so answers come in the order of the numbers. A lost answer
costs nothing: the batch is sent again and the other bank answers what it answered before.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import msgspec
import structlog

from compliance import canonical, dsse, merkle
from compliance.dsse import Envelope, EvidenceError
from compliance.keys import Signer
from gateway.federation.client import FederationClient, RemoteError
from gateway.federation.problems import Refusal
from gateway.federation.trust import TrustStore
from gateway.federation.wire import (
    ACKNOWLEDGEMENT_TYPE,
    BATCH_ITEMS_MAX,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentTerms,
)
from participants import store
from participants.books import Payment, Rows
from participants.events import PaymentOrder
from participants.inbound import leaf_of
from participants.ledger import Ledger
from participants.payments import ApplyAnswers, SentPayment

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
HELD_RETRY_SECONDS_MIN = 1.0
HELD_RETRY_SECONDS_MAX = 60.0

QUEUED = """
SELECT payment_id::text FROM payment_open
WHERE counterparty = $1 AND state = 'queued' AND NOT payment_id = ANY($2::uuid[])
ORDER BY event_sequence LIMIT $3
"""

log = structlog.get_logger(__name__)


class AnswerRefusedError(Exception):
    """The other bank's answer isn't one to this batch; the payments stay queued."""


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
    ) -> None:
        self._bank = bank
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._client = client
        self._signer = signer
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._held: dict[str, dict[str, tuple[float, float]]] = {}

    async def start(self) -> None:
        """Go on with whatever the last process left unanswered."""
        self._ledger.listeners.append(self._committed)
        for row in await self._pool.fetch("SELECT DISTINCT counterparty FROM payment_open WHERE state = 'queued'"):
            self.wake(row[0])

    async def stop(self) -> None:
        """Stop sending; what has no answer yet is sent again after the next start."""
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)

    def wake(self, counterparty: str, *, held_too: bool = False) -> None:
        """Send what is queued for a bank now; `held_too` asks again about payments that the bank holds."""
        if held_too:
            self._held.pop(counterparty, None)
        self._wakes.setdefault(counterparty, asyncio.Event()).set()
        worker = self._workers.get(counterparty)
        if worker is None or worker.done():
            self._workers[counterparty] = asyncio.create_task(self._work(counterparty), name=f"outbound-{counterparty}")

    def _committed(self, rows: Rows) -> None:
        for counterparty in {opened[2] for opened in rows.opened.values() if opened[3] == "queued"}:
            self.wake(counterparty)

    async def _work(self, counterparty: str) -> None:
        delay = RETRY_SECONDS_MIN
        while True:
            self._wakes[counterparty].clear()
            try:
                sent = await self._send_batch(counterparty)
                delay = RETRY_SECONDS_MIN
            except Exception as error:  # whatever went wrong, queued payments must be tried again
                expected = isinstance(
                    error, (RemoteError, AnswerRefusedError, EvidenceError, Refusal, asyncpg.PostgresError, OSError)
                )
                log.warning(
                    "payments not delivered",
                    counterparty=counterparty,
                    error=str(error)[:200],
                    retry_s=delay,
                    exc_info=None if expected else error,
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
                continue
            if sent:
                continue
            held = self._held.get(counterparty)
            timeout = max(0.05, min(due for due, _ in held.values()) - time.monotonic()) if held else None
            try:
                await asyncio.wait_for(self._wakes[counterparty].wait(), timeout)
            except TimeoutError:
                continue

    async def _send_batch(self, counterparty: str) -> int:
        """Send one batch and apply the answers; return the number of payments sent."""
        now = time.monotonic()
        held = self._held.setdefault(counterparty, {})
        waiting = [id_ for id_, (due, _) in held.items() if due > now]
        async with self._pool.acquire() as connection:
            ids = [row[0] for row in await connection.fetch(QUEUED, counterparty, waiting, BATCH_ITEMS_MAX)]
            if not ids:
                return 0
            known = await store.read_payments(connection, ids)
        member = self._trust.member(counterparty)
        if member is None:
            raise AnswerRefusedError(f"{counterparty} isn't on the trust list")
        payments = [known[id_] for id_ in ids]
        terms = [_terms(payment) for payment in payments]
        leaves = [leaf_of(t) for t in terms]
        batch = PaymentBatch(
            sender=self._bank, receiver=counterparty, root=merkle.root(leaves).hex(), payments=tuple(terms)
        )
        envelope = dsse.sign(batch, self._signer, payload_type=PAYMENT_BATCH_TYPE)
        response = await self._client.request(
            "POST",
            f"{member.url}/federation/payments",
            audience=counterparty,
            content=msgspec.json.encode(envelope),
            headers={"Content-Type": "application/json"},
            timeout_s=60,
        )
        answer = self._read_answer(counterparty, envelope, ids, response.content)
        answers = [
            SentPayment(payment, leaf, outcome)
            for payment, leaf, outcome in zip(payments, leaves, answer.outcomes, strict=True)
        ]
        command = ApplyAnswers(counterparty, canonical.digest(canonical.encode(answer)), response.content, answers)
        await self._ledger.submit(command)
        if command.conflicts:
            log.error("numbers given twice", counterparty=counterparty, payments=len(command.conflicts))
        self._remember_held(held, answers, set(command.conflicts))
        return len(answers) - sum(a.outcome.status == "held" for a in answers) - len(command.conflicts)

    def _read_answer(self, counterparty: str, sent: Envelope, ids: list[str], body: bytes) -> Acknowledgement:
        try:
            envelope = msgspec.json.decode(body, type=Envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AnswerRefusedError(f"answer isn't an envelope: {error}") from error
        answer = dsse.verify(
            envelope, Acknowledgement, self._trust.signing_keys(counterparty), payload_type=ACKNOWLEDGEMENT_TYPE
        )
        if (answer.sender, answer.receiver) != (self._bank, counterparty):
            raise AnswerRefusedError("answer is between other banks")
        if answer.batch != canonical.digest(sent.payload_bytes()):
            raise AnswerRefusedError("answer is to another batch")
        if [outcome.id for outcome in answer.outcomes] != ids:
            raise AnswerRefusedError("answer isn't on these payments in this order")
        return answer

    @staticmethod
    def _remember_held(held: dict[str, tuple[float, float]], answers: list[SentPayment], conflicts: set[str]) -> None:
        now = time.monotonic()
        for answer in answers:
            if answer.outcome.status == "held" or answer.payment.id in conflicts:
                _, delay = held.get(answer.payment.id, (0.0, HELD_RETRY_SECONDS_MIN / 2))
                delay = min(delay * 2, HELD_RETRY_SECONDS_MAX)
                held[answer.payment.id] = (now + delay, delay)
            else:
                held.pop(answer.payment.id, None)


def _terms(payment: Payment) -> PaymentTerms:
    terms: Any = payment.terms
    return terms.terms() if isinstance(terms, PaymentOrder) else payment.terms
