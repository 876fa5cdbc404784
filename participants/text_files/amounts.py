"""Amounts as people write them in files: which mark a file has before its decimals, and an amount in plain form.

One mark must serve the whole file. `1.234,56` and `12,5` say by themselves which it is; `1.234` doesn't, for it may be
a thousand and more or three decimals, and is read only if the others say what it is.
"""

from __future__ import annotations

import re

MARKS = {".": "point", ",": "comma"}
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_PLAIN = {mark: re.compile(rf"[0-9]+(?:\{mark}[0-9]+)?") for mark in MARKS}
# In groups of three, with decimals or with two group marks at least, so that it can't be meant otherwise.
_GROUPED = {
    mark: re.compile(rf"[0-9]{{1,3}}(?:(?:\{group}[0-9]{{3}})+\{mark}[0-9]+|(?:\{group}[0-9]{{3}}){{2,}})")
    for mark, group in ((".", ","), (",", "."))
}


class AmbiguousAmountError(ValueError):
    """An amount of which nobody can say whether its mark stands before thousands or before decimals."""


def certain_mark(text: str) -> str | None:
    """Return the decimal mark that an amount shows by itself; None if it shows none."""
    if _AMBIGUOUS.fullmatch(text):
        return None
    for mark in MARKS:
        if _GROUPED[mark].fullmatch(text) or (mark in text and _PLAIN[mark].fullmatch(text)):
            return mark
    return None


def plain_amount(text: str, mark: str) -> str:
    """Return an amount without groups and with a decimal point. What is no amount is returned as it is.

    `mark` is the file's decimal mark, "" if the file doesn't show any. Raises AmbiguousAmountError.
    """
    if _AMBIGUOUS.fullmatch(text) and (not mark or mark not in text):
        raise AmbiguousAmountError(f"{text} may have thousands or three decimals")
    for known, group in ((".", ","), (",", ".")):
        if mark in ("", known) and _GROUPED[known].fullmatch(text):
            return text.replace(group, "").replace(known, ".")
        if mark in ("", known) and _PLAIN[known].fullmatch(text):
            return text.replace(known, ".")
    return text
