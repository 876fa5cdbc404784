"""Why a message is refused: stable codes in their order of precedence."""

from __future__ import annotations

from enum import StrEnum

from gateway.federation.http.problems import Refusal


class MessageReason(StrEnum):
    """What is wrong with a message. The first that applies is given."""

    MESSAGE_TOO_LARGE = "message_too_large"
    DOCTYPE_REFUSED = "doctype_refused"
    XML_MALFORMED = "xml_malformed"
    NAMESPACE_UNKNOWN = "namespace_unknown"
    ELEMENT_UNEXPECTED = "element_unexpected"
    ELEMENT_MISSING = "element_missing"
    ATTRIBUTE_UNEXPECTED = "attribute_unexpected"
    VALUE_MALFORMED = "value_malformed"
    SCHEMA_INVALID = "schema_invalid"
    HEADER_MISMATCH = "header_mismatch"
    CURRENCY_UNKNOWN = "currency_unknown"
    AMOUNT_MALFORMED = "amount_malformed"
    CURRENCY_DECIMALS_WRONG = "currency_decimals_wrong"
    DUPLICATE_MOVEMENT = "duplicate_movement"
    MOVEMENT_COUNT_WRONG = "movement_count_wrong"
    CONTROL_SUM_WRONG = "control_sum_wrong"
    DEBITS_CREDITS_DIFFER = "debits_credits_differ"


_STATUS = {MessageReason.MESSAGE_TOO_LARGE: 413}
"""422 for all others: the message was read, and isn't what it claims to be."""


class MessageRefused(Refusal):
    """A message that cannot be taken as what it claims to be. `pointer` is the path of the element at fault."""

    def __init__(self, reason: MessageReason, detail: str, *, pointer: str | None = None) -> None:
        super().__init__(reason, detail, status=_STATUS.get(reason, 422), pointer=pointer)
