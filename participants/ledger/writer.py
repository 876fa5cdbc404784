"""The writer of a bank's ledger: concurrent commands become one transaction.

Whatever has arrived while the last transaction was being written goes into the next one: no timer, and the group
grows with the load. A group is decided in memory (deciding), copied in (writing), and answered when PostgreSQL has
committed (finishing). What can't go that way goes the way of `recovery`.

Any number of processes may run a writer on the same ledger. A transaction first moves `ledger_head` from the event
number its books were read at; if another writer has moved it, nothing is written, the books are forgotten and the
group is decided again on what the database says, this time with the other writers kept waiting.

| what happens | then |
|---|---|
| the database fails, and is back within seconds | who waits is answered, later |
| it fails for longer | who waits, and who comes, is refused with its reason, until a trial shows that it takes writes |
| anything else ends the writer | who waits is refused (`ledger_failed`); it begins again with empty books, counted |

Whoever was refused may have been written after all, and asks again under the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg
import structlog

from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.settings import FUNDING_ACCOUNT
from gateway.federation.supervision import Supervised
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.figures import LedgerFigures
from participants.ledger.group import Group, Submission
from participants.ledger.recovery import Recovery
from participants.ledger.rows import Rows
from participants.ledger.session import STATEMENT_ITEMS_MAX, Session

R = TypeVar("R")

GROUP_ITEMS_MAX = 8_192
QUEUE_ITEMS_MAX = 65_536
SHARE_ITEMS_MAX = 256
"""So many are decided between two looks at what else is to be done, of which the group being written is the first."""
TRIAL_SECONDS_MIN = 0.1
TRIAL_SECONDS_MAX = 2.0
STOP_SECONDS_MAX = 10.0
CACHED_ACCOUNTS_MAX = 500_000
# A command that fits into no group would never be decided, and a group that fits into no queue never be full.
assert STATEMENT_ITEMS_MAX <= BATCH_ITEMS_MAX <= GROUP_ITEMS_MAX <= QUEUE_ITEMS_MAX

log = structlog.get_logger(__name__)


class WriterReason(RefusalReason):
    """Why the ledger takes in nothing more, in order of precedence."""

    LEDGER_FAILED = "ledger_failed", 503
    """The ledger's writer has ended and is begun again; the log says why; with `Retry-After`."""
    LEDGER_BUSY = "ledger_busy", 503
    """More waits than the writer takes in, or it is stopping; with `Retry-After`."""


