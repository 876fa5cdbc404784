"""The timetable on a real database: two replicas, each slot once; outages and late cut-offs are caught up."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from running_coordinator import COORDINATOR
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from support import reading_as

from gateway.coordinator.app import CoordinatorCore
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.schedule import Schedule
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.cycles.settlement import NoAnswerError, Reply
from gateway.coordinator.log.feed import EventFeed
from gateway.coordinator.rulebook import load
from gateway.federation.http.client import MemberIdentity
from gateway.federation.messages.settlement import SettlementOrder
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase

RULEBOOK = load()  # slots 06-09, 09-12, 12-16


class NoAgent:
    """A settlement agent that can't be reached; none of these cycles gets as far."""

    async def agent(self) -> str:
        raise NoAnswerError(FailureReason.AGENT_INACTIVE, "no agent")

    async def settle(self, agent: str, message_id: str, order: SettlementOrder) -> Reply:
        raise NoAnswerError(FailureReason.AGENT_INACTIVE, "no agent")


class Clock:
    def __init__(self, at: str) -> None:
        self.set(at)

    def set(self, at: str) -> None:
        self.at = datetime.fromisoformat(at).replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class Replica:
    """One coordinator process's schedule, with connections and memory of its own."""

    def __init__(self, base: CoordinatorCore, clock: Clock) -> None:
        self.base = base
        self.cycles = CycleService(
            base.engine,
            bic=COORDINATOR,
            signer=base.identity.sign,
            rulebook=RULEBOOK,
            agent=NoAgent(),
            registry=base.registry,
            now=clock,
        )
        self.schedule = Schedule(self.cycles, RULEBOOK, now=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock("2026-11-20T05:59")


@pytest.fixture
async def replicas(new_database: NewDatabase, tmp_path: Path, clock: Clock) -> AsyncIterator[list[Replica]]:
    url = await new_database("gateway.coordinator")
    settings = NodeSettings(bic=COORDINATOR, url="http://127.0.0.1:1", data_dir=tmp_path)
    MemberIdentity.made(settings.bic, settings.keys_dir)
    bases = [CoordinatorCore.open(settings, url, RULEBOOK) for _ in range(2)]
    await bases[0].register_itself("Clearing house")
    yield [Replica(base, clock) for base in bases]
    for base in bases:
        await base.engine.dispose()


async def cycles(engine: AsyncEngine) -> dict[str, str]:
    async with transaction(engine) as conn:
        return {row.id: row.state for row in await conn.execute(text("SELECT id, state FROM cycles ORDER BY id"))}


async def happened(engine: AsyncEngine) -> list[tuple[str, str]]:
    async with transaction(engine) as conn:
        rows = await conn.execute(text("SELECT type, cycle FROM events WHERE type LIKE 'cycle.%' ORDER BY id"))
        return [(row.type, row.cycle) for row in rows]


async def end(engine: AsyncEngine, cycle: str) -> None:
    """Let a cycle be over, as if it had settled."""
    async with transaction(engine) as conn:
        await conn.execute(text("UPDATE cycles SET state = 'final' WHERE id = :cycle"), {"cycle": cycle})


async def test_two_replicas_one_slot_exactly_once(replicas: list[Replica], clock: Clock) -> None:
    engine = replicas[0].base.engine

    async def everybody() -> None:
        # Every replica fires twice at the same moment, as after a restart in the middle of it.
        fresh = [Schedule(replica.cycles, RULEBOOK, now=clock) for replica in replicas]
        await asyncio.gather(*(s.catch_up() for s in [*fresh, *(r.schedule for r in replicas)]))

    await everybody()
    assert await cycles(engine) == {}
    clock.set("2026-11-20T06:00")
    await everybody()
    assert await cycles(engine) == {"2026-11-20-01": "open"}
    clock.set("2026-11-20T09:00")
    await everybody()
    assert await cycles(engine) == {"2026-11-20-01": "cut_off", "2026-11-20-02": "open"}
    assert await happened(engine) == [
        ("cycle.opened", "2026-11-20-01"),
        ("cycle.cut_off", "2026-11-20-01"),
        ("cycle.opened", "2026-11-20-02"),
    ]


async def test_a_cut_off_waits_for_the_cycle_before(replicas: list[Replica], clock: Clock) -> None:
    engine, timetable = replicas[0].base.engine, replicas[0].schedule
    for at in ("06:00", "09:00", "12:00"):
        clock.set(f"2026-11-20T{at}")
        await timetable.catch_up()
    # The first still isn't settled, so the second stays open past its time: banks can pay meanwhile.
    assert await cycles(engine) == {"2026-11-20-01": "cut_off", "2026-11-20-02": "open"}
    await end(engine, "2026-11-20-01")
    clock.set("2026-11-20T12:01")
    await timetable.catch_up()
    assert await cycles(engine) == {
        "2026-11-20-01": "final",
        "2026-11-20-02": "cut_off",
        "2026-11-20-03": "open",
    }


async def test_after_an_outage(replicas: list[Replica], clock: Clock) -> None:
    first, second = replicas
    clock.set("2026-11-20T12:30")
    await first.schedule.catch_up()
    # Slots 1 and 2 are over and are left out.
    assert await cycles(first.base.engine) == {"2026-11-20-03": "open"}
    # Nobody was there at 16:00; on Monday another replica starts and finds the cycle open.
    clock.set("2026-11-23T06:00")
    await second.schedule.catch_up()
    found = await cycles(first.base.engine)
    assert found["2026-11-20-03"] == "cut_off"
    assert found["2026-11-23-01"] == "open"


async def test_the_timer_fires_by_itself(replicas: list[Replica], clock: Clock) -> None:
    engine = replicas[0].base.engine
    feed = EventFeed(engine, engine.url.render_as_string(hide_password=False))
    feed.start(asyncio.Event())
    timer = Schedule(replicas[0].cycles, RULEBOOK, now=clock, retry_s=0.05)
    timer.start()
    try:
        before = await feed.read(after=0, limit=100, wait_s=0, reader=reading_as(None))
        clock.set("2026-11-20T06:00")
        news = await feed.read(after=before.next, limit=100, wait_s=10, reader=reading_as(None))
        assert [(event.type, event.cycle) for event in news.events] == [("cycle.opened", "2026-11-20-01")]
    finally:
        await timer.stop()
        await feed.stop()


class Failing:
    """The cycles of a replica, whose work on one slot ends in errors for as long as there are any."""

    def __init__(self, cycles: CycleService, number: int, *errors: Exception) -> None:
        self._cycles = cycles
        self._number = number
        self.errors = list(errors)

    async def open_slot(self, value_date: date, number: int) -> object:
        if number == self._number and self.errors:
            raise self.errors.pop(0)
        return await self._cycles.open_slot(value_date, number)

    async def cut_off(self, cycle_id: str, *, cause: str) -> object:
        return await self._cycles.cut_off(cycle_id, cause=cause)


async def test_an_error_in_one_firing_does_not_end_the_timetable(replicas: list[Replica], clock: Clock) -> None:
    engine = replicas[0].base.engine
    clock.set("2026-11-20T06:00")
    failing = Failing(replicas[0].cycles, 1, ValueError("nobody foresaw"), ConnectionRefusedError())
    timer = Schedule(failing, RULEBOOK, now=clock, retry_s=0.05)
    assert timer.task.condition() == "stopped"
    timer.start()
    try:
        async with asyncio.timeout(30):
            while await cycles(engine) != {"2026-11-20-01": "open"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            while timer.condition() != "cut_off of 2026-11-20-01 is next":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        # What the database was in the way of is tried again by the same timer; what nobody foresaw is a new start.
        assert timer.task.condition() == "running, begun again 1 times"
        assert failing.errors == []
    finally:
        await timer.stop()


async def test_a_turn_that_cannot_be_done_is_named_and_keeps_no_other(replicas: list[Replica], clock: Clock) -> None:
    clock.set("2026-11-20T06:00")
    await replicas[0].schedule.catch_up()
    clock.set("2026-11-20T12:00")
    # Slots 1 and 2 are over, their cut-offs are due, and 3 is to open: an error in one leaves the others be.
    timetable = Schedule(Failing(replicas[0].cycles, 3, ValueError("x")), RULEBOOK, now=clock)
    with pytest.raises(ValueError, match="x"):
        await timetable.catch_up()
    assert timetable.condition() == "open of 2026-11-20-03 due since 2026-11-20T12:00:00Z: ValueError"
    assert (await cycles(replicas[0].base.engine))["2026-11-20-01"] == "cut_off"
    await timetable.catch_up()
    assert timetable.condition() == "cut_off of 2026-11-20-03 is next"


async def test_a_timer_that_fires_no_more_is_begun_again(
    replicas: list[Replica], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.coordinator.cycles.schedule.FIRING_SECONDS_MAX", 0.2)
    timer = Schedule(replicas[0].cycles, RULEBOOK, now=clock, retry_s=0.05)
    timer.start()
    try:
        async with asyncio.timeout(30):
            while not timer._timer.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            timer._timer.remove_all_jobs()
            while timer.task.restarts == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            clock.set("2026-11-20T06:00")
            while await cycles(replicas[0].base.engine) != {"2026-11-20-01": "open"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await timer.stop()
