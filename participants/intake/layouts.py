"""The layouts of payment files: their columns, and which one a header is of.

A header is found by its names whatever their case and the spaces, hyphens and underscores in them, and by what stands
between them. A column that isn't known refuses the file: what it says might matter, as the date to pay on does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from participants.payments.row_identity import REFERENCES
from participants.text_files.columns import SEPARATORS, column_key, columns_of


@dataclass(frozen=True, slots=True)
class Format:
    """A file layout: where each of our members is found.

    `optional` members may be missing; `ignored` columns may be there and say nothing of the payment. With
    `names_banks` a bank needn't be named by its BIC.
    """

    name: str
    columns: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    names_banks: bool = False

    @property
    def required(self) -> set[str]:
        return {column for member, column in self.columns.items() if member not in self.optional}


REPORT_COLUMNS = ("line", "reason", "detail")
"""What a report of refused rows says beside them; read again, they are passed over."""
_MEMBERS = (
    "id",
    "debtor_bank",
    "debtor_account",
    "debtor_name",
    "creditor_bank",
    "creditor_account",
    "creditor_name",
    "amount",
    "currency",
    "remittance",
    *REFERENCES,
    "identity",
)
CONCORDAT = Format(
    "concordat",
    {name: name for name in _MEMBERS},
    optional=frozenset({"id", "remittance", *REFERENCES, "identity"}),
    ignored=frozenset(REPORT_COLUMNS),
)
JSON_LINES = Format("jsonl", CONCORDAT.columns, CONCORDAT.optional)
LABELLED = Format(
    "labelled",
    {
        "step": "step",
        "debtor_account": "nameOrig",
        "creditor_account": "nameDest",
        "debtor_bank": "bankOrig",
        "creditor_bank": "bankDest",
        "amount": "amount",
    },
    ignored=frozenset({"isSAR", "patternID", "typology"}),
    names_banks=True,
)
AMLSIM = Format(
    "amlsim",
    {"debtor_account": "sourceNodeId", "creditor_account": "targetNodeId", "amount": "value", "step": "time"},
)
CSV_FORMATS = (CONCORDAT, LABELLED, AMLSIM)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a CSV file: its layout, what stands between its columns, and where each member is."""

    layout: Format
    separator: str
    places: Mapping[str, int]
    columns: int


class HeaderError(ValueError):
    """A line that is the header of no known layout; the message says what is wrong with it."""


def find_header(text: str) -> Header | None:
    """Return the header that a line is; None if it is none. Raises HeaderError for one with wrong columns."""
    for separator in SEPARATORS:
        columns = columns_of(text, separator)
        keys = [column_key(column) for column in columns]
        for layout in CSV_FORMATS:
            if _keys(layout.required) <= set(keys):
                return _checked(layout, separator, columns, keys)
    return None


def nearest(text: str) -> str:
    """Tell which known layout a line comes nearest to as a header, and what it lacks."""
    best, lacking = CONCORDAT, sorted(CONCORDAT.required)
    for separator in SEPARATORS:
        keys = {column_key(column) for column in columns_of(text, separator)}
        for layout in CSV_FORMATS:
            missing = sorted(column for column in layout.required if column_key(column) not in keys)
            if len(layout.required) - len(missing) > len(best.required) - len(lacking):
                best, lacking = layout, missing
    if len(lacking) == len(best.required):
        layouts = (f"{layout.name} ({', '.join(layout.columns.values())})" for layout in CSV_FORMATS)
        return f"known are {'; '.join(layouts)}"
    return f"nearest is {best.name}, which also needs {', '.join(lacking)}"


def _checked(layout: Format, separator: str, columns: Sequence[str], keys: Sequence[str]) -> Header:
    twice = sorted({column for column, key in zip(columns, keys, strict=True) if keys.count(key) > 1})
    if twice:
        raise HeaderError(f"a column stands there twice: {', '.join(twice)}")
    known = _keys((*layout.columns.values(), *layout.ignored))
    unknown = [column or "(without a name)" for column, key in zip(columns, keys, strict=True) if key not in known]
    if unknown:
        raise HeaderError(
            f"unknown columns: {', '.join(column[:40] for column in unknown[:10])};"
            f" {layout.name} has {', '.join(layout.columns.values())}"
        )
    places = {
        member: keys.index(column_key(column))
        for member, column in layout.columns.items()
        if column_key(column) in keys
    }
    return Header(layout, separator, places, len(columns))


def _keys(columns: Iterable[str]) -> set[str]:
    return {column_key(column) for column in columns}
