"""What a bank's own people and systems ask of its node, and what they are answered."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta, field

from compliance.crypto.dsse import Envelope
from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Date,
    NetAmount,
    PaymentAmount,
    Timestamp,
    TotalAmount,
)
from gateway.federation.messages.base import (
    AccountCode,
    Answer,
    FreeText,
    GivenReason,
    Remittance,
    Request,
    Uuid,
    open_words,
)
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from participants.api.orders import (
    OpeningRequest,
    OrderRequest,
    SpelledAccount,
    StatedText,
    normalise_accounts,
    normalise_text,
)
from participants.cycle.movements import MovementFault
from participants.feed.messages import EventType, SettledLane
from participants.ledger.account_events import ENTRY_TYPES, EntryKind, ExternalReference
from participants.ledger.accounts import BOUNDS, AccountState
from participants.ledger.exposure import Source
from participants.ledger.payment import Status
from participants.payments.cancellations import CancellationOutcome
from participants.payments.orders import OrderOutcome, OrderReason
from participants.roles import Scope
from participants.search.settlement import SettlementState

BODY_BYTES_MAX = 16 * 1024 * 1024
"""Of a request that holds much: another bank's payments, a sanctions list."""
BATCH_BYTES_MAX = 64 * 1024 * 1024
"""Of a request that holds many, payments or accounts: 8,192 of the longest with every character escaped are 58 MB."""
CANCELLED_MAX = 1_000
"""Payments in one request."""
BatchOutcome = Literal["taken", "known", "refused"]
LineNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
PaymentStatus = Annotated[str, open_words(*Status)]
HISTORY_TYPES = (
    *(type_ for type_ in EventType if type_.scope is Scope.PAYMENTS),
    EventType.CYCLE_SETTLED,
)
"""What happens to a payment."""