class Ledger:
    """The writer of one ledger. `start` before use, `stop` to finish what was submitted."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        *,
        bank: str,
        agent: str,
        funding: str = FUNDING_ACCOUNT,
    ) -> None:
        """`funding` is the code of the internal account that stands against the nostro outside of cycles."""
        self.books = Books(bank, agent, funding)
        self.figures = LedgerFigures(bank)
        self.listeners: list[Callable[[Rows], None]] = [self.figures.count]
        self.task = Supervised("ledger-writer", self._run)
        self._session = Session(connect, self.books)
        self._recovery = Recovery(self._session, self._finish)
        self._queue: deque[Submission] = deque()
        self._queued_items = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def transactions(self) -> int:
        """How many transactions were written."""
        return self._session.transactions

    async def start(self) -> None:
        """Connect and begin to write. Raises OSError, asyncpg.PostgresError."""
        await self._session.refresh()
        self._drained.clear()
        self.task.start()

    async def stop(self) -> None:
        """Write what is queued, as far as the database takes it, then let go of the connection."""
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._drained.wait()
        await self.task.stop()
        await self._session.close()

    def refusal(self) -> Refusal | None:
        """Return why nothing can be written now; None while it can."""
        if (refusal := self._session.refusal()) is not None:
            return refusal
        return None if self.task.failure is None else _writer_ended()

    @property
    def restored(self) -> str | None:
        """What shows that the ledger is restored to a backup of before: nothing is written to it any more."""
        return self._session.restored

    def stop_writing(self, restored: str) -> None:
        """Write nothing more, for good; what shows that the ledger is restored is given."""
        self._session.restored = self._session.restored or restored

    async def submit(self, command: Command[R]) -> R:
        """Decide a command and return its result once it is durable.

        Raises Refusal with a WriterReason, or with the ServiceReason of a database that fails, and LedgerRestored.
        """
        (answer,) = self._enqueue([command])
        return await answer

    async def submit_each(self, commands: Sequence[Command[R]]) -> list[R]:
        """Decide commands in their order, each in a transaction with whatever else waits; return all results.

        Either all of them are taken in or none. Raises what `submit` does, and then some may be durable.
        """
        return await asyncio.gather(*self._enqueue(commands))

    def _enqueue(self, commands: Sequence[Command[R]]) -> list[asyncio.Future[R]]:
        submissions = [
            Submission(command, asyncio.get_running_loop().create_future(), max(1, len(command.payment_ids())))
            for command in commands
        ]
        items = sum([submission.items for submission in submissions])
        if (refusal := self.refusal()) is not None:
            raise refusal
        if self._stopping or self._queued_items + items > QUEUE_ITEMS_MAX:
            raise Refusal(WriterReason.LEDGER_BUSY, "too many payments are waiting to be written", retry_after_s=1)
        self._queue += submissions
        self._queued_items += items
        self._wake.set()
        return [submission.answer for submission in submissions]

    async def _run(self) -> None:
        """Write until the ledger is stopped. Raises what ends it; then nobody waits any more."""
        self._drained.clear()
        try:
            if not self._session.connected:
                await self._session.try_writing()
            await self._write_groups()
        except BaseException:
            # Nobody knows how much was done: the connection is let go of, and the books with it.
            self._session.drop()
            self._refuse(self._queue)
            self._queue.clear()
            self._queued_items = 0
            raise
        finally:
            self._drained.set()
        # Whoever stops the ledger ends this; the supervisor would begin it again.
        await asyncio.Event().wait()

    async def _write_groups(self) -> None:
        """Write group after group; while one is being written, decide what comes in on top of it.

        A group that was written is finished once the next one is on its way: answering keeps the event loop busy
        for longer than PostgreSQL needs to write.
        """
        group: Group | None = None
        following: Group | None = None
        unfinished: Group | None = None
        writing: asyncio.Task[bool] | None = None
        try:
            while True:
                group, following = following or await self._first_group(), None
                if group is None:
                    return
                group.close()
                writing = asyncio.create_task(self._write(group))
                writing.add_done_callback(lambda _: self._wake.set())
                await asyncio.sleep(0)
                if unfinished is not None:
                    self._finish(unfinished)
                    unfinished = None
                following = Group(self.books)
                whole = await self._decide_while(following, writing)
                if await writing and whole:
                    if following.submissions:
                        unfinished = group
                    else:
                        self._finish(group)
                        following = None
                    continue
                # What was decided on top of a group that wasn't written, or that broke off, is decided again.
                if writing.result():
                    self._finish(group)
                else:
                    await self._carry_out_again(group)
                await self._carry_out_again(following)
                following = None
        except BaseException:
            if writing is not None:
                writing.cancel()
                await asyncio.wait([writing])
            if unfinished is not None:
                self._finish(unfinished)
            for broken in (group, following):
                if broken is not None:
                    self._refuse(broken.submissions)
            raise

    # --- deciding --------------------------------------------------------------------------------------

    async def _first_group(self) -> Group | None:
        """Wait for commands that can be decided at once, and decide them; None when the writer is to stop.

        Commands that need reading first, and groups that break off, are carried out on the way.
        """
        while True:
            if self._session.refusal() is not None:
                await self._wait_for_database()
            if not self._queue:
                if self._stopping:
                    return None
                self._wake.clear()
                await self._wake.wait()
                continue
            if len(self.books.accounts) > CACHED_ACCOUNTS_MAX:
                self.books.clear(self.books.head, self.books.last_account, self.books.last_lane)
            if not self._can_decide(self._queue[0].command):
                await self._carry_out(self._take())
                continue
            group = Group(self.books)
            if self._decide_queue(group):
                return group
            await self._carry_out_again(group)

    def _can_decide(self, command: Command[Any]) -> bool:
        """Tell whether the books hold all that the command needs, so that it can be decided without reading."""
        books = self.books
        return (
            command.assumes_new
            and books.accounts.keys() >= command.account_keys(books)
            and books.lanes.keys() >= command.lane_keys(books)
            and not command.known_payment_ids()
        )

    def _decide_queue(self, group: Group, *, items_max: int = GROUP_ITEMS_MAX) -> bool:
        """Decide waiting commands in their order, as far as that needs no reading; False if one broke off.

        It stops once it has decided `items_max`.
        """
        enough = group.items + items_max
        while self._queue and group.items < enough and group.items + self._queue[0].items <= GROUP_ITEMS_MAX:
            if not self._can_decide(self._queue[0].command):
                return True
            submission = self._queue.popleft()
            self._queued_items -= submission.items
            try:
                group.decide(submission)
            except Exception as error:  # whatever went wrong, the group is decided again, each command for itself
                log.warning("group broke off", command=type(submission.command).__name__, error=repr(error))
                return False
        return True

    async def _decide_while(self, group: Group, writing: asyncio.Task[bool]) -> bool:
        """Decide what comes in until the writing is done; False if a command broke off."""
        while not writing.done():
            self._wake.clear()
            before = group.items
            if not self._decide_queue(group, items_max=SHARE_ITEMS_MAX):
                return False
            if group.items - before >= SHARE_ITEMS_MAX:
                await asyncio.sleep(0)
            elif self._queue:
                # The next one needs reading, or the group is full: neither changes before this is written.
                await asyncio.wait([writing])
            elif not writing.done():
                await self._wake.wait()
        return True

    def _take(self) -> list[Submission]:
        """Take waiting commands for one group, whatever they need."""
        submissions = [self._queue.popleft()]
        items = submissions[0].items
        while self._queue and items + self._queue[0].items <= GROUP_ITEMS_MAX:
            submissions.append(self._queue.popleft())
            items += submissions[-1].items
        self._queued_items -= items
        return submissions

    # --- writing, and after ----------------------------------------------------------------------------

    async def _write(self, group: Group) -> bool:
        """Write a group; False if it wasn't written, or nobody knows."""
        began = time.perf_counter()
        try:
            await self._session.write(group)
            self.figures.commits.observe(time.perf_counter() - began)
        except Exception as error:  # whatever it was, recovery finds out
            log.info("group not written at once", error=repr(error)[:200])
            return False
        return True

    async def _carry_out(self, submissions: Sequence[Submission], *, locked: bool = False, stale: bool = False) -> None:
        """Let recovery carry commands out, and leave none without an answer."""
        try:
            await self._recovery.carry_out(submissions, locked=locked, stale=stale)
        except BaseException:
            self._refuse(submissions)
            raise

    async def _carry_out_again(self, group: Group) -> None:
        """Decide a group again that was decided on wrong grounds, or whose fate is unknown."""
        await self._carry_out(group.submissions, locked=True, stale=True)

    async def _wait_for_database(self) -> None:
        """Refuse what waits until the database takes writes again, or the ledger stops."""
        delay = TRIAL_SECONDS_MIN
        while (refusal := self._session.refusal()) is not None:
            while self._queue:
                self._queue.popleft().fail(self._session.refusal() or refusal)
            self._queued_items = 0
            if self._stopping:
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, TRIAL_SECONDS_MAX)
            await self._session.try_writing()

    def _refuse(self, submissions: Iterable[Submission]) -> None:
        """Tell whoever has no answer yet that the writer ended."""
        for submission in submissions:
            submission.fail(_writer_ended())

    def _finish(self, group: Group) -> None:
        """Tell whoever listens what was written, and everybody their answer."""
        for listener in self.listeners:
            try:
                listener(group.rows)
            except Exception as error:  # whatever it was, what is written is answered
                log.error("ledger listener failed", exc_info=error)
        group.answer()


def _writer_ended() -> Refusal:
    return Refusal(WriterReason.LEDGER_FAILED, "the ledger's writer ended, and is begun again", retry_after_s=1)
