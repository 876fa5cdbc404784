"""What people write can't become a formula in the spreadsheet of whoever opens a statement."""

from __future__ import annotations

import pytest

from participants.api.statements import inert


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=SUM(A1)", "'=SUM(A1)"), ("+49 172 1", "'+49 172 1"), ("-1", "'-1"), ("@SUM(1)", "'@SUM(1)"),
        (" =1", "' =1"), ("\xa0=1", "'\xa0=1"), ("\uff1d1", "'\uff1d1"), ("a=1", "a=1"), ("'=1", "'=1"), ("", ""),
    ],
    ids=ascii,
)  # fmt: skip
def test_no_text_is_a_formula(text: str, written: str) -> None:
    assert inert(text) == written
