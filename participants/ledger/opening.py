"""Opening customer accounts."""

from __future__ import annotations

from collections.abc import Sequence

from participants.ledger import events
from participants.ledger.accounts import AccountKey, AccountOutcome, AccountReason
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import AccountOpening


class OpenAccounts(Command[list[AccountOutcome]]):
    """Open customer accounts with what they hold at the start, which has come in over the nostro."""

    def __init__(self, accounts: Sequence[AccountOpening]) -> None:
        self.accounts = accounts

    def account_keys(self, books: Books) -> set[AccountKey]:
        keys = {AccountKey("customer", a.code, a.currency) for a in self.accounts}
        return keys | {AccountKey("nostro", books.agent, a.currency) for a in self.accounts}

    def decide(self, books: Books) -> list[AccountOutcome]:
        return [_open(books, opening) for opening in self.accounts]


def _open(books: Books, opening: AccountOpening) -> AccountOutcome:
    key = AccountKey("customer", opening.code, opening.currency)
    if books.accounts[key] is not None:
        return AccountOutcome(opening.code, opening.currency, "exists", AccountReason.ACCOUNT_EXISTS.value)
    amount = int(opening.opening_balance_minor)
    nostro = books.chart(AccountKey("nostro", books.agent, opening.currency)) if amount else None
    if nostro is not None and amount > nostro.highest - nostro.balance:
        return AccountOutcome(opening.code, opening.currency, "refused", AccountReason.BALANCE_OUT_OF_RANGE.value)
    subject = events.subject_id(*key)
    sequence = books.record(subject, 1, "accounts.opened", events.AccountsOpened(accounts=(opening,))).sequence
    account = books.open_account(key, opening.name, sequence)
    if nostro is not None:
        books.post(sequence, nostro, account, amount)
    return AccountOutcome(opening.code, opening.currency, "opened")
