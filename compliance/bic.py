"""BICs as ISO 9362 reads them: letters of either case, and `XXX` for the head office, which the short form means too.

AAAABBCC, aaaabbcc and AAAABBCCXXX are one institution. `normal_bic` makes the one form at the border; inside, and in
what is signed, there is no other. Members that were registered under a BIC with XXX before keep it as their name in
the scheme, for it is in signed documents: `known_as` finds them by the normal form.
"""

from __future__ import annotations

import re
from collections.abc import Container

from compliance.statements import whole

HEAD_OFFICE = "XXX"
SPELLED_BIC_PATTERN = whole(r"[A-Za-z0-9]{4}[A-Za-z]{2}[A-Za-z0-9]{2}([A-Za-z0-9]{3})?")
_BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")
_SHORT = 8


class BicError(ValueError):
    """A text that is no BIC."""


def normal_bic(text: str) -> str:
    """Return the one form of all spellings of a BIC: in capitals, without the XXX of a head office. Raises BicError."""
    # Only of ASCII: capitals of other letters may be ASCII (ı, ſ), and would turn one name into another.
    capitals = text.strip(" ").upper() if text.isascii() else ""
    if not _BIC.fullmatch(capitals):
        raise BicError(f"{text[:40]!a} is no BIC: 8 or 11 letters and digits, the fifth and sixth letters")
    return capitals[:_SHORT] if capitals.endswith(HEAD_OFFICE, _SHORT) else capitals


def known_as(bic: str, members: Container[str]) -> str:
    """Return the name under which members have the institution of a normal BIC: that, or the one with XXX if only that.

    A BIC that nobody has is returned as it is.
    """
    longer = bic + HEAD_OFFICE
    return longer if len(bic) == _SHORT and bic not in members and longer in members else bic
