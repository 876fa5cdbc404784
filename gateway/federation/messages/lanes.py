"""What a bank tells another of the lanes between them, so that each finds out whether its own books are whole."""

from __future__ import annotations

from compliance.statements import Bic, CurrencyCode, Sequence
from gateway.federation.messages.base import Answer, Uuid

NEWEST_MAX = 20
"""Of a lane's payments."""


class NumberedPayment(Answer, frozen=True, kw_only=True):
    sequence: Sequence
    payment: Uuid


class SharedLane(Answer, frozen=True, kw_only=True):
    """A lane as the one who answers has it: its newest payments, the last number first."""

    sender: Bic
    receiver: Bic
    currency: CurrencyCode
    newest: tuple[NumberedPayment, ...]


class SharedLanes(Answer, frozen=True, kw_only=True):
    """`GET /federation/lanes`: every lane between the caller and the bank that answers.

    Nobody need believe it: what the caller signed of a payment is at `/federation/payments/{id}/evidence`.
    """

    lanes: tuple[SharedLane, ...]
