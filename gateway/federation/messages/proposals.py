"""What operators propose and decide under four eyes."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import Action
from compliance.statements import Act, ActKind, Bic, CycleId, Reason, Sha256, Timestamp
from gateway.federation.messages.base import Answer, GivenReason, Request, Uuid, open_words

ProposalAction = Literal["approve", "hold", "release", "abandon", "unwind"]
assert get_args(ProposalAction) == tuple(Action)
ProposalStatus = Annotated[str, open_words("pending", "confirmed", "rejected", "expired", "withdrawn")]


class ProposalRequest(Request, frozen=True, kw_only=True):
    """An operator's proposal on a cycle (four eyes: somebody else decides).

    "unwind" names the `participants` who can't pay: the cycle is netted again without their pairs. `signed` is the
    operator's `OperatorDecision` to propose this, over the result that the cycle has.
    """

    action: ProposalAction
    reason: GivenReason
    participants: tuple[Bic, ...] = ()
    signed: Envelope | None = None


class ActProposal(Request, frozen=True, kw_only=True):
    """`POST /proposals`: a change of the registry that another operator has to confirm.

    `signed` is the operator's `OperatorDecision` to propose the act.
    """

    act: Act
    reason: GivenReason
    signed: Envelope


class Decision(Request, frozen=True, kw_only=True):
    """The second person's word on a proposal.

    `signed` is that operator's `OperatorDecision`, which answers the maker's.
    """

    decision: Literal["confirm", "reject"]
    reason: GivenReason | None = None
    signed: Envelope | None = None


class ProposalView(Answer, frozen=True, kw_only=True):
    """One operator's proposal and, once somebody else decided, the decision.

    `subject_sha256` is the digest of the NettingResult that the maker looked at, None before there is one: a
    confirmation of something that changed meanwhile is refused. `shown` is the canonical JSON of the `Act`, whose
    digest both sign; `proposed` and `answered` are what they signed.
    """

    id: Uuid
    cycle: CycleId | None = None
    """None if the proposal isn't about a cycle."""
    action: Annotated[str, open_words(*get_args(ProposalAction), *ActKind)]
    """Of a cycle; else the kind of the act."""
    subject: str | None = None
    """The cycle, the member or the client."""
    reason: Reason
    participants: tuple[Bic, ...] = ()
    status: ProposalStatus
    subject_sha256: Sha256 | None = None
    made_by: str
    made_at: Timestamp
    expires_at: Timestamp | None = None
    decided_by: str | None = None
    decided_at: Timestamp | None = None
    decision_reason: Reason | None = None
    shown: str | None = None
    proposed: Envelope | None = None
    answered: Envelope | None = None


class Proposals(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/proposals`, and `GET /proposals` for all that wait: newest first."""

    proposals: tuple[ProposalView, ...]
    next: str | None = None
