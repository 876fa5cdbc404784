"""What one transaction writes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from participants.ledger.accounts import Account
from participants.ledger.lanes import Lane

# The columns of rows that are written thousands at a time, and therefore are bare tuples.
EVENT_COLUMNS = ("sequence", "subject", "version", "type", "schema_version", "effective_at", "data")
EventRecord = tuple[int, str, int, str, int, datetime | None, str]
POSTING_COLUMNS = ("account_id", "version", "event_sequence", "amount", "previous_balance", "balance")
Posting = tuple[int, int, int, int, int, int]
OPEN_PAYMENT_COLUMNS = ("payment_id", "direction", "counterparty", "state", "event_sequence")
OpenPayment = tuple[str, str, str, str, int]


class Evidence(Struct, frozen=True):
    """What a counterparty signed, as it is kept: only `of` makes it, so the envelope can be read again.

    `sha256` is of the document in the envelope.
    """

    sha256: str
    kind: str
    counterparty: str
    envelope: bytes

    @classmethod
    def of(cls, kind: str, counterparty: str, envelope: Envelope) -> Evidence:
        """Encode an envelope and read it back. Raises EvidenceError, ValueError."""
        body = msgspec.json.encode(envelope)
        if msgspec.json.decode(body, type=Envelope) != envelope:
            raise ValueError(f"{kind} of {counterparty} is read back as something else")
        return cls(canonical.digest(envelope.payload_bytes()), kind, counterparty, body)


class BatchRow(NamedTuple):
    """A batch that has an id."""

    id: str
    name: str
    made_by: str
    recorded_at: datetime


class BatchOrder(NamedTuple):
    """What was answered on an order of such a batch."""

    batch_id: str
    payment_id: str
    line: int
    outcome: str
    reason: str | None
    made_by: str
    """Who adds it. Only the maker of a batch does."""


class Rows:
    """What one transaction writes, once it is frozen."""

    def __init__(self) -> None:
        self.events: list[EventRecord] = []
        self.postings: list[Posting] = []
        self.accounts: list[tuple[Account, str, int]] = []
        self.balances: dict[int, tuple[Account, int]] = {}
        """The accounts that are posted to, each with the number of its last posting before."""
        self.account_changes: list[tuple[int, str, int, str | None]] = []
        self.own_entries: list[tuple[str, str, str, str, int]] = []
        self.open_payments: dict[str, OpenPayment] = {}
        self.ended_waits: list[tuple[str, int]] = []
        self.lanes: list[Lane] = []
        self.numbered_lanes: dict[int, Lane] = {}
        self.entries: list[tuple[int, int, str, int, bytes]] = []
        self.settlements: list[tuple[int, str, int, int]] = []
        self.disputes: list[tuple[str, int, int, int]] = []
        self.ended_disputes: list[str] = []
        self.evidence: list[tuple[datetime, Evidence]] = []
        self.refusals: list[tuple[datetime, str, str]] = []
        self.refused_orders: list[tuple[datetime, str, str, int, str]] = []
        """Of the refusals those that are taken down, with the journal's last event and what was asked for."""
        self.batches: dict[str, BatchRow] = {}
        self.batch_orders: dict[tuple[str, str], BatchOrder] = {}

    def only_orders(self) -> bool:
        """Tell whether there is nothing here but events, postings, balances and payments to be sent."""
        return not (
            self.accounts
            or self.account_changes
            or self.own_entries
            or self.ended_waits
            or self.lanes
            or self.numbered_lanes
            or self.entries
            or self.settlements
            or self.disputes
            or self.ended_disputes
            or self.evidence
            or self.refusals
            or self.batches
        )

    def freeze(self) -> None:
        """Take down where accounts and lanes stand now, so that what is decided next doesn't change these rows."""
        self.new_accounts = [(a.id, *a.key, name, opened_by) for a, name, opened_by in self.accounts]
        self.new_balances = [(a.id, a.balance, a.version, a.lowest, a.highest) for a, _, _ in self.accounts]
        new = {account.id for account, _, _ in self.accounts}
        self.balance_changes = [
            (a.id, a.balance, a.version, before) for a, before in self.balances.values() if a.id not in new
        ]
        self.new_lanes = [(lane.id, *lane.key) for lane in self.lanes]
        self.heads = [(x.id, x.tree.size, x.total, x.tree.to_bytes()) for x in self.numbered_lanes.values()]
