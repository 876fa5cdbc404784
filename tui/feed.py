"""Keeps a snapshot live: read a round, wait on the event feed, read again. No screen in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.messages.events import Event, Events
from tui.api import ConsoleApi
from tui.model import EVENTS_KEPT, RUNNING, TERMINAL, Snapshot, cycle_to_follow

T = TypeVar("T")
# While a cycle runs, banks' cuts and statements come in without an event each; so the wait is short.
WAIT_RUNNING_S = 2
WAIT_QUIET_S = 5
RETRY_S = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Lost:
    """The coordinator didn't answer, or with a problem; the feed goes on trying."""

    why: str


def said(failure: RemoteError) -> str:
    """Say a failure in one line: the problem's code and detail, or what the connection did."""
    if isinstance(failure, RemoteProblem):
        return f"{failure.code}: {failure.detail}"
    return f"no answer ({str(failure).partition(':')[0]})"


async def read(api: ConsoleApi, picked: str | None, events: tuple[Event, ...] = ()) -> Snapshot:
    """Read one round. `picked` is the operator's choice of cycle; None follows the cycle in motion."""
    page, participants = await asyncio.gather(api.cycles(), api.participants())
    selected = picked or cycle_to_follow(page.items)
    deciding = [s.cycle.id for s in page.items if s.cycle.state not in TERMINAL or s.cycle.id == selected]
    made = await asyncio.gather(*(api.proposals(cycle) for cycle in deciding))
    proposals = sorted((p for answer in made for p in answer.proposals), key=lambda p: (p.made_at, p.id), reverse=True)
    snapshot = Snapshot(
        cycles=page.items, participants=participants, proposals=tuple(proposals), selected=selected, events=events
    )
    if selected is None:
        return snapshot
    progress, positions, checks = await asyncio.gather(
        api.progress(selected), _if_there(api.positions(selected)), _if_there(api.checks(selected))
    )
    return replace(snapshot, progress=progress, positions=positions, checks=checks)


async def recent_event(api: ConsoleApi) -> int:
    """Find an event id at most EVENTS_KEPT before the newest: ids have no gap, so halving finds it."""

    async def beyond(after: int) -> bool:
        return bool((await api.events(after, wait_s=0, limit=1)).events)

    low, high = 0, EVENTS_KEPT
    while await beyond(high):
        low, high = high, high * 2
    while high - low > EVENTS_KEPT:
        middle = (low + high) // 2
        low, high = (middle, high) if await beyond(middle) else (low, middle)
    return low


async def _if_there(asked: Awaitable[T]) -> T | None:
    """Await an answer that an early cycle may not have yet."""
    try:
        return await asked
    except RemoteProblem as problem:
        if problem.status in (404, 409):
            return None
        raise


async def watch(
    api: ConsoleApi, picked: Callable[[], str | None], poke: asyncio.Event
) -> AsyncIterator[Snapshot | Lost]:
    """Yield a snapshot whenever something may have changed, and Lost while the coordinator doesn't answer.

    Setting `poke` makes it read at once (another cycle was picked, an action was sent).
    """
    cursor: int | None = None
    seen: tuple[Event, ...] = ()
    failures = 0
    poll: asyncio.Task[Events] | None = None
    try:
        while True:
            try:
                poke.clear()
                snapshot = await read(api, picked(), seen)
                failures = 0
                yield snapshot
                running = any(summary.cycle.state in RUNNING for summary in snapshot.cycles)
                wait_s = WAIT_RUNNING_S if running else WAIT_QUIET_S
                if cursor is None:
                    cursor = max(0, await recent_event(api) - EVENTS_KEPT)
                poll = poll or asyncio.create_task(api.events(cursor, wait_s=wait_s))
                await _either(poll, poke)
                if poll.done():
                    page, poll = poll.result(), None
                    cursor, seen = page.next, (*seen, *page.events)[-EVENTS_KEPT:]
            except RemoteError as failure:
                if poll is not None:
                    poll.cancel()
                    poll = None
                yield Lost(said(failure))
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
    finally:
        if poll is not None:
            poll.cancel()


async def _either(poll: asyncio.Task[Events], poke: asyncio.Event) -> None:
    poked = asyncio.create_task(poke.wait())
    try:
        await asyncio.wait((poll, poked), return_when=asyncio.FIRST_COMPLETED)
    finally:
        poked.cancel()
