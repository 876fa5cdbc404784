"""Why a step of a cycle fails, when it is tried again, and from when on the cycle is stuck. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from compliance.cycle.result import InconsistentInputError
from gateway.federation.iso20022 import MessageRefused
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import failure_of, sqlstate
from netting.model import ObligationRefusedError
from netting.queue import QueueRefusedError

STUCK_FROM = 2
"""So many failures in a row of one step make a cycle stuck: one may be chance."""

RETRY_SECONDS_MAX = 60
DETAIL_MAX = 300

_QUERY_CANCELED = "57014"


class FailureReason(StrEnum):
    """Why a cycle's next step fails, as operators see it, in order of precedence."""

    AGENT_INACTIVE = "agent_inactive"
    """No settlement agent is active, or the one that the banks were instructed with isn't."""
    AGENT_UNREACHABLE = "agent_unreachable"
    AGENT_UNDECIDED = "agent_undecided"
    """The agent answers, but doesn't say whether it settled."""
    AGENT_ANSWER_UNSIGNED = "agent_answer_unsigned"
    """An answer came that no active `sign` key of the agent signed: it isn't believed, and the agent is asked again."""
    MESSAGE_REFUSED = "message_refused"
    """What the cycle comes to can't be written as a settlement message."""
    INPUTS_REFUSED = "inputs_refused"
    """What is stored of the cycle contradicts itself."""
    TOO_SLOW = "too_slow"
    """A query took longer than a query may."""
    STEP_FAILED = "step_failed"
    """Nobody foresaw it; the detail names the error."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a step failed of: a reason for members, a detail for operators."""

    reason: FailureReason
    detail: str


def step_failure(error: Exception) -> Failure | None:
    """Judge an error that a step ended in; None for the trouble of a database or network, which passes by itself."""
    state = sqlstate(error)
    match error:
        case _ if state == _QUERY_CANCELED:
            return Failure(FailureReason.TOO_SLOW, "a query was cancelled")
        case _ if failure_of(error) is not None:
            return None
        case _ if state is not None:
            return Failure(FailureReason.STEP_FAILED, f"the database refuses it: SQLSTATE {state}")
        case OSError():
            return None
        case Refusal() if error.status >= 500:
            return None
        case MessageRefused():
            return Failure(FailureReason.MESSAGE_REFUSED, f"{error.reason}: {error}"[:DETAIL_MAX])
        case InconsistentInputError() | ObligationRefusedError() | QueueRefusedError():
            return Failure(FailureReason.INPUTS_REFUSED, str(error)[:DETAIL_MAX])
    return Failure(FailureReason.STEP_FAILED, f"{type(error).__name__}: {error}"[:DETAIL_MAX])


def retry_after_s(failures: int) -> int:
    """Return how long to wait after so many failures of one step: not at all after the first."""
    return 0 if failures < STUCK_FROM else min(2 ** (failures - 1), RETRY_SECONDS_MAX)
