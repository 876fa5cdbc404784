"""Why a file of statements is refused: stable codes in their order of precedence."""

from __future__ import annotations

from gateway.federation.problems import Refusal, RefusalReason
from participants.statements.statement import Place


class StatementFileReason(RefusalReason):
    """What is wrong with a file of statements. The first that applies is given."""

    FILE_UNREADABLE = "file_unreadable", 422
    """It can't be opened."""
    FILE_TOO_LARGE = "file_too_large", 413
    """It has more bytes, lines or entries than a statement may have."""
    FILE_EMPTY = "file_empty", 422
    ENCODING_WRONG = "encoding_wrong", 422
    """It isn't text in an encoding that its format may have."""
    DOCTYPE_REFUSED = "doctype_refused", 422
    XML_MALFORMED = "xml_malformed", 422
    NOT_A_STATEMENT = "not_a_statement", 422
    """It is something else, such as a payment message, or nothing that is known."""
    FORMAT_UNKNOWN = "format_unknown", 422
    """It is a statement in a version, or columns in a layout, that isn't known."""
    FILE_TRUNCATED = "file_truncated", 422
    """It ends before it is complete."""
    HEADER_DIFFERS = "header_differs", 422
    """The header around the statement says that it is another message."""
    STRUCTURE_WRONG = "structure_wrong", 422
    """Something stands where it must not stand, or stands there twice."""
    FIELD_MISSING = "field_missing", 422
    FIELD_MALFORMED = "field_malformed", 422
    DATE_INVALID = "date_invalid", 422
    CURRENCY_UNKNOWN = "currency_unknown", 422
    CURRENCY_DIFFERS = "currency_differs", 422
    """Balances, or a balance and an entry, are in different currencies."""
    AMOUNT_MALFORMED = "amount_malformed", 422
    AMOUNT_TOO_LARGE = "amount_too_large", 422
    CURRENCY_DECIMALS_WRONG = "currency_decimals_wrong", 422
    """An amount has more decimals than its currency."""
    COUNT_WRONG = "count_wrong", 422
    """A number of records or entries that the file states isn't what is there."""
    CONTROL_TOTAL_WRONG = "control_total_wrong", 422
    BALANCE_WRONG = "balance_wrong", 422
    """Opening balance and booked entries don't add up to the closing balance."""
    STATEMENT_DUPLICATE = "statement_duplicate", 422
    """The same statement, or the same page of it, stands in the file twice."""
    SEQUENCE_GAP = "sequence_gap", 422
    """A page, a number or a day is missing between two statements of an account, or they stand in another order."""
    BALANCES_APART = "balances_apart", 422
    """A statement doesn't open with what the one before it closed with."""


class StatementRefused(Refusal):
    """A file that isn't read, and where it is wrong. No statement of it is to be used."""

    reason: StatementFileReason

    def __init__(self, reason: StatementFileReason, detail: str, place: Place) -> None:
        super().__init__(reason, detail, pointer=place.field or None)
        self.reason = reason
        self.place = place
