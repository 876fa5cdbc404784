"""Keeps a snapshot live: read a round, wait on the event feed, read again. No screen in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from compliance.cycle.states import ENDED, IN_PROGRESS
from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.messages.events import Event, Events
from tui.api import ConsoleApi, describe
from tui.snapshot import EVENTS_KEPT, Snapshot, cycle_to_follow

T = TypeVar("T")
# While a cycle runs, banks' cuts and statements come in without an event each; so the wait is short.
WAIT_RUNNING_S = 2
WAIT_QUIET_S = 5
RETRY_S = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Failure:
    """The coordinator didn't answer, or with a problem; the feed goes on trying."""

    words: str


async def read(api: ConsoleApi, chosen: str | None, events: tuple[Event, ...] = ()) -> Snapshot:
    """Read one round. `chosen` is the operator's choice of cycle; None follows the cycle in motion."""
    page, participants = await asyncio.gather(api.cycles(), api.participants())
    selected = chosen or cycle_to_follow(page.items)
    cycles = [summary.cycle for summary in page.items]
    undecided = [cycle.id for cycle in cycles if cycle.state not in ENDED or cycle.id == selected]
    answers = await asyncio.gather(*(api.proposals(cycle) for cycle in undecided))
    proposals = [proposal for answer in answers for proposal in answer.proposals]
    proposals += await api.registry_proposals()
    proposals.sort(key=lambda proposal: (proposal.made_at, proposal.id), reverse=True)
    snapshot = Snapshot(
        cycles=page.items, participants=participants, proposals=tuple(proposals), selected=selected, events=events
    )
    if selected is None:
        return snapshot
    progress, positions, checks = await asyncio.gather(
        api.progress(selected), _none_yet(api.positions(selected)), _none_yet(api.checks(selected))
    )
    return replace(snapshot, progress=progress, positions=positions, checks=checks)


async def _none_yet(answer: Awaitable[T]) -> T | None:
    """Await what an early cycle may not have yet: None then."""
    try:
        return await answer
    except RemoteProblem as problem:
        if problem.status in (404, 409):
            return None
        raise


async def watch(
    api: ConsoleApi, chosen: Callable[[], str | None], read_now: asyncio.Event
) -> AsyncIterator[Snapshot | Failure]:
    """Yield a snapshot whenever something may have changed, and a Failure while the coordinator doesn't answer.

    Setting `read_now` makes it read at once (another cycle was chosen, an action was sent).
    """
    cursor = -EVENTS_KEPT
    events: tuple[Event, ...] = ()
    failures = 0
    poll: asyncio.Task[Events] | None = None
    try:
        while True:
            try:
                read_now.clear()
                snapshot = await read(api, chosen(), events)
                failures = 0
                yield snapshot
                running = any(summary.cycle.state in IN_PROGRESS for summary in snapshot.cycles)
                wait_s = WAIT_RUNNING_S if running else WAIT_QUIET_S
                poll = poll or asyncio.create_task(api.events(cursor, wait_s=wait_s))
                await _either(poll, read_now)
                if poll.done():
                    page, poll = poll.result(), None
                    cursor, events = page.next, (*events, *page.events)[-EVENTS_KEPT:]
            except RemoteError as failure:
                if poll is not None:
                    poll.cancel()
                    poll = None
                yield Failure(describe(failure))
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
    finally:
        if poll is not None:
            poll.cancel()


async def _either(poll: asyncio.Task[Events], read_now: asyncio.Event) -> None:
    request = asyncio.create_task(read_now.wait())
    try:
        await asyncio.wait((poll, request), return_when=asyncio.FIRST_COMPLETED)
    finally:
        request.cancel()
