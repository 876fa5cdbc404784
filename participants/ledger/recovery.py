"""What the ledger's writer does with a group that can't be decided and written at once: read first, and try again.

A command may need what the books don't hold yet; another writer may have moved the ledger; a connection may be lost
while a transaction commits, and nobody knows whether it did. In each case the group is decided again on books that
say what the database says. Deciding again is safe: with the payments' histories read, what was committed is answered
as it was the first time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.storage.failures import database_refusal, failure_of
from participants.ledger import store
from participants.ledger.command import RecordedAlreadyError
from participants.ledger.group import Group, Submission
from participants.ledger.session import LedgerRestored, Session

RETRY_SECONDS_MIN = 0.01
RETRY_SECONDS_MAX = 1.0
DECIDING_SECONDS_MAX = 0.02
"""After so much of deciding others are let in: the settlement of thousands of lanes takes longer."""
PATIENCE_SECONDS = 5.0
"""How long a failing database is tried again before whoever waits is told. One that fails over is back by then."""

log = structlog.get_logger(__name__)


class Recovery:
    """Carries commands out one way or another; every one of them is answered, or its error is."""

    def __init__(self, session: Session, finish: Callable[[Group], None]) -> None:
        self._session = session
        self._finish = finish

    async def carry_out(self, submissions: Sequence[Submission], *, locked: bool = False, stale: bool = False) -> None:
        """Decide and write commands, and answer them, through lost connections and overtaking writers.

        First on what the commands say they need. When that fails, `locked`: with other writers kept waiting from
        the start and every payment read that is named. When that fails too, each command for itself. `stale`: the
        books must be read again first. When the database fails for longer than patience lasts, all are refused for
        that: asked again, a command that was committed after all is answered as it was the first time.
        """
        delay, gives_up_at = RETRY_SECONDS_MIN, 0.0
        while self._session.refusal() is None:
            try:
                if stale:
                    await self._session.refresh()
                    stale = False
                if not submissions:
                    return
                group = await (self._write_locked(submissions) if locked else self._write(submissions))
            except LedgerRestored:
                break
            except Exception as error:  # whatever went wrong in a group, each of it must be answered
                unread, stale = stale, True
                reason = failure_of(error)
                if reason is not None:
                    locked = True
                    if reason is not ServiceReason.DATABASE_BUSY:
                        self._session.drop()
                    gives_up_at = gives_up_at or time.monotonic() + PATIENCE_SECONDS
                    if time.monotonic() >= gives_up_at:
                        self._session.fail(reason)
                        break
                    log.warning("ledger database failed", reason=reason, error=type(error).__name__)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RETRY_SECONDS_MAX)
                elif unread:
                    raise  # No command's fault: the ledger itself can't be read.
                elif not locked:
                    # What was assumed of payments and not read may have been wrong.
                    locked = True
                elif len(submissions) > 1:
                    for submission in submissions:
                        await self.carry_out([submission], stale=True)
                    return
                else:
                    name = type(submissions[0].command).__name__
                    # What is refused isn't a failure.
                    if not isinstance(error, (RecordedAlreadyError, Refusal)):
                        log.error("ledger command failed", command=name, error=repr(error))
                    submissions[0].fail(error)
                    submissions = ()
            else:
                self._finish(group)
                return
        for submission in submissions:
            submission.fail(self._session.refusal() or database_refusal(ServiceReason.DATABASE_UNAVAILABLE))

    async def _write(self, submissions: Sequence[Submission]) -> Group:
        """Decide a group on what its commands say they need and write it, or raise and leave the database as it was."""
        session = self._session
        group = await self._decide(submissions, read_all=False)
        await session.write(group)
        return group

    async def _write_locked(self, submissions: Sequence[Submission]) -> Group:
        """Decide a group with other writers kept waiting and write it, or raise and leave the database as it was."""
        session = self._session
        async with session.transaction():
            await session.lock()
            await self._require_unrecorded(submissions)
            group = await self._decide(submissions, read_all=True)
            await session.write_locked(group)
        return group

    async def _require_unrecorded(self, submissions: Sequence[Submission]) -> None:
        named = [
            (event, type(s.command).__name__) for s in submissions if (event := s.command.recorded_as()) is not None
        ]
        recorded = await store.recorded(self._session.connection, [event for event, _ in named])
        if recorded is not None:
            name = next(name for event, name in named if event[0] == recorded)
            raise RecordedAlreadyError(f"{name} {recorded}")

    async def _decide(self, submissions: Sequence[Submission], *, read_all: bool) -> Group:
        session = self._session
        commands = [submission.command for submission in submissions]
        payments, detached = await store.read_into(session.connection, session.books, commands, read_all=read_all)
        group = Group(session.books)
        session.books.payments, session.books.detached = payments, detached
        began = time.monotonic()
        for submission in submissions:
            group.decide(submission)
            if time.monotonic() - began > DECIDING_SECONDS_MAX:
                # Nobody else decides on the books meanwhile.
                await asyncio.sleep(0)
                began = time.monotonic()
        group.close()
        return group
