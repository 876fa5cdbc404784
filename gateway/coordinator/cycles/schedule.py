"""The timetable of cycles: opens and cuts off the rulebook's slots on business days.

APScheduler is only a timer in memory. Every replica runs one and all of them fire; a slot happens once because
whoever opens it claims it in the database, in the transaction that does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, Protocol

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from prometheus_client import Gauge

from gateway.coordinator import clock
from gateway.coordinator.rulebook import Rulebook
from gateway.coordinator.timetable import ScheduledCycle, around, scheduled
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY

# How soon a turn that had to wait (an earlier cycle was still being settled, the database was away) is tried again.
RETRY_S = 5.0
# A timetable that nobody has looked at for so long is begun again.
FIRING_SECONDS_MAX = 120.0

OVERDUE = Gauge(
    "concordat_schedule_turns_overdue", "Turns of the timetable that are due and not done.", registry=REGISTRY
)
FIRED_AT = Gauge(
    "concordat_schedule_fired_timestamp_seconds", "When the timetable was last looked at.", registry=REGISTRY
)

log = structlog.get_logger(__name__)


class Cycles(Protocol):
    """What the schedule asks of the cycles. Both are idempotent: asked twice, the second time changes nothing."""

    async def open_slot(self, value_date: date, number: int) -> object: ...

    async def cut_off(self, cycle_id: str, *, cause: str) -> object: ...


@dataclass(frozen=True, kw_only=True, order=True)
class Turn:
    """Something to do at an instant: open a slot or cut it off."""

    at: datetime
    number: int
    value_date: date
    action: Literal["open", "cut_off"]

    @property
    def cycle_id(self) -> str:
        return f"{self.value_date.isoformat()}-{self.number:02d}"


def agenda(rulebook: Rulebook, day: date) -> tuple[Turn, ...]:
    """Return the turns of the cycles that open on a day in order, none on a day without business."""
    return _turns(scheduled(rulebook, day))


def _turns(cycles: Iterable[ScheduledCycle]) -> tuple[Turn, ...]:
    """Return the turns of cycles in order; at one instant, what ends before what begins."""
    turns = [
        turn
        for cycle in cycles
        for turn in (
            Turn(at=cycle.opens_at, number=cycle.number, value_date=cycle.value_date, action="open"),
            Turn(at=cycle.cut_off_at, number=cycle.number, value_date=cycle.value_date, action="cut_off"),
        )
    ]
    return tuple(sorted(turns, key=lambda turn: (turn.at, turn.action)))


def due(rulebook: Rulebook, now: datetime) -> tuple[Turn, ...]:
    """Return the turns that should have happened by now, in order.

    A slot that is over isn't opened any more: what the banks pay meanwhile falls into the next one. Its cut-off
    stays due into the following days, for a cycle that an outage left open.
    """
    cycles = [cycle for cycle in around(rulebook, now) if cycle.opens_at <= now]
    over = {(cycle.value_date, cycle.number) for cycle in cycles if cycle.cut_off_at <= now}
    return tuple(
        turn
        for turn in _turns(cycles)
        if turn.at <= now and (turn.action == "cut_off" or (turn.value_date, turn.number) not in over)
    )


def next_turn(rulebook: Rulebook, now: datetime) -> Turn | None:
    """Return the first turn after now; None when cycles run on demand."""
    return next((turn for turn in _turns(around(rulebook, now)) if turn.at > now), None)


class Schedule:
    """Runs the timetable in the event loop that started it.

    A firing that fails is begun again by `task`, with back-off; so is a timer that fires no more. What is due by then
    is done then: nothing is lost with a firing, be it that the process was down or the database away.
    """

    def __init__(
        self,
        cycles: Cycles,
        rulebook: Rulebook,
        *,
        now: Callable[[], datetime] = clock.now,
        retry_s: float = RETRY_S,
    ) -> None:
        self._cycles = cycles
        self._rulebook = rulebook
        self._now = now
        self._retry_s = retry_s
        self._done: set[Turn] = set()
        self._overdue: dict[Turn, str] = {}
        self._catching_up = asyncio.Lock()
        self._timer = AsyncIOScheduler()
        self._fired = asyncio.Event()
        self._failure: Exception | None = None
        self.task = Supervised("cycle-schedule", self._run)

    def start(self) -> None:
        """Catch up with what is due, now and at every turn to come; does nothing when cycles run on demand."""
        if self._rulebook.slots:
            self.task.start()

    async def stop(self) -> None:
        """Fire no more; a turn that is cut short is done by the next start."""
        await self.task.stop()

    def condition(self) -> str:
        """Tell which turns are due and not done, since when and why; without any, which is the next."""
        if not self._rulebook.slots:
            return "cycles run on demand"
        if self._overdue:
            return "; ".join(
                f"{turn.action} of {turn.cycle_id} due since {turn.at:%Y-%m-%dT%H:%M:%SZ}: {reason}"
                for turn, reason in sorted(self._overdue.items())
            )
        following = next_turn(self._rulebook, self._now())
        return "no turn to come" if following is None else f"{following.action} of {following.cycle_id} is next"

    async def _run(self) -> None:
        """Fire until a firing fails. Raises what it failed with, TimeoutError if there was none for too long."""
        self._failure = None
        self._timer = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._timer.add_job(self._fire, IntervalTrigger(seconds=self._retry_s), next_run_time=datetime.now(UTC))
        self._timer.start()
        try:
            while self._failure is None:
                self._fired.clear()
                async with asyncio.timeout(FIRING_SECONDS_MAX):
                    await self._fired.wait()
            raise self._failure
        finally:
            self._timer.shutdown(wait=False)

    async def _fire(self) -> None:
        try:
            await self.catch_up()
        except Exception as error:
            self._failure = error
        following = next_turn(self._rulebook, self._now())
        if following is not None and self._timer.running:
            self._timer.add_job(self._fire, DateTrigger(following.at), id="next-turn", replace_existing=True)
        self._fired.set()

    async def catch_up(self) -> None:
        """Do every turn that is due and not known to be done, in order. Raises, after all, what nobody foresaw."""
        failure: Exception | None = None
        async with self._catching_up:
            pending = due(self._rulebook, self._now())
            self._done.intersection_update(pending)
            overdue: dict[Turn, str] = {}
            for turn in pending:
                if turn in self._done:
                    continue
                try:
                    reason = await self._do(turn)
                except Exception as error:  # one turn's trouble is no other's
                    reason, failure = type(error).__name__, failure or error
                if reason is None:
                    self._done.add(turn)
                else:
                    overdue[turn] = reason
                    log.info("turn_waits", cycle=turn.cycle_id, action=turn.action, reason=reason)
            self._overdue = overdue
        OVERDUE.set(len(overdue))
        FIRED_AT.set_to_current_time()
        if failure is not None:
            raise failure

    async def _do(self, turn: Turn) -> str | None:
        """Do a turn; return why it has to wait, None if it is done with."""
        try:
            if turn.action == "open":
                await self._cycles.open_slot(turn.value_date, turn.number)
            else:
                await self._cycles.cut_off(turn.cycle_id, cause="schedule")
        except Refusal as refusal:
            # A slot that never opened has nothing to cut off; anything else may be possible later.
            if turn.action == "cut_off" and refusal.status == 404:
                return None
            return refusal.reason
        except Exception as error:
            if (reason := failure_of(error)) is None:
                raise
            return reason
        return None
