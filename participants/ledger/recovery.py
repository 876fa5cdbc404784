"""What the ledger's writer does with a group that can't be decided and written at once: read first, and try again.

A command may need what the books don't hold yet; another writer may have moved the ledger; a connection may be lost
while a transaction commits, and nobody knows whether it did. In each case the group is decided again on books that
say what the database says. Deciding again is safe: with the payments' histories read, what was committed is answered
as it was the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from participants.ledger import store
from participants.ledger.group import Group, Submission
from participants.ledger.session import CONNECTION_LOST, RECONNECT_SECONDS_MAX, LedgerRestored, Session

RETRY_SECONDS_MIN = 0.01

log = structlog.get_logger(__name__)


class Recovery:
    """Carries commands out one way or another; every one of them is answered, or its error is."""

    def __init__(self, session: Session, finish: Callable[[Group], None]) -> None:
        self._session = session
        self._finish = finish

    async def carry_out_again(self, group: Group) -> None:
        """Decide a group again that was decided on wrong grounds, or whose fate is unknown."""
        try:
            await self._session.refresh_patiently()
        except LedgerRestored as restored:
            _refuse(group.submissions, restored)
            return
        if group.submissions:
            await self.carry_out(group.submissions, locked=True)

    async def carry_out(self, submissions: Sequence[Submission], *, locked: bool = False) -> None:
        """Do what `_carry_out` does, unless the database turns out to be restored: then refuse them all."""
        try:
            await self._carry_out(submissions, locked=locked)
        except LedgerRestored as restored:
            _refuse(submissions, restored)

    async def _carry_out(self, submissions: Sequence[Submission], *, locked: bool = False) -> None:
        """Decide and write commands, and answer them, through lost connections and overtaking writers.

        First on what the commands say they need. When that fails, `locked`: with other writers kept waiting from
        the start and every payment read that is named. When that fails too, each command for itself.
        """
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                group = await (self._write_locked(submissions) if locked else self._write(submissions))
            except Exception as error:  # whatever went wrong in a group, each of it must be answered
                if _is_connection_lost(error):
                    log.warning("ledger connection lost", error=type(error).__name__)
                    locked = True
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RECONNECT_SECONDS_MAX)
                    await self._session.refresh_patiently()
                    continue
                await self._session.refresh_patiently()
                if not locked:
                    # What was assumed of payments and not read may have been wrong.
                    locked = True
                    continue
                if len(submissions) > 1:
                    for submission in submissions:
                        await self.carry_out([submission])
                    return
                log.error("ledger command failed", command=type(submissions[0].command).__name__, error=repr(error))
                submissions[0].fail(error)
                return
            self._finish(group)
            return

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
            group = await self._decide(submissions, read_all=True)
            await session.write_locked(group)
        return group

    async def _decide(self, submissions: Sequence[Submission], *, read_all: bool) -> Group:
        session = self._session
        commands = [submission.command for submission in submissions]
        payments = await store.read_into(session.connection, session.books, commands, read_all=read_all)
        group = Group(session.books)
        session.books.payments = payments
        for submission in submissions:
            group.decide(submission)
        group.close()
        return group


def _refuse(submissions: Sequence[Submission], restored: LedgerRestored) -> None:
    for submission in submissions:
        submission.fail(LedgerRestored(restored.detail))


def _is_connection_lost(error: Exception) -> bool:
    # What can't be encoded is an InterfaceError too, and a ValueError: that isn't the connection's fault.
    return isinstance(error, CONNECTION_LOST) and not isinstance(error, ValueError)
