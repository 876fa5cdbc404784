"""What is let in at the border: texts have their form to the last character, cursors are ours."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from compliance.statements import Bic, CurrencyCode, PaymentAmount, Sha256, Timestamp
from gateway.federation.http.paging import Key, Page, encode_cursor, provide_page
from gateway.federation.membership.documents import InstitutionName
from gateway.federation.messages.base import AccountCode, Uuid
from gateway.federation.problems import Refusal

GOOD: list[tuple[Any, str]] = [
    (Bic, "ALDRXXA0"),
    (CurrencyCode, "EUR"),
    (PaymentAmount, "100"),
    (Sha256, "0" * 64),
    (Timestamp, "2026-03-02T09:00:00Z"),
    (InstitutionName, "Alder Bank"),
    (AccountCode, "A-1"),
    (Uuid, "0190a7d8-0000-7000-8000-000000000001"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_a_text_ends_where_its_pattern_does(kind: Any, text: str) -> None:
    assert msgspec.convert(text, kind) == text
    for wrong in (text + "\n", "\n" + text, text + "\n\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, kind)


@pytest.mark.parametrize("key", [(), ("text",), (-1,), (2**63,), (1, 2)])
def test_a_page_by_number_refuses_another_lists_cursor(key: Key) -> None:
    page = provide_page(cursor=encode_cursor(*key))
    with pytest.raises(Refusal, match="cursor_malformed"):
        page.number()


@pytest.mark.parametrize("key", [(), (1,), ("a\x00",), ("a", "b")])
def test_a_page_by_text_refuses_another_lists_cursor(key: Key) -> None:
    page = provide_page(cursor=encode_cursor(*key))
    with pytest.raises(Refusal, match="cursor_malformed"):
        page.text()


def test_a_page_begins_after_its_cursor() -> None:
    assert Page().number() is None
    assert Page().text() is None
    assert provide_page(cursor=encode_cursor(7)).number() == 7
    assert provide_page(cursor=encode_cursor("ALDRXXA0")).text() == "ALDRXXA0"
