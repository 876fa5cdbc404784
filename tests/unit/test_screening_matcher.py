"""Verdicts: exact, fuzzy, their order, and what a matcher calls itself."""

from __future__ import annotations

import pytest

from compliance.screening.lists import Entry, SanctionsList
from compliance.screening.matcher import CLEAR, UNSCREENABLE, Match, Matcher

AT = "2026-03-02T08:00:00Z"
OFAC = SanctionsList(
    "OFAC",
    "a" * 64,
    (
        Entry("1", "individual", ("PUTIN, Vladimir Vladimirovich", "PUTIN, Vladimir")),
        Entry("2", "entity", ("BANCO NACIONAL DE CUBA",)),
        Entry("3", "entity", ("...",)),
    ),
    AT,
)
UN = SanctionsList("UN", "b" * 64, (Entry("1", "individual", ("Vladimir PUTIN",)),), AT)


def test_exact_in_every_list() -> None:
    assert Matcher([OFAC, UN]).screen("vladimir putin").matches == (
        Match("OFAC", "1", "PUTIN, Vladimir", 100, "exact"),
        Match("UN", "1", "Vladimir PUTIN", 100, "exact"),
    )


@pytest.mark.parametrize(
    "name", ["\u202eNITUP RIMIDALV\u202c", "\u2067\u202eNITUP rimidalV", "\u202dVladimir Putin", "Put\u200fin Vladimir"]
)
def test_a_name_is_read_in_both_directions(name: str) -> None:
    """One that turns the direction of writing: on a screen it is Vladimir Putin."""
    assert [m.listed_name for m in Matcher([UN]).screen(name).matches] == ["Vladimir PUTIN"]


@pytest.mark.parametrize("name", ["Vovka TIN\u200fPU", "\u2067Ann\u2069", "Ann\u061c", "\u202eA"])
def test_whatever_turns_the_direction_is_seen_by_people(name: str) -> None:
    assert Matcher([UN]).screen(name) == UNSCREENABLE


def test_fuzzy_after_exact_and_best_first() -> None:
    verdict = Matcher([OFAC]).screen("Vladimir Vladimirovitch Putin")
    assert verdict.hit
    assert [(m.listed_name, m.score, m.method) for m in verdict.matches] == [
        ("PUTIN, Vladimir Vladimirovich", 98, "fuzzy")
    ]
    assert Matcher([OFAC]).screen("Bance Nacional da Cuba").matches == (
        Match("OFAC", "2", "BANCO NACIONAL DE CUBA", 90, "fuzzy"),
    )


def test_the_threshold_decides() -> None:
    name = "Bance Nacional da Cuba"
    assert Matcher([OFAC], threshold=90).screen(name).hit
    assert not Matcher([OFAC], threshold=91).screen(name).hit
    assert Matcher([OFAC], threshold=100).screen("banco nacional de cuba").hit


def test_clean_and_unscreenable() -> None:
    matcher = Matcher([OFAC, UN])
    assert matcher.screen("Erika Mustermann") is CLEAR
    assert matcher.screen("***") is UNSCREENABLE
    assert matcher.screen("***").hit
    assert [v.hit for v in matcher.screen_many(["Erika Mustermann", "Putin, Vladimir", ""])] == [False, True, True]


def test_without_lists_nothing_matches() -> None:
    assert Matcher([]).screen("anybody") is CLEAR
    assert Matcher([]).listed_names == 0


def test_version_names_lists_and_threshold() -> None:
    version = Matcher([OFAC, UN]).version
    assert version == Matcher([OFAC, UN]).version
    assert version != Matcher([OFAC]).version
    assert version != Matcher([OFAC, UN], threshold=90).version
    assert len(version) < 200


@pytest.mark.parametrize("threshold", [59, 101])
def test_a_threshold_out_of_range(threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Matcher([], threshold=threshold)


def test_two_lists_of_one_name() -> None:
    with pytest.raises(ValueError, match="same name"):
        Matcher([OFAC, OFAC])
