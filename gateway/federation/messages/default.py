"""What a default would mean, as the coordinator shows it to operators before they decide. Read models, never signed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.statements import Bic, Count, CurrencyCode, CycleId, NetAmount, Sha256, TotalAmount
from gateway.federation.messages.base import Answer, open_words

Layer = Annotated[
    str,
    open_words(
        "defaulter_collateral",
        "defaulter_contribution",
        "scheme_capital",
        "survivor_contributions",
        "survivor_assessments",
    ),
]


class ShareView(Answer, frozen=True, kw_only=True):
    """What one participant pays; None is the scheme itself."""

    participant: Bic | None = None
    amount_minor: TotalAmount


class LayerView(Answer, frozen=True, kw_only=True):
    """A layer of the waterfall: the loss it finds, what it has, who pays what, and what it leaves to the next."""

    layer: Layer
    loss_minor: TotalAmount
    available_minor: TotalAmount
    paid_minor: TotalAmount
    shares: tuple[ShareView, ...]
    remaining_minor: TotalAmount


class WaterfallView(Answer, frozen=True, kw_only=True):
    """The cycle settles as netted, and others pay what the defaulters can't. loss = covered + uncovered."""

    loss_minor: TotalAmount
    layers: tuple[LayerView, ...]
    covered_minor: TotalAmount
    uncovered_minor: TotalAmount


class ChangeView(Answer, frozen=True, kw_only=True):
    """A survivor's net before and after an unwinding; `beyond_minor`: by how much it would exceed what it may owe."""

    participant: Bic
    before_minor: NetAmount
    after_minor: NetAmount
    change_minor: NetAmount
    limit_minor: NetAmount | None = None
    beyond_minor: TotalAmount


class UnwindView(Answer, frozen=True, kw_only=True):
    """The cycle is netted again without the defaulters' pairs, which are carried over.

    Where a survivor would exceed its limit, the netting leaves out pairs of its as well.
    """

    removed_minor: TotalAmount
    settlement_before_minor: TotalAmount
    settlement_after_minor: TotalAmount
    changes: tuple[ChangeView, ...]


class ClearedBankView(Answer, frozen=True, kw_only=True):
    """What a bank would pay and be paid; `fell` is the round of contagion in which it can't pay in full, 0 for none."""

    participant: Bic
    owed_minor: TotalAmount
    received_minor: TotalAmount
    paid_minor: TotalAmount
    unpaid_minor: TotalAmount
    fell: Count


class CutDebtView(Answer, frozen=True, kw_only=True):
    """A debt, after set-off within the pair, that wouldn't be paid in full."""

    debtor: Bic
    creditor: Bic
    owed_minor: TotalAmount
    paid_minor: TotalAmount


class ClearingView(Answer, frozen=True, kw_only=True):
    """Everybody pays what it has, creditors share pro rata (Eisenberg and Noe): who gets what, and who falls next.

    `banks` are those that can't pay in full.
    """

    rounds: Count
    unpaid_minor: TotalAmount
    banks: tuple[ClearedBankView, ...]
    debts: tuple[CutDebtView, ...]


class CurrencyDefaultView(Answer, frozen=True, kw_only=True):
    """The alternatives in one currency. `losses` are the defaulters' net debits: none of it counts as paid.

    `clearing` is missing where everybody is set off, or where banks owe each other so much in circles that it would
    take too long.
    """

    currency: CurrencyCode
    losses: tuple[ShareView, ...]
    waterfall: WaterfallView
    unwind: UnwindView
    clearing: ClearingView | None = None


class DefaultView(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/default`: the alternatives for a result and its defaulters, side by side.

    `agent_says` is the settlement agent's last answer in its own words: it names who is short, and of how much.
    """

    cycle: CycleId
    result: Sha256
    edition: Annotated[int, Meta(ge=1)]
    participants: tuple[Bic, ...]
    agent_says: str | None = None
    covered: bool
    currencies: tuple[CurrencyDefaultView, ...]
