"""Taking in the banks' cuts, and telling each bank where its lanes were cut.

All banks submit at the same moment, so what has come in is dealt with together: signatures are verified before the
cycle's row is locked, then each cut is judged as if it had come alone, and all are written at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.crypto.dsse import Envelope
from compliance.cycle.cuts import Lane
from compliance.cycle.states import State
from gateway.coordinator.cycles import equivocations
from gateway.coordinator.cycles.batching import Batcher
from gateway.coordinator.cycles.book import Book
from gateway.coordinator.cycles.books import Books, take_cuts
from gateway.coordinator.cycles.callers import Callers, require_state
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import ReadCut, check_cut, read_cut, to_json
from gateway.coordinator.cycles.tables import cycles, submissions
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.federation.messages.attestation import ReceiverCut, SenderCuts
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction


class Cuts:
    """Loads, lets `submission` and the book decide, and stores. `wake` tells that a cycle may move on."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        books: Books,
        scheme: str | None,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._books = books
        self._scheme = scheme
        self._now = now
        self._wake = wake
        self._cuts = Batcher(self._take_cuts)
        self._answers = Batcher(self._cuts_for_all)

    async def submit(self, bank: str, cycle_id: str, envelope: Envelope) -> Cycle:
        """Take in a bank's cut and return the cycle. Raises Refusal.

        The same cut again is fine, a different one is equivocation.
        """
        return await self._cuts.add(cycle_id, (bank, envelope))

    async def _take_cuts(self, cycle_id: str, submitted: Sequence[tuple[str, Envelope]]) -> list[Cycle | Exception]:
        banks = {bank for bank, _ in submitted}
        async with transaction(self._engine) as conn:
            callers = await Callers.find(conn, cycle_id, banks, self._scheme)
        read = await asyncio.to_thread(_read_cuts, callers, submitted, self._now())
        answers: list[Cycle | Exception] = []
        added: dict[str, ReadCut] = {}
        async with self._books.transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            existing = await submissions.cuts_of(conn, cycle_id, banks)
            book = await self._books.of(conn, cycle) if cycle.state is State.CUT_OFF else None
            now = self._now()
            senders = {lane.sender for cut in read if isinstance(cut, ReadCut) for lane in cut.document.lanes}
            strangers = senders - await cycles.known_participants(conn, senders)
            for (bank, _), cut in zip(submitted, read, strict=True):
                if isinstance(cut, Refusal):
                    answers.append(cut)
                    continue
                first = existing.get(bank)
                if first is None:
                    refused = _cut_refused(cut, cycle, book, strangers)
                    if refused is None:
                        added[bank] = cut
                        existing[bank] = (cut.sha256, to_json(cut.envelope))
                    answers.append(refused or cycle)
                elif first[0] == cut.sha256:
                    answers.append(cycle)
                else:
                    digests, documents = (first[0], cut.sha256), (first[1], to_json(cut.envelope))
                    await equivocations.keep(conn, cycle_id, bank, digests, documents, at=now)
                    detail = f"{bank} signed another cut for cycle {cycle_id} before"
                    answers.append(Refusal(CycleReason.EQUIVOCATION, detail))
            complete = False
            if book is not None and added:
                await submissions.insert_cuts(conn, cycle_id, list(added.values()), now)
                await asyncio.to_thread(take_cuts, book, added.values())
                complete = (await cycles.roster(conn, cycle_id)).cuts_awaited == 0
        if complete:
            self._wake()
        return answers

    async def cuts_for(self, bank: str, cycle_id: str) -> SenderCuts:
        """Return what every receiver accepted from a bank. Raises Refusal."""
        return await self._answers.add(cycle_id, bank)

    async def _cuts_for_all(self, cycle_id: str, banks: Sequence[str]) -> list[SenderCuts]:
        """Return it for each of some banks: once all cuts are in, all ask at the same moment."""
        async with self._books.transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id)
            delivered = tuple(sorted((await cycles.roster(conn, cycle_id)).delivered))
            book = await self._books.of(conn, cycle)
            lanes = await asyncio.to_thread(_lanes_of, book, banks)
        return [
            SenderCuts(
                cycle=cycle_id,
                complete=cycle.state not in (State.OPEN, State.CUT_OFF),
                lanes=accepted,
                delivered=delivered,
            )
            for accepted in lanes
        ]


def _cut_refused(cut: ReadCut, cycle: Cycle, book: Book | None, strangers: Collection[str]) -> Refusal | None:
    """Return why a bank's first cut can't be taken in, if so."""
    if book is None:
        return Refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle.id} is {cycle.state}")
    settled: dict[Lane, int] = {
        lane: sequence
        for lane, sequence in book.settled_of(cut.document.receiver).items()
        if lane[2] in cycle.currencies  # a currency that is closed is in nobody's cut
    }
    try:
        check_cut(cut.document, settled, strangers)
    except Refusal as refused:
        return refused
    return None


def _read_cuts(callers: Callers, submitted: Iterable[tuple[str, Envelope]], now: datetime) -> list[ReadCut | Refusal]:
    """Verify cuts, of those whose banks may submit one now."""
    answers: list[ReadCut | Refusal] = []
    for bank, envelope in submitted:
        try:
            caller = callers.require(bank)
            # Once a cut is delivered, the same one again is fine and another one is evidence, whenever it comes.
            if bank not in callers.roster.delivered:
                require_state(callers.cycle, State.CUT_OFF, CycleReason.CYCLE_NOT_CUT_OFF, now)
            answers.append(read_cut(envelope, bank, callers.terms, caller))
        except Refusal as refused:
            answers.append(refused)
    return answers


def _lanes_of(book: Book, banks: Iterable[str]) -> list[tuple[ReceiverCut, ...]]:
    return [
        tuple(
            ReceiverCut(receiver=receiver, currency=currency, last_sequence=last)
            for (_, receiver, currency), last in book.sent_by(bank)
        )
        for bank in banks
    ]
