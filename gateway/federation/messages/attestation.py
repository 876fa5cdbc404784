"""What a bank submits in a cycle and what the coordinator makes of it: verdicts, cuts of others, breaks."""

from __future__ import annotations

from typing import Annotated

from compliance.crypto.dsse import Envelope
from compliance.statements import Bic, Count, CurrencyCode, CycleId, Sequence
from gateway.federation.messages.base import Answer, Request, open_words


class StatementSubmission(Request, frozen=True, kw_only=True):
    """All that a bank attests in a cycle, in one request: its position statements and its screening.

    `complete` says that there is no further pair; a later submission (a new revision) may hold a few statements only.
    """

    statements: tuple[Envelope, ...]
    screening: Envelope | None = None
    complete: bool = True


class StatementVerdict(Answer, frozen=True, kw_only=True):
    """What the coordinator did with one submitted statement."""

    counterparty: Bic
    currency: CurrencyCode
    revision: Count
    status: Annotated[str, open_words("stored", "agreed", "break")]


class StatementVerdicts(Answer, frozen=True, kw_only=True):
    """The answer to a StatementSubmission, one verdict per statement in its order."""

    verdicts: tuple[StatementVerdict, ...]


class SenderCuts(Answer, frozen=True, kw_only=True):
    """The cuts of every receiver for one sender's lanes: `lanes[i]` says receiver, currency, last_sequence.

    `delivered` are the participants of the cycle whose cut is in; a bank states its positions with these, and pairs
    with anybody else are carried over. On a lane of one of them that isn't listed nothing was accepted.
    """

    cycle: CycleId
    complete: bool
    lanes: tuple[ReceiverCut, ...]
    delivered: tuple[Bic, ...]


class ReceiverCut(Answer, frozen=True, kw_only=True):
    receiver: Bic
    currency: CurrencyCode
    last_sequence: Sequence


class BreakNotice(Answer, frozen=True, kw_only=True):
    """A pair whose two statements differ, or of which one is missing."""

    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    revision: Count
    kind: Annotated[str, open_words("different", "missing")]
    missing_from: Bic | None = None
    resolved: bool = False


class Breaks(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/breaks`: every break of the cycle, or a participant's own."""

    cycle: CycleId
    breaks: tuple[BreakNotice, ...]
