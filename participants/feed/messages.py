"""The public form of what happens in a bank's ledger (docs/reference/ledger-events.md).

It is the same whenever it is asked for: made of the event itself and of the first one of its payment, never of how
things stand now.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import field

from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Date,
    PaymentAmount,
    Sequence,
    Timestamp,
    TotalAmount,
)
from gateway.federation.messages.base import Answer, Uuid, open_words
from participants.ledger.accounts import AccountState
from participants.ledger.payment import Status
from participants.roles import Scope


class EventType(StrEnum):
    """What can happen. An event of a type that a reader doesn't know is passed over."""

    PAYMENT_RESERVED = "payment.reserved"
    """An order is taken: the debtor's money is set aside and the payment waits for the other bank."""
    PAYMENT_HELD = "payment.held"
    """Screening holds it, outgoing or incoming: it waits for two people."""
    PAYMENT_RELEASED = "payment.released"
    """Two people released an outgoing one: it goes on to the other bank."""
    PAYMENT_POSTED = "payment.posted"
    """The other bank accepted an outgoing one: the money has left the debtor's account for good."""
    PAYMENT_ACCEPTED = "payment.accepted"
    """An incoming one is credited to the creditor's account, at once or after two people released it; once only."""
    PAYMENT_DECLINED = "payment.declined"
    """An incoming one was refused on receipt: nothing was credited."""
    PAYMENT_REFUSED = "payment.refused"
    """An outgoing one was refused, or a hold rejected: money that was set aside is back on the debtor's account."""
    PAYMENT_CANCELLATION_REQUESTED = "payment.cancellation_requested"
    """An outgoing one is to be paid no more: the other bank says whether it is in."""
    PAYMENT_CANCELLED = "payment.cancelled"
    """It wasn't in: the other bank declined it, and the money is back on the debtor's account."""
    PAYMENT_RECALL_REQUESTED = "payment.recall_requested"
    """An outgoing one that the other bank has accepted is asked for back."""
    PAYMENT_RECALL_RECEIVED = "payment.recall_received"
    """The bank that sent an incoming one asks for it back: it waits for people."""
    PAYMENT_RECALL_ANSWERED = "payment.recall_answered"
    """A recall is answered: the payment is given back by another one, which has events of its own, or it isn't."""
    PAYMENT_DISPUTED = "payment.disputed"
    """The bank contests an incoming one: statements leave it out."""
    PAYMENT_DISPUTE_WITHDRAWN = "payment.dispute_withdrawn"
    PAYMENT_RETURNED = "payment.returned"
    """All of it, or all that was left, is given back by the payment `returned_by`, whose own events move the money."""
    PAYMENT_RETURNED_IN_PART = "payment.returned_in_part"
    """So much of it is given back by the payment `returned_by`: `returned_minor`."""
    PAYMENT_RETURN_FAILED = "payment.return_failed"
    """The payment `returned_by` was refused, so that what it gave back isn't given back after all."""
    ACCOUNTS_OPENED = "accounts.opened"
    ACCOUNT_DEPOSITED = "account.deposited"
    """The bank's own people credited a customer's account against an internal one."""
    ACCOUNT_WITHDRAWN = "account.withdrawn"
    """They debited it, for money that was paid out."""
    ACCOUNT_CHARGED = "account.charged"
    """They debited it, for a fee."""
    ACCOUNT_BLOCKED = "account.blocked"
    ACCOUNT_UNBLOCKED = "account.unblocked"
    ACCOUNT_CLOSED = "account.closed"
    ACCOUNT_RENAMED = "account.renamed"
    NOSTRO_MOVED = "nostro.moved"
    """Something moved at the settlement agent outside of cycles: a funding or a withdrawal; the nostro follows."""
    NOSTRO_OPENINGS_MOVED = "nostro.openings_moved"
    """What an earlier release took from the nostro for opening balances is on the internal account `against` now."""
    CYCLE_BREAK = "cycle.break"
    """This bank and another don't agree on what they owe each other in a cycle, or do again: their pair waits."""
    CYCLE_SETTLED = "cycle.settled"
    """A cycle is final: payments with these numbers on these lanes are settled."""

    @property
    def scope(self) -> Scope:
        """The part of the books that it is of."""
        return _SCOPES[self.partition(".")[0]]


