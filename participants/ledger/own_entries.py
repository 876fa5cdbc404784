"""Entries that a bank makes itself: deposits, withdrawals and fees, between a customer and an internal account.

A deposit puts money on a customer's account, so it takes two people, as an opening balance does. A withdrawal and a
fee take money off, which the customer sees, and one person makes them; giving a fee back is a deposit.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.person import one_person
from gateway.federation.problems import RefusalReason
from participants.ledger import events
from participants.ledger.account_events import ENTRY_TYPES, EntryKind, EntryTerms, OwnEntry
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.proposals import Proposal


class EntryReason(RefusalReason):
    """Why an entry of the bank's own isn't made, in order of precedence."""

    ENTRY_UNKNOWN = "entry_unknown", 404
    """No entry was made under this id."""
    ID_REUSED = "id_reused", 409
    """Another entry has this id."""
    REFERENCE_KNOWN = "entry_reference_known", 409
    """The external reference was booked on this internal account before, by another entry."""
    ACCOUNT_UNKNOWN = "account_unknown", 404
    """There is no customer account of that code and currency."""
    INTERNAL_UNKNOWN = "internal_account_unknown", 422
    """There is no internal account of that code and currency that is open."""
    ACCOUNT_CLOSED = "account_closed", 409
    ACCOUNT_BLOCKED = "account_blocked", 409
    INSUFFICIENT_FUNDS = "insufficient_funds", 422
    BALANCE_OUT_OF_RANGE = "balance_out_of_range", 422
    SECOND_PERSON_MISSING = "entry_needs_second_person", 409
    """It puts money on a customer's account: it is proposed, and made once another person asks for the very same."""


class AskedEntry(Struct, frozen=True):
    """An entry as somebody asks for it."""

    kind: EntryKind
    terms: EntryTerms

    @property
    def needs_second_person(self) -> bool:
        return self.kind == "deposit"

    @property
    def type(self) -> str:
        return ENTRY_TYPES[self.kind]

    def by(self, people: tuple[str, ...]) -> OwnEntry:
        """Return the entry as the journal has it."""
        return OwnEntry(**msgspec.structs.asdict(self.terms), people=people)

    def proposal(self) -> Proposal:
        """Return what somebody proposes who wants it made."""
        text = canonical.encode(self.terms)
        digest = bytes.fromhex(canonical.digest(self.type.encode() + b" " + text))
        return Proposal(self.terms.id, digest, {"kind": self.kind, **msgspec.to_builtins(self.terms)})


class MakeEntry(Command[EntryReason | None]):
    """Make an entry of the bank's own, or return why it isn't made. Raises RecordedAlreadyError if its id is known."""

    def __init__(self, asked: AskedEntry, *, people: tuple[str, ...]) -> None:
        self.asked = asked
        self.people = people
        terms = asked.terms
        self._customer = AccountKey("customer", terms.account, terms.currency)
        self._internal = AccountKey("internal", terms.against, terms.currency)

    def recorded_as(self) -> tuple[str, int]:
        return events.entry_subject(self.asked.terms.id), 1

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        return {self._customer, self._internal}

    def decide(self, books: Books) -> EntryReason | None:
        customer, internal = books.accounts[self._customer], books.accounts[self._internal]
        if customer is None:
            return EntryReason.ACCOUNT_UNKNOWN
        if internal is None or internal.state is not AccountState.OPEN:
            return EntryReason.INTERNAL_UNKNOWN
        to_customer = self.asked.kind == "deposit"
        if customer.state is AccountState.CLOSED:
            return EntryReason.ACCOUNT_CLOSED
        if not (customer.state.takes_credits if to_customer else customer.state.takes_debits):
            return EntryReason.ACCOUNT_BLOCKED
        amount = int(self.asked.terms.amount_minor)
        debit, credit = (internal, customer) if to_customer else (customer, internal)
        if not to_customer and customer.balance + amount > customer.highest:
            return EntryReason.INSUFFICIENT_FUNDS
        if debit.balance + amount > debit.highest or credit.balance - amount < credit.lowest:
            return EntryReason.BALANCE_OUT_OF_RANGE
        if self.asked.needs_second_person and one_person(self.people):
            return EntryReason.SECOND_PERSON_MISSING
        books.enter(self.asked.type, self.asked.by(self.people), debit, credit)
        return None
