"""The books of a bank in memory: pure decisions over accounts, lanes and payments, and the rows they give rise to.

`Books` holds what the database holds, as far as it was needed so far; a command decides on it and the rows it
adds are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from copy import copy
from datetime import UTC, datetime
from typing import TypeVar

from compliance.statements import Document
from gateway.federation.settings import FUNDING_ACCOUNT
from participants.ledger import events
from participants.ledger.account_events import AccountOpening, AccountsOpened, OwnEntry
from participants.ledger.accounts import BOUNDS, Account, AccountKey
from participants.ledger.events import Event, EventData, EventUnreadableError
from participants.ledger.exposure import Limits
from participants.ledger.lanes import Lane, LaneKey
from participants.ledger.payment import Payment, apply
from participants.ledger.rows import Evidence, Rows

D = TypeVar("D", bound=Document)

FUNDING_NAME = "Funding of the settlement account"
REFUSED_MAX = 10_000
"""So many refused orders are remembered, so that each is taken down once."""


class OutOfBoundsError(Exception):
    """A posting would take an account beyond its bounds: the decision should have refused it."""


class Books:
    """A bank's books as far as they have been read, and the rows decided but not yet written."""

    def __init__(self, bank: str, agent: str, funding: str = FUNDING_ACCOUNT) -> None:
        """`funding` is the code of the internal account that stands against the nostro outside of cycles."""
        self.bank = bank
        self.agent = agent
        self.funding_account = funding
        self.limits = Limits()
        self.now = datetime.min.replace(tzinfo=UTC)
        self.clear(0, 0, 0)

    def clear(self, head: int, last_account: int, last_lane: int) -> None:
        """Forget everything read: the database moved without us, or refused what we decided."""
        self.head = head
        self.last_account = last_account
        self.last_lane = last_lane
        self.accounts: dict[AccountKey, Account | None] = {}
        self.lanes: dict[LaneKey, Lane] = {}
        self._refused: set[tuple[str, str, str]] = set()
        self.awaited: dict[AccountKey, int] = {}
        self.begin(self.now)

    def begin(self, now: datetime) -> None:
        """Start a new transaction's rows."""
        self.now = now
        self.rows = Rows()
        self.payments: dict[str, Payment] = {}
        # Payments that there are, and whose events are in a part of the journal that isn't here.
        self.detached: Set[str] = frozenset()
        # Payments decided against without their history being read, and the version they were taken to have.
        self.assumed_versions: dict[str, int] = {}

    def copy_for(self, keys: Iterable[AccountKey]) -> Books:
        """Return books with these accounts and the payments that were read, to try out on what can't be undone here."""
        trial = Books(self.bank, self.agent, self.funding_account)
        trial.now, trial.limits = self.now, self.limits
        trial.head, trial.last_account, trial.last_lane = self.head, self.last_account, self.last_lane
        trial.accounts = {key: copy(self.accounts[key]) for key in keys}
        trial.payments, trial.detached = dict(self.payments), self.detached
        return trial

    # --- events and postings ---------------------------------------------------------------------------

    def record(
        self, subject: str, version: int, type_: str, data: D | EventData[D], *, effective_at: datetime | None = None
    ) -> Event:
        """Add an event, the only way there is. Raises EventUnreadableError for data that couldn't be read again."""
        readable = data if type(data) is EventData else EventData.of(type_, data)
        if readable.type != type_:
            raise EventUnreadableError(f"{type_}: these are data of {readable.type}")
        self.head += 1
        self.rows.events.append(
            (self.head, subject, version, type_, events.VERSIONS[type_], effective_at, readable.text)
        )
        return Event(self.head, subject, version, type_, readable.value)

    def advance(self, payment: Payment | None, payment_id: str, type_: str, data: D | EventData[D]) -> int:
        """Add an event to a payment (None: its first), keep how it stands then, and return the event's number.

        Raises ImpossibleEventError if it can't happen to the payment as it stands.
        """
        event = self.record(payment_id, 1 if payment is None else payment.version + 1, type_, data)
        self.payments[payment_id] = apply(payment, event)
        return event.sequence

    def wait(self, payment: Payment, state: str) -> None:
        """Put a payment into the queue to its bank ("queued") or before people ("held")."""
        self.rows.open_payments[payment.id] = (
            payment.id, payment.direction, payment.counterparty, state, payment.waiting_since
        )  # fmt: skip

    def end_wait(self, payment: Payment) -> None:
        """Take a payment out of the queue, or away from people."""
        if self.rows.open_payments.pop(payment.id, None) is None:
            self.rows.ended_waits.append((payment.counterparty, payment.waiting_since))

    def refuse(self, payment_id: str, reason: str, asked: str) -> None:
        """Refuse an order, and take that down: once, however often a client asks for the same."""
        # It moves the head even so: on books of before another node's last word it isn't refused for good.
        self.rows.refusals.append((self.now, payment_id, reason))
        refusal = (payment_id, reason, asked)
        if refusal in self._refused:
            return
        if len(self._refused) >= REFUSED_MAX:
            self._refused.clear()
        self._refused.add(refusal)
        self.rows.refused_orders.append((self.now, payment_id, reason, self.head, asked))

    def awaits(self, key: AccountKey) -> bool:
        """Tell whether payments may still come back to a customer's account or go on, of which that was read."""
        decided = [self.payments[id_] for id_, row in self.rows.open_payments.items() if row[3] != "recalled"]
        return bool(self.awaited[key]) or any(payment.own_account == key for payment in decided)

    def keep(self, evidence: Evidence) -> None:
        """Keep what a counterparty signed."""
        self.rows.evidence.append((self.now, evidence))

    def post(self, event_sequence: int, debit: Account, credit: Account, amount: int) -> None:
        """Debit one account and credit another. Raises OutOfBoundsError before anything is changed."""
        debited, credited = debit.balance + amount, credit.balance - amount
        if debited > debit.highest or credited < credit.lowest:
            raise OutOfBoundsError(f"{debit.key} or {credit.key} by {amount}")
        rows = self.rows
        balances = rows.balances
        if debit.id not in balances:
            balances[debit.id] = debit, debit.version
        if credit.id not in balances:
            balances[credit.id] = credit, credit.version
        debit.version += 1
        credit.version += 1
        rows.postings.append((debit.id, debit.version, event_sequence, amount, debit.balance, debited))
        rows.postings.append((credit.id, credit.version, event_sequence, -amount, credit.balance, credited))
        debit.balance = debited
        credit.balance = credited

    def post_entry(self, event_sequence: int, amounts: Sequence[tuple[Account, int]]) -> None:
        """Post an entry of several legs, debits positive. Raises OutOfBoundsError before anything is changed.

        An account stands in it once; amounts of zero are left out.
        """
        for account, amount in amounts:
            if not account.lowest <= account.balance + amount <= account.highest:
                raise OutOfBoundsError(f"{account.key} by {amount}")
        for account, amount in amounts:
            if amount:
                self.rows.balances.setdefault(account.id, (account, account.version))
                account.version += 1
                balance = account.balance + amount
                self.rows.postings.append(
                    (account.id, account.version, event_sequence, amount, account.balance, balance)
                )
                account.balance = balance

    # --- accounts --------------------------------------------------------------------------------------

    def existing(self, key: AccountKey) -> Account:
        """Return an account that was read before and must be there. Raises LookupError."""
        account = self.accounts[key]
        if account is None:
            raise LookupError(f"there is no account {'/'.join(key)}")
        return account

    def open_account(self, key: AccountKey, name: str, event_sequence: int) -> Account:
        """Open an account under an event that says so."""
        self.last_account += 1
        lowest, highest = BOUNDS[key.kind]
        account = Account(self.last_account, key, 0, 0, lowest, highest)
        self.accounts[key] = account
        self.rows.accounts.append((account, name, event_sequence))
        return account

    def chart(self, key: AccountKey) -> Account:
        """Return a chart account (due to, due from, reserved, nostro), opening it when first used."""
        account = self.accounts[key]
        if account is None:
            opened = AccountsOpened(chart=("/".join(key),))
            subject = events.subject_id("account", *key)
            event = self.record(subject, 1, "accounts.opened", opened)
            account = self.open_account(key, f"{key.kind} {key.code}", event.sequence)
        return account

    def funding_key(self, currency: str) -> AccountKey:
        return AccountKey("internal", self.funding_account, currency)

    def funding(self, currency: str) -> Account:
        """Return the internal account against the nostro outside of cycles, opening it when first used."""
        key = self.funding_key(currency)
        account = self.accounts[key]
        if account is None:
            opening = AccountOpening(code=key.code, currency=currency, name=FUNDING_NAME, kind="internal")
            event = self.record(events.subject_id(*key), 1, "accounts.opened", AccountsOpened(accounts=(opening,)))
            account = self.open_account(key, opening.name, event.sequence)
        return account

    def change(self, account: Account, type_: str, data: Document, *, name: str | None = None) -> Event:
        """Add an event to an account that changes its state, as it stands now, or its name."""
        account.changes += 1
        event = self.record(events.changes_subject(*account.key), account.changes, type_, data)
        self.rows.account_changes.append((account.id, account.state.value, account.changes, name))
        return event

    def enter(self, type_: str, entry: OwnEntry, debit: Account, credit: Account) -> None:
        """Post an entry of the bank's own under an event that says so."""
        event = self.record(events.entry_subject(entry.id), 1, type_, entry)
        self.post(event.sequence, debit, credit, int(entry.amount_minor))
        self.rows.own_entries.append((entry.id, entry.against, entry.currency, entry.reference, event.sequence))

    # --- lanes -----------------------------------------------------------------------------------------

    def lane(self, key: LaneKey) -> Lane:
        """Return a lane that was read before, making it when first used."""
        lane = self.lanes.get(key)
        if lane is None:
            self.last_lane += 1
            lane = self.lanes[key] = Lane(self.last_lane, key)
            self.rows.lanes.append(lane)
        return lane

    def number(self, lane: Lane, sequence: int, payment_id: str, amount: int, leaf: bytes) -> None:
        """Enter an accepted payment into its lane under its number."""
        self.rows.entries.append((lane.id, sequence, payment_id, amount, leaf))
        lane.beyond[sequence] = (leaf, amount)
        self.rows.numbered_lanes[lane.id] = lane

    def settled_sequence(self, lane: Lane) -> int:
        """Return the last settled number of a lane, what this transaction settles included."""
        here = (sequence for lane_id, _, sequence, _ in self.rows.settlements if lane_id == lane.id)
        return max([lane.settled_sequence, *here])

    def advance_lanes(self) -> None:
        """Take numbered payments into the lanes' trees as far as there is no gap. Called once before writing."""
        settled: dict[int, int] = {}
        for lane_id, _, sequence, _ in self.rows.settlements:
            settled[lane_id] = max(sequence, settled.get(lane_id, 0))
        if settled:
            for lane in self.lanes.values():
                lane.settled_sequence = max(lane.settled_sequence, settled.get(lane.id, 0))
        self.rows.numbered_lanes = {lane.id: lane for lane in self.rows.numbered_lanes.values() if lane.grow()}
