"""Receiving what another bank signed: verify, screen, decide, answer with a signature."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import asyncpg
import msgspec
import structlog

from compliance.crypto import dsse, merkle
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import Signer, VerifyingKey
from gateway.federation.http.client import RemoteError
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.payment_forms import decode_batch
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    BATCH_ITEMS_MAX,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentOutcome,
    leaf_of,
)
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.sharing import Shares, beside_if_large, in_slices
from gateway.federation.signers.signing import sign_document
from participants.ledger.events import Hit
from participants.ledger.rows import Evidence
from participants.ledger.writer import Ledger
from participants.payments.exposures import DECLINED
from participants.payments.incoming import (
    EVIDENCE_KIND,
    OTHERS_MAX,
    OTHERS_PER_NEW_MAX,
    ReceivedPayment,
    ReceivePayments,
    TooFewNew,
    read_outcomes,
)
from participants.payments.screening import Screener

log = structlog.get_logger(__name__)

WAITING_MAX = 4
"""Batches of a sender that come in or wait while one is decided. A bank and each of its replicas send one at a time."""


class BatchReason(RefusalReason):
    """Why a whole batch is refused, in order of precedence; evidence that doesn't verify has its own reasons."""

    TOO_MANY_BATCHES = "too_many_batches", 503
    """One at a time of each sender is decided, and as many of this one wait already as may; with `Retry-After`.
    The body isn't read then."""
    BODY_MALFORMED = "body_malformed", 400
    WRONG_SENDER = "wrong_sender", 403
    WRONG_RECEIVER = "wrong_receiver", 400
    DUPLICATE_IN_BATCH = "duplicate_in_batch", 400
    ROOT_DIFFERS = "root_differs", 400
    LANES_NOT_COMPARED = "lanes_not_compared", 503
    """The receiver has just started and couldn't ask the sender yet what it has of their lanes; with `Retry-After`."""
    TOO_FEW_NEW = "too_few_new", 422
    """New payments among many that were answered before: send those apart, or fewer of them."""


