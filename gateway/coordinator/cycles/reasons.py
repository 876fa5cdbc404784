"""Why the coordinator refuses something about a cycle, in order of precedence."""

from __future__ import annotations

from enum import StrEnum

from compliance.crypto.dsse import EvidenceError
from gateway.federation.http.problems import Refusal


class CycleReason(StrEnum):
    """The first reason that holds is the answer."""

    NOT_A_PARTICIPANT = "not_a_participant"
    """The caller isn't an active participant, or wasn't one at the cut-off."""
    CYCLE_UNKNOWN = "cycle_unknown"
    CYCLE_NOT_OPEN = "cycle_not_open"
    CYCLE_IN_PROGRESS = "cycle_in_progress"
    """Another cycle is between its cut-off and its end."""
    CYCLE_OPEN_ALREADY = "cycle_open_already"
    VALUE_DATE_REFUSED = "value_date_refused"
    CYCLE_NOT_CUT_OFF = "cycle_not_cut_off"
    CYCLE_NOT_ATTESTING = "cycle_not_attesting"
    DEADLINE_PASSED = "deadline_passed"
    CUT_MISSING = "cut_missing"
    """The caller delivered no cut, so it has no part in the attestation."""
    WRONG_CYCLE = "wrong_cycle"
    WRONG_RECEIVER = "wrong_receiver"
    WRONG_PAIR = "wrong_pair"
    """The statement is of a pair without the caller, or with a bank that isn't in the cycle."""
    WRONG_CURRENCY = "wrong_currency"
    PAYLOAD_MALFORMED = "payload_malformed"
    WRONG_PAYLOAD_TYPE = "wrong_payload_type"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    TOO_FEW_SIGNATURES = "too_few_signatures"
    NOT_CANONICAL = "not_canonical"
    SCHEMA_VIOLATION = "schema_violation"
    INCONSISTENT = "inconsistent"
    """A document that contradicts itself: its order, its counts or its amounts."""
    REVISION_REFUSED = "revision_refused"
    EQUIVOCATION = "equivocation"
    """Two different signed documents by one bank where there can be one; both are kept as evidence."""
    SEQUENCE_MISMATCH = "sequence_mismatch"
    """The numbers differ from the declared cut, or from what is settled."""
    RESULT_UNKNOWN = "result_unknown"
    """The cycle has no result, finality or such yet."""
    INSTRUCTION_UNKNOWN = "instruction_unknown"
    RECEIPT_MISMATCH = "receipt_mismatch"
    PROPOSAL_UNKNOWN = "proposal_unknown"
    PROPOSAL_DECIDED = "proposal_decided"
    PROPOSAL_EXPIRED = "proposal_expired"
    MAKER_IS_CHECKER = "maker_is_checker"
    PROPOSAL_STALE = "proposal_stale"
    """What the proposal is about changed since it was made."""
    ACTION_IMPOSSIBLE = "action_impossible"
    """The cycle's state doesn't allow the action."""
    PARTICIPANTS_REFUSED = "participants_refused"
    """An unwinding names participants of the result who can't pay; nothing else names any."""


_STATUS = {
    CycleReason.NOT_A_PARTICIPANT: 403,
    CycleReason.MAKER_IS_CHECKER: 403,
    CycleReason.CYCLE_UNKNOWN: 404,
    CycleReason.RESULT_UNKNOWN: 404,
    CycleReason.INSTRUCTION_UNKNOWN: 404,
    CycleReason.PROPOSAL_UNKNOWN: 404,
    CycleReason.VALUE_DATE_REFUSED: 422,
    CycleReason.WRONG_CYCLE: 422,
    CycleReason.WRONG_RECEIVER: 422,
    CycleReason.WRONG_PAIR: 422,
    CycleReason.WRONG_CURRENCY: 422,
    CycleReason.PAYLOAD_MALFORMED: 422,
    CycleReason.WRONG_PAYLOAD_TYPE: 422,
    CycleReason.UNKNOWN_KEY: 422,
    CycleReason.BAD_SIGNATURE: 422,
    CycleReason.TOO_FEW_SIGNATURES: 422,
    CycleReason.NOT_CANONICAL: 422,
    CycleReason.SCHEMA_VIOLATION: 422,
    CycleReason.INCONSISTENT: 422,
    CycleReason.SEQUENCE_MISMATCH: 422,
    CycleReason.RECEIPT_MISMATCH: 422,
    CycleReason.PARTICIPANTS_REFUSED: 422,
}


def refusal(reason: CycleReason, detail: str, *, pointer: str | None = None) -> Refusal:
    """Return the refusal with the status of its reason; 409 where the state of things is in the way."""
    return Refusal(reason, detail, status=_STATUS.get(reason, 409), pointer=pointer)


def evidence_refusal(error: EvidenceError, *, pointer: str | None = None) -> Refusal:
    """Return the refusal of a document that doesn't verify."""
    return refusal(CycleReason(error.reason), str(error), pointer=pointer)
