"""Why a file of statements is refused: stable codes in their order of precedence."""

from __future__ import annotations

from enum import StrEnum

from participants.statements.statement import Place


class StatementFileReason(StrEnum):
    """What is wrong with a file of statements. The first that applies is given."""

    FILE_UNREADABLE = "file_unreadable"
    """It can't be opened."""
    FILE_TOO_LARGE = "file_too_large"
    """It has more bytes, lines or entries than a statement may have."""
    FILE_EMPTY = "file_empty"
    ENCODING_WRONG = "encoding_wrong"
    """It isn't text in an encoding that its format may have."""
    DOCTYPE_REFUSED = "doctype_refused"
    XML_MALFORMED = "xml_malformed"
    NOT_A_STATEMENT = "not_a_statement"
    """It is something else, such as a payment message, or nothing that is known."""
    FORMAT_UNKNOWN = "format_unknown"
    """It is a statement in a version, or columns in a layout, that isn't known."""
    FILE_TRUNCATED = "file_truncated"
    """It ends before it is complete."""
    HEADER_DIFFERS = "header_differs"
    """The header around the statement says that it is another message."""
    STRUCTURE_WRONG = "structure_wrong"
    """Something stands where it must not stand, or stands there twice."""
    FIELD_MISSING = "field_missing"
    FIELD_MALFORMED = "field_malformed"
    DATE_INVALID = "date_invalid"
    CURRENCY_UNKNOWN = "currency_unknown"
    CURRENCY_DIFFERS = "currency_differs"
    """Balances, or a balance and an entry, are in different currencies."""
    AMOUNT_MALFORMED = "amount_malformed"
    AMOUNT_TOO_LARGE = "amount_too_large"
    CURRENCY_DECIMALS_WRONG = "currency_decimals_wrong"
    """An amount has more decimals than its currency."""
    COUNT_WRONG = "count_wrong"
    """A number of records or entries that the file states isn't what is there."""
    CONTROL_TOTAL_WRONG = "control_total_wrong"
    BALANCE_WRONG = "balance_wrong"
    """Opening balance and booked entries don't add up to the closing balance."""
    STATEMENT_DUPLICATE = "statement_duplicate"
    """The same statement, or the same page of it, stands in the file twice."""
    SEQUENCE_GAP = "sequence_gap"
    """A page, a number or a day is missing between two statements of an account, or they stand in another order."""
    BALANCES_APART = "balances_apart"
    """A statement doesn't open with what the one before it closed with."""


class StatementRefused(ValueError):  # noqa: N818 - refusals are named as such throughout
    """A file that isn't read, and where it is wrong. No statement of it is to be used."""

    def __init__(self, reason: StatementFileReason, detail: str, place: Place) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.place = place
