"""A head that is no news: whatever is taken for it, the parser would have read as the same but for its length."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.federation.http.repeats import Answer, Repeat

HEADS = [
    b"POST /payments HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer x.y\r\nContent-Length: 5\r\n\r\n",
    b"POST /payments HTTP/1.1\r\ncontent-length:5\r\nHost: bank\r\nX: 5\r\n\r\n",
    b"POST /payments HTTP/1.1\r\nX-Content-Length: 5\r\nContent-Length: \t5\r\nConnection: keep-alive\r\n\r\n",
]


class Read:
    """What the parser reads; `whole` once it has read all of a request."""

    def __init__(self, came: bytes) -> None:
        self.url, self.body, self.whole = b"", b"", False
        self.headers: list[tuple[bytes, bytes]] = []
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(came)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert not self.whole
        self.whole = True

    def besides_its_length(self) -> Any:
        return self.method, self.url, [header for header in self.headers if header[0] != b"content-length"]


def take(_: bytes, __: Answer) -> bool:
    return True


def repeat_of(came: bytes) -> Repeat | None:
    return Repeat.of(came, Read(came).headers, take)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("body", [b"", b"hello"], ids=["before its body", "with its body"])
def test_the_next_may_be_of_another_length(head: bytes, body: bytes) -> None:
    repeat = repeat_of(head + body)
    assert repeat is not None
    for length in (1, 9, 10, 123_456):
        longer = repeat.before + b"%d" % length + repeat.after
        assert repeat.body_of(longer) == b""
        assert repeat.body_of(longer + b"x" * length) == b"x" * length
        for other in (length - 1, length + 1):
            assert not repeat.body_of(longer + b"x" * other)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("digits", [b"", b"0", b"-5", b"+5", b"5 ", b" 5", b"0x5", b"5, 5", b"5\r\nContent-Length: 5"])
def test_a_length_is_said_in_digits(head: bytes, digits: bytes) -> None:
    repeat = repeat_of(head)
    assert repeat is not None
    assert not repeat.body_of(repeat.before + digits + repeat.after + b"hello")
    assert repeat.body_of(repeat.before + digits + repeat.after) is None


@given(st.data())
def test_whatever_is_taken_the_parser_reads_the_same(data: st.DataObject) -> None:
    head = data.draw(st.sampled_from(HEADS))
    repeat = repeat_of(head)
    assert repeat is not None
    came = bytearray(repeat.before + data.draw(st.sampled_from([b"5", b"05", b"6", b"11"])) + repeat.after + b"hello")
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(came)))
        came[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"\r\n", b"\n", b"5", b" ", b"x", b"\r\n\r\n", b"hello", b"Content-Length: 5\r\n"])
        )
    body = repeat.body_of(bytes(came))
    if body:
        read = Read(bytes(came))
        assert (read.whole, read.body) == (True, body)
        assert read.besides_its_length() == Read(head).besides_its_length()


@pytest.mark.parametrize(
    "came",
    [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n",
    ],
)
def test_what_is_unusual_is_read_each_time(came: bytes) -> None:
    headers: list[tuple[bytes, bytes]] = []
    for line in came.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers.append((name.strip().lower(), value.strip()))
    assert Repeat.of(came, headers, take) is None
