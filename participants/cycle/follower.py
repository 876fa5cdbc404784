"""Following the coordinator through its cycles: cut, attest, verify, acknowledge, post.

The coordinator's event feed says when something is to be done; what has been done stands in the bank's own
journal. The cursor moves only past what was dealt with, and every step may be taken again, so a bank that was
away takes up where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import msgspec
import structlog
from prometheus_client import Gauge

from compliance.calendars import ValueDates
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import Signer
from compliance.cycle.contests import CONTEST_EVENT
from compliance.statements import Count
from gateway.federation import correlation
from gateway.federation.http.answers import read_answer
from gateway.federation.http.client import ANSWER_MALFORMED, FederationClient, RemoteProblem
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.base import Answer
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.events import Event, Events
from gateway.federation.signers.signing import sign_document
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY
from participants.cycle import reads
from participants.cycle.attesting import Attesting
from participants.cycle.commands import FixCut, RecordBreak, RecordSignedCut
from participants.cycle.coordinator import Coordinator, report
from participants.cycle.instructions import Instructions
from participants.cycle.limits import AgreedLimits
from participants.cycle.poison import Fault, PoisonEvent, SetAside, fault_of
from participants.cycle.results import Results
from participants.cycle.value_dates import AgreedDays
from participants.ledger.events import BreakHeard, break_subject
from participants.ledger.writer import Ledger
from participants.payments.outbound import Outbound
from participants.payments.screening import Screener

WAIT_S = 20
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
# An error that nobody foresaw may pass; after so many attempts it is the event's.
ATTEMPTS_MAX = 5
# How far back, in events, a restart reads again for the sake of one that was set aside.
AGAIN_EVENTS_MAX = 500
# The coordinator answers after WAIT_S at the latest, so three polls have failed by then. Payments don't need it, but
# a bank that doesn't hear it misses the cut-off.
SILENCE_SECONDS_MAX = 90.0

HEARD_AT = Gauge(
    "concordat_feed_heard_timestamp_seconds",
    "When the coordinator's feed was last answered; 0 if it wasn't since the start.",
    ("bank",),
    registry=REGISTRY,
)
BEHIND = Gauge(
    "concordat_feed_events_behind", "Events of the feed that came and aren't dealt with.", ("bank",), registry=REGISTRY
)

log = structlog.get_logger(__name__)


class _UnreadEvents(Answer, frozen=True, kw_only=True):
    """A page of the feed whose events are read one by one."""

    events: tuple[msgspec.Raw, ...]
    next: Count


class _ContestedLane(Answer, frozen=True, kw_only=True):
    sender: str
    receiver: str
    currency: str


class _Identified(Answer, frozen=True, kw_only=True):
    id: Count = 0


def _id_in(raw: msgspec.Raw) -> int:
    """Return the id of an event that can't be read, 0 if even that can't."""
    try:
        return msgspec.json.decode(raw, type=_Identified).id
    except msgspec.MsgspecError:
        return 0


class Follower:
    """A bank's side of the cycles, as a background task."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: str,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        signer: Signer,
        outbound: Outbound,
        screener: Screener,
        peers: FederationClient,
        agree: Callable[[], Awaitable[None]],
        cut_kept: Callable[[int], Awaitable[None]],
        days: ValueDates | None = None,
        trust_changed: Callable[[], None] = lambda: None,
        settled: Callable[[], None] = lambda: None,
        broken: Callable[[str, str, str], Awaitable[None]] | None = None,
    ) -> None:
        """`agree` makes sure that the coordinator has no cut of ours that the ledger lacks.

        `broken` is told of a cycle, a counterparty and a currency that break. `settled` is called when a settlement leg
        was posted, `cut_kept` with the number of the event that keeps a signed cut, before it is handed in. `days` are
        those of the rulebook that the bank's own people gave it.
        """
        self._agree = agree
        self._cut_kept = cut_kept
        self._bank = bank
        self._coordinator = Coordinator(coordinator, client)
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._client = client
        self._signer = signer
        self._trust_changed = trust_changed
        self._broken = broken
        self._limits = AgreedLimits(self._coordinator, ledger)
        self.task = Supervised("cycle-follower", self._follow)
        self._attesting = Attesting(
            bank=bank,
            coordinator=self._coordinator,
            ledger=ledger,
            pool=pool,
            signer=signer,
            outbound=outbound,
            screener=screener,
        )
        self.results = Results(
            bank=bank, coordinator=self._coordinator, ledger=ledger, pool=pool, trust=trust, peers=peers
        )
        self.instructions = Instructions(
            bank=bank,
            coordinator=self._coordinator,
            ledger=ledger,
            pool=pool,
            trust=trust,
            signer=signer,
            results=self.results,
            days=AgreedDays(self._coordinator, days),
            settled=settled,
        )
        # The event that each cycle being attested began with. The kept cursor stays before it until the cycle is
        # matched, so that a bank that is restarted meanwhile reads it again and attests, or answers a break.
        self._began: dict[str, int] = {}
        self._attempts: dict[int, int] = {}
        self._heard_at = time.monotonic()
        self.heard = False
        """Whether the coordinator has answered since the start."""
        self.set_aside = SetAside()

    def start(self) -> None:
        """Begin to follow."""
        self._heard_at = time.monotonic()
        HEARD_AT.labels(self._bank).set(0)
        BEHIND.labels(self._bank).set(0)
        self.task.start()
        self.results.task.start()

    async def stop(self) -> None:
        await self.task.stop()
        await self.results.task.stop()
        await self._attesting.stop()

    @property
    def tasks(self) -> list[Supervised]:
        """All that goes on in the background here."""
        return [self.task, self.results.task, *self._attesting.tasks]

    def silent_s(self) -> float:
        """Return for how long the coordinator hasn't answered, since the start where it never did."""
        return time.monotonic() - self._heard_at

    async def _follow(self) -> None:
        delay = RETRY_SECONDS_MIN
        cursor: int | None = None
        while True:
            try:
                await self._agree()
                if cursor is None:
                    cursor = await reads.read_cursor(self._pool)
                await self._limits.take_up()
                events, following = await self._page(cursor)
                self._heard_at, self.heard = time.monotonic(), True
                HEARD_AT.labels(self._bank).set_to_current_time()
                for number, event in enumerate(events):
                    correlation.begin()
                    BEHIND.labels(self._bank).set(len(events) - number)
                    await self._deal_with(event)
                BEHIND.labels(self._bank).set(0)
                if following > cursor:
                    await self._keep_cursor(following)
                    cursor = following
                delay = RETRY_SECONDS_MIN
            except Exception as error:  # whatever went wrong, the bank must go on following
                report(error, "coordinator's feed interrupted", retry_s=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _page(self, cursor: int) -> tuple[Sequence[Event], int]:
        """Return the events after the cursor, and the next cursor. An event that can't be read is set aside."""
        params = {"after": cursor, "wait_s": WAIT_S}
        try:
            page = await self._coordinator.get("/events", Events, params=params, timeout_s=WAIT_S + 10)
            return page.events, page.next
        except RemoteProblem as problem:
            if problem.code != ANSWER_MALFORMED:
                raise
        raw_page = await self._coordinator.get("/events", _UnreadEvents, params=params, timeout_s=WAIT_S + 10)
        events: list[Event] = []
        for raw in raw_page.events:
            try:
                events.append(read_answer(bytes(raw), Event, peer=self._coordinator.bic))
            except msgspec.DecodeError as error:
                self.set_aside.add(PoisonEvent(id=_id_in(raw), type="unreadable", cycle=None, reason=str(error)[:200]))
        return events, raw_page.next

    async def _keep_cursor(self, cursor: int) -> None:
        """Keep where the feed is to be taken up after a restart.

        That is before what isn't done: cycles that attest, and events that were set aside not long ago, which a newer
        program or a newer trust list may be able to deal with.
        """
        undone = [*self._began.values(), *self.set_aside.ids(after=cursor - AGAIN_EVENTS_MAX)]
        await reads.move_cursor(self._pool, min([cursor, *(event - 1 for event in undone)]))

    async def _deal_with(self, event: Event) -> None:
        """Handle an event, or set it aside where that can't succeed. Raises what may pass."""
        try:
            try:
                await self._handle(event)
                self.set_aside.discard(event.id)
            except EvidenceError:
                # Signed with a key, perhaps, that came with a trust list we haven't seen.
                if not await self._trust.refresh(self._client):
                    raise
                self._trust_changed()
                await self._handle(event)
        except Exception as error:
            fault = fault_of(error)
            if fault is Fault.UNFORESEEN:
                self._attempts[event.id] = self._attempts.get(event.id, 0) + 1
            if fault is Fault.WORLD or (fault is Fault.UNFORESEEN and self._attempts[event.id] < ATTEMPTS_MAX):
                raise
            reason = f"{type(error).__name__}: {error}"[:200]
            self.set_aside.add(PoisonEvent(id=event.id, type=event.type, cycle=event.cycle, reason=reason))
        self._attempts.pop(event.id, None)

    async def _handle(self, event: Event) -> None:
        if event.type in ("trust_list.published", "participant.changed"):
            if await self._trust.refresh(self._client):
                self._trust_changed()
            return
        if event.type in ("bilateral_limit.changed", "rulebook.adopted"):
            self._limits.changed()
            return
        cycle = event.cycle
        if cycle is None:
            return
        if event.type == "cycle.cut_off":
            await self._cut(cycle)
        elif event.type == "cycle.attesting":
            if self._attesting.begin(cycle):
                self._began[cycle] = event.id
        elif event.type == "cycle.break":
            self._attesting.look_again(cycle)
            notice = msgspec.convert(event.data, BreakNotice)
            await self._record_break(event.id, cycle, notice.pair, notice.currency, notice.kind, notice.resolved)
        elif event.type == CONTEST_EVENT:
            banks = {name: event.data.get(name) for name in ("sender", "receiver", "currency")}
            log.warning("a cut is contested", cycle=cycle, **banks)
            lane = msgspec.convert(event.data, _ContestedLane)
            await self._record_break(event.id, cycle, (lane.sender, lane.receiver), lane.currency, "contested")
        elif event.type in ("cycle.matched", "cycle.abandoned"):
            self._attesting.end(cycle)
            self._began.pop(cycle, None)
        elif event.type == "cycle.instructed":
            await self.instructions.receive(cycle)
        elif event.type == "cycle.final":
            await self.instructions.settle(cycle)

    async def _record_break(
        self, event: int, cycle: str, pair: tuple[str, str], currency: str, kind: str, resolved: bool = False
    ) -> None:
        """Keep in the journal that a pair of this bank breaks, so that its own systems hear of it."""
        counterparty = next(bank for bank in pair if bank != self._bank)
        heard = BreakHeard(cycle=cycle, counterparty=counterparty, currency=currency, kind=kind, resolved=resolved)
        if not await reads.exists(self._pool, break_subject(event)):
            await self._ledger.submit(RecordBreak(event, heard))
        # Where the other bank says nothing there is nothing to compare with.
        if self._broken is not None and not resolved and kind != "missing":
            await self._broken(cycle, counterparty, currency)

    def mend(self) -> None:
        """Look again at the breaks of the cycles being attested; called when a dispute was withdrawn or raised."""
        self._attesting.look_again()

    # --- the cut -----------------------------------------------------------------------------------------

    async def _cut(self, cycle: str) -> None:
        """Fix the cut in the ledger, sign it, and hand it in; the same one, however often and whatever happens."""
        cut, envelope = await reads.cut(self._pool, cycle)
        if cut is None:
            currencies = (await self._coordinator.get(f"/cycles/{cycle}", Cycle)).currencies
            receiving = await reads.receiving_lanes(self._pool, self._bank)
            cut = await self._ledger.submit(FixCut(cycle, currencies, receiving))
        if envelope is None:
            envelope = await sign_document(cut, self._signer)
            await self._cut_kept(await self._ledger.submit(RecordSignedCut(cycle, envelope)))
        await self._coordinator.submit("PUT", f"/cycles/{cycle}/cuts", envelope)
