"""A bank's reconciliations: one after another, begun by a person or by a break, and taken up again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import structlog
from prometheus_client import Counter

from compliance.crypto.keys import Signer
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.membership.trust import TrustStore
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY
from participants.cycle.coordinator import FINAL_ANSWERS
from participants.cycle.coordinator import report as report_error
from participants.reconciliation import store
from participants.reconciliation.agreement import Secrets
from participants.reconciliation.answering import Answering, ReconciliationReason, Sets
from participants.reconciliation.asking import Asking, unanswered
from participants.reconciliation.report import Report
from participants.reconciliation.store import Claimed, Reconciliation, State
from participants.watch import Outage

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 2.0
"""After the first attempt, and twice as long after each following one."""
AT_ONCE = 4
"""Each with another bank: one that hangs keeps few others waiting, for as long as one takes at most."""
OPEN_MAX = 200
PASSING = (ReconciliationReason.AGREEMENT_UNKNOWN, ReconciliationReason.SESSION_UNKNOWN)
"""What a bank answers that was restarted meanwhile."""
REASON_CHARACTERS_MAX = 200

BREAKS = Counter(
    "concordat_reconciliation_breaks", "Breaks that reconciliations found.", ("bank", "kind"), registry=REGISTRY
)
ENDED = Counter(
    "concordat_reconciliations", "Reconciliations that ended, by how.", ("bank", "state"), registry=REGISTRY
)

log = structlog.get_logger(__name__)


class ReconciliationRequestReason(RefusalReason):
    """Why the books aren't compared with another bank's, in order of precedence."""

    COUNTERPARTY_UNKNOWN = "counterparty_unknown", 422
    """It isn't on the trust list, or is this bank."""
    TOO_MANY_OPEN = "too_many_reconciliations", 429
    """So many wait already; with `Retry-After`."""
    RECONCILIATION_UNKNOWN = "reconciliation_unknown", 404


class Reconciliations:
    """Both sides of finding out where books differ, at a bank's node. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        signer: Signer,
        outage: Outage,
        ask_again: Callable[[str, list[str]], None],
    ) -> None:
        """`ask_again` asks another bank for its answers on payments that were sent to it."""
        self._bank = bank
        self._pool = pool
        self._trust = trust
        self._outage = outage
        self._ask_again = ask_again
        self._news = asyncio.Event()
        secrets, sets = Secrets(bank, signer), Sets(pool)
        self.answering = Answering(bank=bank, pool=pool, trust=trust, secrets=secrets, sets=sets)
        self._asking = Asking(bank=bank, pool=pool, trust=trust, client=client, secrets=secrets, sets=sets)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._claimed: asyncio.Queue[Claimed] = asyncio.Queue()
        workers = [Supervised(f"reconciliation-{number}", self._work) for number in range(1, AT_ONCE + 1)]
        self.tasks = [Supervised("reconciliations", self._look), *workers]

    def start(self) -> None:
        """Begin to work on what is asked for, first of all what was left over."""
        for task in self.tasks:
            task.start()

    async def stop(self) -> None:
        """End; what is under way is taken up again by whoever runs next."""
        await asyncio.gather(*(task.stop() for task in self.tasks))

    async def request(self, counterparty: str, currency: str | None, person: str) -> Reconciliation:
        """Keep that a person wants the books compared with another bank's. Raises Refusal."""
        if counterparty == self._bank or self._trust.member(counterparty) is None:
            detail = f"{counterparty} is no other bank of the scheme"
            raise Refusal(ReconciliationRequestReason.COUNTERPARTY_UNKNOWN, detail, pointer="/counterparty")
        async with self._pool.acquire() as connection:
            if await store.open_count(connection) >= OPEN_MAX:
                detail = f"{OPEN_MAX} reconciliations wait already"
                raise Refusal(ReconciliationRequestReason.TOO_MANY_OPEN, detail, retry_after_s=60)
            made = await store.add(connection, counterparty, currency, asked_by=person)
        self._news.set()
        return await self.kept(made)

    async def look_into(self, cycle: str, counterparty: str, currency: str) -> None:
        """Compare the books with a bank that a cycle has broken with, once for each break."""
        async with self._pool.acquire() as connection:
            await store.add(connection, counterparty, currency, cycle=cycle)
        self._news.set()

    async def kept(self, reconciliation: str) -> Reconciliation:
        """Return a reconciliation with its report. Raises Refusal."""
        async with self._pool.acquire() as connection:
            known = await store.read(connection, reconciliation)
        if known is None:
            raise Refusal(ReconciliationRequestReason.RECONCILIATION_UNKNOWN, f"no reconciliation {reconciliation}")
        return known

    async def _look(self) -> None:
        """Hand out what is asked for, whenever somebody is free. One alone looks, and waits out a failing database."""
        while True:
            await self._free.acquire()
            try:
                claimed = await self._next()
            except BaseException:
                self._free.release()
                raise
            self._claimed.put_nowait(claimed)

    async def _next(self) -> Claimed:
        while (claimed := await self._claim()) is None:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue
        return claimed

    async def _claim(self) -> Claimed | None:
        self._news.clear()
        try:
            async with self._pool.acquire() as connection:
                claimed = await store.claim(connection)
        except Exception as error:
            reason = failure_of(error)
            if reason is None:
                raise
            self._outage.began(reason)
            return None
        self._outage.ended()
        return claimed

    async def _work(self) -> None:
        while True:
            claimed = await self._claimed.get()
            try:
                await self._run(claimed)
            finally:
                self._free.release()

    async def _run(self, claimed: Claimed) -> None:
        try:
            report = await self._asking.compare(claimed.counterparty, claimed.currency)
        except Exception as error:  # whatever comes of one bank's answers keeps nobody from comparing with the next
            report_error(error, "not reconciled", counterparty=claimed.counterparty, attempt=claimed.attempts)
            await self._put_off(claimed, error)
            return
        state = State.DONE if report.fault is None else State.FAILED
        async with self._pool.acquire() as connection:
            await store.end(connection, claimed.number, state, reason=report.fault, report=report)
        ENDED.labels(self._bank, state).inc()
        self._tell(claimed.counterparty, report)
        if (payments := unanswered(report.breaks)) and report.fault is None:
            self._ask_again(claimed.counterparty, payments)

    async def _put_off(self, claimed: Claimed, error: Exception) -> None:
        """Try again later, unless it was tried often enough, or what the other bank answers stays so."""
        reason = (str(error) or type(error).__name__)[:REASON_CHARACTERS_MAX]
        stays = isinstance(error, RemoteProblem) and error.status in FINAL_ANSWERS and error.code not in PASSING
        async with self._pool.acquire() as connection:
            if claimed.attempts < store.ATTEMPTS_MAX and not stays:
                await store.try_again(connection, claimed.number, reason, AGAIN_SECONDS * 2**claimed.attempts)
                return
            await store.end(connection, claimed.number, State.FAILED, reason=reason)
        ENDED.labels(self._bank, State.FAILED).inc()

    def _tell(self, counterparty: str, report: Report) -> None:
        kinds: dict[str, int] = {}
        for item in report.breaks:
            kinds[item.kind] = kinds.get(item.kind, 0) + 1
            BREAKS.labels(self._bank, item.kind).inc()
        sent, received = report.cost.sent_bytes, report.cost.received_bytes
        if report.fault is not None:
            log.error("what a bank answers contradicts itself", counterparty=counterparty, fault=report.fault)
        log.info("reconciled", counterparty=counterparty, breaks=kinds, sent_bytes=sent, received_bytes=received)
