"""The banks that submit to a cycle: who they are, with which keys they sign, and whether they take part."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.keys import VerifyingKey
from compliance.cycle.states import State
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import CycleTerms
from gateway.coordinator.cycles.tables import cycles
from gateway.coordinator.cycles.tables.cycles import Cycle, Roster
from gateway.federation.problems import Refusal

_Keys = Mapping[str, VerifyingKey]


@dataclass(frozen=True, kw_only=True)
class Callers:
    """A cycle, its roster if its participants are fixed already, and the keys of those who submit to it."""

    cycle: Cycle
    roster: Roster
    keys: Mapping[str, _Keys]

    @classmethod
    async def find(cls, conn: AsyncConnection, cycle_id: str, banks: Collection[str], scheme: str | None) -> Callers:
        """Load them, with their keys as a scheme knows them.

        Raises Refusal `not_a_participant` where none of the banks is active, `cycle_unknown`.
        """
        missing: Refusal | None = None
        try:
            cycle, roster = await cycles.find(conn, cycle_id), await cycles.roster(conn, cycle_id)
        except Refusal as unknown:
            missing = unknown
        # The keys last: what counts no more when a cycle comes into a state verifies nothing that it takes in there.
        keys = await cycles.signing_keys(conn, banks, scheme)
        if not keys:
            # Whether there is such a cycle isn't a stranger's to know.
            raise Refusal(CycleReason.NOT_A_PARTICIPANT, f"{', '.join(banks)} isn't an active participant")
        if missing is not None:
            raise missing
        return cls(cycle=cycle, roster=roster, keys=keys)

    @property
    def terms(self) -> CycleTerms:
        return CycleTerms(id=self.cycle.id, currencies=self.cycle.currencies, participants=self.roster.participants)

    def require(self, bank: str) -> _Keys:
        """Return the keys of an active participant of the cycle. Raises Refusal."""
        if bank not in self.keys:
            raise Refusal(CycleReason.NOT_A_PARTICIPANT, f"{bank} isn't an active participant")
        if self.cycle.state is not State.OPEN and bank not in self.roster.participants:
            detail = f"{bank} wasn't active when cycle {self.cycle.id} was cut off"
            raise Refusal(CycleReason.NOT_A_PARTICIPANT, detail)
        return self.keys[bank]


def require_state(cycle: Cycle, state: State, otherwise: CycleReason, now: datetime) -> None:
    """Refuse unless the cycle is in a state whose deadline hasn't passed."""
    if cycle.state in ((State.OPEN, State.CUT_OFF) if state is State.ATTESTING else (State.OPEN,)):
        raise Refusal(otherwise, f"cycle {cycle.id} is {cycle.state}")
    if cycle.state is not state or (cycle.deadline_at is not None and now > cycle.deadline_at):
        closed = "" if cycle.deadline_at is None else f", the deadline was {timestamp(cycle.deadline_at)}"
        raise Refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle.id} is {cycle.state}{closed}")
