"""What a bank submits in a cycle and what the coordinator makes of it: verdicts, cuts of others, breaks."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import ContestedLane
from compliance.cycle.positions import Position, ProvenStatement
from compliance.statements import Bic, Count, CurrencyCode, CycleId, ScreeningStatement, Sequence
from gateway.federation.messages.base import Answer, Request, open_words

SUBMITTED_MAX = 8_192
"""Statements, or contested lanes, of one submission: a pair with each of 500 banks in 16 currencies."""


class AttestationSubmission(Request, frozen=True, kw_only=True):
    """One attestation of a bank with what its signature covers: the positions and the screening.

    `positions` are the rows of `compliance.cycle.positions.Position`, in the order of the attestation's leaves. A bank
    hands in one attestation for a cycle, and another one for each later word of its: a new revision, or a pair that it
    contested. `contested` are lanes whose payments it doesn't know yet, in the order of receiver and currency, as the
    attestation signs them; it attests them once it does.
    """

    attestation: Envelope
    positions: Annotated[tuple[Position, ...], Meta(max_length=SUBMITTED_MAX)] = ()
    screening: ScreeningStatement | None = None
    contested: Annotated[tuple[ContestedLane, ...], Meta(max_length=SUBMITTED_MAX)] = ()


class StatementsOfBefore(Request, frozen=True, kw_only=True):
    """What a bank of a release before submits, with each statement in an envelope: refused, whatever it says."""

    statements: Any = None
    screening: Any = None
    complete: Any = None
    contested: Any = None


class AttestationVerdict(Answer, frozen=True, kw_only=True):
    """The answer to an AttestationSubmission: how many statements were taken in, and each of which more is to be said.

    `stored` statements wait for the other bank, `agreed` ones both have signed alike; `breaks` names those of pairs
    whose banks said different things. What is `refused` isn't kept; a mended one comes in a further attestation, until
    the attestation closes.
    """

    stored: Count
    agreed: Count
    breaks: tuple[StatementVerdict, ...] = ()
    refused: tuple[RefusedPart, ...] = ()


class AgreedPosition(Answer, frozen=True, kw_only=True):
    """The statement that both banks of a pair signed alike, as each of them proves it, in the pair's order."""

    cycle: CycleId
    proven: tuple[ProvenStatement, ProvenStatement]


class StatementVerdict(Answer, frozen=True, kw_only=True):
    """What the coordinator did with one submitted statement."""

    counterparty: Bic
    currency: CurrencyCode
    revision: Count
    status: Annotated[str, open_words("stored", "agreed", "break")]


class RefusedPart(Answer, frozen=True, kw_only=True):
    """A part of an AttestationSubmission that wasn't taken in, while others were. `pointer` says where it stands."""

    pointer: str
    reason: str
    detail: str
    counterparty: Bic | None = None
    """Of a statement, as far as it can be read."""
    currency: CurrencyCode | None = None


class HandedIn(Answer, frozen=True, kw_only=True):
    """What the caller handed in for the newest cycle that it has a cut in; empty if there is none.

    An attestation is enough by itself: whoever signed it knows what it covers, or has lost that. `statements` are those
    of a cycle that was attested before there were attestations, each signed by itself.
    """

    cycle: CycleId | None = None
    cut: Envelope | None = None
    attestations: tuple[Envelope, ...] = ()
    statements: tuple[Envelope, ...] = ()


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
    """A pair whose two statements differ, or of which one is missing.

    Of the kind `contested`, `missing_from` is the sender of a lane: its receiver, the other bank of the pair, cut it at
    `cut_at`, and the sender knows only `known_through`. Which of the two is wrong isn't said.
    """

    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    revision: Count
    kind: Annotated[str, open_words("different", "missing", "contested")]
    missing_from: Bic | None = None
    resolved: bool = False
    cut_at: Sequence | None = None
    known_through: Sequence | None = None


class Breaks(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/breaks`: every break of the cycle, or a participant's own."""

    cycle: CycleId
    breaks: tuple[BreakNotice, ...]
    next: str | None = None
