"""The events of a bank's ledger and what each one says.

An event belongs to a subject (a payment, a cycle, an opening of accounts) and has the next version of it. Event
data is canonical JSON; the version of its form is written beside it, and `read` brings older forms up to date, so the
journal of any year can be replayed. What is to be written has been read first (`EventData`): decoding is the twin of
encoding.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar, final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle.commitment import ProvenLeaf
from compliance.cycle.contests import ContestedLane
from compliance.cycle.positions import Position
from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.statements import (
    Bic,
    CurrencyCode,
    CycleCut,
    CycleId,
    Document,
    PaymentAmount,
    Reason,
    ScreeningStatement,
    Sequence,
    Sha256,
    TotalAmount,
    inside,
)
from gateway.federation.messages.base import FreeText, Uuid
from gateway.federation.messages.payment_forms import UNESCAPED, members_form, texts_of
from gateway.federation.messages.payments import PaymentDetails, PaymentTerms
from participants.ledger.account_events import (
    ENTRY_TYPES,
    NOSTRO_MOVED,
    OPENINGS_MOVED,
    RENAMED,
    STATE_TYPES,
    AccountsOpened,
    NostroMoved,
    OpeningsMoved,
    OwnEntry,
    Renamed,
    StateChanged,
)

D = TypeVar("D", bound=Document)


class PaymentOrder(PaymentDetails, frozen=True, kw_only=True, gc=False):
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
            return_reason=self.return_reason,
            end_to_end_id=self.end_to_end_id,
            instruction_id=self.instruction_id,
            uetr=self.uetr,
            expires_at=self.expires_at,
        )


class OrderTaken(PaymentOrder, frozen=True, kw_only=True, gc=False):
    """An order as the journal has it: with who made it, the subject of the token. Version 1 doesn't say who."""

    actor: str | None = None


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
    actor: str | None = None
    """Who made the order. Version 1 doesn't say."""


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
    """So much of the payment was given back by another one. Version 1 doesn't say how much: it was the whole."""

    by: Uuid
    amount_minor: PaymentAmount | None = None


class CancellationRequested(Document, frozen=True, kw_only=True):
    """Somebody at the sender's bank doesn't want a payment paid any more that has no answer yet."""

    person: str


class RecallRequested(Document, frozen=True, kw_only=True):
    """Somebody at the sender's bank asks for an accepted payment back."""

    id: Uuid
    reason: RecallReason
    text: FreeText = ""
    person: str | None = None


class RecallReceived(RecallRequested, frozen=True, kw_only=True):
    """The sender's bank asks for it back; `recall` is the digest of what it signed, `status` how the payment stood."""

    recall: Sha256
    status: str


class RecallAnswered(Document, frozen=True, kw_only=True):
    """The receiver's people gave it back, whole or in part, by the payment `returned_by`, or refuse to.

    On the sender's side `acknowledgement` is the signed answer's digest, on the receiver's `person` who gave it.
    `status` is how the payment stood then.
    """

    id: Uuid
    answer: Literal["returned", "refused"]
    status: str
    returned_by: Uuid | None = None
    reason: RecallRefusal | None = None
    text: FreeText = ""
    person: str | None = None
    acknowledgement: Sha256 | None = None


class CutFixed(Document, frozen=True, kw_only=True):
    """The numbers that a cycle takes in of this bank's lanes, before anybody has signed for them.

    `envelope` is there where the cut was signed in the same step, which version 1 of this event was.
    """

    cycle: CycleId
    cut: CycleCut
    envelope: Envelope | None = None


class CycleDocuments(Document, frozen=True, kw_only=True):
    """What this bank signed for its cut of a cycle."""

    cycle: CycleId
    envelopes: tuple[Envelope, ...]


class CycleAttested(Document, frozen=True, kw_only=True):
    """What this bank attested in a cycle: its one signature, and all that it hands in beside it, to do so again.

    `positions` stand in the order of the attestation's leaves. In version 1 there was no attestation: `envelopes` are
    the statements and the screening, each signed by itself.
    """

    cycle: CycleId
    attestation: Envelope | None = None
    positions: tuple[Position, ...] = ()
    screening: ScreeningStatement | None = None
    contested: tuple[ContestedLane, ...] = ()
    envelopes: tuple[Envelope, ...] = ()

    @property
    def signed(self) -> tuple[Envelope, ...]:
        """All that has this bank's signature."""
        return self.envelopes if self.attestation is None else (self.attestation,)


