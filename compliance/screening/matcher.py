"""Screening of one name against the listed names: exact after normalisation, and token-sorted fuzzy.

The fuzzy score of two normalised names is rapidfuzz's `token_sort_ratio`, taken as a whole number: with LCS the
length of their longest common subsequence, 200·LCS / (length + length), rounded down. It is integer arithmetic, so
every bank gets the same verdict from the same lists.

A name is compared with few of the listed ones. Turning one name into another by inserting and deleting letters
takes at least as many steps as their counts of letters differ in, and a score of at least T leaves
(100 - T)·(length + length) / 100 steps. So each listed name has a signature of 128 bits, in which a letter that
occurs n times sets n of its bits, and the names whose signatures differ in more bits than there are steps are passed
over, a thousand at a time. Nothing that brute force finds is passed over (`tests/property`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from compliance.screening import names
from compliance.screening.lists import SanctionsList

THRESHOLD_DEFAULT = 85
"""A name of n letters with one letter changed scores 100·(n-1)/n, so 85 finds one slip in names of 7 letters or
more and two in 14 or more, the length of an ordinary full name. Measured on `ofac_aka_pairs` (`make bench` prints
it): 2.8 % of the hard negatives alarm; 80 would find 7 points more of the alias pairs for 4.3 points more alarms,
90 would lose 7 points for 2 fewer. Aliases as such are found because the lists name them, not by likeness."""

CACHE_NAMES_MAX = 65_536
"""Verdicts kept per matcher: the same payers and payees come back."""

# The bits of a signature: one for each occurrence of a letter that is told apart, more for the commoner letters.
_SLOTS = (
    "aaaaaaa eeeeee iiiiii nnnnn rrrrr ooooo sssss lllll hhhhh mmmm tttt dddd uuuu kkk bbb yyy ccc zzz ggg pp ff jj vv"
    " ww q x 0 1 2 3 4 5 6 7 8 9"
).replace(" ", "") + "     "
_OFFSET = {letter: _SLOTS.index(letter) for letter in set(_SLOTS)}
_DEPTH = {letter: _SLOTS.count(letter) for letter in set(_SLOTS)}
_WORD = 64
_WORD_MASK = 2**_WORD - 1


@dataclass(frozen=True, slots=True)
class Match:
    """A listed name that a screened name resembles. `score` is 100 for an exact match."""

    list: str
    entry: str
    listed_name: str
    score: int
    method: Literal["exact", "fuzzy"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What screening says of a name: `hit` means that people decide. Matches come best first.

    A name without any letter or digit can't be screened, so it is a hit without matches; and so is one that turns the
    direction of writing, unless it resembles a listed one read forwards or backwards.
    """

    hit: bool
    matches: tuple[Match, ...] = ()


CLEAR = Verdict(hit=False)
UNSCREENABLE = Verdict(hit=True)


class Matcher:
    """Screens names against lists. Immutable: a new list or threshold makes a new matcher. Safe for threads."""

    def __init__(self, lists: Sequence[SanctionsList], *, threshold: int = THRESHOLD_DEFAULT) -> None:
        if not 60 <= threshold <= 100:
            raise ValueError(f"threshold {threshold} isn't within 60..100")
        if len({sanctions.name for sanctions in lists}) != len(lists):
            raise ValueError("two lists have the same name")
        self.lists = tuple(lists)
        self.threshold = threshold
        listed: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for sanctions in self.lists:
            for entry in sanctions.entries:
                for name in entry.names:
                    if key := names.normalise(name):
                        listed[key].append((sanctions.name, entry.id, name))
        self._listed = dict(listed)
        self._keys = sorted(self._listed, key=lambda key: (len(key), key))
        self._lengths = np.fromiter((len(key) for key in self._keys), dtype=np.int64, count=len(self._keys))
        signatures = [_signature(key) for key in self._keys]
        self._low = np.array([signature & _WORD_MASK for signature in signatures], dtype=np.uint64)
        self._high = np.array([signature >> _WORD for signature in signatures], dtype=np.uint64)
        self._window = lru_cache(maxsize=256)(self._window_of_length)
        self.screen = lru_cache(maxsize=CACHE_NAMES_MAX)(self._screen)
        """Screen one name; the verdict is a function of the name, so it is cached."""

    @cached_property
    def version(self) -> str:
        """Name rules, score, threshold and lists in one line: what a ScreeningStatement calls the matcher."""
        lists = "".join(f"{sanctions.name}\n{sanctions.sha256}\n" for sanctions in self.lists)
        digest = sha256(lists.encode()).hexdigest()
        return (
            f"{names.RULES_VERSION} anyascii-{version('anyascii')} token-sort-ratio>={self.threshold} "
            f"lists-sha256:{digest[:16]}"
        )

    @property
    def listed_names(self) -> int:
        """Return the number of different normalised names."""
        return len(self._keys)

    def screen_many(self, names_in_order: Iterable[str]) -> list[Verdict]:
        """Screen names in their order."""
        return [self.screen(name) for name in names_in_order]

    def _screen(self, name: str) -> Verdict:
        key = names.normalise(name)
        if not key:
            return UNSCREENABLE
        if not names.is_turned(name):
            matches = self._matches(key)
            return Verdict(hit=True, matches=tuple(matches)) if matches else CLEAR
        # In what order people see it depends on where it is shown, so no reading of it clears it.
        matches = sorted({*self._matches(key), *self._matches(names.normalise(name[::-1]))}, key=_best_first)
        return Verdict(hit=True, matches=tuple(matches))

    def _matches(self, key: str) -> list[Match]:
        """Return the listed names that a normalised name is or resembles, best first."""
        matches = [Match(*listed, 100, "exact") for listed in self._listed.get(key, ())]
        for index in self._candidates(key):
            candidate = self._keys[index]
            score = 200 * LCSseq.similarity(key, candidate) // (len(key) + len(candidate))
            if score >= self.threshold and candidate != key:
                matches += [Match(*listed, score, "fuzzy") for listed in self._listed[candidate]]
        return sorted(matches, key=_best_first)

    def _candidates(self, key: str) -> list[int]:
        """Return the listed names that may reach the threshold, by their position."""
        first, last, steps = self._window(len(key))
        if first == last:
            return []
        signature = _signature(key)
        differing = np.bitwise_count(self._low[first:last] ^ np.uint64(signature & _WORD_MASK))
        differing += np.bitwise_count(self._high[first:last] ^ np.uint64(signature >> _WORD))
        near: list[int] = np.flatnonzero(differing <= steps).tolist()
        return [first + index for index in near]

    def _window_of_length(self, length: int) -> tuple[int, int, NDArray[np.uint8]]:
        """Return the range of listed names whose length can reach the threshold, and the steps left to each."""
        threshold = self.threshold
        shortest = -(-threshold * length // (200 - threshold))
        longest = (200 - threshold) * length // threshold
        first, last = np.searchsorted(self._lengths, (shortest, longest + 1)).tolist()
        steps = (100 - threshold) * (length + self._lengths[first:last]) // 100
        return first, last, np.minimum(steps, 255).astype(np.uint8)


def _best_first(match: Match) -> tuple[int, str, str, str, str]:
    return -match.score, match.method, match.list, match.entry, match.listed_name


def _signature(key: str) -> int:
    signature = 0
    for letter in set(key):
        occurrences = min(key.count(letter), _DEPTH[letter])
        signature |= ((1 << occurrences) - 1) << _OFFSET[letter]
    return signature
