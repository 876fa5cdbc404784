"""Finding out that the ledger was restored to a backup of before, and then numbering nothing more.

| asked | when | what shows it |
|---|---|---|
| this node's own watermark | at the start | fewer events than were seen |
| the database | whenever it is connected to again | fewer events than were committed |
| the coordinator | at the start; before the first event of its feed | a signed cut or attestation, unknown here |
| each other bank | at the start; before any payment from it or to it | a signed number or payment, unknown here |

Who can't be asked holds up what depends on the answer, and nothing else: the cycles, or the payments of that pair.
The same holds for whoever answers what nobody foresaw.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import asyncpg
import msgspec
import structlog
from prometheus_client import Gauge

from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey
from gateway.federation.http.answers import read_answer
from gateway.federation.http.client import (
    FederationClient,
    RemoteAnswerRefused,
    RemoteError,
    RemoteProblem,
    RemoteUnavailable,
    TokenNotGranted,
)
from gateway.federation.http.peers import ANSWER_BYTES_MAX
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.attestation import HandedIn
from gateway.federation.messages.lanes import NumberedPayment, SharedLane, SharedLanes
from gateway.federation.storage.failures import DATABASE_ERRORS
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY
from participants.continuity import findings, reads
from participants.continuity.findings import Finding, Keys, Loss
from participants.continuity.watermark import Watermark
from participants.cycle import reads as cycle_reads
from participants.cycle.coordinator import FINAL_ANSWERS
from participants.ledger.lanes import LaneKey
from participants.ledger.session import LedgerRestored
from participants.ledger.store import payments_here
from participants.ledger.writer import Ledger
from participants.roles import PeerReason

ANSWER_SECONDS = 5.0
ASK_SECONDS = 15.0
"""For all that one member is asked in one go."""
START_SECONDS_MAX = 2.0
"""For other banks' answers before a node serves: an order that a restored ledger took in would be lost with it."""
LOOK_SECONDS = 3.0
AGAIN_SECONDS = 30.0
ASKED_AT_ONCE = 8
LANES_MAX = 64
"""Of one other bank: each way, as many currencies as any scheme has."""
LANES_BYTES_MAX = 256 * 1024
# What is shown may be a whole batch of payments.
EVIDENCE_BYTES_MAX = 16 * 1024 * 1024
WAY_OUT = (
    "stop the node and restore the newest backup with all that was archived since: docs/operating/restored-backup.md"
)

