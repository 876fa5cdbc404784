"""The books of a bank in memory: pure decisions over accounts, lanes and payments, and the rows they give rise to.

`Books` holds what the database holds, as far as it was needed so far; a command decides on it and the rows it
adds are written in one transaction. Debits are positive and credits negative, so an asset has a balance of zero
or more and a liability one of zero or less.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, Literal, NamedTuple, TypeVar

from msgspec import Struct

from compliance.crypto.merkle import Tree
from compliance.statements import Document
from gateway.federation.messages.payments import PaymentTerms
from participants.ledger import events

R = TypeVar("R")

BIGINT_MAX = 2**63 - 1
# Balances stay this far inside a BIGINT, so that one more payment (below 10^15) can't overflow the column.
BALANCE_MAX = BIGINT_MAX - 10**15

Kind = Literal["customer", "reserved", "due_to", "due_from", "nostro", "suspense"]
Direction = Literal["out", "in"]

LIABILITY = (-BALANCE_MAX, 0)
ASSET = (0, BALANCE_MAX)
EITHER = (-BALANCE_MAX, BALANCE_MAX)
BOUNDS: dict[Kind, tuple[int, int]] = {
    "customer": LIABILITY,
    "reserved": LIABILITY,
    "due_to": LIABILITY,
    "due_from": ASSET,
    "nostro": EITHER,
    "suspense": EITHER,
}


class Status(StrEnum):
    """Where a payment stands at this bank (docs/reference/payment-states.md)."""

    RESERVED = "reserved"
    HELD = "held"
    POSTED = "posted"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REFUSED = "refused"
    DISPUTED = "disputed"
    RETURNED = "returned"


# (status before, event) -> status after. What isn't here doesn't happen.
TRANSITIONS: dict[tuple[Status | None, str], Status] = {
    (None, "payment.reserved"): Status.RESERVED,
    (None, "payment.held_out"): Status.HELD,
    (None, "payment.accepted"): Status.ACCEPTED,
    (None, "payment.held_in"): Status.HELD,
    (None, "payment.declined"): Status.DECLINED,
    (Status.HELD, "payment.opinion"): Status.HELD,
    (Status.HELD, "payment.released"): Status.RESERVED,
    (Status.HELD, "payment.credited"): Status.ACCEPTED,
    (Status.HELD, "payment.refused"): Status.REFUSED,
    (Status.RESERVED, "payment.posted"): Status.POSTED,
    (Status.RESERVED, "payment.refused"): Status.REFUSED,
    (Status.ACCEPTED, "payment.disputed"): Status.DISPUTED,
    (Status.DISPUTED, "payment.dispute_withdrawn"): Status.ACCEPTED,
    (Status.ACCEPTED, "payment.returned"): Status.RETURNED,
    (Status.POSTED, "payment.returned"): Status.RETURNED,
    (Status.RETURNED, "payment.return_failed"): Status.ACCEPTED,
}


class AccountKey(NamedTuple):
    kind: Kind
    code: str
    currency: str


class LaneKey(NamedTuple):
    sender: str
    receiver: str
    currency: str


@dataclass(slots=True)
class Account:
    """An account and where it stands. `balance` is debits minus credits in minor units."""

    id: int
    key: AccountKey
    balance: int
    version: int
    lowest: int
    highest: int


@dataclass(slots=True)
class Lane:
    """A lane's tree and total over payments 1..tree.size, and numbered payments known beyond a gap.

    Payments 1..settled are settled.
    """

    id: int
    key: LaneKey
    tree: Tree
    total: int
    beyond: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    settled: int = 0


class Payment(Struct, frozen=True, kw_only=True):
    """A payment as its events tell it. `counterparty` is the other bank; `sequence` its number in the lane."""

    id: str
    version: int
    status: Status
    direction: Direction
    counterparty: str
    terms: PaymentTerms
    sequence: int | None = None
    reason: str | None = None
    first_data: str = ""
    was_held: bool = False
    batch: str | None = None
    opinions: tuple[events.Opinion, ...] = ()
    waiting_since: int = 0
    """The event that put it into the queue or the holds."""


class Posting(NamedTuple):
    account_id: int
    version: int
    event_sequence: int
    amount: int
    previous_balance: int
    balance: int


class Rows:
    """What one transaction writes, once it is frozen."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, int, str, int, str]] = []
        self.postings: list[Posting] = []
        self.accounts: list[tuple[Account, str, int]] = []
        self.balances: dict[int, Account] = {}
        self.opened: dict[str, tuple[str, str, str, str, int]] = {}
        self.closed: list[tuple[str, int]] = []
        self.lanes: list[Lane] = []
        self.moved_lanes: dict[int, Lane] = {}
        self.entries: list[tuple[int, int, str, int, bytes]] = []
        self.settled: list[tuple[int, str, int, int]] = []
        self.disputes: list[tuple[str, int, int, int]] = []
        self.undisputed: list[str] = []
        self.evidence: list[tuple[bytes, str, str, datetime, bytes]] = []
        self.refusals: list[tuple[datetime, str, str]] = []

    def only_orders(self) -> bool:
        """Tell whether there is nothing here but events, postings, balances and payments to be sent."""
        return not (
            self.accounts
            or self.closed
            or self.lanes
            or self.moved_lanes
            or self.entries
            or self.settled
            or self.disputes
            or self.undisputed
            or self.evidence
            or self.refusals
        )

    def freeze(self) -> None:
        """Take down where accounts and lanes stand now, so that what is decided next doesn't change these rows."""
        self.new_accounts = [(a.id, *a.key, name, opened_by) for a, name, opened_by in self.accounts]
        self.new_balances = [(a.id, a.balance, a.version, a.lowest, a.highest) for a, _, _ in self.accounts]
        new = {account.id for account, _, _ in self.accounts}
        self.moved_balances = [(a.id, a.balance, a.version) for a in self.balances.values() if a.id not in new]
        self.new_lanes = [(lane.id, *lane.key) for lane in self.lanes]
        self.heads = [(x.id, x.tree.size, x.total, x.tree.to_bytes()) for x in self.moved_lanes.values()]


