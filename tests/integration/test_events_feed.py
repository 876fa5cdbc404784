"""The event log and its feed: gap-free under concurrency, tamper-evident, and quick to wake its readers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, Coordinator, running_coordinator
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from support import reading_as

from compliance.event_log import ChainError
from gateway.coordinator.log import events
from gateway.coordinator.log.feed import EventFeed
from gateway.coordinator.log.following import Following
from gateway.coordinator.log.sinks.sink import AddressedEvent
from gateway.federation.http.client import RemoteProblem
from gateway.federation.messages.events import Events
from gateway.federation.storage.database import create_engine, transaction
from tests.conftest import NewDatabase


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database("gateway.coordinator")


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def coordinator(url: str, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(url, tmp_path) as running:
        yield running


async def append(engine: AsyncEngine, type_: str, **data: object) -> None:
    async with transaction(engine) as conn:
        await events.append(conn, type_, {"n": "1", **data})


async def test_ids_have_no_gap_and_the_chain_holds_under_concurrency(url: str) -> None:
    first, second = create_engine(url), create_engine(url)

    async def writer(engine: AsyncEngine, number: int) -> None:
        for n in range(10):
            try:
                async with transaction(engine) as conn:
                    await events.append(conn, "rulebook.adopted", {"writer": number, "n": n})
                    if n % 3 == 2:
                        raise RuntimeError("a transaction that fails after appending")
            except RuntimeError:
                pass

    try:
        await asyncio.gather(*(writer((first, second)[number % 2], number) for number in range(8)))
        async with transaction(first) as conn:
            assert await events.verify_chain(conn) == 8 * 7
            found = await events.read(conn, after=0, limit=1000, viewer=None)
        assert [event.id for event in found] == list(range(1, 8 * 7 + 1))
    finally:
        await first.dispose()
        await second.dispose()


@pytest.mark.parametrize("statement", ["UPDATE events SET type = 'x'", "DELETE FROM events", "TRUNCATE events"])
@pytest.mark.parametrize("role", ["concordat_app", None])
async def test_nobody_changes_the_log(url: str, engine: AsyncEngine, statement: str, role: str | None) -> None:
    await append(engine, "rulebook.adopted")
    other = create_engine(url, role=role)
    with pytest.raises(DBAPIError, match="append-only" if role is None else "permission denied"):
        async with transaction(other) as conn:
            await conn.execute(text(statement))
    await other.dispose()


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("""UPDATE events SET data = '{"n":"2"}' WHERE id = 3""", 3),
        ("UPDATE events SET audience = '{ALPHDEF0}' WHERE id = 2", 2),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE id = 1", 1),
        ("DELETE FROM events WHERE id = 4", 4),
        ("DELETE FROM events WHERE id <= 2", 1),
        (f"UPDATE events SET prev_hash = '{'1' * 64}' WHERE id = 2", 2),
        (f"UPDATE events SET hash = '{'1' * 64}' WHERE id = 5", 5),
    ],
)
async def test_tampering_is_found(url: str, engine: AsyncEngine, statement: str, broken_at: int) -> None:
    for _ in range(5):
        await append(engine, "rulebook.adopted")
    owner = create_engine(url, role=None)
    async with transaction(owner) as conn:
        # What only a superuser who wants to cheat would do.
        await conn.execute(text("ALTER TABLE events DISABLE TRIGGER events_append_only"))
        await conn.execute(text(statement))
    await owner.dispose()
    async with transaction(engine) as conn:
        with pytest.raises(ChainError) as found:
            await events.verify_chain(conn)
    assert found.value.event_id == broken_at


async def test_members_see_what_concerns_them(engine: AsyncEngine) -> None:
    await append(engine, "cycle.matched")
    await append(engine, "cycle.break", pair=[ALPHA, BRAVO])
    await append(engine, "proposal.made")
    async with transaction(engine) as conn:
        for viewer, expected in {
            ALPHA: ["cycle.matched", "cycle.break"],
            CARLO: ["cycle.matched"],
            None: ["cycle.matched", "cycle.break", "proposal.made"],
        }.items():
            found = await events.read(conn, after=0, limit=10, viewer=viewer)
            assert [event.type for event in found] == expected


async def test_a_waiting_reader_wakes_for_another_replicas_event(url: str, engine: AsyncEngine) -> None:
    feed = EventFeed(engine, url)
    feed.start(asyncio.Event())
    try:
        waiting = asyncio.create_task(feed.read(after=0, limit=10, wait_s=20, reader=reading_as(ALPHA)))
        await append(engine, "cap.changed", bic=BRAVO)
        other = create_engine(url)
        started = time.monotonic()
        await append(other, "prefunding.changed", bic=ALPHA)
        await other.dispose()
        found = await waiting
        assert [event.type for event in found.events] == ["prefunding.changed"]
        assert found.next == 2
        assert time.monotonic() - started < 5
    finally:
        await feed.stop()


async def test_a_reader_goes_when_its_time_is_up_or_the_node_stops(url: str, engine: AsyncEngine) -> None:
    feed, stopping = EventFeed(engine, url), asyncio.Event()
    feed.start(stopping)
    assert await feed.read(after=7, limit=10, wait_s=0.05, reader=reading_as(None)) == Events(events=(), next=7)
    waiting = asyncio.create_task(feed.read(after=0, limit=10, wait_s=600, reader=reading_as(None)))
    stopping.set()
    assert await asyncio.wait_for(waiting, 5) == Events(events=(), next=0)
    await feed.stop()


@pytest.mark.parametrize(
    ("events_stored", "after", "viewer", "expected", "next_"),
    [
        (0, -2, None, [], 0),
        (1, -2, None, [1], 1),
        (5, -2, None, [4, 5], 5),
        (5, -1, None, [5], 5),
        (5, -1, ALPHA, [5], 5),
        (5, -1, BRAVO, [], 4),
        (5, -5, BRAVO, [], 0),
    ],
)
async def test_a_cursor_below_zero_counts_back_from_the_newest(
    url: str, engine: AsyncEngine, events_stored: int, after: int, viewer: str | None, expected: list[int], next_: int
) -> None:
    for _ in range(events_stored):
        await append(engine, "cap.changed", bic=ALPHA)
    feed = EventFeed(engine, url)
    page = await feed.read(after=after, limit=10, wait_s=0, reader=reading_as(viewer))
    assert ([event.id for event in page.events], page.next) == (expected, next_)
    feed.start(asyncio.Event())
    try:
        # Once the feed listens, it answers from memory and waits from the same place.
        waiting = asyncio.create_task(feed.read(after=-1, limit=10, wait_s=20, reader=reading_as(BRAVO)))
        await append(engine, "cap.changed", bic=BRAVO)
        assert [event.id for event in (await waiting).events] == [events_stored + 1]
    finally:
        await feed.stop()


class FailingSink:
    """A sink with a stored position, whose place can't be reached the first two times, or dies having taken half."""

    name = "failing-sink"

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.all_here = asyncio.Event()
        self._failures = 2

    async def position(self, newest: int) -> int:
        return min(newest, self.ids[-1] if self.ids else 0)

    async def take(self, events: Sequence[AddressedEvent]) -> None:
        if self._failures and events:
            self._failures -= 1
            self.ids.extend(event.id for event, _ in events[: len(events) // 2])
            raise ConnectionError("the sink's place is away")
        self.ids.extend(event.id for event, _ in events)
        if len(self.ids) >= 7:
            self.all_here.set()

    def interrupt(self) -> None:
        pass


async def test_a_sink_that_fails_is_given_what_it_misses_and_holds_up_no_other(url: str, engine: AsyncEngine) -> None:
    for _ in range(5):
        await append(engine, "cap.changed", bic=ALPHA)
    sink, feed = FailingSink(), EventFeed(engine, url)
    following = Following(sink, url)
    feed.start(asyncio.Event())
    following.task.start()
    try:
        await append(engine, "cap.changed", bic=ALPHA)
        assert (await feed.read(after=5, limit=10, wait_s=20, reader=reading_as(None))).next == 6
        await append(engine, "cap.changed", bic=ALPHA)
        await asyncio.wait_for(sink.all_here.wait(), 30)
        assert sink.ids == [1, 2, 3, 4, 5, 6, 7]
    finally:
        await following.task.stop()
        await feed.stop()


async def test_the_feed_over_http(coordinator: Coordinator) -> None:
    [alpha] = await coordinator.admit(ALPHA, caps_minor={"EUR": 100})
    async with coordinator.client(alpha) as bank, await coordinator.operator() as operator:
        seen = await bank.get(f"{coordinator.url}/events", Events, audience=COORDINATOR)
        assert {event.type for event in seen.events} >= {"participant.changed", "trust_list.published", "cap.changed"}
        assert "operator.acted" not in {event.type for event in seen.events}
        everything = await operator.get(f"{coordinator.url}/events", Events, audience=COORDINATOR)
        assert "operator.acted" in {event.type for event in everything.events}

        waiting = asyncio.create_task(
            bank.get(
                f"{coordinator.url}/events",
                Events,
                audience=COORDINATOR,
                params={"after": everything.next, "wait_s": 20},
                timeout_s=30,
            )
        )
        started = time.monotonic()
        await coordinator.registry.set_cap(ALPHA, "USD", 5, by="alice", reason="test")
        news = await waiting
        assert [event.type for event in news.events] == ["cap.changed"]
        assert news.events[0].data == {"bic": ALPHA, "currency": "USD", "cap_minor": "5"}
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("params", [{"after": -1001}, {"wait_s": 26}, {"limit": 0}, {"limit": 1001}, {"after": "x"}])
async def test_bad_cursors_are_problems(coordinator: Coordinator, params: dict[str, int]) -> None:
    async with await coordinator.operator() as operator:
        with pytest.raises(RemoteProblem) as refused:
            await operator.get(f"{coordinator.url}/events", Events, audience=COORDINATOR, params=params)
    assert (refused.value.status, refused.value.code) == (400, "validation_failed")
