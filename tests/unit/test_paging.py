"""Pages of rows that are all at hand: each row once, in their order, and a cursor that is of this list."""

from __future__ import annotations

import msgspec
import pytest

from gateway.federation.http.paging import WHOLE, Key, Page, Rows, decode_cursor, encode_cursor, rows_of
from gateway.federation.problems import Refusal

ROWS = ["a", "b", "b", "c", "b"]


def key(row: str) -> Key:
    return (row,)


def pages(rows: list[str], limit: int) -> list[Rows[str]]:
    listed = [rows_of(Page(limit), rows, key)]
    while listed[-1].next is not None:
        listed.append(rows_of(Page(limit, decode_cursor(listed[-1].next)), rows, key))
    return listed


@pytest.mark.parametrize("limit", range(1, 7))
def test_each_row_comes_once_rows_of_one_key_too(limit: int) -> None:
    listed = pages(ROWS, limit)
    assert [row for page in listed for row in page] == ROWS
    assert all(len(page) == limit for page in listed[:-1])


def test_without_a_limit_it_is_whole() -> None:
    page = rows_of(Page(WHOLE), ROWS, key)
    assert (list(page), page.next) == (ROWS, None)
    assert msgspec.json.encode(page) == msgspec.json.encode(ROWS)


def test_where_the_last_row_is_gone_it_begins_again() -> None:
    after = decode_cursor(str(rows_of(Page(2), ["x", "y", "z"], key).next))
    assert list(rows_of(Page(2, after), ["x", "z"], key)) == ["x", "z"]


def test_a_cursor_of_another_list_is_refused() -> None:
    for other in (encode_cursor("a"), encode_cursor(7, 0), encode_cursor("a", "b")):
        with pytest.raises(Refusal) as refused:
            rows_of(Page(2, decode_cursor(other)), ROWS, key)
        assert refused.value.reason == "cursor_malformed"
    assert list(rows_of(Page(2, decode_cursor(encode_cursor("a"))), [], key)) == []
