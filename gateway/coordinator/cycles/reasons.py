"""Why the coordinator refuses something about a cycle, in order of precedence."""

from __future__ import annotations

from compliance.crypto.dsse import EvidenceError
from gateway.federation.problems import Refusal, RefusalReason


class CycleReason(RefusalReason):
    """The first reason that holds is the answer; 409 where the state of things is in the way."""

    NOT_A_PARTICIPANT = "not_a_participant", 403
    """The caller isn't an active participant, or wasn't one at the cut-off."""
    CYCLE_UNKNOWN = "cycle_unknown", 404
    RELEASE_TOO_OLD = "release_too_old", 410
    """The request is in a form that releases before had; the detail names the first release that does otherwise."""
    CYCLE_NOT_OPEN = "cycle_not_open", 409
    CYCLE_IN_PROGRESS = "cycle_in_progress", 409
    """Another cycle is between its cut-off and its end."""
    CYCLE_OPEN_ALREADY = "cycle_open_already", 409
    VALUE_DATE_REFUSED = "value_date_refused", 422
    CYCLE_NOT_CUT_OFF = "cycle_not_cut_off", 409
    CYCLE_NOT_ATTESTING = "cycle_not_attesting", 409
    DEADLINE_PASSED = "deadline_passed", 409
    CUT_MISSING = "cut_missing", 409
    """The caller delivered no cut, so it has no part in the attestation."""
    WRONG_CYCLE = "wrong_cycle", 422
    WRONG_RECEIVER = "wrong_receiver", 422
    WRONG_PAIR = "wrong_pair", 422
    """The statement is of a pair without the caller, or with a bank that isn't in the cycle."""
    WRONG_CURRENCY = "wrong_currency", 422
    TOO_MANY_SIGNATURES = "too_many_signatures", 422
    """A member's document carries exactly one signature."""
    PAYLOAD_MALFORMED = "payload_malformed", 422
    WRONG_PAYLOAD_TYPE = "wrong_payload_type", 422
    WRONG_SCHEME = "wrong_scheme", 422
    UNKNOWN_KEY = "unknown_key", 422
    BAD_SIGNATURE = "bad_signature", 422
    TOO_FEW_SIGNATURES = "too_few_signatures", 422
    NOT_CANONICAL = "not_canonical", 422
    SCHEMA_VIOLATION = "schema_violation", 422
    NOT_ATTESTED = "not_attested", 422
    """The root or the number that is signed isn't of the statements beside it."""
    INCONSISTENT = "inconsistent", 422
    """A document that contradicts itself: its order, its counts or its amounts."""
    REVISION_REFUSED = "revision_refused", 409
    EQUIVOCATION = "equivocation", 409
    """Two different signed documents by one bank where there can be one; both are kept as evidence."""
    SEQUENCE_MISMATCH = "sequence_mismatch", 422
    """The numbers differ from the declared cut, or from what is settled."""
    TOO_FEW_NEW = "too_few_new", 422
    """A further attestation with few new statements among many that are refused: hand it in without those."""
    TOO_MANY_SCREENINGS = "too_many_screenings", 409
    """The caller has handed in as many different screening statements as one cycle takes; the last of them counts."""
    RESULT_UNKNOWN = "result_unknown", 404
    """The cycle has no result, finality or such yet."""
    ATTESTATION_OPEN = "attestation_open", 409
    """What both banks of a pair signed is shown once the attestation is closed; the detail says by when that is."""
    POSITION_UNKNOWN = "position_unknown", 404
    """Its banks attested different things or none, or the caller is neither of them."""
    INSTRUCTION_UNKNOWN = "instruction_unknown", 404
    RECEIPT_MISMATCH = "receipt_mismatch", 422
    PROPOSAL_UNKNOWN = "proposal_unknown", 404
    DECISION_UNSIGNED = "decision_unsigned", 422
    """An operator's decision is a signature by the operator's own key; none came with it, or none with its proposal."""
    DECISION_REFUSED = "decision_refused", 422
    """The signed decision isn't the caller's, or isn't over this very act and proposal."""
    DECISION_TOO_OLD = "decision_too_old", 409
    """It was signed more than ten minutes ago, or in the future."""
    DECISION_KNOWN = "decision_known", 409
    """It has proposed something before: one signature decides once."""
    NOT_THE_MAKER = "not_the_maker", 403
    """Whoever made a proposal takes it back."""
    PROPOSAL_DECIDED = "proposal_decided", 409
    PROPOSAL_EXPIRED = "proposal_expired", 409
    MAKER_IS_CHECKER = "maker_is_checker", 403
    PROPOSAL_STALE = "proposal_stale", 409
    """What the proposal is about changed since it was made."""
    ACTION_IMPOSSIBLE = "action_impossible", 409
    """The cycle's state doesn't allow the action."""
    PARTICIPANTS_REFUSED = "participants_refused", 422
    """An unwinding names participants of the result who can't pay; nothing else names any."""


def evidence_refusal(error: EvidenceError, *, pointer: str | None = None) -> Refusal:
    """Return the refusal of a document that doesn't verify."""
    return Refusal(CycleReason[error.reason.name], str(error), pointer=pointer)
