"""Why a file can't be compared: a reason, and the place in the file."""

from __future__ import annotations

from enum import StrEnum


class TableReason(StrEnum):
    """Why a file can't be compared with another, in the order in which it is looked at."""

    UNREADABLE = "file_unreadable"
    CONTAINER_UNKNOWN = "container_unknown"
    TRUNCATED = "file_truncated"
    DAMAGED = "file_damaged"
    TOO_LARGE = "file_too_large"
    EMPTY = "file_empty"
    ENCODING = "encoding_wrong"
    RULES = "rules_wrong"
    """The rules aren't TOML, or say what isn't known."""
    MESSAGE = "message_unknown"
    """It is XML of a message that has no payments or entries that this program reads."""
    MALFORMED = "message_malformed"
    """A message that isn't of its form."""
    PREAMBLE = "header_not_first"
    COLUMNS = "columns_wrong"
    """The header lacks a column, or has one twice."""
    QUOTING = "quoting_wrong"
    ROW = "row_malformed"
    """A row has more or fewer fields than the header, or is too long."""
    CURRENCY = "currency_unknown"
    DECIMAL_MARK = "decimal_mark_unclear"
    AMOUNT = "amount_malformed"
    DECIMALS = "too_many_decimals"
    AMOUNT_LARGE = "amount_too_large"
    """More than 18 digits of minor units."""
    DATE = "date_invalid"
    OUTPUT = "output_unwritable"


class TableRefused(ValueError):  # noqa: N818 - refusals are named as such throughout
    """A file that can't be compared: `reason`, and the line and column where it shows."""

    def __init__(
        self, reason: StrEnum, file: str, *, line: int | None = None, column: str = "", detail: str = ""
    ) -> None:
        place = "" if line is None else f"line {line}"
        super().__init__(": ".join(part for part in (reason.value, file, place, column, detail) if part))
        self.reason = reason
        self.line = line
        self.column = column
