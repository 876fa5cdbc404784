"""Keeping the books of cycles: brought up to date from the tables, changed by one at a time, dropped when in doubt.

A book is a copy of what is committed and nothing else, so any number of replicas keep one each. Whoever changes it does
so within a transaction that has the cycle's row locked. While that is open nobody else looks at the book, and if it
ends in any other way than by a commit that is known of, the book is thrown away and read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.cycle.positions import Position
from compliance.cycle.states import State
from gateway.coordinator.cycles.book import Book
from gateway.coordinator.cycles.submission import ReadCut
from gateway.coordinator.cycles.tables import attestations, submissions
from gateway.coordinator.cycles.tables.attestations import Stored
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.federation.storage.database import computed, transaction

TAKING_IN = frozenset({State.CUT_OFF, State.ATTESTING})


class Books:
    """The book of the cycle that takes in what banks sign, and of one before that somebody asks about.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._current: Book | None = None
        self._earlier: Book | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Open a transaction in which books may be asked for, and changed once their cycle is locked.

        The lock of the books comes before that of any row, for everybody.
        """
        async with self._lock:
            try:
                async with transaction(engine) as conn:
                    yield conn
            except BaseException:
                # Of a failure it isn't known whether the commit took place, nor how far a reading came.
                self._drop_unsettled()
                raise
            for book in (self._current, self._earlier):
                if book is not None:
                    book.unsettled = False

    def _drop_unsettled(self) -> None:
        if self._current is not None and self._current.unsettled:
            self._current = None
        if self._earlier is not None and self._earlier.unsettled:
            self._earlier = None

    async def of(self, conn: AsyncConnection, cycle: Cycle) -> Book:
        """Return the book of a cycle, as the tables are now.

        Its cuts are all there; what it says of statements is of a cycle that attests, and of settled lanes of one that
        was cut off and attests at most.
        """
        book = self._find(cycle)
        book.unsettled = True
        if not book.all_cuts:
            async for cuts in submissions.cuts_since(conn, cycle.id, tuple(book.cut_digests)):
                await computed(conn, partial(take_cuts, book, cuts))
            # Once the cycle goes on no cut comes any more.
            book.all_cuts = cycle.state not in (State.OPEN, State.CUT_OFF)
        if book.settled is None and cycle.state in TAKING_IN:
            settled = await submissions.settled_lanes(conn)
            await computed(conn, lambda: book.take_settled(settled))
        if cycle.state is State.ATTESTING:
            await _take_attested(conn, book)
        return book

    def _find(self, cycle: Cycle) -> Book:
        """Return the book that is kept of a cycle, or a new one. Nobody's questions push that of the present out."""
        for book in (self._current, self._earlier):
            if book is not None and book.cycle == cycle.id:
                return book
        book = Book(cycle.id)
        if cycle.state in TAKING_IN:
            self._current = book
        else:
            self._earlier = book
        return book


def take_cuts(book: Book, cuts: Iterable[ReadCut]) -> None:
    """Take cuts in a book, of which each may name two thousand lanes."""
    for cut in cuts:
        book.take_cut(cut.document.receiver, cut.sha256, cut.document.lanes)


async def _take_attested(conn: AsyncConnection, book: Book) -> None:
    """Bring a book up to date with what was attested since."""
    book.take_contests(await submissions.contests_since(conn, book.cycle, book.contests_seen))
    stored = await attestations.since(conn, book.cycle, book.seen)
    if stored:
        positions = await attestations.positions_since(conn, book.cycle, book.seen)
        await computed(conn, lambda: _take_all(book, stored, positions))


def _take_all(book: Book, stored: Iterable[Stored], positions: Iterable[tuple[Position, bytes]]) -> None:
    new = {sha256: book.statement(p, sha256) for p, sha256 in positions}
    for attestation in stored:
        for sha256 in attestation.taken:
            book.take(attestation.participant, book.known(sha256) or new[sha256])
        book.seen = attestation.id