class Instructed(Document, frozen=True, kw_only=True):
    """A settlement instruction was verified against this bank's own statements."""

    cycle: CycleId
    instruction: Envelope


class ResultShown(Document, frozen=True, kw_only=True):
    """What the coordinator showed of a cycle's result: to this bank, or to a counterparty that shows it as well.

    `reason` says why it isn't believed: it doesn't go together with what this bank signed, or with what it was shown.
    """

    cycle: CycleId
    commitment: Envelope
    leaves: tuple[ProvenLeaf, ...]
    counterparty: Bic | None = None
    reason: str | None = None


class ProofsRequired(Document, frozen=True, kw_only=True):
    """From this cycle on the coordinator proves its results: without a proof no instruction is believed."""

    cycle: CycleId


class CycleSettled(Document, frozen=True, kw_only=True):
    """A cycle became final; the postings of this event are the bank's settlement leg."""

    cycle: CycleId
    currency: CurrencyCode
    instruction: str
    finality: Sha256


class BreakHeard(Document, frozen=True, kw_only=True):
    """The coordinator told that this bank and another one don't agree on their pair in a cycle, or do again."""

    cycle: CycleId
    counterparty: Bic
    currency: CurrencyCode
    kind: str
    resolved: bool = False


class ExposureLimit(Document, frozen=True, kw_only=True):
    """The most that a counterparty may owe, unsettled; None is every counterparty that no other limit names."""

    currency: CurrencyCode
    limit_minor: TotalAmount
    counterparty: Bic | None = None


class ExposureLimits(Document, frozen=True, kw_only=True):
    """All limits in force at the coordinator: the scheme's for everybody, and those that this bank granted."""

    scheme: tuple[ExposureLimit, ...] = ()
    granted: tuple[ExposureLimit, ...] = ()


class ExposureCeilings(Document, frozen=True, kw_only=True):
    """All ceilings of the bank's own, after somebody changed one."""

    ceilings: tuple[ExposureLimit, ...]
    people: tuple[str, ...]
    """Who changed it; two where it lets others owe more. In version 1 one person may have done so."""
    reason: Reason


# Type names are history: they are never reused for something else.
TYPES: dict[str, type[Document]] = {
    "payment.reserved": OrderTaken,
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
    "payment.cancellation_requested": CancellationRequested,
    "payment.cancelled": Refused,
    "payment.recall_requested": RecallRequested,
    "payment.recall_received": RecallReceived,
    "payment.recall_answered": RecallAnswered,
    "payment.returned": Returned,
    "payment.returned_in_part": Returned,
    "payment.return_failed": Returned,
    "accounts.opened": AccountsOpened,
    **dict.fromkeys(ENTRY_TYPES.values(), OwnEntry),
    **dict.fromkeys(STATE_TYPES.values(), StateChanged),
    RENAMED: Renamed,
    NOSTRO_MOVED: NostroMoved,
    OPENINGS_MOVED: OpeningsMoved,
    "cycle.cut": CutFixed,
    "cycle.cut_signed": CycleDocuments,
    "cycle.attested": CycleAttested,
    "cycle.instructed": Instructed,
    "cycle.settled": CycleSettled,
    "cycle.result_shown": ResultShown,
    "cycle.proofs_required": ProofsRequired,
    "cycle.break": BreakHeard,
    "exposure.limits": ExposureLimits,
    "exposure.ceilings": ExposureCeilings,
}

# The version of each form that is written today, 1 where nothing is said; `UPCASTERS` leads there from earlier ones.
VERSIONS = dict.fromkeys(TYPES, 1) | {
    "payment.reserved": 2,
    "payment.held_out": 2,
    "payment.returned": 2,
    "payment.return_failed": 2,
    "accounts.opened": 3,
    "cycle.cut": 2,
    "cycle.attested": 2,
    "exposure.ceilings": 2,
}


def _cut_with_its_document(data: dict[str, Any]) -> dict[str, Any]:
    """Take the cut out of the one envelope that version 1 of `cycle.cut` holds."""
    (envelope,) = data["envelopes"]
    cut = msgspec.json.decode(b64decode(envelope["payload"], validate=True))
    return {"cycle": data["cycle"], "cut": cut, "envelope": envelope}


