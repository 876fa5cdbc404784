"""In what two banks have a payment otherwise, and whether it heals by itself. Pure decisions.

A record of the other bank's is its word: it makes this bank show a break, and at most ask for the signed answer that
proves a payment. Nothing is posted, numbered or given up by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from msgspec.structs import replace

from compliance.statements import Bic, CurrencyCode, CycleId
from gateway.federation.messages.base import Answer, Uuid, open_words
from gateway.federation.messages.reconciliation import SETTLED_MAX, SettledThrough, SharedRecord


class BreakKind(StrEnum):
    """What two banks have otherwise, in order of precedence: a payment is of the first kind that it is of."""

    DUPLICATE = "duplicate"
    """One bank has it, and both have another one with its UETR, or with its end-to-end id and amount."""
    MISSING_HERE = "missing_here"
    """The other bank alone has it in its lane."""
    MISSING_THERE = "missing_there"
    """This bank alone has it in its lane."""
    CURRENCY = "currency"
    AMOUNT = "amount"
    TERMS = "terms"
    """Accounts, names or texts."""
    STATUS = "status"
    """It is in one bank's lane and not in the other's, or its receiver contests it."""
    NUMBER = "number"
    """The two have it under different numbers of the lane."""
    VALUE_DATE = "value_date"
    """They have settled it with cycles of different value dates."""
    LATE = "late"
    """They have settled it with different cycles of one value date."""


class Healing(StrEnum):
    """What becomes of a break without anybody's decision."""

    ASKED = "asked"
    """The other bank's signed acknowledgement proves the payment: it is asked for, and posts it."""
    AWAITED = "awaited"
    """The same from the other side: that bank asks for the acknowledgement that this one has signed."""


Kind = Annotated[str, open_words(*BreakKind)]


class Break(Answer, frozen=True, kw_only=True):
    """A payment that the two banks have otherwise: as it is here, as the other bank says, and what follows.

    `twin` is the payment that a duplicate has its reference in common with; `contested_by` the bank that contests it.
    """

    kind: Kind
    payment: Uuid
    sender: Bic
    currency: CurrencyCode
    here: SharedRecord | None = None
    there: SharedRecord | None = None
    twin: Uuid | None = None
    contested_by: Bic | None = None
    cycle_here: CycleId | None = None
    cycle_there: CycleId | None = None
    healing: Annotated[str, open_words(*Healing)] | None = None


UNANSWERED = ("reserved", "cancelling")
"""How a payment stands at its sender while that has no answer for it."""


def judge(here: SharedRecord | None, there: SharedRecord | None, *, bank: str, twin: str | None = None) -> Break | None:
    """Return how a payment differs, None if it doesn't. `twin` is another payment here with its reference."""
    kind = _kind(here, there, twin)
    if kind is None:
        return None
    judged = between(kind, here, there)
    if kind is BreakKind.DUPLICATE:
        return replace(judged, twin=twin)
    if kind is BreakKind.STATUS and here is not None and there is not None:
        if judged.sender == bank and here.status in UNANSWERED:
            return replace(judged, healing=Healing.ASKED)
        if judged.sender != bank and there.status in UNANSWERED:
            return replace(judged, healing=Healing.AWAITED)
    return judged


def between(kind: BreakKind, here: SharedRecord | None, there: SharedRecord | None) -> Break:
    """Return a break of a payment that one of the banks has at least. Raises ValueError if neither has it."""
    known = here or there
    if known is None:
        raise ValueError("neither bank has the payment")
    return Break(kind=kind, payment=known.payment, sender=known.sender, currency=known.currency, here=here, there=there)


def _kind(here: SharedRecord | None, there: SharedRecord | None, twin: str | None) -> BreakKind | None:
    if here is None or there is None:
        known = here or there
        if known is None or known.sequence is None:
            return None  # It came to nothing there, or isn't decided.
        if twin is not None:
            return BreakKind.DUPLICATE
        return BreakKind.MISSING_THERE if there is None else BreakKind.MISSING_HERE
    if here.currency != there.currency:
        return BreakKind.CURRENCY
    if here.amount_minor != there.amount_minor:
        return BreakKind.AMOUNT
    if here.leaf != there.leaf:
        return BreakKind.TERMS
    if (here.sequence is None) != (there.sequence is None):
        return BreakKind.STATUS
    return BreakKind.NUMBER if here.sequence != there.sequence else None


class SettledApart(Answer, frozen=True, kw_only=True):
    """Payments of a lane, by their numbers, that the banks settled with different cycles."""

    first: int
    last: int
    cycle_here: CycleId | None
    cycle_there: CycleId | None


def settled_apart(here: Sequence[SettledThrough], there: Sequence[SettledThrough]) -> list[SettledApart]:
    """Return the payments that the two settled with different cycles, of what both have settled.

    What only one has settled yet isn't late: the word that a cycle is final comes to each when it comes.
    """
    known = min(max((row.sequence for row in rows), default=0) for rows in (here, there))
    # Before the oldest cycle of a list that isn't whole, nothing is known.
    oldest = max(0 if len(rows) < SETTLED_MAX else rows[-1].sequence for rows in (here, there))
    edges = sorted({row.sequence for row in (*here, *there) if oldest <= row.sequence <= known})
    apart: list[SettledApart] = []
    for before, edge in zip([oldest, *edges], edges, strict=False):
        ours, theirs = _cycle(here, edge), _cycle(there, edge)
        if before < edge and ours != theirs:
            apart.append(SettledApart(first=before + 1, last=edge, cycle_here=ours, cycle_there=theirs))
    return apart


def _cycle(rows: Sequence[SettledThrough], number: int) -> str | None:
    """Return the cycle that settled a number: the first that reaches it. `rows` are newest first."""
    return next((row.cycle for row in reversed(rows) if row.sequence >= number), None)


def late(apart: SettledApart, here: SharedRecord, there: SharedRecord | None) -> Break:
    """Return the break of a payment that was settled apart."""
    same_day = (apart.cycle_here or "")[:10] == (apart.cycle_there or "")[:10]
    found_late = between(BreakKind.LATE if same_day else BreakKind.VALUE_DATE, here, there)
    return replace(found_late, cycle_here=apart.cycle_here, cycle_there=apart.cycle_there)