@dataclass
class _Sender:
    """What a sender has under way, and how far what it repeats outweighs what it sends anew."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    repeated: int = 0

    def count(self, new: int, others: int) -> None:
        self.repeated = min(max(0, self.repeated + others - new), BATCH_ITEMS_MAX)


class Inbound:
    """The receiving side of the federation API."""

    def __init__(
        self,
        *,
        bank: str,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        signer: Signer,
        screener: Screener,
        agree_with: Callable[[str], Awaitable[None]],
    ) -> None:
        """`agree_with` makes sure that a sender has no number of ours that the ledger lacks."""
        self._bank = bank
        self._ledger = ledger
        self._pool = pool
        self._agree_with = agree_with
        self._trust = trust
        self._signer = signer
        self._screener = screener
        self._senders: dict[str, _Sender] = {}
        self._shares = Shares(WAITING_MAX + 1, BatchReason.TOO_MANY_BATCHES, "batches")

    async def receive(self, caller: str, read_body: Callable[[], Awaitable[bytes]]) -> Envelope:
        """Decide the payments of a signed batch from `caller` and return the signed Acknowledgement.

        Asked again with the same payments it gives their stored outcomes. Raises Refusal for a batch that is
        refused as a whole; then none of its payments was touched.
        """
        self._trust.require_fresh()
        with self._shares.share_of(caller):
            body = await read_body()
            sender = self._senders.setdefault(caller, _Sender())
            # Batches wait for those before them here and not in the ledger, where others would wait too.
            async with sender.turn:
                return await self._receive(caller, sender, body)

    async def _receive(self, caller: str, sender: _Sender, body: bytes) -> Envelope:
        try:
            envelope = msgspec.json.decode(body, type=Envelope)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refusal(BatchReason.BODY_MALFORMED, str(error)) from error
        keys = self._trust.signing_keys(caller)
        batch, leaves, evidence = await beside_if_large(len(body), lambda: self._read(caller, envelope, keys))
        try:
            await self._agree_with(caller)
        except RemoteError as error:
            detail = f"{caller} can't be asked what it holds of our lanes: {error}"
            raise Refusal(BatchReason.LANES_NOT_COMPARED, detail[:200], retry_after_s=1) from error
        outcomes = await self._outcomes(sender, batch, leaves, evidence)
        if isinstance(outcomes, TooFewNew):
            detail = f"{outcomes.new} new payments among {outcomes.others} others; at most {OTHERS_MAX} others may be"
            detail += f" beside new ones, and {OTHERS_PER_NEW_MAX} more for each"
            raise Refusal(BatchReason.TOO_FEW_NEW, detail)
        answer = Acknowledgement(sender=caller, receiver=self._bank, batch=evidence.sha256, outcomes=tuple(outcomes))
        return await sign_document(answer, self._signer, payload_type=ACKNOWLEDGEMENT_TYPE)

    async def _outcomes(
        self, sender: _Sender, batch: PaymentBatch, leaves: list[bytes], evidence: Evidence
    ) -> list[PaymentOutcome] | TooFewNew:
        """Say what becomes of a batch's payments: what is known is read, what is new the ledger decides.

        The ledger takes all for new at first, since nearly all is, and begins again with everybody waiting where it
        isn't. So the batches of a sender are read before, beside the ledger, once it has repeated payments and until
        it has sent as many anew: that costs the sender, and what it makes others wait is in proportion to its new
        payments.
        """
        if sender.repeated:
            if (refusal := self._ledger.refusal()) is not None:
                raise refusal
            outcomes = await read_outcomes(self._pool, batch.sender, batch.payments)
            if outcomes is not None:
                new = outcomes.new if isinstance(outcomes, TooFewNew) else 0
                sender.count(new, len(batch.payments) - new)
                return outcomes
        if batch.withdrawn:
            hits: list[tuple[Hit, ...]] = [()] * len(leaves)
        else:
            await self._screener.prepare(batch.payments)
            hits = await in_slices(lambda some: [self._screener.hits_for(terms) for terms in some], batch.payments)
        received = list(zip(batch.payments, leaves, hits, strict=True))
        payments = await in_slices(lambda some: [ReceivedPayment.of(*each) for each in some], received)
        command = ReceivePayments(evidence, payments, withdrawn=batch.withdrawn)
        outcomes = await self._ledger.submit(command)
        if command.beyond_limit:
            DECLINED.labels(self._bank).inc(command.beyond_limit)
            log.warning(
                "payments declined for what their bank owes", sender=batch.sender, payments=command.beyond_limit
            )
        sender.count(len(payments) - command.others, command.others)
        return outcomes

    def _read(
        self, caller: str, envelope: Envelope, keys: Mapping[str, VerifyingKey]
    ) -> tuple[PaymentBatch, list[bytes], Evidence]:
        """Verify a batch and return it, its payments' leaves, and what is to be kept of it. Raises Refusal."""
        try:
            batch = dsse.verify_submitted(
                envelope, PaymentBatch, keys, payload_type=PAYMENT_BATCH_TYPE, decode=decode_batch
            )
        except EvidenceError as error:
            raise Refusal(error.reason, str(error), status=400) from error
        if batch.sender != caller:
            raise Refusal(BatchReason.WRONG_SENDER, f"signed as {batch.sender}, sent by {caller}")
        if batch.receiver != self._bank:
            raise Refusal(BatchReason.WRONG_RECEIVER, f"for {batch.receiver}; this is {self._bank}")
        ids: set[str] = set()
        for index, terms in enumerate(batch.payments):
            if terms.id in ids:
                raise Refusal(
                    BatchReason.DUPLICATE_IN_BATCH,
                    f"payment {terms.id} stands in the batch twice",
                    pointer=f"/payments/{index}/id",
                )
            ids.add(terms.id)
        leaves = [leaf_of(terms) for terms in batch.payments]
        if merkle.root(leaves).hex() != batch.root:
            raise Refusal(BatchReason.ROOT_DIFFERS, "root isn't the tree head over the payments", pointer="/root")
        return batch, leaves, Evidence.of(EVIDENCE_KIND, caller, envelope)
