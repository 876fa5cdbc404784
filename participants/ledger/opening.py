"""Opening customer accounts."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from compliance.crypto import canonical
from compliance.iban import iban_fault
from compliance.person import one_person
from participants.ledger import events
from participants.ledger.accounts import AccountKey, AccountOutcome, AccountReason
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import AccountOpening
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
    """Open customer accounts with what they hold at the start, which has come in over the nostro."""

    def __init__(self, asked: Sequence[AskedOpening]) -> None:
        self.asked = asked

    def account_keys(self, books: Books) -> set[AccountKey]:
        openings = [asked.opening for asked in self.asked]
        keys = {AccountKey("customer", a.code, a.currency) for a in openings}
        return keys | {AccountKey("nostro", books.agent, a.currency) for a in openings}

    def decide(self, books: Books) -> list[AccountOutcome]:
        return [_open(books, asked) for asked in self.asked]


def proposal(opening: AccountOpening) -> Proposal:
    """Return what somebody proposes who wants an account opened."""
    digest = bytes.fromhex(canonical.digest(canonical.encode(opening)))
    return Proposal(f"{opening.code} {opening.currency}", digest)


def _open(books: Books, asked: AskedOpening) -> AccountOutcome:
    opening = asked.opening
    key = AccountKey("customer", opening.code, opening.currency)
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
    nostro = books.chart(AccountKey("nostro", books.agent, opening.currency)) if amount else None
    if nostro is not None and amount > nostro.highest - nostro.balance:
        return AccountOutcome(opening.code, opening.currency, "refused", AccountReason.BALANCE_OUT_OF_RANGE.value)
    subject = events.subject_id(*key)
    opened = events.AccountsOpened(accounts=(opening,), people=asked.people)
    sequence = books.record(subject, 1, "accounts.opened", opened).sequence
    account = books.open_account(key, opening.name, sequence)
    if nostro is not None:
        books.post(sequence, nostro, account, amount)
    return AccountOutcome(opening.code, opening.currency, "opened")
