"""The bank's nostro follows its account at the settlement agent where no cycle moves either.

Fundings and withdrawals are what the bank's treasury does with money that it has elsewhere: each is booked against an
internal account, once, however many nodes and restarts there are, for its event belongs to the number of the entry
that the agent signed. What releases before took from the nostro for opening balances, which moved nothing at the agent,
is taken off it again, against the same account. So the nostro is what the agent says, or `fsck` says why it isn't.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg
import msgspec

from compliance.crypto.dsse import Envelope
from gateway.federation.iso20022 import MessageRefused, read_notification
from participants.cycle.movements import Finding, Movement, MovementFault, Settlements, to_book
from participants.ledger import events
from participants.ledger.books import OutOfBoundsError
from participants.ledger.command import RecordedAlreadyError
from participants.ledger.nostro import BookMovement, MoveOpenings
from participants.ledger.writer import Ledger

BOOKED = """
SELECT subject::text, max(version), sum((data ->> 'amount_minor')::numeric)::numeric FROM subject_event
WHERE subject = ANY($1::uuid[]) GROUP BY subject
"""
SIGNED = "SELECT signed FROM settlement_movement WHERE agent = $1 AND id = $2"
NOSTROS = """
SELECT a.id, a.code, a.currency, b.version FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE a.kind = 'nostro'
"""
OPENINGS_MOVED = """
SELECT version, coalesce((data ->> 'through')::bigint, 0) FROM subject_event WHERE subject = $1::uuid
ORDER BY version DESC LIMIT 1
"""
# By the account's key, so many at a time: there may be one for each customer.
OPENINGS = """
SELECT coalesce(sum(p.amount) FILTER (WHERE e.type = 'accounts.opened'), 0)::bigint
FROM posting p JOIN event e ON e.sequence = p.event_sequence
WHERE p.account_id = $1 AND p.version > $2 AND p.version <= $3
"""
PAGE = 10_000
DETAIL_MAX = 200


class NostroBooking:
    """Books what moved at the agent, and moved openings away. Belongs to one event loop."""

    def __init__(self, pool: asyncpg.Pool, ledger: Ledger) -> None:
        self._pool = pool
        self._ledger = ledger
        self._booked: dict[str, tuple[int, int]] = {}
        """By their subjects: in how many events, and what these come to."""
        self._looked: dict[int, int] = {}
        self._unbooked: dict[str, tuple[Finding, ...]] = {}

    @property
    def unbooked(self) -> tuple[Finding, ...]:
        """What can't be booked, at whichever agent it moved, and why."""
        return tuple(finding for findings in self._unbooked.values() for finding in findings)

    async def book(
        self, agent: str, movements: Sequence[Movement], settlements: Settlements, *, explained: Collection[int]
    ) -> None:
        """Book what isn't yet, in the agent's order. Raises what the database and the ledger raise.

        What can't be booked keeps nothing after it from being booked. What was booked of an entry for a cycle, that
        people explained before this bank was instructed, is taken back once it is: the cycle books it.
        """
        due = to_book(movements, settlements, explained=explained)
        moves = {movement.id for movement, _ in due}
        taken_back = set(explained) - moves
        due += tuple(
            (movement, 0) for movement in movements if movement.id in taken_back and movement.cycle is not None
        )
        subjects = [events.movement_subject(agent, movement.currency, movement.sequence) for movement, _ in due]
        if new := list(set(subjects) - self._booked.keys()):
            self._booked.update({row[0]: (row[1], int(row[2])) for row in await self._pool.fetch(BOOKED, new)})
        unbooked: list[Finding] = []
        seen: set[str] = set()
        for subject, (movement, amount) in zip(subjects, due, strict=True):
            version, booked = self._booked.get(subject, (0, 0))
            # A number that the agent gave twice is booked once, as it came first.
            again = subject in seen
            seen.add(subject)
            if again or amount == booked:
                continue
            why = await self._book(agent, movement, amount - booked, version + 1)
            if why is not None:
                fault, detail = MovementFault.NOT_BOOKED, f"{amount - booked}: {why}"[:DETAIL_MAX]
                unbooked.append(Finding(fault, movement.currency, movement.cycle, movement.id, detail))
        self._unbooked[agent] = tuple(unbooked)

    async def _book(self, agent: str, movement: Movement, amount: int, version: int) -> str | None:
        """Book an entry; return why it isn't booked, None if it is."""
        subject = events.movement_subject(agent, movement.currency, movement.sequence)
        try:
            why = await self._submit(agent, movement, amount, version)
        except RecordedAlreadyError:
            # By another node of the bank, or by this one before an answer was lost: read again what.
            self._booked.pop(subject, None)
            return None
        except (MessageRefused, events.EventUnreadableError, OutOfBoundsError) as error:
            return str(error)
        if why is None:
            self._booked[subject] = (version, self._booked.get(subject, (0, 0))[1] + amount)
        return why

    async def _submit(self, agent: str, movement: Movement, amount: int, version: int) -> str | None:
        signed = msgspec.json.decode(await self._pool.fetchval(SIGNED, agent, movement.id), type=Envelope)
        notification = read_notification(signed.payload_bytes())
        command = BookMovement(
            agent=agent,
            currency=movement.currency,
            entry=movement.sequence,
            amount=amount,
            reference=notification.reference,
            cycle=movement.cycle,
            booked_at=notification.booked_at,
            version=version,
        )
        return await self._ledger.submit(command)

    async def move_openings(self) -> None:
        """Take off each nostro what accounts opened with at a release of before. Raises as `book` does."""
        for account, agent, currency, last in await self._pool.fetch(NOSTROS):
            before = await self._pool.fetchrow(OPENINGS_MOVED, events.openings_subject(agent, currency))
            version, looked = (0, 0) if before is None else (before[0], before[1])
            through = max(looked, self._looked.get(account, 0))
            amount = 0
            while through < last:
                page = min(through + PAGE, last)
                amount += await self._pool.fetchval(OPENINGS, account, through, page)
                through = page
            if amount:
                command = MoveOpenings(
                    agent=agent, currency=currency, amount=amount, through=through, version=version + 1
                )
                try:
                    if not await self._ledger.submit(command):
                        continue
                except RecordedAlreadyError:
                    continue
            self._looked[account] = through
