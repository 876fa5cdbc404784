"""A bank's account at the settlement agent, watched: every entry is pulled, kept with its signature, and compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import asyncpg
import msgspec
import structlog
from prometheus_client import Gauge

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.iso20022 import NOTIFICATION_TYPE
from compliance.statements import SettlementInstruction
from gateway.federation.http.client import (
    FederationClient,
    RemoteAnswerRefused,
    RemoteError,
    RemoteProblem,
    RemoteUnavailable,
)
from gateway.federation.iso20022 import MessageRefused, Notification, read_notification
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.settlement import SettlementNotification, SettlementNotifications
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import DATABASE_ERRORS
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY
from participants.cycle.coordinator import report
from participants.cycle.movements import (
    LATE_SECONDS,
    UNCONFIRMED_SECONDS_MAX,
    Finding,
    Movement,
    MovementFault,
    Settlement,
    findings,
)
from participants.cycle.nostro import NostroBooking
from participants.ledger import events

LOOK_SECONDS = 10.0
PAGE = 100
FINDINGS_NAMED = 3
CONDITION_MAX = 200
MILESTONES = """
SELECT sequence, subject::text, version, type, schema_version, data, recorded_at FROM event
WHERE type IN ('cycle.instructed', 'cycle.settled') AND sequence > $1 ORDER BY sequence
"""
KEPT = """
SELECT id, currency, sequence, amount, cycle, seen_at FROM settlement_movement WHERE agent = $1 AND id > $2 ORDER BY id
"""
KEEP = """
INSERT INTO settlement_movement (agent, id, currency, sequence, amount, cycle, reference, signed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""
OTHER_AGENTS = "SELECT DISTINCT agent FROM settlement_movement WHERE agent <> $1"
EXPLAINED = "SELECT id FROM movement_explanation WHERE agent = $1"
EXPLAIN = """
INSERT INTO movement_explanation (agent, id, reason, explained_by)
SELECT agent, id, $3, $4 FROM settlement_movement WHERE agent = $1 AND id = $2 ON CONFLICT DO NOTHING
"""

FINDINGS = Gauge(
    "concordat_settlement_account_findings",
    "What doesn't agree between the settlement agent's entries and this bank's instructions.",
    ("bank",),
    registry=REGISTRY,
)
READ_AT = Gauge(
    "concordat_settlement_account_read_timestamp_seconds",
    "When the settlement agent's entries were last read to their end; 0 if they weren't since the start.",
    ("bank",),
    registry=REGISTRY,
)

AWAY = (RemoteUnavailable, RemoteProblem, Refusal, *DATABASE_ERRORS)
"""What passes by itself, as a rule: the agent, or the database, is away for a while."""

log = structlog.get_logger(__name__)


class PageFaultyError(RemoteError):
    """The agent answers with entries that don't follow what was asked for."""


class SettlementAccount:
    """Watches what the settlement agent does with this bank's money. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        agent: str,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        peers: FederationClient,
        trust_changed: Callable[[], None],
        nostro: NostroBooking,
        late_s: float = LATE_SECONDS,
    ) -> None:
        """`client` asks the coordinator, `peers` asks other members by this bank's own word.

        What is read is booked by `nostro`.
        """
        self.agent = agent
        self.late_s = late_s
        self.findings: tuple[Finding, ...] = ()
        self.read_at: float | None = None
        """In monotonic time: when the agent's entries were last read to their end."""
        self.task = Supervised("settlement-account", self._watch)
        self._bank = bank
        self._pool = pool
        self._trust = trust
        self._client = client
        self._peers = peers
        self._trust_changed = trust_changed
        self._nostro = nostro
        self._movements: list[Movement] = []
        self._settlements: dict[tuple[str, str], Settlement] = {}
        self._event = 0
        self._unbelieved: Finding | None = None
        self._failure: Exception | None = None
        self._began = time.monotonic()
        self._others_booked = False
        self._news = asyncio.Event()

    def start(self) -> None:
        """Begin to watch."""
        FINDINGS.labels(self._bank).set(0)
        READ_AT.labels(self._bank).set(0)
        self.task.start()

    def wake(self) -> None:
        """Look at once: something was settled."""
        self._news.set()

    def condition(self) -> str:
        """Tell how the account is, for the node's readiness."""
        read = "not read yet" if self.read_at is None else f"read {time.monotonic() - self.read_at:.0f} s ago"
        if self._failure is not None:
            read = f"{read}; not read now: {type(self._failure).__name__} {self._failure}"[:CONDITION_MAX]
            return f"{read}; {len(self.findings)} findings" if self.findings else read
        if not self.findings:
            return f"{read}, agrees"
        named = "; ".join(
            f"{finding.fault} {finding.currency} {finding.cycle or ''}".rstrip()
            for finding in self.findings[:FINDINGS_NAMED]
        )
        return f"{read}, {len(self.findings)} findings: {named}"

    @property
    def unread(self) -> bool:
        """Tell whether nobody watches: what the agent says can't be dealt with, or it is away for long."""
        if self._failure is None:
            return False
        since = self._began if self.read_at is None else self.read_at
        passes = isinstance(self._failure, AWAY) and not isinstance(self._failure, RemoteAnswerRefused)
        return not passes or time.monotonic() - since > UNCONFIRMED_SECONDS_MAX

    async def explain(self, movement: int, *, reason: str, by: str) -> bool:
        """Keep why this bank knows of a movement, once; False where there is no such movement."""
        async with self._pool.acquire() as connection:
            await connection.execute(EXPLAIN, self.agent, movement, reason, by)
            query = "SELECT true FROM movement_explanation WHERE agent = $1 AND id = $2"
            known = bool(await connection.fetchval(query, self.agent, movement))
        await self._compare(complete=False)
        self.wake()
        return known

    async def _watch(self) -> None:
        while True:
            self._news.clear()
            # What one step fails of keeps none of the others from being taken.
            steps = (self._read_events, self._take_up, self._book, self._read_notifications, self._book)
            failures = [failure for step in steps if (failure := await self._tried(step)) is not None]
            if failures and self._failure is None:
                report(failures[0], "settlement account not read")
            self._failure = failures[0] if failures else None
            await self._compare(complete=not failures and self._unbelieved is None)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    @staticmethod
    async def _tried(step: Callable[[], Awaitable[None]]) -> Exception | None:
        """Take a step and return what it failed of."""
        try:
            await step()
        except Exception as error:  # whatever went wrong, the bank must go on watching
            return error
        return None

    async def _book(self) -> None:
        """Let the nostro follow: all that is kept is booked, of this agent and of those before."""
        if not self._others_booked:
            for (agent,) in await self._pool.fetch(OTHER_AGENTS, self.agent):
                movements = [Movement(*row) for row in await self._pool.fetch(KEPT, agent, 0)]
                settlements: dict[tuple[str, str], Settlement] = {}
                await read_settlements(self._pool, agent, settlements)
                await self._nostro.book(agent, movements, settlements, explained=await self._explained(agent))
            self._others_booked = not self._nostro.unbooked
        explained = await self._explained(self.agent)
        await self._nostro.book(self.agent, self._movements, self._settlements, explained=explained)
        await self._nostro.move_openings()

    async def _explained(self, agent: str) -> set[int]:
        """Return the entries for which this bank's people know the reason."""
        return {row[0] for row in await self._pool.fetch(EXPLAINED, agent)}

    async def _read_events(self) -> None:
        """Take up what this bank was instructed with and what became final since."""
        self._event = await read_settlements(self._pool, self.agent, self._settlements, after=self._event)

    async def _read_notifications(self) -> None:
        """Pull and keep what the agent says, up to what isn't believed. Raises RemoteError."""
        await self._take_up()
        url = self._agent_url()
        while True:
            after = self._movements[-1].id if self._movements else 0
            page = await self._peers.get(
                f"{url}/notifications",
                SettlementNotifications,
                audience=self.agent,
                params={"after": after, "limit": PAGE},
            )
            ids = [after, *(sent.id for sent in page.notifications)]
            if any(later <= earlier for earlier, later in pairwise(ids)):
                raise PageFaultyError(f"asked for entries after {after}, the agent answers {ids[1:4]}")
            for sent in page.notifications:
                try:
                    notification = await self._believed(sent)
                except (EvidenceError, MessageRefused) as error:
                    self._unbelieved = Finding(MovementFault.NOT_SIGNED, "", None, sent.id, str(error)[:200])
                    return
                await self._pool.execute(
                    KEEP,
                    *(self.agent, sent.id, notification.currency, notification.sequence, notification.amount),
                    *(notification.cycle, notification.reference, msgspec.json.encode(sent.signed).decode()),
                )
            await self._take_up()
            self._unbelieved = None
            if not page.notifications:
                self.read_at = time.monotonic()
                READ_AT.labels(self._bank).set_to_current_time()
                return

    async def _take_up(self) -> None:
        """Take up what is kept: what this node stored, or another one of this bank."""
        after = self._movements[-1].id if self._movements else 0
        self._movements += [Movement(*row) for row in await self._pool.fetch(KEPT, self.agent, after)]

    async def _believed(self, sent: SettlementNotification) -> Notification:
        """Return what the agent signed about this bank's account. Raises EvidenceError, MessageRefused."""
        try:
            return self._verified(sent)
        except EvidenceError:
            # Signed with a key, perhaps, that came with a trust list we haven't seen.
            if not await self._trust.refresh(self._client):
                raise
            self._trust_changed()
            return self._verified(sent)

    def _verified(self, sent: SettlementNotification) -> Notification:
        if sent.signed is None:
            raise EvidenceError(dsse.EvidenceReason.TOO_FEW_SIGNATURES, "the agent doesn't sign what it says")
        dsse.require_nothing_free(sent.signed)
        keys = self._trust.signing_keys(self.agent, retired=True)
        notification = read_notification(dsse.open_(sent.signed, keys, payload_type=NOTIFICATION_TYPE))
        if (notification.sender, notification.participant) != (self.agent, self._bank):
            detail = f"from {notification.sender} to {notification.participant}"
            raise EvidenceError(dsse.EvidenceReason.SCHEMA_VIOLATION, detail)
        if notification.sequence < 1:
            raise EvidenceError(dsse.EvidenceReason.SCHEMA_VIOLATION, "entries are numbered from 1")
        return notification

    def _agent_url(self) -> str:
        member = self._trust.member(self.agent)
        return "" if member is None else member.url.rstrip("/")

    async def _compare(self, *, complete: bool) -> None:
        """Compare what moved with what was to move; say what is new, once."""
        explained = await self._explained(self.agent)
        listed = findings(
            self._movements,
            self._settlements,
            now=datetime.now(UTC),
            complete=complete,
            explained=explained,
            late_s=self.late_s,
        )
        if not complete:
            # What was missing is still, as far as anybody knows.
            moved = {(movement.cycle, movement.currency) for movement in self._movements}
            kept = (finding for finding in self.findings if finding.fault is MovementFault.MISSING)
            listed += tuple(
                finding for finding in kept if finding not in listed and (finding.cycle, finding.currency) not in moved
            )
        listed += self._nostro.unbooked
        if self._unbelieved is not None:
            listed = (self._unbelieved, *listed)
        for finding in listed:
            if finding not in self.findings:
                log.error(
                    "settlement account differs",
                    fault=finding.fault,
                    currency=finding.currency,
                    cycle=finding.cycle,
                    movement=finding.movement,
                )
        if self.findings and not listed:
            log.info("settlement account agrees again")
        self.findings = listed
        FINDINGS.labels(self._bank).set(len(listed))


async def read_settlements(
    source: asyncpg.Pool | asyncpg.Connection,
    agent: str,
    settlements: dict[tuple[str, str], Settlement],
    *,
    after: int = 0,
) -> int:
    """Take up what the bank was instructed with at an agent, and what became final; return the last event of these."""
    for row in await source.fetch(MILESTONES, after):
        event = events.read(events.EventRow(*row[:6]))
        if isinstance(event.data, events.Instructed):
            payload = event.data.instruction.payload_bytes()
            instruction = canonical.decode(payload, SettlementInstruction)
            if instruction.settlement_agent == agent:
                key = (instruction.cycle, instruction.currency)
                known = settlements.get(key, Settlement({}))
                nets = {**known.nets, instruction.id: int(instruction.net_minor)}
                settlements[key] = replace(known, nets=nets)
        elif isinstance(event.data, events.CycleSettled):
            key = (event.data.cycle, event.data.currency)
            if key in settlements:
                settlements[key] = replace(settlements[key], final=event.data.instruction, final_at=row[6])
        after = row[0]
    return after
