"""What operators propose and decide under four eyes."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from compliance.cycle.approval import Action
from compliance.statements import Bic, CycleId, Reason, Sha256, Timestamp
from gateway.federation.messages.base import Answer, Request, Uuid, open_words

ProposalAction = Literal["approve", "hold", "release", "abandon", "unwind"]
assert get_args(ProposalAction) == tuple(Action)
ProposalStatus = Annotated[str, open_words("pending", "confirmed", "rejected", "expired")]


class ProposalRequest(Request, frozen=True, kw_only=True):
    """An operator's proposal on a cycle (four eyes: somebody else decides).

    "unwind" names the `participants` who can't pay: the cycle is netted again without their pairs.
    """

    action: ProposalAction
    reason: Reason
    participants: tuple[Bic, ...] = ()


class Decision(Request, frozen=True, kw_only=True):
    """The second person's word on a proposal."""

    decision: Literal["confirm", "reject"]
    reason: Reason | None = None


class ProposalView(Answer, frozen=True, kw_only=True):
    """One operator's proposal on a cycle and, once somebody else decided, the decision.

    `subject_sha256` is the digest of the NettingResult that the maker looked at, None before there is one: a
    confirmation of something that changed meanwhile is refused.
    """

    id: Uuid
    cycle: CycleId
    action: Annotated[str, open_words(*get_args(ProposalAction))]
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


class Proposals(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/proposals`: newest first."""

    proposals: tuple[ProposalView, ...]
