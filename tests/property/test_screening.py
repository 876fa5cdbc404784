"""The candidate index loses nothing: a matcher finds what brute force by rapidfuzz finds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from compliance.screening.lists import Entry, SanctionsList
from compliance.screening.matcher import Matcher
from compliance.screening.names import fold, is_turned, normalise

# Few letters, so that names resemble each other; then any text at all.
ALIKE = st.lists(st.text("aben ", min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join)
SYLLABLES = st.lists(st.sampled_from(["al", "ma", "hassan", "ivan", "ov", "bank", "co", "sa"]), min_size=1, max_size=6)
NAMES = st.one_of(ALIKE, SYLLABLES.map("".join), SYLLABLES.map(" ".join), st.text(max_size=40))


def brute_force(names: list[str], query: str, threshold: int) -> set[str]:
    key = normalise(query)
    return {n for n in names if normalise(n) and fuzz.token_sort_ratio(key, normalise(n)) >= threshold - 1e-9}


@settings(max_examples=300, deadline=None)
@given(names=st.lists(NAMES, max_size=30, unique=True), query=NAMES, threshold=st.integers(60, 100))
def test_finds_what_brute_force_finds(names: list[str], query: str, threshold: int) -> None:
    entries = tuple(Entry(str(number), "entity", (name,)) for number, name in enumerate(names))
    matcher = Matcher([SanctionsList("list", "0" * 64, entries, "2026-03-02T08:00:00Z")], threshold=threshold)
    verdict = matcher.screen(query)
    if not normalise(query) or is_turned(query):
        assert verdict.hit
        assert not verdict.matches or normalise(query)
        return
    assert {m.listed_name for m in verdict.matches} == brute_force(names, query, threshold)
    for match in verdict.matches:
        expected = fuzz.token_sort_ratio(normalise(query), normalise(match.listed_name))
        assert abs(match.score - expected) < 1 + 1e-9
        assert (match.method == "exact") == (normalise(match.listed_name) == normalise(query))


@given(st.text(max_size=60))
def test_a_normal_form_is_sorted_words_of_ascii(name: str) -> None:
    words = normalise(name).split(" ")
    assert words == sorted(words)
    assert set("".join(words)) <= set("abcdefghijklmnopqrstuvwxyz0123456789")


@given(NAMES)
def test_case_does_not_matter(name: str) -> None:
    assert normalise(name.casefold()) == normalise(name)


@given(st.lists(st.text("abcdef", min_size=2, max_size=5), min_size=1, max_size=5).flatmap(st.permutations))
def test_the_order_of_words_does_not_matter(words: list[str]) -> None:
    assert normalise(" ".join(words)) == " ".join(sorted(words))
    assert fold(" ".join(words)) == " ".join(words)
