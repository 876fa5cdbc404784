"""Recalls between banks: asking about this bank's until people there have answered, and hearing those of others.

The bank that recalls asks, and asks again, as it does about payments that are held: so nothing is lost when either bank
is away or restarts, and an answer is what the other bank signed. Hearing one makes this bank do nothing but show it to
its people.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

import asyncpg
import msgspec
import structlog

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import Signer
from gateway.federation.http.answers import read_answer
from gateway.federation.http.client import FederationClient, RemoteError, RemoteUnavailable
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.recalls import RECALL_ANSWER_TYPE, RECALL_TYPE, Recall, RecallAnswer
from gateway.federation.problems import Refusal
from gateway.federation.sharing import Shares
from gateway.federation.signers.signing import sign_document
from gateway.federation.storage.failures import DATABASE_ERRORS
from gateway.federation.supervision import Supervised
from participants.ledger import store
from participants.ledger.partitions import JournalDetached
from participants.ledger.rows import Evidence, Rows
from participants.ledger.writer import Ledger
from participants.payments.inbound import BatchReason
from participants.payments.recalls import (
    ANSWER_EVIDENCE,
    RECALL_EVIDENCE,
    ApplyRecallAnswer,
    RecallRequestReason,
    ReceiveRecall,
    heard_before,
)

LOOK_SECONDS = 3.0
ASKED_MAX = 256
"""In one go."""
ASKED_AT_ONCE = 8
"""Counterparties: one that hangs keeps few others waiting, and those for one round."""
FAILED_MAX = 8
"""Of one counterparty's in one go: the next time there is others' turn, for these wait for longer."""
ASK_SECONDS = 15.0
AGAIN_SECONDS_MIN = 1.0
AGAIN_SECONDS_MAX = 60.0
ANSWER_BYTES_MAX = 8_192
OPEN_MAX = 1_000
"""Recalls of one other bank that wait for this bank's people."""
UNDER_WAY_MAX = 4
"""Requests of one other bank."""

OPEN = """
SELECT counterparty, payment_id::text FROM payment_open
WHERE state = 'recalled' AND direction = 'out' AND NOT payment_id = ANY($1::uuid[]) AND NOT counterparty = ANY($2)
ORDER BY event_sequence LIMIT $3
"""
OPEN_OF = """
SELECT count(*) FROM payment_open WHERE state = 'recalled' AND direction = 'in' AND counterparty = $1
"""


class AnswerDiffersError(RemoteError):
    """What another bank answers isn't an answer to what it was asked."""


class BankNotActiveError(RemoteError):
    """The other bank isn't asked now."""


EXPECTED = (RemoteError, EvidenceError, Refusal, msgspec.DecodeError, TimeoutError, *DATABASE_ERRORS)

AWAY = (RemoteUnavailable, BankNotActiveError, Refusal, TimeoutError, *DATABASE_ERRORS)
"""What isn't the doing of one recall, or may be but takes long to find out."""

log = structlog.get_logger(__name__)


class _Delays:
    """What is asked about again later, and each time later than the last."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, float]] = {}

    def put_off(self, name: str, *, beyond_s: float = 0.0) -> float:
        """Return after how many seconds it is asked about again: twice as many as the last time, or as `beyond_s`."""
        _, delay = self._due.get(name, (0.0, AGAIN_SECONDS_MIN / 2))
        delay = min(delay * 2, AGAIN_SECONDS_MAX)
        self._due[name] = (time.monotonic() + max(delay, 2 * beyond_s), delay)
        return delay

    def forget(self, name: str) -> bool:
        """Ask about it at once; True if it was put off."""
        return self._due.pop(name, None) is not None

    def waiting(self) -> list[str]:
        """Return what isn't due yet. What nobody put off again in time is forgotten: another node had its answer."""
        now = time.monotonic()
        self._due = {name: due for name, due in self._due.items() if due[0] > now - AGAIN_SECONDS_MAX}
        return [name for name, (at, _) in self._due.items() if at > now]


