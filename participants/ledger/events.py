"""The events of a bank's ledger and what each one says.

An event belongs to a subject (a payment, a cycle, an opening of accounts) and has the next version of it. Event
data is canonical JSON; `SCHEMA_VERSION` is written beside it, and `read` brings older forms up to date, so the
journal of any year can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.statements import Bic, CurrencyCode, CycleId, Document, Reason, Sequence, Sha256, TotalAmount
from gateway.federation.messages.base import AccountCode, PartyName, Uuid
from gateway.federation.messages.payments import PaymentTerms

SCHEMA_VERSION = 1


class PaymentOrder(PaymentTerms, frozen=True, kw_only=True):
    """What a bank's own customer channel asks for: a payment's terms and the bank they go to."""

    creditor_agent: Bic

    def terms(self) -> PaymentTerms:
        """Return what the other bank gets to see and sign for."""
        return PaymentTerms(
            id=self.id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            debtor_account=self.debtor_account,
            debtor_name=self.debtor_name,
            creditor_account=self.creditor_account,
            creditor_name=self.creditor_name,
            remittance=self.remittance,
            returns=self.returns,
        )


class Hit(Document, frozen=True, kw_only=True):
    """A listed name that a party's name resembles. `score` is 0 to 100."""

    party: Literal["debtor", "creditor"]
    list: str
    entry: str
    listed_name: str
    score: int
    method: str


class OutgoingHeld(Document, frozen=True, kw_only=True):
    """An order whose parties resemble listed names: the money is reserved, nothing is sent before two people decide."""

    order: PaymentOrder
    hits: tuple[Hit, ...]


class Incoming(Document, frozen=True, kw_only=True):
    """A payment from another bank, under the batch that it signed."""

    sender: Bic
    batch: Sha256
    terms: PaymentTerms


class IncomingAccepted(Incoming, frozen=True, kw_only=True):
    """Accepted on receipt: posted to the creditor's account, with its number in the lane."""

    sequence: Sequence


class IncomingHeld(Incoming, frozen=True, kw_only=True):
    """Held on receipt: not posted, not numbered, until two people decide."""

    hits: tuple[Hit, ...]


class IncomingDeclined(Incoming, frozen=True, kw_only=True):
    """Refused on receipt, with the reason the sender was told."""

    reason: str


class Numbered(Document, frozen=True, kw_only=True):
    """A payment got its place in a lane. On the sender's side `acknowledgement` is the signed answer's digest."""

    sequence: Sequence
    acknowledgement: Sha256 | None = None


class Refused(Document, frozen=True, kw_only=True):
    """A payment ended unposted; money that was reserved is free again."""

    reason: str
    acknowledgement: Sha256 | None = None


class Opinion(Document, frozen=True, kw_only=True):
    """One person's word on a held payment."""

    person: str
    decision: Literal["release", "reject"]
    reason: Reason


class Released(Document, frozen=True, kw_only=True):
    """Two people released a held payment."""

    people: tuple[str, ...]


class Disputed(Document, frozen=True, kw_only=True):
    """The bank contests a payment it accepted, and leaves it out of its statements; or no longer does."""

    person: str
    reason: Reason


class Returned(Document, frozen=True, kw_only=True):
    """The amount was given back by another payment."""

    by: Uuid


class AccountOpening(Document, frozen=True, kw_only=True):
    """A customer account and the money it opens with, which came in over the nostro."""

    code: AccountCode
    currency: CurrencyCode
    name: PartyName
    opening_balance_minor: TotalAmount = "0"


class AccountsOpened(Document, frozen=True, kw_only=True):
    """Accounts were opened; chart accounts (due to, due from, reserved, nostro) open by themselves."""

    accounts: tuple[AccountOpening, ...] = ()
    chart: tuple[str, ...] = ()


class NostroFunded(Document, frozen=True, kw_only=True):
    """Liquidity moved between the nostro at the settlement agent and suspense (positive: into the nostro)."""

    currency: CurrencyCode
    amount_minor: str
    person: str
    reason: Reason


class CycleDocuments(Document, frozen=True, kw_only=True):
    """What this bank signed in a step of a cycle: its cut, or its statements and screening."""

    cycle: CycleId
    envelopes: tuple[Envelope, ...]


class Instructed(Document, frozen=True, kw_only=True):
    """A settlement instruction was verified against this bank's own statements."""

    cycle: CycleId
    instruction: Envelope


class Settled(Document, frozen=True, kw_only=True):
    """A cycle became final; the postings of this event are the bank's settlement leg."""

    cycle: CycleId
    currency: CurrencyCode
    instruction: str
    finality: Sha256


# Type names are history: they are never reused for something else.
TYPES: dict[str, type[Document]] = {
    "payment.reserved": PaymentOrder,
    "payment.held_out": OutgoingHeld,
    "payment.accepted": IncomingAccepted,
    "payment.held_in": IncomingHeld,
    "payment.declined": IncomingDeclined,
    "payment.opinion": Opinion,
    "payment.released": Released,
    "payment.posted": Numbered,
    "payment.credited": Numbered,
    "payment.refused": Refused,
    "payment.disputed": Disputed,
    "payment.dispute_withdrawn": Disputed,
    "payment.returned": Returned,
    "payment.return_failed": Returned,
    "accounts.opened": AccountsOpened,
    "nostro.funded": NostroFunded,
    "cycle.cut": CycleDocuments,
    "cycle.attested": CycleDocuments,
    "cycle.instructed": Instructed,
    "cycle.settled": Settled,
}

# (type, schema version) -> the same data one version later.
UPCASTERS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


class EventUnreadableError(Exception):
    """The journal holds an event that this program doesn't know: it was written by a later one."""


class EventRow(Struct, frozen=True):
    """An event as it is stored; `data` is canonical JSON."""

    sequence: int
    subject: str
    version: int
    type: str
    schema_version: int
    data: str


def read(
    row: EventRow, upcasters: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] | None = None
) -> Any:
    """Return an event's data as the present form of its type. Raises EventUnreadableError."""
    kind = TYPES.get(row.type)
    if kind is None or row.schema_version > SCHEMA_VERSION:
        raise EventUnreadableError(f"event {row.sequence}: {row.type} version {row.schema_version} is unknown here")
    if row.schema_version == SCHEMA_VERSION:
        return msgspec.json.decode(row.data, type=kind)
    steps = UPCASTERS if upcasters is None else upcasters
    data = msgspec.json.decode(row.data)
    for version in range(row.schema_version, SCHEMA_VERSION):
        step = steps.get((row.type, version))
        data = step(data) if step else data
    return msgspec.convert(data, kind)


def encode(data: Document) -> str:
    """Return event data as it is stored."""
    return canonical.encode(data).decode()


_NAMESPACE = uuid5(NAMESPACE_URL, "https://concordat.example/ledger/")


def subject_id(*parts: str) -> str:
    """Return the subject of events that aren't about a payment: the same parts always give the same UUID."""
    return str(uuid5(_NAMESPACE, "/".join(parts)))
