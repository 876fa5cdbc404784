"""Whether two names mean the same person. Four eyes rest on it wherever two people must be of one opinion."""

from __future__ import annotations

import unicodedata


def person_key(name: str) -> str:
    """Return the one form of all spellings of a name: letters in one width and case, single spaces inside, none around.

    What can't be seen is left out. Folding may undo the normal form, so that is made again after it.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(letter for letter in folded if unicodedata.category(letter) != "Cf").split())


def same_person(name: str, other: str) -> bool:
    """Tell whether two names mean the same person, however they are written."""
    return person_key(name) == person_key(other)
