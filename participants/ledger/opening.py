"""Opening accounts of customers, and internal ones of the bank's own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.iban import iban_fault
from compliance.person import one_person
from participants.ledger import events
from participants.ledger.account_events import AccountOpening, AccountsOpened
from participants.ledger.accounts import Account, AccountKey, AccountOutcome, AccountReason, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.proposals import Proposal


class AskedOpening(Struct, frozen=True):
    """An account to open, and the people who asked for it in their order."""

    opening: AccountOpening
    people: tuple[str, ...]

    @property
    def needs_second_person(self) -> bool:
        """Tell whether it opens with money, and one person alone wants that."""
        return self.opening.opening_balance_minor != "0" and one_person(self.people)


class OpenAccounts(Command[list[AccountOutcome]]):
    """Open accounts with what they hold at the start, which is on an internal account.

    Where none is named it is the one that stands against the nostro: what customers bring and what the bank has at the
    settlement agent meet there, and its balance is what is missing of either.
    """

    def __init__(self, asked: Sequence[AskedOpening]) -> None:
        self.asked = asked

    def account_keys(self, books: Books) -> set[AccountKey]:
        openings = [asked.opening for asked in self.asked]
        keys = {AccountKey(a.kind, a.code, a.currency) for a in openings}
        return keys | {_source_key(books, a) for a in openings}

    def decide(self, books: Books) -> list[AccountOutcome]:
        return [_open(books, asked) for asked in self.asked]


def proposal(opening: AccountOpening) -> Proposal:
    """Return what somebody proposes who wants an account opened."""
    digest = bytes.fromhex(canonical.digest(canonical.encode(opening)))
    return Proposal(f"{opening.code} {opening.currency}", digest, msgspec.to_builtins(opening))


def _source_key(books: Books, opening: AccountOpening) -> AccountKey:
    """Return the account that the opening balance is taken from."""
    if opening.against is None:
        return books.funding_key(opening.currency)
    return AccountKey("internal", opening.against, opening.currency)


def _open(books: Books, asked: AskedOpening) -> AccountOutcome:
    opening = asked.opening
    key = AccountKey(opening.kind, opening.code, opening.currency)
    if books.accounts[key] is not None:
        return AccountOutcome(opening.code, opening.currency, "exists", AccountReason.ACCOUNT_EXISTS.value)
    if (fault := iban_fault(opening.code)) is not None:
        return AccountOutcome(opening.code, opening.currency, "refused", AccountReason(fault.value).value)
    if not books.limits.clears(opening.currency):
        return AccountOutcome(opening.code, opening.currency, "refused", AccountReason.CURRENCY_NOT_CLEARED.value)
    if asked.needs_second_person:
        reason = AccountReason.SECOND_PERSON_MISSING
        return AccountOutcome(opening.code, opening.currency, "proposed", reason.value)
    amount = int(opening.opening_balance_minor)
    source = _source(books, opening) if amount else None
    if isinstance(source, AccountReason):
        return AccountOutcome(opening.code, opening.currency, "refused", source.value)
    subject = events.subject_id(*key)
    if source is not None:
        opening = replace(opening, against=source.key.code)
    opened = AccountsOpened(accounts=(opening,), people=asked.people)
    sequence = books.record(subject, 1, "accounts.opened", opened).sequence
    account = books.open_account(key, opening.name, sequence)
    if source is not None:
        books.post(sequence, source, account, amount)
    return AccountOutcome(opening.code, opening.currency, "opened")


def _source(books: Books, opening: AccountOpening) -> Account | AccountReason:
    """Return the account that is debited for an opening balance, or why none is."""
    if opening.kind == "internal":
        return AccountReason.INTERNAL_OPENS_EMPTY
    key = _source_key(books, opening)
    source = books.funding(opening.currency) if opening.against is None else books.accounts[key]
    if source is None or source.state is not AccountState.OPEN:
        return AccountReason.INTERNAL_UNKNOWN
    if int(opening.opening_balance_minor) > source.highest - source.balance:
        return AccountReason.BALANCE_OUT_OF_RANGE
    return source