class OutOfBoundsError(Exception):
    """A posting would take an account beyond its bounds: the decision should have refused it."""


class Books:
    """A bank's books as far as they have been read, and the rows decided but not yet written."""

    def __init__(self, bank: str, agent: str) -> None:
        self.bank = bank
        self.agent = agent
        self.clear(0, 0, 0)

    def clear(self, head: int, last_account: int, last_lane: int) -> None:
        """Forget everything read: the database moved without us, or refused what we decided."""
        self.head = head
        self.last_account = last_account
        self.last_lane = last_lane
        self.accounts: dict[AccountKey, Account | None] = {}
        self.lanes: dict[LaneKey, Lane] = {}
        self.begin(self.now if hasattr(self, "now") else None)

    def begin(self, now: datetime | None) -> None:
        """Start a new transaction's rows."""
        self.rows = Rows()
        self.payments: dict[str, Payment] = {}
        # Payments decided against without their history being read, and the version they were taken to have.
        self.doubted: dict[str, int] = {}
        if now is not None:
            self.now = now

    # --- events and postings ---------------------------------------------------------------------------

    def event(self, subject: str, version: int, kind: str, data: str) -> int:
        """Add an event and return its sequence number."""
        self.head += 1
        self.rows.events.append((self.head, subject, version, kind, events.SCHEMA_VERSION, data))
        return self.head

    def record(self, subject: str, version: int, kind: str, data: Document) -> int:
        """Add an event whose data isn't encoded yet."""
        return self.event(subject, version, kind, events.encode(data))

    def post(self, event_sequence: int, debit: Account, credit: Account, amount: int) -> None:
        """Debit one account and credit another. Raises OutOfBoundsError before anything is changed."""
        debited, credited = debit.balance + amount, credit.balance - amount
        if debited > debit.highest or credited < credit.lowest:
            raise OutOfBoundsError(f"{debit.key} or {credit.key} by {amount}")
        rows = self.rows
        debit.version += 1
        credit.version += 1
        rows.postings.append(Posting(debit.id, debit.version, event_sequence, amount, debit.balance, debited))
        rows.postings.append(Posting(credit.id, credit.version, event_sequence, -amount, credit.balance, credited))
        debit.balance = debited
        credit.balance = credited
        rows.balances[debit.id] = debit
        rows.balances[credit.id] = credit

    def post_entry(self, event_sequence: int, amounts: Sequence[tuple[Account, int]]) -> None:
        """Post an entry of several legs, debits positive. Raises OutOfBoundsError before anything is changed.

        An account stands in it once; amounts of zero are left out.
        """
        for account, amount in amounts:
            if not account.lowest <= account.balance + amount <= account.highest:
                raise OutOfBoundsError(f"{account.key} by {amount}")
        for account, amount in amounts:
            if amount:
                account.version += 1
                balance = account.balance + amount
                self.rows.postings.append(
                    Posting(account.id, account.version, event_sequence, amount, account.balance, balance)
                )
                account.balance = balance
                self.rows.balances[account.id] = account

    # --- accounts --------------------------------------------------------------------------------------

    def account(self, kind: Kind, code: str, currency: str) -> Account | None:
        """Return an account that was read before, or None if there is none."""
        return self.accounts[AccountKey(kind, code, currency)]

    def open_account(self, key: AccountKey, name: str, event_sequence: int) -> Account:
        """Open an account under an event that says so."""
        self.last_account += 1
        lowest, highest = BOUNDS[key.kind]
        account = Account(self.last_account, key, 0, 0, lowest, highest)
        self.accounts[key] = account
        self.rows.accounts.append((account, name, event_sequence))
        return account

    def chart(self, kind: Kind, code: str, currency: str) -> Account:
        """Return a chart account (due to, due from, reserved, nostro, suspense), opening it when first used."""
        key = AccountKey(kind, code, currency)
        account = self.accounts[key]
        if account is None:
            opened = events.AccountsOpened(chart=(f"{kind}/{code}/{currency}",))
            subject = events.subject_id("account", *key)
            account = self.open_account(key, f"{kind} {code}", self.record(subject, 1, "accounts.opened", opened))
        return account

    # --- lanes -----------------------------------------------------------------------------------------

    def lane(self, key: LaneKey) -> Lane:
        """Return a lane that was read before, making it when first used."""
        lane = self.lanes.get(key)
        if lane is None:
            self.last_lane += 1
            lane = self.lanes[key] = Lane(self.last_lane, key, Tree(), 0)
            self.rows.lanes.append(lane)
        return lane

    def number(self, lane: Lane, sequence: int, payment_id: str, amount: int, leaf: bytes) -> None:
        """Enter an accepted payment into its lane under its number."""
        self.rows.entries.append((lane.id, sequence, payment_id, amount, leaf))
        lane.beyond[sequence] = (leaf, amount)
        self.rows.moved_lanes[lane.id] = lane

    def settled_through(self, lane: Lane) -> int:
        """Return the last settled number of a lane, what this transaction settles included."""
        return max([lane.settled, *(sequence for id_, _, sequence, _ in self.rows.settled if id_ == lane.id)])

    def advance_lanes(self) -> None:
        """Take numbered payments into the lanes' trees as far as there is no gap. Called once before writing."""
        if self.rows.settled:
            for lane in self.lanes.values():
                lane.settled = self.settled_through(lane)
        moved = {}
        for lane in self.rows.moved_lanes.values():
            leaves: list[bytes] = []
            while (entry := lane.beyond.pop(lane.tree.size + len(leaves) + 1, None)) is not None:
                leaves.append(entry[0])
                lane.total += entry[1]
            if leaves:
                lane.tree = lane.tree.append(leaves)
                moved[lane.id] = lane
        self.rows.moved_lanes = moved


class Command(ABC, Generic[R]):
    """Something to decide on the books, and what must have been read into them before.

    Deciding again must be safe: a group of commands may be decided more than once before it is written.
    """

    assumes_new = True
    """`payment_ids` are taken to be unknown or unchanged, and read only when that turns out wrong."""

    def payment_ids(self) -> list[str]:
        """Return the payments that the command decides."""
        return []

    def known_payment_ids(self) -> list[str]:
        """Return other payments whose history must be read."""
        return []

    def account_keys(self, books: Books) -> Iterable[AccountKey]:  # noqa: ARG002 - overriding ones need it
        """Return the accounts that may be posted to, besides those of payments that are read."""
        return ()

    def lane_keys(self, books: Books) -> Iterable[LaneKey]:  # noqa: ARG002 - overriding ones need it
        """Return the lanes that may be numbered or looked at, besides those of incoming payments that are read."""
        return ()

    @abstractmethod
    def decide(self, books: Books) -> R:
        """Decide, add the rows to the books, and return the answer."""


def next_status(before: Status | None, kind: str) -> Status | None:
    """Return the status after an event, or None where the event isn't allowed."""
    return TRANSITIONS.get((before, kind))
