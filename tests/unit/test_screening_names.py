"""The normal form of names: what is one name, and what isn't."""

from __future__ import annotations

import pytest

from compliance.screening.names import fold, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PUTIN, Vladimir", "Vladimir Putin"),
        ("Straße GmbH", "STRASSE GMBH"),
        ("Jos\u00e9", "Jose\u0301"),
        ("ﬁne ａｒｔ", "fine art"),
        ("Sa'id", "SAID"),
        ("N’Krumah", "NKRUMAH"),
        ("O´Brien", "O'Brien"),
        ("S.A. Foo", "Foo S. A."),
        ("AL-JAMAL", "Al Jamal"),
        ("Al‐Qaida", "al qaida"),
        ("Pu\u200btin", "putin"),
        ("Pu\u00adtin", "putin"),
        ("Жуков", "zhukov"),
        ("İstanbul", "istanbul"),
        ("\u00a0 Two\tWords\n", "words two"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(("one", "other"), [("Ann Lee", "Anna Lee"), ("Lee Lee", "Lee"), ("A 1", "A 2")])
def test_different_names(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("name", ["", "   ", "***", "…", "\u200b"])
def test_nothing_to_screen(name: str) -> None:
    assert normalise(name) == ""


def test_fold_keeps_the_order() -> None:
    assert fold("PUTIN, Vladimir Vladimirovich") == "putin vladimir vladimirovich"
