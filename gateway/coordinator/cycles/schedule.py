"""The timetable of cycles: opens and cuts off the rulebook's slots on business days.

APScheduler is only a timer in memory. Every replica runs one and all of them fire; a slot happens once because
whoever opens it claims it in the database, in the transaction that does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, Protocol

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from gateway.coordinator import clock
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.problems import Refusal

# How soon a turn that had to wait (an earlier cycle was still being settled, the database was away) is tried again.
RETRY_S = 15.0
# No calendar closes for longer.
DAYS_AHEAD_MAX = 14

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
    """Return the turns of a day in order, none on a day without business. The value date is the day itself."""
    if not rulebook.is_business_day(day):
        return ()

    def instant(at: str) -> datetime:
        return datetime.combine(day, time.fromisoformat(at), UTC)

    turns: list[Turn] = []
    for slot in rulebook.slots:
        turns.append(Turn(at=instant(slot.opens_at), number=slot.number, value_date=day, action="open"))
        turns.append(Turn(at=instant(slot.cut_off_at), number=slot.number, value_date=day, action="cut_off"))
    return tuple(turns)


def due(rulebook: Rulebook, now: datetime) -> tuple[Turn, ...]:
    """Return the turns that should have happened by now, in order.

    A slot that is over isn't opened any more: what the banks pay meanwhile falls into the next one. Its cut-off
    stays due into the following days, for a cycle that an outage left open.
    """
    turns: list[Turn] = []
    for day in (*_business_days_before(rulebook, now.date()), now.date()):
        passed = [turn for turn in agenda(rulebook, day) if turn.at <= now]
        over = {turn.number for turn in passed if turn.action == "cut_off"}
        turns.extend(turn for turn in passed if turn.action == "cut_off" or turn.number not in over)
    return tuple(turns)


def next_turn(rulebook: Rulebook, now: datetime) -> Turn | None:
    """Return the first turn after now; None when cycles run on demand."""
    for days in range(DAYS_AHEAD_MAX):
        for turn in agenda(rulebook, now.date() + timedelta(days=days)):
            if turn.at > now:
                return turn
    return None


def _business_days_before(rulebook: Rulebook, day: date) -> Iterator[date]:
    """Yield the last business day before a day."""
    for days in range(1, DAYS_AHEAD_MAX):
        before = day - timedelta(days=days)
        if rulebook.is_business_day(before):
            yield before
            return


class Schedule:
    """Runs the timetable in the event loop that started it."""

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
        self._catching_up = asyncio.Lock()
        self._timer = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self) -> None:
        """Catch up with what is due, now and at every turn to come; does nothing when cycles run on demand."""
        if self._rulebook.slots:
            self._timer.add_job(self.catch_up, IntervalTrigger(seconds=self._retry_s), next_run_time=datetime.now(UTC))
            self._timer.start()

    def stop(self) -> None:
        if self._timer.running:
            self._timer.shutdown(wait=False)

    async def catch_up(self) -> None:
        """Do every turn that is due and not known to be done, in order."""
        async with self._catching_up:
            pending = due(self._rulebook, self._now())
            self._done.intersection_update(pending)
            for turn in pending:
                if turn not in self._done and await self._do(turn):
                    self._done.add(turn)
        following = next_turn(self._rulebook, self._now())
        if following is not None and self._timer.running:
            self._timer.add_job(self.catch_up, DateTrigger(following.at), id="next-turn", replace_existing=True)

    async def _do(self, turn: Turn) -> bool:
        """Do a turn and tell whether it is done with."""
        try:
            if turn.action == "open":
                await self._cycles.open_slot(turn.value_date, turn.number)
            else:
                await self._cycles.cut_off(turn.cycle_id, cause="schedule")
        except Refusal as refusal:
            # A slot that never opened has nothing to cut off; anything else may be possible later.
            gone = turn.action == "cut_off" and refusal.status == 404
            if not gone:
                log.info("turn_waits", cycle=turn.cycle_id, action=turn.action, reason=refusal.reason)
            return gone
        return True
