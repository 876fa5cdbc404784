"""An operator's own key at work: it signs what is proposed and how others' proposals are answered.

The same key signs in. A signed decision and an assertion can't be taken for each other: what is signed of the one
begins with "DSSEv1", of the other with the base64 of a JSON object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.cycle.approval import Action
from compliance.decisions import answer, cycle_act, propose
from compliance.statements import Act
from gateway.federation.messages.proposals import ActProposal, Decision, ProposalAction, ProposalRequest, ProposalView


class NotShownError(Exception):
    """A proposal whose act isn't what it says it is, or can't be read: nobody should sign that."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class DecidingKey:
    """Makes an operator's requests, signed."""

    operator: str
    coordinator: str
    key: Signer
    now: Callable[[], datetime] = _now

    def proposal(
        self, action: ProposalAction, cycle: str, *, result: str | None, reason: str, participants: Collection[str] = ()
    ) -> ProposalRequest:
        """Propose an action on a cycle that has this result."""
        act = cycle_act(Action(action), cycle, result=result, participants=participants)
        banks = tuple(sorted(set(participants)))
        return ProposalRequest(action=action, reason=reason, participants=banks, signed=self._propose(act, reason))

    def act(self, act: Act, *, reason: str) -> ActProposal:
        """Propose a change of the registry."""
        return ActProposal(act=act, reason=reason, signed=self._propose(act, reason))

    def decision(
        self, proposal: ProposalView, decision: Literal["confirm", "reject"], *, reason: str | None = None
    ) -> Decision:
        """Answer another operator's proposal, over the act that it shows. Raises NotShownError."""
        act = act_of(proposal)
        assert proposal.proposed is not None, "act_of looks"
        signed = answer(
            act,
            proposal.proposed,
            self.key,
            operator=self.operator,
            coordinator=self.coordinator,
            confirm=decision == "confirm",
            reason=reason,
            at=self._at(),
        )
        return Decision(decision=decision, reason=reason, signed=signed)

    def _propose(self, act: Act, reason: str) -> Envelope:
        return propose(
            act, self.key, operator=self.operator, coordinator=self.coordinator, reason=reason, at=self._at()
        )

    def _at(self) -> str:
        return self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def act_of(proposal: ProposalView) -> Act:
    """Return the act that a proposal shows, if it is what the proposal says beside it. Raises NotShownError."""
    if proposal.shown is None or proposal.proposed is None:
        raise NotShownError("the proposal is signed by nobody")
    try:
        act = canonical.decode(proposal.shown.encode(), Act)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        raise NotShownError(f"what it shows can't be read: {error}") from error
    if proposal.cycle is not None:
        try:
            action = Action(proposal.action)
        except ValueError as error:
            raise NotShownError(str(error)) from error
        said = cycle_act(action, proposal.cycle, result=proposal.subject_sha256, participants=proposal.participants)
        if act != said:
            raise NotShownError(f"it shows {act.kind} of {act.subject}, and says {said.kind} of {said.subject}")
    return act