class RecallDesk:
    """Both sides of recalling at a bank's node. Belongs to one event loop."""

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
        self._shares = Shares(UNDER_WAY_MAX, RecallRequestReason.TOO_MANY_RECALLS_OPEN, "recalls")
        # By payments, and by counterparties: when they are asked about again.
        self._recalls, self._banks = _Delays(), _Delays()
        self._wake = asyncio.Event()
        self.task = Supervised("recalls", self._work)

    def start(self) -> None:
        self._ledger.listeners.append(self._committed)
        self.task.start()

    async def stop(self) -> None:
        """Ask nobody any more; what is open is asked about after the next start."""
        self._ledger.listeners.remove(self._committed)
        await self.task.stop()

    def heard_from(self, counterparty: str) -> None:
        """A counterparty called: if it was away, it is asked at once."""
        if self._banks.forget(counterparty):
            self._wake.set()

    # --- hearing -----------------------------------------------------------------------------------------

    async def receive(self, caller: str, read_body: Callable[[], Awaitable[bytes]]) -> Envelope:
        """Take down a signed Recall from `caller`, or find it known, and return the signed RecallAnswer.

        Raises Refusal. What is known is answered beside the ledger's writer: who repeats keeps nobody waiting.
        """
        self._trust.require_fresh()
        with self._shares.share_of(caller):
            try:
                return await self._receive(caller, await read_body())
            except JournalDetached as refusal:
                raise refusal.for_others() from None

    async def _receive(self, caller: str, body: bytes) -> Envelope:
        try:
            envelope = msgspec.json.decode(body, type=Envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refusal(BatchReason.BODY_MALFORMED, str(error)) from error
        try:
            keys = self._trust.signing_keys(caller)
            recall = dsse.verify_submitted(envelope, Recall, keys, payload_type=RECALL_TYPE)
        except EvidenceError as error:
            raise Refusal(error.reason, str(error), status=400) from error
        if recall.sender != caller:
            raise Refusal(BatchReason.WRONG_SENDER, f"signed as {recall.sender}, sent by {caller}")
        if recall.receiver != self._bank:
            raise Refusal(BatchReason.WRONG_RECEIVER, f"for {recall.receiver}; this is {self._bank}")
        async with self._pool.acquire() as connection:
            payment = (await store.read_payments(connection, [recall.payment])).get(recall.payment)
            open_ = await connection.fetchval(OPEN_OF, caller)
        outcome = heard_before(payment, recall)
        evidence = Evidence.of(RECALL_EVIDENCE, caller, envelope)
        if outcome is None:
            if open_ >= OPEN_MAX:
                detail = f"{open_} recalls of {caller} wait for people already"
                raise Refusal(RecallRequestReason.TOO_MANY_RECALLS_OPEN, detail, retry_after_s=60)
            outcome = await self._ledger.submit(ReceiveRecall(evidence, recall))
        given = outcome.or_refuse().answer
        answer = RecallAnswer(
            sender=caller,
            receiver=self._bank,
            recall=evidence.sha256,
            status="open" if given is None else given.answer,
            returned_by=None if given is None else given.returned_by,
            reason=None if given is None else given.reason,
            text="" if given is None else given.text,
        )
        return await sign_document(answer, self._signer, payload_type=RECALL_ANSWER_TYPE)

    # --- asking ------------------------------------------------------------------------------------------

    def _committed(self, rows: Rows) -> None:
        recalled = [row[0] for row in rows.open_payments.values() if row[1] == "out" and row[3] == "recalled"]
        for payment_id in recalled:
            self._recalls.forget(payment_id)
        if recalled:
            self._wake.set()

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._ask_due()
            except EXPECTED as error:
                log.warning("recalls not looked at", error=type(error).__name__)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _ask_due(self) -> None:
        """Ask every counterparty about the recalls that are due, each counterparty by itself."""
        due: defaultdict[str, list[str]] = defaultdict(list)
        early = self._recalls.waiting(), self._banks.waiting()
        for counterparty, payment_id in await self._pool.fetch(OPEN, *early, ASKED_MAX):
            due[counterparty].append(payment_id)
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(counterparty: str, payment_ids: Iterable[str]) -> None:
            async with turns:
                await self._ask_bank(counterparty, payment_ids)

        await asyncio.gather(*(ask(counterparty, ids) for counterparty, ids in due.items()))

    async def _ask_bank(self, counterparty: str, payment_ids: Iterable[str]) -> None:
        failed = 0
        for payment_id in payment_ids:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    answered = await self._ask(counterparty, payment_id)
            except EXPECTED as error:
                log.warning(
                    "recall not answered", counterparty=counterparty, payment=payment_id, error=str(error)[:200]
                )
                # What is the matter with one recall keeps no other waiting, whatever the bank answers to it.
                if isinstance(error, AWAY):
                    delay_s = self._banks.put_off(counterparty)
                    if isinstance(error, TimeoutError):
                        self._recalls.put_off(payment_id, beyond_s=delay_s)
                    return
                self._recalls.put_off(payment_id)
                failed += 1
                if failed == FAILED_MAX:
                    return
            else:
                self._banks.forget(counterparty)
                if answered:
                    self._recalls.forget(payment_id)
                else:
                    self._recalls.put_off(payment_id)

    async def _ask(self, counterparty: str, payment_id: str) -> bool:
        """Ask about one recall and take down the answer; True if it has one. Raises EXPECTED."""
        self._trust.require_fresh()
        member = self._trust.member(counterparty)
        if member is None or member.status != "active":
            raise BankNotActiveError(f"{counterparty} isn't active on the trust list")
        async with self._pool.acquire() as connection:
            payment = (await store.read_payments(connection, [payment_id]))[payment_id]
        asked = payment.open_recall
        if asked is None:
            return True
        recall = Recall(
            id=asked.id,
            sender=self._bank,
            receiver=counterparty,
            payment=payment_id,
            reason=asked.reason,
            text=asked.text,
        )
        sent = await sign_document(recall, self._signer, payload_type=RECALL_TYPE)
        response = await self._client.request(
            "POST",
            f"{member.url}/federation/recalls",
            audience=counterparty,
            content=msgspec.json.encode(sent),
            headers={"Content-Type": "application/json"},
            attempts_max=1,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        envelope = read_answer(response.content, Envelope, peer=counterparty)
        keys = self._trust.signing_keys(counterparty)
        answer = dsse.verify_submitted(envelope, RecallAnswer, keys, payload_type=RECALL_ANSWER_TYPE)
        if (answer.sender, answer.receiver) != (self._bank, counterparty):
            raise AnswerDiffersError("answer is between other banks")
        if answer.recall != canonical.digest(sent.payload_bytes()):
            raise AnswerDiffersError("answer is to another recall")
        if answer.status == "open":
            return False
        evidence = Evidence.of(ANSWER_EVIDENCE, counterparty, envelope)
        await self._ledger.submit(ApplyRecallAnswer(payment_id, asked.id, evidence, answer))
        return True
