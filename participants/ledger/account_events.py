"""What the journal says of accounts: opening, state, name, the bank's own entries, and what moved on its nostro."""

from __future__ import annotations

from typing import Annotated, Literal

from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Document,
    NetAmount,
    PaymentAmount,
    Reason,
    TotalAmount,
    form,
    whole,
)
from gateway.federation.messages.base import AccountCode, PartyName, Remittance, Uuid
from participants.ledger.accounts import AccountState

ExternalReference = Annotated[
    str,
    form(
        whole(r"[!-~]([ -~]{0,33}[!-~])?"),
        "a reference: 1 to 35 characters of ASCII, no space at either end",
        "slip 4711",
    ),
]
OpenedKind = Literal["customer", "internal"]


class AccountOpening(Document, frozen=True, kw_only=True):
    """An account and the money it opens with, which is on the internal account `against`.

    Journals of earlier releases name none: what an account opened with was taken from the nostro. An internal account
    is of the bank's own (cash, fees, what is to be cleared), and opens empty.
    """

    code: AccountCode
    currency: CurrencyCode
    name: PartyName
    opening_balance_minor: TotalAmount = "0"
    kind: OpenedKind = "customer"
    against: AccountCode | None = None


class AccountsOpened(Document, frozen=True, kw_only=True):
    """Accounts were opened; chart accounts (due to, due from, reserved, nostro) open by themselves."""

    accounts: tuple[AccountOpening, ...] = ()
    chart: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    """Who opened them; two where they open with money. Version 1 doesn't say."""


class EntryTerms(Document, frozen=True, kw_only=True):
    """A customer account, the internal account `against` it, and what outside of the books is booked between them."""

    id: Uuid
    account: AccountCode
    currency: CurrencyCode
    amount_minor: PaymentAmount
    against: AccountCode
    reference: ExternalReference
    text: Remittance = ""


class OwnEntry(EntryTerms, frozen=True, kw_only=True):
    """An entry that the bank's own people made: a deposit credits the customer, a withdrawal or a fee debits it."""

    people: tuple[str, ...]


class AccountChange(Document, frozen=True, kw_only=True):
    """What somebody did to an account, and why."""

    kind: OpenedKind
    code: AccountCode
    currency: CurrencyCode
    people: tuple[str, ...]
    reason: Reason


class StateChanged(AccountChange, frozen=True, kw_only=True):
    """An account was blocked, or blocked less, or closed."""

    state: AccountState


class Renamed(AccountChange, frozen=True, kw_only=True):
    """An account has another name."""

    name: PartyName


class NostroMoved(Document, frozen=True, kw_only=True):
    """Something moved at the settlement agent that no cycle did: the nostro follows, `against` an internal account.

    `entry` is its number on the bank's account there, and `reference` the agent's name for it; the amount is positive
    where the bank was credited. Of an entry with a `cycle`, that people have explained, it is what the cycle itself
    doesn't explain.
    """

    agent: Bic
    currency: CurrencyCode
    entry: Count
    amount_minor: NetAmount
    against: AccountCode
    reference: str
    cycle: CycleId | None = None


class OpeningsMoved(Document, frozen=True, kw_only=True):
    """What accounts opened with was taken from the nostro, where nothing had moved: it goes to `against` instead.

    `through` is the nostro's last posting that was looked at.
    """

    agent: Bic
    currency: CurrencyCode
    amount_minor: TotalAmount
    against: AccountCode
    through: Count


EntryKind = Literal["deposit", "withdrawal", "fee"]
ENTRY_TYPES: dict[EntryKind, str] = {
    "deposit": "account.deposited",
    "withdrawal": "account.withdrawn",
    "fee": "account.charged",
}
STATE_TYPES = {
    AccountState.OPEN: "account.unblocked",
    AccountState.DEBITS_BLOCKED: "account.blocked",
    AccountState.BLOCKED: "account.blocked",
    AccountState.CLOSED: "account.closed",
}
RENAMED = "account.renamed"
NOSTRO_MOVED = "nostro.moved"
OPENINGS_MOVED = "nostro.openings_moved"