_SCOPES = {
    "payment": Scope.PAYMENTS,
    "accounts": Scope.ACCOUNTS,
    "account": Scope.ACCOUNTS,
    "nostro": Scope.ACCOUNTS,
    "cycle": Scope.CYCLES,
}


class EventPayment(Answer, frozen=True, kw_only=True):
    """The payment that an event is about, as it stood after it.

    `account` is the one at this bank: the debtor's of an outgoing payment, the creditor's of an incoming one.
    `sequence` is its number in its lane, which says in what cycle it settles.
    """

    id: Uuid
    direction: Annotated[str, open_words("out", "in")]
    status: Annotated[str, open_words(*Status)]
    counterparty: Bic
    account: str
    currency: CurrencyCode
    amount_minor: str
    debtor_account: str
    debtor_name: str
    creditor_account: str
    creditor_name: str
    remittance: str = ""
    sequence: Sequence | None = None
    reason: str | None = None
    returns: Uuid | None = None
    return_reason: str | None = None
    end_to_end_id: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None
    expires_at: str | None = None
    returned_by: Uuid | None = None
    returned_minor: PaymentAmount | None = None
    """How much that return gives back."""
    recall: EventRecall | None = None


class EventRecall(Answer, frozen=True, kw_only=True):
    """A payment is asked for back, and why; or what was answered, and if it is refused why."""

    id: Uuid
    answer: Annotated[str, open_words("returned", "refused")] | None = None
    returned_by: Uuid | None = None
    reason: Annotated[str, open_words(*RecallReason, *RecallRefusal)] | None = None
    text: str = ""


class EventAccount(Answer, frozen=True, kw_only=True):
    """An account that was opened, and what it opened with; or one that was changed, and what about it."""

    code: str
    currency: CurrencyCode
    kind: Annotated[str, open_words("customer", "internal")] = "customer"
    name: str | None = None
    opening_balance_minor: TotalAmount = "0"
    against: str | None = None
    """The internal account that the opening balance is on; the nostro of an earlier release where none is named."""
    state: Annotated[str, open_words(*AccountState)] | None = None


class EventEntry(Answer, frozen=True, kw_only=True):
    """An entry of the bank's own people between a customer's account and an internal one.

    `reference` is what it is about outside of the books.
    """

    id: Uuid
    account: str
    currency: CurrencyCode
    amount_minor: str
    against: str
    reference: str
    text: str = ""


class EventNostro(Answer, frozen=True, kw_only=True):
    """What the nostro moved by outside of cycles, debits positive, and the internal account `against` it.

    `entry` and `reference` are the agent's; `cycle` is named where people have explained an entry that differs.
    """

    agent: Bic
    currency: CurrencyCode
    amount_minor: str
    against: str
    entry: Count | None = None
    reference: str | None = None
    cycle: CycleId | None = None


class SettledLane(Answer, frozen=True, kw_only=True):
    """Payments of one bank to another that a cycle settled: from one number to another, and what they come to."""

    sender: Bic
    receiver: Bic
    first_sequence: Sequence
    last_sequence: Sequence
    amount_minor: TotalAmount


class EventSettlement(Answer, frozen=True, kw_only=True):
    """What a cycle settled of this bank's payments in a currency."""

    cycle: CycleId
    value_date: Date
    settled_at: Timestamp
    currency: CurrencyCode
    lanes: tuple[SettledLane, ...]


class EventBreak(Answer, frozen=True, kw_only=True):
    """Two banks that don't agree on their pair in a cycle; `resolved` says that they do again."""

    cycle: CycleId
    counterparty: Bic
    currency: CurrencyCode
    kind: Annotated[str, open_words("different", "missing", "contested")]
    resolved: bool = False


class LedgerEvent(Answer, frozen=True, kw_only=True):
    """One thing that happened. `sequence` is its place in the journal: larger than that of all before it."""

    sequence: Count
    type: Annotated[str, open_words(*EventType)]
    at: Timestamp
    payment: EventPayment | None = None
    accounts: tuple[EventAccount, ...] = ()
    entry: EventEntry | None = None
    nostro: EventNostro | None = None
    settlement: EventSettlement | None = None
    break_: EventBreak | None = field(default=None, name="break")


class LedgerEvents(Answer, frozen=True, kw_only=True):
    """A page of events in their order. `next` is the cursor to ask with, `head` the journal's last event.

    There may be none of what was asked for up to `next`; all is heard once `next` is `head`.
    """

    events: tuple[LedgerEvent, ...]
    next: Count
    head: Count
