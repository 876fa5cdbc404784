"""The one rule for text from people: names of parties, remittance, reasons, names of accounts.

It is written in NFC, so that what looks the same is the same; nothing in it steers a terminal or ends a line, turns the
direction of writing, or can't be seen; and where something must be said, something can be seen of it. New text is
judged where it comes in. What was signed or journalled before is read as it is.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from compliance.statements import whole

# Written as escapes, for they can't be seen: Unicode's general categories Cc, Cf, Co, Zl and Zp, and what is
# Default_Ignorable_Code_Point; and the Braille blank.
_FORBIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_SPACES = " \xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
SPACES = " \xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u202f\u205f\u3000"
"""The same, each by itself: Unicode's general category Zs."""
# Halves of pairs can't come in by JSON, and no pattern of a document could hold them; a file may hold them.
_HALVES = "\ud800-\udfff"
_ANYTHING_FORBIDDEN = re.compile(f"[{_FORBIDDEN}{_HALVES}]")

SEEN = "not blank, and none a control, a line break, unseen, or turning the direction of writing"
"""The rule in words, of a text that must say something."""
TEXT_PATTERN = whole(f"[^{_FORBIDDEN}]*")
"""What may be empty."""
STATED_PATTERN = whole(f"[{_SPACES}]*[^{_FORBIDDEN}{_SPACES}][^{_FORBIDDEN}]*")
"""What must say something."""


class TextFault(StrEnum):
    """Why a text isn't taken, in order of precedence."""

    UNSEEN = "text_unseen"
    """It holds a control character, a line break, a character of direction or one that can't be seen."""
    BLANK = "text_blank"
    """It is empty or of spaces alone, where something must be said."""
    LONG = "text_long"
    """It has more characters than there is room for."""


_SAID = {
    TextFault.UNSEEN: "no control characters or line breaks, nothing that turns the direction of writing or is unseen",
    TextFault.BLANK: "it says nothing",
    TextFault.LONG: "it is too long",
}


class TextError(ValueError):
    """A text that isn't taken."""

    def __init__(self, fault: TextFault, what: str) -> None:
        super().__init__(f"{what}: {_SAID[fault]}")
        self.fault = fault


def text_fault(text: str, *, stated: bool = True) -> TextFault | None:
    """Return why a text isn't taken, or None. It may be blank only where nothing has to be `stated`."""
    # Nearly all text is printable ASCII, which has none of them.
    if not (text.isascii() and text.isprintable()) and _ANYTHING_FORBIDDEN.search(text):
        return TextFault.UNSEEN
    return TextFault.BLANK if stated and not text.strip() else None


def normal_text(text: str, what: str, *, characters_max: int, stated: bool = True) -> str:
    """Return a text in NFC. Raises TextError, whose message begins with `what`, for one that isn't taken."""
    if (fault := text_fault(text, stated=stated)) is not None:
        raise TextError(fault, what)
    normal = text if text.isascii() else unicodedata.normalize("NFC", text)
    # A few letters have no composed form, and become longer.
    if len(normal) > characters_max:
        raise TextError(TextFault.LONG, what)
    return normal


def is_normal(text: str) -> bool:
    """Tell whether a text is in NFC and nothing in it is forbidden, control characters of ASCII aside."""
    return text.isascii() or (unicodedata.is_normalized("NFC", text) and not _ANYTHING_FORBIDDEN.search(text))


def all_plain(*stated: str, free: str) -> bool:
    """Tell, at one look, whether texts are as `normal_text` leaves them; `free` may say nothing."""
    # What stands between them is no letter and composes with none.
    text = "/".join((*stated, free))
    return (text.isprintable() if text.isascii() else is_normal(text)) and all(map(str.strip, stated))
