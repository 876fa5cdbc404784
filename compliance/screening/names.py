"""The form in which two names are compared.

A name is folded in this order:

1. Unicode NFKC: full-width, ligature and presentation forms become their plain letters.
2. Case folding, so that "Straße" and "STRASSE" agree.
3. Transliteration to ASCII by the tables of anyascii, in lower case: "Жуков" is "zhukov".
4. Apostrophes go ("Sa'id", "N’Krumah"), every other character that isn't a letter or digit becomes a space.
5. Tokens, a run of single letters joined to one ("S.A.", "S. A." and "SA" agree), sorted.

Sorting makes "PUTIN, Vladimir" and "Vladimir Putin" one name. Titles, company forms and particles stay: dropping
them finds more and alarms more, and which to drop is a bank's policy, not this module's.
"""

from __future__ import annotations

import re
import unicodedata

from anyascii import anyascii

RULES_VERSION = "names-2"
"""Grows with any change to what `normalise` or `is_turned` returns; part of a matcher's version."""

# NFKC would tear the spacing accent into a space and a combining mark, and so "O´Brien" into two words.
_APOSTROPHES = str.maketrans({"´": "'", "΄": "'", "῾": "'", "᾿": "'"})
_DROPPED = str.maketrans("", "", "'`")
# Unicode's Bidi_Control.
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOT_WORD = re.compile(r"[^a-z0-9]+")


def fold(name: str) -> str:
    """Return lower-case ASCII tokens in their order, separated by single spaces; "" if no letter or digit is left."""
    text = name
    if not name.isascii():
        text = "".join(
            _without_format_characters(unicodedata.normalize("NFKC", name.translate(_APOSTROPHES)).casefold())
        )
        text = anyascii(text)
    return _NOT_WORD.sub(" ", text.lower().translate(_DROPPED)).strip()


def normalise(name: str) -> str:
    """Return the sorted tokens of a name, separated by single spaces; "" if no letter or digit is left."""
    tokens = fold(name).split()
    if any(len(token) == 1 for token in tokens):
        tokens = _join_initials(tokens)
    tokens.sort()
    return " ".join(tokens)


def is_turned(name: str) -> bool:
    """Tell whether a name holds characters of direction: people may see its letters in another order."""
    return not name.isascii() and _DIRECTION.search(name) is not None


def _without_format_characters(text: str) -> list[str]:
    """Drop invisible characters (category Cf, such as a zero-width space): they would split or disguise a word."""
    return [c for c in text if unicodedata.category(c) != "Cf"]


def _join_initials(tokens: list[str]) -> list[str]:
    joined: list[str] = []
    run = ""
    for token in tokens:
        if len(token) == 1 and token.isalpha():
            run += token
            continue
        if run:
            joined.append(run)
            run = ""
        joined.append(token)
    if run:
        joined.append(run)
    return joined
