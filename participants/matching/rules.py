"""The rules of matching, as data: what columns are called, what is material, and the passes in their order."""

from __future__ import annotations

import functools
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.federation.money import AmountError, parse_amount
from participants.matching.refusals import TableReason, TableRefused
from participants.matching.table import DIGITS_MAX

Days = Annotated[int, Meta(ge=0, le=366)]
Names = str | tuple[str, ...]
Units = dict[str, str]
"""Amounts by currency, as decimal text in units: `{EUR = "0.05", JPY = "5"}`."""


class Spelling(StrEnum):
    """How a reference is compared."""

    EXACT = "exact"
    """As it is written, without spaces around it."""
    NORMAL = "normal"
    """In NFC, without spaces, in capitals and without zeros before it."""


class References(StrEnum):
    """Whether two rows may belong together although references speak against it."""

    NOT_BOTH = "not_both"
    """Only if at most one of them has a reference."""
    ANY = "any"
    """Whatever references they have: each side has its own."""


class Pass(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="by"):
    """What all passes have: a name to be told by, which is its kind if it has none."""

    name: str = ""

    @property
    def label(self) -> str:
        return self.name or str(self.__struct_config__.tag)


class ByReference(Pass, frozen=True, kw_only=True, tag="reference"):
    """One row to one with the same reference. What differs then is a break; value dates may be `days` apart."""

    spelling: Spelling = Spelling.EXACT
    days: Days = 0

    @property
    def label(self) -> str:
        return self.name or ("reference" if self.spelling is Spelling.EXACT else "reference, spelled otherwise")


class BySum(Pass, frozen=True, kw_only=True, tag="sum"):
    """Some rows to some with the same reference and sum. Of one row to at most `rows_max` a difference is a break."""

    spelling: Spelling = Spelling.EXACT
    days: Days = 2
    rows_max: Annotated[int, Meta(ge=2, le=1000)] = 30

    @property
    def label(self) -> str:
        return self.name or ("sum" if self.spelling is Spelling.EXACT else "sum, spelled otherwise")


class ByAnyReference(Pass, frozen=True, kw_only=True, tag="any_reference"):
    """One row to one that has any reference in common with it and no other row."""

    days: Days = 2


class ByAmount(Pass, frozen=True, kw_only=True, tag="amount"):
    """One row to one of a like amount at a like date, each the other's nearest."""

    days: Days = 2
    within: Units = {}
    references: References = References.NOT_BOTH


class ByParts(Pass, frozen=True, kw_only=True, tag="parts"):
    """Few rows to few of the same sum, if no other few have it and chance doesn't explain it."""

    days: Days = 0
    rows_max: Annotated[int, Meta(ge=3, le=8)] = 6
    candidates_max: Annotated[int, Meta(ge=3, le=30)] = 30
    chance_max: Annotated[float, Meta(ge=0, le=1)] = 0.001
    references: References = References.NOT_BOTH


class ByText(Pass, frozen=True, kw_only=True, tag="text"):
    """One row to one of the same amount whose text is like it, or has its reference in it."""

    days: Days = 5
    similarity: Annotated[float, Meta(ge=50, le=100)] = 85
    references: References = References.NOT_BOTH


class Columns(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the columns are called: of several names the first that a file has. A name "" says that there is none."""

    reference: Names = "reference"
    amount: Names = "amount"
    currency: Names = "currency"
    value_date: Names = "value_date"
    text: Names = ("text", "remittance")
    account: Names = "account"
    cycle: Names = "cycle"
    status: Names = "status"


class Side(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one of the files is read: its columns where they are called otherwise, and what all its rows have in common.

    `negated` turns the sign of all amounts, where one side's debit is the other's credit.
    """

    columns: dict[str, Names] = {}
    currency: str = ""
    date_format: Literal["YYYY-MM-DD", "YYYYMMDD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY"] = "YYYY-MM-DD"
    negated: bool = False


class Rules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All rules of a run."""

    columns: Columns = Columns()
    a: Side = Side()
    b: Side = Side()
    materiality: Units = {}
    passes: Annotated[
        tuple[ByReference | BySum | ByAnyReference | ByAmount | ByParts | ByText, ...], Meta(max_length=32)
    ] = ()

    def columns_of(self, side: Side) -> dict[str, tuple[str, ...]]:
        """Return what each member's column may be called in the file of a side."""
        names: dict[str, Names] = {**msgspec.structs.asdict(self.columns), **side.columns}
        return {member: (name,) if isinstance(name, str) else name for member, name in names.items()}


@functools.cache
def default_rules() -> Rules:
    """Return the rules that come with the program."""
    return msgspec.toml.decode((Path(__file__).parent / "rules.toml").read_bytes(), type=Rules)


def load_rules(path: Path | None) -> Rules:
    """Read rules; what a file doesn't say is as in those of the program. Raises TableRefused."""
    if path is None:
        return default_rules()
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
        rules = msgspec.convert(document, Rules)
    except OSError as error:
        raise TableRefused(TableReason.UNREADABLE, str(path), detail=error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise TableRefused(TableReason.RULES, str(path), detail=str(error)) from error
    _check(rules, str(path))
    if "passes" not in document:
        rules = msgspec.structs.replace(rules, passes=default_rules().passes)
    return rules


def minor_units(units: Units) -> dict[str, int]:
    """Return amounts by currency in minor units. Raises AmountError."""
    return {currency: parse_amount(text, currency) for currency, text in units.items()}


def _check(rules: Rules, path: str) -> None:
    for units in (rules.materiality, *(step.within for step in rules.passes if isinstance(step, ByAmount))):
        try:
            if any(minor >= 10**DIGITS_MAX for minor in minor_units(units).values()):
                raise TableRefused(TableReason.RULES, path, detail=f"an amount of more than {DIGITS_MAX} digits")
        except AmountError as error:
            raise TableRefused(TableReason.RULES, path, detail=str(error)) from error
    for side in (rules.a, rules.b):
        unknown = sorted(side.columns.keys() - {field.name for field in msgspec.structs.fields(Columns)})
        if unknown:
            raise TableRefused(TableReason.RULES, path, detail=f"no such member of a row: {', '.join(unknown)}")
