"""Booking on the nostro what no cycle explains, against the internal account that is kept for it."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

from compliance.statements import CYCLE_PATTERN
from participants.ledger import events
from participants.ledger.account_events import NOSTRO_MOVED, OPENINGS_MOVED, NostroMoved, OpeningsMoved
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command


class NotBooked(StrEnum):
    """Why an entry at the settlement agent isn't booked."""

    ACCOUNT_NOT_OPEN = "the account against it takes nothing"
    OUT_OF_BOUNDS = "no account holds as much"


class BookMovement(Command[NotBooked | None]):
    """Book an entry at the settlement agent; the answer is why it isn't booked, None if it is.

    It counts from when the agent booked it. Where an entry turns out to move the nostro by something else than what is
    booked of it, the difference is its next `version`. A `cycle` that has no cycle's form is none, whatever the agent
    calls it. Raises RecordedAlreadyError if it is booked.
    """

    def __init__(
        self,
        *,
        agent: str,
        currency: str,
        entry: int,
        amount: int,
        reference: str,
        cycle: str | None,
        booked_at: datetime,
        version: int = 1,
    ) -> None:
        self.version = version
        self.agent = agent
        self.currency = currency
        self.entry = entry
        self.amount = amount
        self.reference = reference
        self.cycle = cycle if cycle is not None and re.fullmatch(CYCLE_PATTERN, cycle) else None
        self.booked_at = booked_at

    def recorded_as(self) -> tuple[str, int]:
        return events.movement_subject(self.agent, self.currency, self.entry), self.version

    def account_keys(self, books: Books) -> set[AccountKey]:
        return {AccountKey("nostro", self.agent, self.currency), books.funding_key(self.currency)}

    def decide(self, books: Books) -> NotBooked | None:
        against = books.funding(self.currency)
        if against.state is not AccountState.OPEN:
            return NotBooked.ACCOUNT_NOT_OPEN
        nostro = books.chart(AccountKey("nostro", self.agent, self.currency))
        for account, amount in ((nostro, self.amount), (against, -self.amount)):
            if not account.lowest <= account.balance + amount <= account.highest:
                return NotBooked.OUT_OF_BOUNDS
        data = NostroMoved(
            agent=self.agent,
            currency=self.currency,
            entry=self.entry,
            amount_minor=str(self.amount),
            against=against.key.code,
            reference=self.reference,
            cycle=self.cycle,
        )
        event = books.record(*self.recorded_as(), NOSTRO_MOVED, data, effective_at=self.booked_at)
        books.post_entry(event.sequence, ((nostro, self.amount), (against, -self.amount)))
        return None


class MoveOpenings(Command[bool]):
    """Take what accounts opened with off the nostro; False if the account against it takes nothing.

    `version` is how often that was done before, and one. Raises RecordedAlreadyError if it is done.
    """

    def __init__(self, *, agent: str, currency: str, amount: int, through: int, version: int) -> None:
        self.agent = agent
        self.currency = currency
        self.amount = amount
        self.through = through
        self.version = version

    def recorded_as(self) -> tuple[str, int]:
        return events.openings_subject(self.agent, self.currency), self.version

    def account_keys(self, books: Books) -> set[AccountKey]:
        return {AccountKey("nostro", self.agent, self.currency), books.funding_key(self.currency)}

    def decide(self, books: Books) -> bool:
        against = books.funding(self.currency)
        if against.state is not AccountState.OPEN:
            return False
        nostro = books.existing(AccountKey("nostro", self.agent, self.currency))
        data = OpeningsMoved(
            agent=self.agent,
            currency=self.currency,
            amount_minor=str(self.amount),
            against=against.key.code,
            through=self.through,
        )
        event = books.record(*self.recorded_as(), OPENINGS_MOVED, data)
        books.post(event.sequence, against, nostro, self.amount)
        return True
