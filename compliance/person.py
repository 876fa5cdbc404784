"""Whether two names mean the same person. Four eyes rest on it wherever two people must be of one opinion."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import StrEnum

# Drawn as nothing at all, whatever their category: Default_Ignorable_Code_Point of Unicode, and the Braille blank.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def person_key(name: str) -> str:
    """Return the one form of all spellings of a name: letters in one width and case, single spaces inside, none around.

    What can't be seen is left out first, so that it parts no letter from its accent. Folding may undo the normal form,
    so that is made again until nothing changes.
    """
    spaced = " ".join(name.split())
    key = "".join(letter for letter in spaced if not _is_unseen(letter))
    while (folded := unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", key).casefold())) != key:
        key = "".join(letter for letter in folded if not _is_unseen(letter))
    return " ".join(key.split())


def _is_unseen(letter: str) -> bool:
    return letter in _UNSEEN or unicodedata.category(letter) in _UNSEEN_CATEGORIES


def same_person(name: str, other: str) -> bool:
    """Tell whether two names mean the same person, however they are written."""
    return person_key(name) == person_key(other)


def one_person(names: Iterable[str]) -> bool:
    """Tell whether names don't mean two people or more, however they are written."""
    return len({person_key(name) for name in names}) < 2


# --- what may be anybody's name -------------------------------------------------------------------------------


class NameFault(StrEnum):
    """Why nobody is let in by a name, in order of precedence."""

    EMPTY = "empty"
    """Nothing of it can be seen."""
    UNSEEN = "unseen"
    """It holds a character that is drawn as nothing, ends the line, or turns the direction of writing."""
    MIXED_SCRIPTS = "mixed_scripts"
    """Its letters are of several scripts: a Cyrillic а among Latin letters looks like another's name."""


def name_fault(name: str) -> NameFault | None:
    """Return why a name may be nobody's, or None. Asked when somebody is let in; `same_person` compares whoever is."""
    key = person_key(name)
    if not key:
        return NameFault.EMPTY
    if any(_is_unseen(letter) for letter in name):
        return NameFault.UNSEEN
    return NameFault.MIXED_SCRIPTS if len(scripts(key)) > 1 else None


def scripts(name: str) -> frozenset[str]:
    """Return the scripts of a name's letters, each by the word that the Unicode names of its letters begin with.

    What Japanese is written in counts as one.
    """
    alphabets = {unicodedata.name(letter, "UNKNOWN").partition(" ")[0] for letter in name if letter.isalpha()}
    return frozenset("JAPANESE" if script in _JAPANESE else script for script in alphabets)


_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