def _ceilings_of_people(data: dict[str, Any]) -> dict[str, Any]:
    """Name the one person of version 1 as the only one of several."""
    return {"ceilings": data["ceilings"], "people": [data["person"]], "reason": data["reason"]}


# (type, schema version) -> the same data one version later.
UPCASTERS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("cycle.cut", 1): _cut_with_its_document,
    ("exposure.ceilings", 1): _ceilings_of_people,
}

_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {type_: msgspec.json.Decoder(form) for type_, form in TYPES.items()}
# Of what somebody asks for, who isn't asked who he is: the journal's form says one thing more, which may be left out.
_ORDER_DECODER = msgspec.json.Decoder(PaymentOrder)
# Their members are asked to be texts and no more: `_ORDER` asks the rest, of all of them at once.
_TEXTS_DECODER = msgspec.json.Decoder(texts_of(PaymentOrder, "creditor_agent"))
_TAKEN_DECODER = msgspec.json.Decoder(texts_of(OrderTaken, "creditor_agent", "actor"))
# An order as the journal has it, after its maker. Whatever it matches the patterns of the members take, each of which
# costs as much as this; whatever it doesn't is left to them.
_FORM = members_form({"creditor_agent": inside(Bic)})
_ORDER = re.compile(_FORM)
_TAKEN = re.compile(rf'\{{"actor":"{UNESCAPED}*",{_FORM}')

_RESERVED = "payment.reserved"
# The escape of NUL, and not one of a reverse solidus before a text that looks like it.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class EventUnreadableError(Exception):
    """An event that this program can't read: the journal's was written by a later one; a new one isn't written."""


@final
class EventData(Struct, Generic[D], frozen=True, gc=False):
    """What an event of a type says, as a value and as canonical text.

    Only `of`, `orders` and `of_read` make it, so it can be read again.
    """

    type: str
    value: D
    text: str

    @classmethod
    def of(cls, type_: str, value: D) -> EventData[D]:
        """Encode a value and read it back. Raises EventUnreadableError if the reader would refuse or change it."""
        try:
            text = canonical.encode(value).decode()
            again: Any = _DECODERS[type_].decode(text)
        except (KeyError, msgspec.MsgspecError, UnicodeError) as error:
            raise EventUnreadableError(f"{type_}: {error}") from error
        if again != value:
            raise EventUnreadableError(f"{type_}: {type(value).__name__} is read back as something else")
        if _NUL.search(text):
            raise EventUnreadableError(f"{type_}: a text holds NUL, which PostgreSQL reads in no JSON")
        return cls(type_, again, text)

    @staticmethod
    def orders(bodies: Iterable[bytes | msgspec.Raw], *, maker: str) -> list[EventData[PaymentOrder]]:
        """Decode orders that `maker` sent as the reader does. Raises msgspec.MsgspecError, UnicodeError.

        Who made it stands in the text, and not in the value, which is what was sent: compare texts. What a decoder gave
        it takes again, so nothing is read twice here.
        """
        begin, encode, matches = beginning(maker), canonical.encode, _ORDER.fullmatch
        orders: list[EventData[PaymentOrder]] = []
        for body in bodies:
            value: PaymentOrder = _TEXTS_DECODER.decode(body)
            said = encode(value)[1:].decode()
            if matches(said) is None:
                value = _ORDER_DECODER.decode(body)
            orders.append(EventData(_RESERVED, value, begin + said))
        return orders

    @classmethod
    def of_read(cls, type_: str, value: D) -> EventData[D]:
        """Encode a value whose texts a decoder of signed documents has read, and whose numbers were counted here.

        For what other banks signed, one event a payment: it has been read as the very types that the event is made of,
        so the reader takes it again, and reading it twice would cost as much as deciding on it.
        """
        return cls(type_, value, canonical.encode(value).decode())


@lru_cache(1_024)
def beginning(maker: str) -> str:
    """Return how an order begins in the journal: who made it comes before all others in the canonical form."""
    return canonical.encode({"actor": maker})[:-1].decode() + ","


def held_out(order: EventData[PaymentOrder], hits: tuple[Hit, ...]) -> OutgoingHeld:
    """Return that an order is held, with who made it, as the journal's reader reads the order."""
    said = msgspec.structs.asdict(_DECODERS[_RESERVED].decode(order.text))
    maker: str | None = said.pop("actor")
    return OutgoingHeld(order=PaymentOrder(**said), hits=hits, actor=maker)


