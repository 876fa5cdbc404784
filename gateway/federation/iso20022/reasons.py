"""Why a message is refused: stable codes in their order of precedence."""

from __future__ import annotations

from gateway.federation.http.problems import Refusal, RefusalReason


class MessageReason(RefusalReason):
    """What is wrong with a message. The first that applies is given."""

    MESSAGE_TOO_LARGE = "message_too_large", 413
    DOCTYPE_REFUSED = "doctype_refused", 422
    XML_MALFORMED = "xml_malformed", 422
    NAMESPACE_UNKNOWN = "namespace_unknown", 422
    ELEMENT_UNEXPECTED = "element_unexpected", 422
    ELEMENT_MISSING = "element_missing", 422
    ATTRIBUTE_UNEXPECTED = "attribute_unexpected", 422
    VALUE_MALFORMED = "value_malformed", 422
    SCHEMA_INVALID = "schema_invalid", 422
    HEADER_MISMATCH = "header_mismatch", 422
    CURRENCY_UNKNOWN = "currency_unknown", 422
    AMOUNT_MALFORMED = "amount_malformed", 422
    CURRENCY_DECIMALS_WRONG = "currency_decimals_wrong", 422
    DUPLICATE_MOVEMENT = "duplicate_movement", 422
    MOVEMENT_COUNT_WRONG = "movement_count_wrong", 422
    CONTROL_SUM_WRONG = "control_sum_wrong", 422
    DEBITS_CREDITS_DIFFER = "debits_credits_differ", 422


class MessageRefused(Refusal):
    """A message that cannot be taken as what it claims to be. `pointer` is the path of the element at fault."""

    def __init__(self, reason: MessageReason, detail: str, *, pointer: str | None = None) -> None:
        super().__init__(reason, detail, pointer=pointer)
