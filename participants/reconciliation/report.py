"""What came of looking for differences with another bank."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from compliance.statements import Bic, CurrencyCode
from gateway.federation.messages.base import Answer, open_words
from participants.reconciliation.breaks import Break


class Way(StrEnum):
    """How the payments of a lane were compared."""

    TREE = "tree"
    """Down the lane's Merkle tree: both banks number alike."""
    SET = "set"
    """As sets of keyed ids, by coded symbols: the numbers don't mean the same."""


class LaneCompared(Answer, frozen=True, kw_only=True):
    """A lane: how many payments each bank has numbered in it, how it was compared, and how many differ."""

    sender: Bic
    receiver: Bic
    currency: CurrencyCode
    way: Annotated[str, open_words(*Way)]
    here: int
    there: int
    differences: int


class Cost(Answer, frozen=True, kw_only=True):
    """What it took: questions, bytes of their bodies and of the answers', seconds, processor seconds of this node."""

    questions: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    symbols: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Report(Answer, frozen=True, kw_only=True):
    """Lanes and breaks of a pair. `is_whole` says that there are no more breaks than these.

    `fault` is what the other bank answered that can't be; what it said is believed in nothing then.
    """

    lanes: tuple[LaneCompared, ...] = ()
    breaks: tuple[Break, ...] = ()
    cost: Cost = Cost()
    is_whole: bool = True
    fault: str | None = None
    """A code, and what it is about."""
