"""A trust list is asked for again and again: what confirms it, what doesn't, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hostile_peers
import msgspec
import pytest
from structlog.testing import capture_logs

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.http.client import FederationClient
from gateway.federation.membership.confirmation import keep_confirmed
from gateway.federation.membership.trust import TrustStore
from tests.support import confirmation

HOUSE = "CNCDXXC0"
ANCHOR, STRANGER = SigningKey.generate(), SigningKey.generate()


def listed(version: int, by: SigningKey = ANCHOR) -> Envelope:
    key = TrustKey(kid=ANCHOR.kid, alg="Ed25519", x=ANCHOR.x, use="sign", status="active")
    house = Member(
        bic=HOUSE, name="House", kind="coordinator", status="active", url="https://house.example", keys=(key,)
    )
    return dsse.sign(TrustList(version=version, issuer="https://house.example", members=(house,)), by)


class House:
    """A coordinator that answers what it is told to, and counts how often it is asked for its word."""

    def __init__(self, trust_list: Envelope) -> None:
        self.trust_list = trust_list
        self.word: Callable[[], bytes] = self.confirm
        self.said = b""
        self.asked = 0

    def confirm(self) -> bytes:
        self.said = msgspec.json.encode(confirmation(self.trust_list, ANCHOR))
        return self.said

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        if path == b"/trust-list/confirmation":
            self.asked += 1
            answer = self.word()
        else:
            assert path == b"/v2/trust-list"
            answer = msgspec.json.encode(self.trust_list)
        status = "200 OK" if answer else "500 Internal Server Error"
        headers = ("Connection: close", f"Content-Length: {len(answer)}")
        writer.write(hostile_peers.head(*headers, status=status) + answer)
        await writer.drain()
        writer.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


async def test_what_confirms_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.federation.membership.confirmation.RETRY_SECONDS_MAX", 0.1)
    store = TrustStore(Anchor.of(HOUSE, ANCHOR.verifying_key), age_seconds_max=86_400)
    newer: list[int] = []
    house = House(listed(5))
    with capture_logs() as lines:
        async with house.served() as url, FederationClient("BANKDEFF", STRANGER, url) as client:
            keeping = asyncio.create_task(
                keep_confirmed(
                    store, client, member="BANKDEFF", on_newer=lambda: newer.append(store.current.version), every_s=0.05
                )
            )
            await until(lambda: store.fresh)
            await until(lambda: house.asked > 2)
            assert (newer, lines) == ([5], [])

            # A list that isn't believed, a word that isn't, and what is none, confirm nothing.
            said_before, before = house.said, store.confirmed_at
            older = msgspec.json.encode(confirmation(listed(4), ANCHOR))
            stranger = msgspec.json.encode(confirmation(listed(5), STRANGER))
            newer_list = msgspec.json.encode(confirmation(listed(6), ANCHOR))
            house.trust_list = listed(6, by=STRANGER)
            for answer in (newer_list, older, stranger, b"{}", b""):
                house.word = lambda answer=answer: answer
                asked = house.asked
                await until(lambda asked=asked: house.asked > asked + 1)
            # Nor does what the coordinator said before, however often somebody says it.
            before = max(before, store.confirmed_at)
            assert msgspec.json.decode(said_before, type=Envelope).payloadType.endswith("confirmation.v1+json")
            store.expires_at = 0.0
            house.word = lambda: said_before
            asked = house.asked
            await until(lambda: house.asked > asked + 2)
            assert (store.fresh, store.confirmed_at) == (False, before)

            house.trust_list, house.word = listed(6), house.confirm
            await until(lambda: store.fresh)
            assert time.time() - store.confirmed_at < 30
            assert newer == [5, 6]
            keeping.cancel()
    said = [line["event"] for line in lines if line["event"].startswith("trust list")]
    assert said == [
        "trust list not confirmed",
        "trust list too old: no payment to or from another bank",
        "trust list confirmed again",
    ]