class OrderBatch(Request, frozen=True, kw_only=True):
    """Orders in one request; each is decided for itself, in this order, unless the batch is `atomic`.

    With an `id`, a UUID that the client makes, the batch has a status (`GET /batches/{id}`). Requests that name the
    same id make one batch; asked again, each order has the answer that it had. `name` is for people, as a file's;
    `lines` are the numbers of the orders in it, one for each, from 1 on if left out.
    """

    payments: Annotated[tuple[OrderRequest, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]
    id: Uuid | None = None
    name: Remittance = ""
    lines: Annotated[tuple[LineNumber, ...], Meta(max_length=BATCH_ITEMS_MAX)] = ()
    atomic: bool = False
    """Take all of the orders or, if one of them is refused, none."""
    dry_run: bool = False
    """Take nothing; say what would be answered now."""


class OrderResults(Answer, frozen=True, kw_only=True):
    """The outcome of each order of a batch, in its order."""

    results: tuple[OrderOutcome, ...]


class BatchView(Answer, frozen=True, kw_only=True):
    """A batch that has an id, and what became of it.

    `outcomes` counts its orders by what was answered last: taken, known (an earlier batch or request had taken it), or
    refused. `payments` counts the payments of those taken and known by how they stand; those that ended before
    `detached_until` may be in a part of the journal that isn't here, and aren't counted.
    """

    id: Uuid
    name: str
    made_by: str
    recorded_at: Timestamp
    outcomes: dict[str, int]
    payments: dict[str, int]
    detached_until: Timestamp | None = None


class BatchOrderView(Answer, frozen=True, kw_only=True):
    """An order of a batch: its number in it, what was answered, and how its payment stands.

    `reason` says why it was refused, or why its payment was after it was taken.
    """

    line: Count
    id: Uuid
    outcome: Annotated[str, open_words(*get_args(BatchOutcome))]
    reason: str | None = None
    status: Annotated[str, open_words(*Status)] | None = None


class BatchOrderPage(Answer, frozen=True, kw_only=True):
    """In the order of the batch. `next` is the cursor of the following page.

    How payments stand that ended before `detached_until` may not be known here, and they are in no list of a status.
    """

    items: tuple[BatchOrderView, ...]
    next: str | None = None
    detached_until: Timestamp | None = None


class AccountBatch(Request, frozen=True, kw_only=True):
    """Customer accounts to open."""

    accounts: Annotated[tuple[OpeningRequest, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


class StatedReason(Request, frozen=True, kw_only=True):
    """A person's reason."""

    reason: GivenReason


class ListImport(Request, frozen=True, kw_only=True):
    """A sanctions list: its name, and the contents (base64) of its files by file name."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    files: Annotated[dict[str, bytes], Meta(min_length=1, max_length=8)]


class SettlementFinding(Answer, frozen=True, kw_only=True):
    """Something that doesn't agree between the agent's entries and this bank's instructions."""

    fault: Annotated[str, open_words(*MovementFault)]
    currency: str
    cycle: CycleId | None = None
    movement: Count | None = None
    detail: str


class SettlementAccountState(Answer, frozen=True, kw_only=True):
    """This bank's account at the settlement agent: how it is, and all that doesn't agree."""

    agent: Bic
    condition: str
    findings: tuple[SettlementFinding, ...]


class MovementView(Answer, frozen=True, kw_only=True):
    """One entry on this bank's settlement account, as the agent signed it; why it is known, where people said so."""

    id: Count
    currency: CurrencyCode
    sequence: Count
    amount_minor: NetAmount
    cycle: CycleId | None = None
    reference: str
    seen_at: Timestamp
    explanation: str | None = None
    explained_by: str | None = None
    signed: Envelope


class MovementPage(Answer, frozen=True, kw_only=True):
    """Movements, oldest first; `next` is the cursor to ask with."""

    movements: tuple[MovementView, ...]
    next: Count


class GivenBackView(Answer, frozen=True, kw_only=True):
    """A return of a payment: the payment that gives it back, and how much of it."""

    by: Uuid
    amount_minor: PaymentAmount


class RecallView(Answer, frozen=True, kw_only=True):
    """A payment is asked for back: why, and what the bank that accepted it answers, `open` until it has."""

    id: Uuid
    reason: Annotated[str, open_words(*RecallReason)]
    text: str = ""
    state: Annotated[str, open_words("open", "returned", "refused")]
    returned_by: Uuid | None = None
    refusal: Annotated[str, open_words(*RecallRefusal)] | None = None
    refusal_text: str = ""
    answered_by: str | None = None
    """Who answered, of a payment that this bank accepted."""


class SettlementView(Answer, frozen=True, kw_only=True):
    """Whether a payment is settled or why not: in a stable word, and in a sentence.

    `since` is when it came to wait or to be held. `cycle` settled it, or has taken it in.
    """

    state: Annotated[str, open_words(*SettlementState)]
    explanation: str
    since: Timestamp | None = None
    cycle: CycleId | None = None
    value_date: Date | None = None
    settled_at: Timestamp | None = None


class PaymentEvent(Answer, frozen=True, kw_only=True):
    """What happened to a payment, and when. `status` is how it stood then, `event_sequence` its place in the journal.

    Types are those of `GET /events`.
    """

    type: Annotated[str, open_words(*HISTORY_TYPES)]
    at: Timestamp
    status: PaymentStatus
    event_sequence: Count | None = None
    sequence: Count | None = None
    reason: str | None = None
    cycle: CycleId | None = None
    returned_by: Uuid | None = None


class RefusedOrderView(Answer, frozen=True, kw_only=True):
    """An order under a payment's id that wasn't taken, and is no part of the payment: when, why, and whose."""

    at: Timestamp
    reason: Annotated[str, open_words(*OrderReason)]
    ordered_by: str | None = None


class PaymentView(Answer, frozen=True, kw_only=True):
    """A payment as it stands. `sequence` is its number in its lane once accepted; `version` counts its events.

    An order that was refused has no event, so its `version` is 0, and its id is free.
    """

    id: Uuid
    direction: Annotated[str, open_words("out", "in")]
    counterparty: Bic
    status: PaymentStatus
    version: Count
    currency: CurrencyCode
    amount_minor: str
    debtor_account: str
    debtor_name: str
    creditor_account: str
    creditor_name: str
    remittance: str = ""
    sequence: Count | None = None
    reason: str | None = None
    returns: Uuid | None = None
    return_reason: str | None = None
    end_to_end_id: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None
    expires_at: str | None = None
    ordered_by: str | None = None
    """Who ordered it, of a payment that this bank sends."""
    cancelled_by: str | None = None
    """Who asked for its cancellation: it is `cancelled` once the other bank declined it, and is paid if that had
    accepted it before."""
    returned_minor: TotalAmount | None = None
    """How much of it is given back, returns under way included; left out where nothing is."""
    given_back: tuple[GivenBackView, ...] = ()
    """Its returns, in their order, but those that failed."""
    recalls: tuple[RecallView, ...] = ()
    """How often it was asked for back, and what was answered."""
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    """When something happened to it last, settlement aside."""
    settlement: SettlementView | None = None
    history: tuple[PaymentEvent, ...] = ()
    """Of a payment that is asked for by its id: what happened to it, oldest first."""
    refused_orders: tuple[RefusedOrderView, ...] = ()
    """Of such a one: the orders under its id that weren't taken, newest first, twenty at most."""


class Cancellations(Request, frozen=True, kw_only=True):
    """Payments that are to be paid no more."""

    payments: Annotated[tuple[Uuid, ...], Meta(min_length=1, max_length=CANCELLED_MAX)]


class CancellationOutcomes(Answer, frozen=True, kw_only=True):
    """How each payment stands, or why it isn't cancelled; in the order of the request."""

    results: tuple[CancellationOutcome, ...]


class PaymentPage(Answer, frozen=True, kw_only=True):
    """`next` is the cursor of the following page: there may be one where this page is short, or empty.

    Payments that ended before `detached_until` may be in a part of the journal that isn't here: they aren't looked for.
    """

    items: tuple[PaymentView, ...]
    next: str | None = None
    detached_until: Timestamp | None = None


class CycleLaneView(SettledLane, frozen=True, kw_only=True):
    """What a cycle settled of a lane."""

    currency: CurrencyCode


class CyclePayments(Answer, frozen=True, kw_only=True):
    """What a cycle settled of this bank's payments, by lane and number. `lanes` are those asked for, whole.

    `settled` are the currencies in which the cycle is final at this bank: none before that, or with nothing to settle.
    """

    cycle: CycleId
    value_date: Date
    settled: tuple[CurrencyCode, ...]
    lanes: tuple[CycleLaneView, ...]
    items: tuple[PaymentView, ...]
    next: str | None = None


class EntryRequest(Request, frozen=True, kw_only=True):
    """An entry to make: a deposit credits the customer `account`, a withdrawal or a fee debits it.

    The other side is the internal account `against`. The id is made by the client, so asking twice enters once;
    `reference` names what is booked (a slip, an invoice), and is booked once on that internal account.
    """

    id: Uuid
    kind: EntryKind
    account: SpelledAccount
    currency: CurrencyCode
    amount_minor: PaymentAmount
    against: SpelledAccount
    reference: ExternalReference
    text: FreeText = ""

    def __post_init__(self) -> None:
        normalise_accounts(self, "account", "against")
        normalise_text(self, "text", stated=False)


class EntryView(Answer, frozen=True, kw_only=True):
    """An entry that the bank's own people made, and who."""

    id: Uuid
    kind: Annotated[str, open_words(*ENTRY_TYPES)]
    account: AccountCode
    currency: CurrencyCode
    amount_minor: PaymentAmount
    against: AccountCode
    reference: str
    text: str = ""
    event_sequence: Count
    made_by: tuple[str, ...]


class StateChange(Request, frozen=True, kw_only=True):
    """What may be posted to an account from now on, and why."""

    state: AccountState
    reason: GivenReason


class NameChange(Request, frozen=True, kw_only=True):
    """Another name for an account, and why."""

    name: StatedText
    reason: GivenReason

    def __post_init__(self) -> None:
        normalise_text(self, "name")


class AccountView(Answer, frozen=True, kw_only=True):
    """An account. `balance_minor` is debits minus credits: an asset is positive, what the bank owes negative."""

    id: Count
    kind: Annotated[str, open_words(*BOUNDS)]
    code: str
    currency: CurrencyCode
    name: str
    balance_minor: NetAmount
    version: Count
    state: Annotated[str, open_words(*AccountState)]


class AccountPage(Answer, frozen=True, kw_only=True):
    """Ordered by id."""

    items: tuple[AccountView, ...]
    next: str | None = None


class PostingView(Answer, frozen=True, kw_only=True):
    """One posting of an account, with the balance before and after it.

    `effective_at` is when it counts, where that isn't when it was recorded: a settlement counts from its finality.
    """

    version: Count
    event_sequence: Count
    event_type: str
    recorded_at: Timestamp
    effective_at: Timestamp | None = None
    amount_minor: NetAmount
    previous_balance_minor: NetAmount
    balance_minor: NetAmount
    account: str = ""
    """The account's code."""
    payment_id: Uuid | None = None
    """The payment that it is of."""


class PostingPage(Answer, frozen=True, kw_only=True):
    """Newest first."""

    items: tuple[PostingView, ...]
    next: str | None = None


class AccountBalance(Answer, frozen=True, kw_only=True):
    """Where an account stood at an instant: after its posting `version`, and event `event_sequence` of the journal."""

    account: Count
    kind: Annotated[str, open_words(*BOUNDS)]
    code: str
    currency: CurrencyCode
    at: Timestamp
    balance_minor: NetAmount
    version: Count
    event_sequence: Count


class StatementEntry(Answer, frozen=True, kw_only=True):
    """One entry of a statement, and what it is about.

    `reference` is the id of the payment or entry, or the cycle; `external_reference` what an entry of the bank's own
    books. The counterparty is the other bank and customer of a payment, or the internal account of an entry.
    """

    version: Count
    event_sequence: Count
    event_type: str
    payment_id: Uuid | None = None
    booked_at: Timestamp
    value_at: Timestamp
    amount_minor: NetAmount
    balance_minor: NetAmount
    reference: str | None = None
    external_reference: str | None = None
    counterparty: Bic | None = None
    counterparty_account: str | None = None
    counterparty_name: str | None = None
    text: str | None = None
    returns: Uuid | None = None
    return_reason: str | None = None
    end_to_end_id: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None


class StatementPage(Answer, frozen=True, kw_only=True):
    """An account over a period, from `begins_at` until before `ends_at`, and a page of its entries, oldest first.

    Amounts are debits minus credits: `opening_balance_minor` + `debited_minor` - `credited_minor` is
    `closing_balance_minor`. `final` says that nothing can come into the period any more.
    """

    account: Count
    kind: Annotated[str, open_words(*BOUNDS)]
    code: str
    currency: CurrencyCode
    name: str
    begins_at: Timestamp
    ends_at: Timestamp
    final: bool
    opening_balance_minor: NetAmount
    closing_balance_minor: NetAmount
    debits: Count
    debited_minor: TotalAmount
    credits: Count
    credited_minor: TotalAmount
    entries: tuple[StatementEntry, ...]
    next: str | None = None


class LaneView(Answer, frozen=True, kw_only=True):
    """A lane: payments accepted so far and how far they are settled."""

    sender: Bic
    receiver: Bic
    currency: CurrencyCode
    last_sequence: Count
    settled_sequence: Count
    unsettled_minor: str
    undeliverable_since: Timestamp | None = None
    """Since when payments to the receiver can't be delivered; left out where they are."""


class ExposureView(Answer, frozen=True, kw_only=True):
    """What a counterparty owes before it is settled, and the most that it may: beyond it its payments are declined.

    `set_by` says whose limit that is: `granted` is the bilateral limit of this bank at the coordinator, `scheme` the
    rulebook's default where it granted none, `bank` a ceiling of this bank that is less than that.
    """

    counterparty: Bic
    currency: CurrencyCode
    unsettled_minor: TotalAmount
    limit_minor: TotalAmount
    set_by: Annotated[str, open_words(*Source)]
    room_minor: TotalAmount
    near: bool
    """Whether it owes so much that somebody should look: four fifths of the limit."""


class CeilingChange(Request, frozen=True, kw_only=True):
    """The most that this bank lets others owe it in a currency, whatever it granted; null lifts the ceiling."""

    limit_minor: TotalAmount | None
    reason: GivenReason


class CeilingView(Answer, frozen=True, kw_only=True):
    """A ceiling of this bank; without a counterparty it is for all that have none of their own."""

    currency: CurrencyCode
    limit_minor: TotalAmount
    counterparty: Bic | None = None


class WaitingView(Answer, frozen=True, kw_only=True):
    """What waits for a second person: an opening with money, a deposit, a block to lift, a list, a ceiling."""

    kind: Annotated[str, open_words("opening", "entry", "unblocking", "list", "ceiling")]
    subject: str
    person: str
    proposed_at: Timestamp
    content: dict[str, str] = field(default_factory=dict)
    """Exactly what is proposed, by the members of the request that confirms it; `from` is what it would replace.

    Left out of proposals of earlier releases, and for who may not read what it is about.
    """


class CycleView(Answer, frozen=True, kw_only=True):
    """What this bank did in a cycle: whether its cut is fixed, how often it attested, what it posted."""

    cycle: CycleId
    cut: bool
    submissions: Count
    settled: tuple[CurrencyCode, ...]
