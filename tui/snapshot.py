"""All that the console knows, read in one round, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compliance.cycle.states import IN_PROGRESS, State
from compliance.person import same_person
from gateway.federation.messages.cycles import Checks, CycleProgress, CycleState, CycleSummary, Positions
from gateway.federation.messages.events import Event
from gateway.federation.messages.participants import ParticipantView
from gateway.federation.messages.proposals import ProposalView

EVENTS_KEPT = 500


@dataclass(frozen=True)
class Snapshot:
    """All that the console knows, read from the coordinator in one round.

    `selected` is the cycle that panes 2 and 3 show; its parts are None where the coordinator has none yet.
    `events` are the newest EVENTS_KEPT at most, in their order.
    """

    cycles: tuple[CycleSummary, ...] = ()
    participants: tuple[ParticipantView, ...] = ()
    proposals: tuple[ProposalView, ...] = ()
    selected: str | None = None
    progress: CycleProgress | None = None
    positions: Positions | None = None
    checks: Checks | None = None
    events: tuple[Event, ...] = ()

    @property
    def state(self) -> CycleState | None:
        """The state of the selected cycle."""
        return self.progress.cycle.state if self.progress is not None else None


def cycle_to_follow(cycles: Sequence[CycleSummary]) -> str | None:
    """Choose the cycle to show when the operator chose none: the one in motion, else the open one, else the newest."""
    for states in (IN_PROGRESS, {State.OPEN}):
        for summary in cycles:
            if summary.cycle.state in states:
                return summary.cycle.id
    return cycles[0].cycle.id if cycles else None


def pending(proposals: Iterable[ProposalView]) -> tuple[ProposalView, ...]:
    """Return the proposals that wait for a second person."""
    return tuple(proposal for proposal in proposals if proposal.status == "pending")


def decidable(proposals: Iterable[ProposalView], subject: str) -> tuple[ProposalView, ...]:
    """Return the pending proposals of others: one's own are for somebody else to decide."""
    return tuple(proposal for proposal in pending(proposals) if not same_person(proposal.made_by, subject))


def proposal_to_decide(proposals: Iterable[ProposalView], subject: str, *, cursor: str | None) -> ProposalView | None:
    """Return the proposal under the cursor, or the only one that waits for this operator."""
    waiting = decidable(proposals, subject)
    if len(waiting) == 1:
        return waiting[0]
    return next((proposal for proposal in waiting if proposal.id == cursor), None)