class EventRow(Struct, frozen=True):
    """An event as it is stored; `data` is canonical JSON."""

    sequence: int
    subject: str
    version: int
    type: str
    schema_version: int
    data: str


class Event(Struct, frozen=True, gc=False):
    """An event as it is understood: `data` is the present form of its type."""

    sequence: int
    subject: str
    version: int
    type: str
    data: Any


Upcasters = Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]


def read(row: EventRow, upcasters: Upcasters = UPCASTERS, versions: Mapping[str, int] = VERSIONS) -> Event:
    """Return an event with its data in the present form of its type. Raises EventUnreadableError."""
    present = versions.get(row.type, 0)
    if row.schema_version > present:
        raise EventUnreadableError(f"event {row.sequence}: {row.type} version {row.schema_version} is unknown here")
    try:
        if row.schema_version == present:
            taken = _taken(row.data) if row.type == _RESERVED else None
            data = _DECODERS[row.type].decode(row.data) if taken is None else taken
        else:
            members = msgspec.json.decode(row.data)
            for version in range(row.schema_version, present):
                step = upcasters.get((row.type, version))
                members = step(members) if step else members
            data = msgspec.convert(members, TYPES[row.type])
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError) as error:
        raise EventUnreadableError(f"event {row.sequence}: {row.type}: {error}") from error
    return Event(row.sequence, row.subject, row.version, row.type, data)


def _taken(text: str) -> OrderTaken | None:
    """Return an order of the plain form, as nearly all are, or None."""
    if _TAKEN.fullmatch(text) is None:
        return None
    return OrderTaken(**msgspec.structs.asdict(_TAKEN_DECODER.decode(text)))


# --- subjects that aren't payments ----------------------------------------------------------------------------

_NAMESPACE = uuid5(NAMESPACE_URL, "https://concordat.example/ledger/")


_VERSION_AT = 14
_RESERVED_VERSION, _EARLIER_VERSION = "8", "5"


def subject_id(*parts: str) -> str:
    """Return the subject of events that aren't about a payment: the same parts always give the same UUID.

    Its version is 8 (RFC 9562), which no new payment's id has: who pays can't take a subject by naming a payment so.
    """
    return _with_version(str(uuid5(_NAMESPACE, "/".join(parts))), _RESERVED_VERSION)


def earlier_subject(subject: str) -> str:
    """Return how a subject was written before there were reserved ones: as a UUID of version 5."""
    return _with_version(subject, _EARLIER_VERSION)


def is_reserved(payment_id: str) -> bool:
    """Tell whether an id is kept for subjects that aren't payments."""
    return payment_id[_VERSION_AT] == _RESERVED_VERSION


def _with_version(uuid: str, version: str) -> str:
    return str(UUID(uuid[:_VERSION_AT] + version + uuid[_VERSION_AT + 1 :]))


def changes_subject(kind: str, code: str, currency: str) -> str:
    """Return the subject of what happens to an account after it was opened."""
    return subject_id("account.changes", kind, code, currency)


def entry_subject(entry: str) -> str:
    """Return the subject of an entry that the bank makes itself."""
    return subject_id("account.entry", entry)


def movement_subject(agent: str, currency: str, entry: int) -> str:
    """Return the subject of an entry at the settlement agent, by its number on the account: that is signed."""
    return subject_id("nostro.movement", agent, currency, str(entry))


def openings_subject(agent: str, currency: str) -> str:
    """Return the subject of openings that were taken from a nostro."""
    return subject_id("nostro.openings", agent, currency)


def cut_subject(cycle: str) -> str:
    return subject_id("cycle.cut", cycle)


def attested_subject(cycle: str) -> str:
    return subject_id("cycle.attested", cycle)


def instructed_subject(instruction: str) -> str:
    return subject_id("cycle.instructed", instruction)


def settled_subject(instruction: str) -> str:
    return subject_id("cycle.settled", instruction)


def result_subject(cycle: str) -> str:
    return subject_id("cycle.result", cycle)


def break_subject(event: int) -> str:
    """Return the subject of a break: the number under which the coordinator told of it."""
    return subject_id("cycle.break", str(event))


def proofs_subject() -> str:
    return subject_id("cycle.proofs_required")
