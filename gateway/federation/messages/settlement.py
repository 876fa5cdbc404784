"""What the settlement agent says over HTTP beside ISO 20022: accounts, funding, and the feed of notifications."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.crypto.dsse import Envelope
from compliance.cycle.checks import Verdict
from compliance.statements import Bic, Count, CurrencyCode, NetAmount, form, whole
from gateway.federation.messages.base import Answer, Request, SpelledBic, Uuid

# Below 10^15 minor units either way, and never zero: a funding is positive, a withdrawal negative.
FundingAmount = Annotated[
    str,
    form(
        whole(r"-?[1-9][0-9]{0,14}"),
        "a whole number of minor units but zero, as a text of at most 15 digits, negative to take money back",
        "123450",
    ),
]
DECISIONS_MAX = 64
"""In one order: a few are needed, and each is verified."""
OverdraftLimit = Annotated[
    str,
    form(
        whole(r"(0|[1-9][0-9]{0,14})"),
        "a whole number of minor units, zero or more, as a text of at most 15 digits",
        "0",
    ),
]


class SettlementOrder(Request, frozen=True, kw_only=True):
    """A cycle to settle: the signed request (pacs.029), and what entitles the coordinator to it.

    `result` is the signed NettingResult whose nets the request moves, `rulebook` the text of the document whose digest
    the result names, `checks` the gravest verdict of the checks on the result. Where two operators must have decided,
    `decisions` are what they signed (proposals and confirmations) and `operators` is the signed register of their keys.
    """

    request: Envelope
    result: Envelope
    rulebook: str
    checks: Verdict
    operators: Envelope | None = None
    decisions: Annotated[tuple[Envelope, ...], Meta(max_length=DECISIONS_MAX)] = ()


class AccountOpening(Request, frozen=True, kw_only=True):
    """A settlement account to open for a participant. Without an overdraft limit it is prefunded."""

    participant: SpelledBic
    currency: CurrencyCode
    overdraft_limit_minor: OverdraftLimit = "0"


class SettlementAccountView(Answer, frozen=True, kw_only=True):
    """A participant's account at the agent. `version` counts its postings."""

    participant: Bic
    currency: CurrencyCode
    balance_minor: NetAmount
    overdraft_limit_minor: OverdraftLimit
    version: Count


class Funding(Request, frozen=True, kw_only=True):
    """Central money for a participant's account (or back, when negative). `id` is the client's, posted once."""

    id: Uuid
    currency: CurrencyCode
    amount_minor: FundingAmount


class FundingReceipt(Answer, frozen=True, kw_only=True):
    """A funding that was posted: the agent's reference and the balance right after it."""

    id: Uuid
    reference: str
    balance_minor: NetAmount


class SettlementNotification(Answer, frozen=True, kw_only=True):
    """One camt.054.001.08. `id` is the cursor of the feed, `signed` the same document under the agent's signature."""

    id: Count
    document: str
    signed: Envelope | None = None


class SettlementNotifications(Answer, frozen=True, kw_only=True):
    """A page of the caller's notifications; `next` is the cursor to ask with."""

    notifications: tuple[SettlementNotification, ...]
    next: Count
