"""What can be wrong with an export: the vocabulary that all steps of the verifier share."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum


class Finding(StrEnum):
    """What can be wrong with an export, by step."""

    ARCHIVE_MALFORMED = "archive_malformed"
    MANIFEST_UNSIGNED = "manifest_unsigned"
    FILE_MISSING = "file_missing"
    FILE_ADDED = "file_added"
    FILE_CHANGED = "file_changed"
    FORMAT_VIOLATION = "format_violation"
    TRUST_LIST_REFUSED = "trust_list_refused"
    CHAIN_BROKEN = "chain_broken"
    STATE_CONTRADICTED = "state_contradicted"
    TIME_REVERSED = "time_reversed"
    VALUE_DATE_DIFFERS = "value_date_differs"
    PARTICIPANTS_DIFFER = "participants_differ"
    CLOSED_EARLY = "closed_early"
    LOG_CONTRADICTED = "log_contradicted"
    SIGNATURE_REFUSED = "signature_refused"
    ATTESTATION_DIFFERS = "attestation_differs"
    WRONG_CYCLE = "wrong_cycle"
    SIGNED_TWICE = "signed_twice"
    SUBMITTED_LATE = "submitted_late"
    DOCUMENT_OUT_OF_PLACE = "document_out_of_place"
    FALSE_ACCUSATION = "false_accusation"
    PAIR_NOT_MATCHED = "pair_not_matched"
    PAIR_LEFT_OUT = "pair_left_out"
    CUT_CONTRADICTED = "cut_contradicted"
    RESULT_DIFFERS = "result_differs"
    CERTIFICATE_DIFFERS = "certificate_differs"
    INSTRUCTIONS_DIFFER = "instructions_differ"
    RECEIPT_DIFFERS = "receipt_differs"
    MAKER_IS_CHECKER = "maker_is_checker"
    DECISION_REFUSED = "decision_refused"
    APPROVAL_MISSING = "approval_missing"
    SETTLEMENT_DIFFERS = "settlement_differs"
    FINALITY_DIFFERS = "finality_differs"
    CHECKS_DIFFER = "checks_differ"
    LIMITS_DIFFER = "limits_differ"
    PROPOSAL_DIFFERS = "proposal_differs"
    PROPOSAL_EXPIRED = "proposal_expired"
    BREAK_DIFFERS = "break_differs"
    EQUIVOCATION_DIFFERS = "equivocation_differs"
    AUDIENCE_DIFFERS = "audience_differs"


class RefutedError(Exception):
    """What is claimed of a cycle doesn't hold."""

    def __init__(self, finding: Finding, detail: str) -> None:
        super().__init__(detail)
        self.finding = finding


def instant(text: str, what: str) -> datetime:
    """Read a timestamp. Raises RefutedError for one that looks like a time and is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"{what}: {text} isn't a time") from error
