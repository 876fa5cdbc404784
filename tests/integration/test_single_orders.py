"""Orders that come one by one and at once, under heads that are no news: each is answered for itself, as by itself."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from running_banks import Town, order
from running_coordinator import ALPHA
from support import uuid7

from gateway.federation.http.repeats import RepeatingProtocol
from gateway.federation.telemetry import REQUEST_SECONDS, REQUESTS
from participants.payments.orders import SubmitOrders

pytestmark = pytest.mark.asyncio(loop_scope="module")

Told = tuple[int, dict[str, str], dict[str, Any]]


class Channel:
    """A connection of a customer channel, whose requests have one head."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader, self._writer, self._head = reader, writer, head

    @classmethod
    async def open(cls, town: Town, *headers: str, token: str | None = None) -> Channel:
        """Open a connection, and let one order go over it, so that its head is known."""
        reader, writer = await asyncio.open_connection("127.0.0.1", town.alpha.settings.port)
        lines = ["POST /payments HTTP/1.1", "Host: alpha", f"Authorization: Bearer {token or town.alpha.staff_token()}"]
        channel = cls(reader, writer, "\r\n".join([*lines, "Content-Type: application/json", *headers]))
        status, _, _ = await channel.ask(order(1))
        assert status == 201
        return channel

    async def ask(self, said: dict[str, Any] | bytes) -> Told:
        body = said if isinstance(said, bytes) else json.dumps(said, separators=(",", ":")).encode()
        self._writer.write(f"{self._head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.partition(": ") for line in head.split("\r\n")[1:-2]]
            headers = {name: value for name, _, value in lines}
            answer = await self._reader.readexactly(int(headers["content-length"]))
        return int(head.split()[1]), headers, json.loads(answer)

    def close(self) -> None:
        self._writer.close()


def heads_known() -> int:
    """Return on how many connections of this process a head needn't be read again."""
    return sum(isinstance(found, RepeatingProtocol) and found._repeat is not None for found in gc.get_objects())


async def test_many_at_once_are_each_answered_for_itself(town: Town) -> None:
    known, twice, often = order(5), order(6), order(7)
    assert (await town.alpha.send("POST", "/payments", known)).status_code == 201
    spaced = json.dumps(order(8), indent=1).encode()
    member_twice = json.dumps(order(9)).encode()[:-1] + b', "id": "' + uuid7().encode() + b'"}'
    asked: list[tuple[Any, tuple[int, str]]] = [
        *[(order(10 + number), (201, "reserved")) for number in range(10)],
        (known, (201, "reserved")),
        ({**known, "amount_minor": "6"}, (409, "id_reused")),
        (order(1, debtor_account="nobody"), (422, "debtor_account_unknown")),
        (order(1, creditor_agent="NONEXXN0"), (422, "creditor_agent_unknown")),
        (order(1, creditor_agent=ALPHA), (422, "creditor_agent_is_self")),
        (order(1, returns="00000000-0000-4000-8000-000000000000"), (422, "return_of_unknown")),
        (order(999_999_999_999_999), (422, "insufficient_funds")),
        (order(1, amount_minor="01"), (400, "validation_failed")),
        (twice, (201, "reserved")),
        (twice, (201, "reserved")),
        (spaced, (201, "reserved")),
        (member_twice, (400, "bad_request")),
        (b"", (400, "")),
        *[(often, (201, "reserved"))] * 5,
    ]
    channels = [await Channel.open(town) for _ in asked]
    assert heads_known() >= len(channels)
    created, seconds = REQUESTS.labels("POST", "/payments", "201"), REQUEST_SECONDS.labels("POST", "/payments")
    created_before, seconds_before = created._value.get(), sum(bucket.get() for bucket in seconds._buckets)
    answers = await asyncio.gather(*(channel.ask(said) for channel, (said, _) in zip(channels, asked, strict=True)))
    for (said, (status, word)), (found, headers, body) in zip(asked, answers, strict=True):
        assert found == status, (said, body)
        assert word in (body.get("status"), body.get("code"), "")
        assert "date" in headers
        if status == 201:
            assert headers["content-type"] == "application/json"
        else:
            assert headers["content-type"].partition(";")[0] == "application/problem+json"
            assert headers["x-correlation-id"] == body["instance"]
    hits = [headers.get("idempotency-hit") for _, headers, _ in answers]
    assert (hits[10], hits[18:20].count("true"), hits[-5:].count("true")) == ("true", 1, 4)
    assert created._value.get() - created_before == sum(status == 201 for status, _, _ in answers)
    assert sum(bucket.get() for bucket in seconds._buckets) - seconds_before == len(asked)
    for channel in channels:
        channel.close()
    await town.alpha.until(often["id"], "posted")


async def test_a_request_is_named_as_its_client_proposes(town: Town) -> None:
    channel = await Channel.open(town, "X-Correlation-ID: order-7-of-monday")
    status, headers, body = await channel.ask(order(1, debtor_account="nobody"))
    assert (status, headers["x-correlation-id"], body["instance"]) == (422, *["order-7-of-monday"] * 2)
    channel.close()


async def test_a_token_is_looked_at_each_time(town: Town) -> None:
    """It was good when the head was read, and isn't any more."""
    node = town.alpha.node
    channel = await Channel.open(town)
    assert (await channel.ask(order(1)))[0] == 201
    withdrawn, node.verifier._withdrawn = node.verifier._withdrawn, lambda _: True
    node.verifier.forget()
    try:
        status, _, body = await channel.ask(order(1))
    finally:
        node.verifier._withdrawn = withdrawn
        node.verifier.forget()
    assert (status, body["code"]) == (401, "token_withdrawn")
    assert (await channel.ask(order(1)))[0] == 201
    channel.close()


async def test_what_one_order_breaks_is_no_others(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    decide: Any = SubmitOrders._decide

    def decide_or_break(self: Any, books: Any, checked: Any, *keys: Any) -> Any:
        if checked.order.value.remittance == "breaks":
            raise ZeroDivisionError
        return decide(self, books, checked, *keys)

    channels = [await Channel.open(town) for _ in range(8)]
    monkeypatch.setattr(SubmitOrders, "_decide", decide_or_break)
    answers = await asyncio.gather(
        *(channel.ask(order(1, **({"remittance": "breaks"} if at == 3 else {}))) for at, channel in enumerate(channels))
    )
    assert [status for status, _, _ in answers] == [201, 201, 201, 500, 201, 201, 201, 201]
    assert answers[3][2]["code"] == "internal_error"
    for channel in channels:
        channel.close()
