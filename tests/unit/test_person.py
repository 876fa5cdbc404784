"""One person, however the name is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.person import NameFault, name_fault, person_key, same_person


@pytest.mark.parametrize(
    "spelling",
    ["alice smith", "Alice Smith", " alice  smith ", "alice\tsmith\n", "\uff41lice smith", "al\u00adice smith",
     "ALICE SMITH", "alice\u00a0smith", "ali\u200bce smith", "ali\u034fce smith", "alice\ufe0f smith",
     "\u3164alice smith", "alice\u2800 smith", "alice\0 smith", "al\u115fice smith", "alice smith\U000e0100",
     "alice\uffa0 smith"],
)  # fmt: skip
def test_spellings_of_one_name(spelling: str) -> None:
    assert same_person("alice smith", spelling)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Jos\u00e9", "Jose\u0301"),
        ("Jos\u00e9", "Jose\u200b\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3"),
        ("\ufb01n", "FIN"),
    ],
)
def test_letters_that_are_written_in_two_ways(name: str, other: str) -> None:
    assert same_person(name, other)


@pytest.mark.parametrize("other", ["alicesmith", "alice smyth", "bob", "alic\u00e9 smith", ""])
def test_other_people(other: str) -> None:
    assert not same_person("alice smith", other)


@given(st.text())
def test_a_key_is_its_own_key(name: str) -> None:
    assert person_key(person_key(name)) == person_key(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("alice", None),
        ("Élodie Müller-Lüdenscheidt 2", None),
        ("Иван Петров", None),
        ("山田 たろう", None),
        ("", NameFault.EMPTY),
        ("\u200b ", NameFault.EMPTY),
        ("ali\u200bce", NameFault.UNSEEN),
        ("\u202eecila", NameFault.UNSEEN),
        ("alice\x00", NameFault.UNSEEN),
        ("alice\u2028", NameFault.UNSEEN),
        ("alice\ud800", NameFault.UNSEEN),
        ("\u0430lice", NameFault.MIXED_SCRIPTS),
        ("alic\u03b5", NameFault.MIXED_SCRIPTS),
        ("山田 taro", NameFault.MIXED_SCRIPTS),
        # One letter in another width is of the same script, and the same person.
        ("\uff41lice", None),
    ],
)
def test_whose_name_may_be_anybodys(name: str, fault: NameFault | None) -> None:
    assert name_fault(name) is fault
