"""The short way takes a body only when it says each thing once; whatever else goes the long way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from participants.api import hot_path
from participants.api.single_orders import readable_order
from participants.payments.orders import ReadableOrder

ORDER = {
    "id": "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "creditor_agent": "BETAFRPP", "amount_minor": "1050",
    "currency": "EUR", "debtor_account": "a-1", "debtor_name": "Anton", "creditor_account": "b-1",
    "creditor_name": "Berta",
}  # fmt: skip
spaces = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])
# Quotes, backslashes, colons and braces inside texts, and letters of one to four bytes.
texts = st.text(st.sampled_from('a":,{}[]\\/é€𝄞 '), max_size=12)
MAKER = 'M"öna'


def _orders(path: str, body: bytes) -> list[ReadableOrder] | None:
    if path == "/payments":
        order = readable_order(body, maker=MAKER)
        return None if order is None else [order]
    return asyncio.run(hot_path._orders(body, maker=MAKER))


def rendered(draw: Any, members: list[tuple[str, str]]) -> str:
    def space() -> str:
        return draw(spaces)

    inside = ",".join(
        f"{space()}{json.dumps(name)}{space()}:{space()}{json.dumps(value, ensure_ascii=False)}{space()}"
        for name, value in members
    )
    return f"{{{inside}}}"


@given(st.data())
def test_each_thing_once_in_any_order_and_spacing(data: st.DataObject) -> None:
    remittance = data.draw(texts)
    members = dict(ORDER) | ({"remittance": remittance} if remittance else {})
    shuffled = data.draw(st.permutations(list(members.items())))
    body = rendered(data.draw, shuffled)
    (order,) = _orders("/payments", body.encode()) or []
    assert json.loads(order.text) == members | {"actor": MAKER}
    pair = _orders("/payments/batch", f'{{"payments" :[ {body},{body}]}}'.encode())
    assert pair == [order, order]


@given(st.data())
def test_a_member_twice_never(data: st.DataObject) -> None:
    """However it is spelled, and whatever is written shorter elsewhere: nothing is."""
    members = dict(ORDER) | {"remittance": data.draw(texts)}
    name = data.draw(st.sampled_from(list(members)))
    again = data.draw(st.sampled_from([members[name], "", "x"]))
    listed = [*members.items(), (name, again)]
    body = rendered(data.draw, data.draw(st.permutations(listed)))
    assert _orders("/payments", body.encode()) is None
    assert _orders("/payments/batch", f'{{"payments":[{body}]}}'.encode()) is None


@pytest.mark.parametrize("path", ["/payments", "/payments/batch"])
@pytest.mark.parametrize("opening", [b"[", b'{"payments":[', b'{"payments":[{"id":'], ids=["at once", "order", "id"])
def test_what_is_nested_deeply_goes_the_long_way(path: str, opening: bytes) -> None:
    assert _orders(path, opening + b"[" * 100_000) is None
    assert _orders(path, opening + b"[" * 100_000 + b"]" * 100_000 + b"]}") is None


@pytest.mark.parametrize(
    "body",
    [
        '{"payments":[%s],"payments":[%s]}',
        '{"payments":[],"payments":[%s,%s]}',
        '{"payments":[%s,%s],"payments":[]}',
        '{"payments":[%s],"x":[%s]}',
        '{"payments":[%s,%s]}x',
        '{"payments":[%s,%s,]}',
    ],
)
def test_a_batch_that_says_something_twice_or_besides(body: str) -> None:
    order = json.dumps(ORDER)
    assert _orders("/payments/batch", b'{"payments":[%s,%s]}' % (order.encode(), order.encode())) is not None
    assert _orders("/payments/batch", (body % (order, order)).encode()) is None


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ('"Anton"', '"\\u0041nton"'), ('"id"', '"\\u0069d"'), ('"Anton"', '"An\\nton"'), ('"1050"', "1050"),
        ('"1050"', '"01050"'), ('"b-1"', '"b-1","returns":null'), ('"b-1"', '"b-1","remittance":""'),
        ('"b-1"', '"b-1","urgent":"1"'),
    ],
)  # fmt: skip
def test_what_is_written_unusually_goes_the_long_way(said: str, instead: str) -> None:
    body = json.dumps(ORDER, separators=(",", ":"))
    assert said in body
    assert _orders("/payments", body.encode()) is not None
    assert _orders("/payments", body.replace(said, instead).encode()) is None


@pytest.mark.parametrize("name", ["\u00a0", "\u3000", "\u2003 \u2003"])
def test_a_name_of_spaces_alone_goes_the_long_way(name: str) -> None:
    body = json.dumps(ORDER | {"debtor_name": name}, separators=(",", ":"), ensure_ascii=False)
    assert _orders("/payments", body.encode()) is None