RESTORED = Gauge(
    "concordat_ledger_restored",
    "1 if the ledger lacks what its bank has signed: it is restored to a backup of before.",
    ("bank",),
    registry=REGISTRY,
)

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class Continuity:
    """Whether a bank's ledger holds all that the bank signed. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: str,
        key: VerifyingKey,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        peers: FederationClient,
        watermark: Watermark,
    ) -> None:
        """`client` calls the coordinator, `peers` other banks."""
        self._bank = bank
        self._coordinator = coordinator
        self._key = key
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._client = client
        self._peers = peers
        self._watermark = watermark
        self._agreed: set[str] = set()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._ask_again_at: dict[str, float] = {}
        self._kept = False
        self.finding: Finding | None = None
        self.task = Supervised("continuity", self._watch)

    async def start(self) -> None:
        """Ask whoever answers at once, before anything is taken in, then begin to ask all others.

        No member's answer keeps a node from starting. Raises asyncpg.PostgresError, OSError.
        """
        RESTORED.labels(self._bank).set(0)
        if (finding := await reads.kept_finding(self._pool)) is not None:
            self._kept = True
            await self._notice(finding)
        seen, events = self._watermark.read(), await reads.head(self._pool)
        if events < seen:
            detail = f"the database ends with event {events}, and this node has seen {seen}"
            await self._notice(Finding(loss=Loss.EVENTS, source="this node", detail=detail))
        try:
            await self.agree_with_coordinator()
        except (RemoteError, *DATABASE_ERRORS) as error:
            log.warning("coordinator not asked what it has of us yet", error=str(error)[:200])
        except LedgerRestored:
            pass  # Said already; the node runs on, so that people can see it.
        else:
            await self.remember(events)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._ask_others()
        self.task.start()

    async def stop(self) -> None:
        """Ask nobody any more."""
        await self.task.stop()
        asking = list(self._asking.values())
        for question in asking:
            question.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def remember(self, events: int) -> None:
        """Keep that the ledger holds so many events: no later start is to take less."""
        try:
            await asyncio.to_thread(self._watermark.keep, events)
        except OSError as error:
            log.warning("watermark not kept", error=str(error)[:200])

    # --- agreeing ----------------------------------------------------------------------------------------

    async def agree_with_coordinator(self) -> None:
        """Make sure, once since the start, that the coordinator has nothing of ours that the ledger lacks.

        Raises RemoteError if it can't be asked, LedgerRestored.
        """
        await self._agree(self._coordinator, self._ask_coordinator)

    async def agree_with(self, counterparty: str) -> None:
        """Make sure, once since the start, that another bank has nothing of ours that the ledger lacks.

        Raises RemoteError if it can't be asked, LedgerRestored.
        """

        async def ask() -> Finding | None:
            return await self._ask_bank(counterparty)

        await self._agree(counterparty, ask)

    async def _agree(self, member: str, ask: Callable[[], Coroutine[None, None, Finding | None]]) -> None:
        if member not in self._agreed and self.finding is None:
            # However many payments wait for the answer, it is asked for once.
            asking = self._asking.get(member)
            if asking is None:
                asking = asyncio.create_task(self._compare(member, ask), name=f"continuity-{member}")
                self._asking[member] = asking
                asking.add_done_callback(lambda task: self._forget_question(member, task))
            await asyncio.shield(asking)
        if self.finding is not None:
            raise LedgerRestored(str(self.finding))

    def _forget_question(self, member: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(member, None)
        # Who waited for it may have gone; then nobody else looks at how it ended.
        if not task.cancelled():
            task.exception()

    async def _compare(self, member: str, ask: Callable[[], Coroutine[None, None, Finding | None]]) -> None:
        """Ask a member, and take note of what that shows. Raises RemoteError and a database's errors, nothing else."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                finding = await ask()
        except TimeoutError as error:
            raise RemoteUnavailable(f"{member} doesn't answer all within {ASK_SECONDS:g} s") from error
        except (RemoteError, *DATABASE_ERRORS):
            raise
        except Exception as error:  # whatever a member answers is trouble with that member, and with nobody else
            log.error("what a member has of us can't be judged", member=member, exc_info=error)
            raise RemoteUnavailable(f"what {member} has of us can't be judged: {type(error).__name__}") from error
        finally:
            self._ask_again_at[member] = time.monotonic() + AGAIN_SECONDS
        self._agreed.add(member)
        if finding is not None:
            await self._notice(finding)

    async def _ask_coordinator(self) -> Finding | None:
        # Which cycle it says that all this is of, nobody has signed: each document names its own.
        handed_in = await self._get(
            self._client.issuer + "/submissions/latest", HandedIn, self._coordinator, ANSWER_BYTES_MAX
        )
        if handed_in is None:
            return None
        source, keys = self._coordinator, self._keys()
        signed = (*handed_in.attestations, *handed_in.statements)
        # In a thread, as there may be thousands.
        words = await asyncio.to_thread(findings.words_in, signed, bank=self._bank, keys=keys)
        async with self._pool.acquire() as connection:
            if handed_in.cut is not None:
                cut = findings.cut_in(handed_in.cut, bank=self._bank, keys=keys)
                if cut is None:
                    log.warning("a cut that the coordinator has of us isn't signed by us")
                else:
                    known, _ = await cycle_reads.cut(connection, cut.cycle)
                    finding = findings.unknown_cut(handed_in.cut, cut, source=source, known=known)
                    if finding is not None:
                        return finding
            cycles = {word.cycle for word in words}
            held = {cycle: await cycle_reads.signed_digests(connection, cycle) for cycle in cycles}
        return findings.unknown_word(words, source=source, known=held)

    async def _ask_bank(self, counterparty: str) -> Finding | None:
        member = self._trust.member(counterparty)
        if member is None:
            raise RemoteUnavailable(f"{counterparty} isn't on the trust list")
        shared = await self._get(f"{member.url}/federation/lanes", SharedLanes, counterparty, LANES_BYTES_MAX)
        if shared is None:
            return None
        if len(shared.lanes) > LANES_MAX:
            log.warning("a bank tells of more lanes than are looked at", counterparty=counterparty)
        # One question for each way and currency, however often the answer names them.
        lanes = {(lane.sender, lane.receiver, lane.currency): lane for lane in shared.lanes[:LANES_MAX]}
        for lane in lanes.values():
            # Read after the answer has come: what it names was committed here before it was signed.
            doubtful = await self._doubtful(lane, counterparty)
            if doubtful is None:
                continue
            url = f"{member.url}/federation/payments/{doubtful.payment}/evidence"
            evidence = await self._get(url, Envelope, counterparty, EVIDENCE_BYTES_MAX)
            finding = None if evidence is None else await self._judge(evidence, doubtful.payment, lane, counterparty)
            if finding is not None:
                return finding
            log.warning(
                "a lane differs, and nothing that we signed shows why",
                counterparty=counterparty,
                sender=lane.sender,
                currency=lane.currency,
                sequence=doubtful.sequence,
            )
        return None

    async def _doubtful(self, lane: SharedLane, counterparty: str) -> NumberedPayment | None:
        """Return the newest payment that another bank has on a lane and this ledger doesn't have so."""
        key = LaneKey(lane.sender, lane.receiver, lane.currency)
        if key[:2] == (counterparty, self._bank):
            numbered = await reads.numbered(self._pool, key, [payment.sequence for payment in lane.newest])
            return _first(lane.newest, {p.payment for p in lane.newest if numbered.get(p.sequence) == p.payment})
        if key[:2] == (self._bank, counterparty):
            return _first(lane.newest, await reads.known(self._pool, [payment.payment for payment in lane.newest]))
        return None

    async def _judge(self, evidence: Envelope, payment_id: str, lane: SharedLane, counterparty: str) -> Finding | None:
        """Judge what another bank shows for a payment by what the ledger holds of it."""
        async with self._pool.acquire() as connection:
            payments, detached = await payments_here(connection, [payment_id])
        if detached:
            return None  # An old one, which no backup of before lacks.
        payment, keys = payments.get(payment_id), self._keys()
        if lane.receiver == self._bank:
            known = payment.sequence if payment is not None and payment.direction == "in" else None
            return findings.unknown_number(
                evidence, bank=self._bank, sender=counterparty, payment_id=payment_id, keys=keys, known=known
            )
        known_at_all = payment is not None
        return findings.unknown_payment(
            evidence, bank=self._bank, receiver=counterparty, payment_id=payment_id, keys=keys, known=known_at_all
        )

    def _keys(self) -> Keys:
        return {**self._trust.signing_keys(self._bank, retired=True), self._key.kid: self._key}

    async def _get(self, url: str, kind: type[_T], member: str, bytes_max: int) -> _T | None:
        """Return what a member answers; None if that is of no use, as an older release's. Raises RemoteError."""
        client = self._client if member == self._coordinator else self._peers
        try:
            async with asyncio.timeout(ANSWER_SECONDS):  # a token included
                answer = await client.request("GET", url, audience=member, attempts_max=1, answer_bytes_max=bytes_max)
            return read_answer(answer.content, kind, peer=member)
        except TimeoutError as error:
            raise RemoteUnavailable(f"{member} doesn't answer within {ANSWER_SECONDS:g} s") from error
        except msgspec.DecodeError as error:
            reason = str(error)
        except RemoteProblem as problem:
            useless = isinstance(problem, RemoteAnswerRefused) or problem.status in FINAL_ANSWERS
            # Who hears nothing of us, because we are suspended, tells when we are active again.
            if isinstance(problem, TokenNotGranted) or problem.code == PeerReason.SENDER_NOT_ACTIVE or not useless:
                raise
            reason = str(problem)
        log.warning("a member doesn't tell what it has of us", member=member, url=url, reason=reason[:200])
        return None

    # --- what follows ------------------------------------------------------------------------------------

    async def _notice(self, finding: Finding) -> None:
        """Write nothing more from now on, and say why."""
        if self.finding is not None:
            return
        self.finding = finding
        self._ledger.stop_writing(str(finding))
        RESTORED.labels(self._bank).set(1)
        log.error(
            "the ledger is restored to a backup of before: nothing is numbered, sent or cut any more",
            loss=finding.loss,
            source=finding.source,
            detail=finding.detail,
            do=WAY_OUT,
        )
        await self._keep(finding)

    async def _keep(self, finding: Finding) -> None:
        if self._kept:
            return
        try:
            await reads.keep_finding(self._pool, finding, datetime.now(UTC))
            self._kept = True
        except DATABASE_ERRORS as error:
            log.warning("finding not kept yet", error=type(error).__name__)

    async def _watch(self) -> None:
        # Apart, for others answer when they like.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look(), name="continuity-look")
            group.create_task(self._ask_by_time(), name="continuity-ask")

    async def _look(self) -> None:
        """Look for what a replica or the ledger's writer has found out."""
        while True:
            if self.finding is None and self._ledger.restored is not None:
                await self._notice(Finding(loss=Loss.EVENTS, source="this node", detail=self._ledger.restored))
            try:
                if self.finding is not None:
                    await self._keep(self.finding)
                elif (finding := await reads.kept_finding(self._pool)) is not None:
                    self._kept = True
                    await self._notice(finding)
            except DATABASE_ERRORS as error:
                log.warning("continuity not looked at", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_by_time(self) -> None:
        while True:
            await self._ask_others()
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_others(self) -> None:
        """Ask every other bank that is due; a bank that can't be asked is asked again later."""
        if self.finding is not None:
            return
        now = time.monotonic()
        due = [
            member.bic
            for member in self._trust.current.members
            if (member.kind, member.status) == ("participant", "active")
            and member.bic not in self._agreed | {self._bank}
            and self._ask_again_at.get(member.bic, 0) <= now
        ]
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(counterparty: str) -> None:
            async with turns:
                with contextlib.suppress(LedgerRestored, RemoteError, *DATABASE_ERRORS):
                    await self.agree_with(counterparty)

        await asyncio.gather(*map(ask, due))


def _first(newest: Sequence[NumberedPayment], right: set[str]) -> NumberedPayment | None:
    return next((payment for payment in newest if payment.payment not in right), None)
