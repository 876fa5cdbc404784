"""A trust list is asked for again and again: what confirms it, what doesn't, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import hostile_peers
import msgspec
import pytest
from hostile_peers import peer
from structlog.testing import capture_logs

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.http.client import FederationClient
from gateway.federation.membership.confirmation import keep_confirmed
from gateway.federation.membership.trust import TrustStore

HOUSE = "CNCDXXC0"
ANCHOR, STRANGER = SigningKey.generate(), SigningKey.generate()
A_DAY_AND_MORE = 90_000


def listed(version: int, by: SigningKey = ANCHOR) -> Envelope:
    key = TrustKey(kid=ANCHOR.kid, alg="Ed25519", x=ANCHOR.x, use="sign", status="active")
    house = Member(
        bic=HOUSE, name="House", kind="coordinator", status="active", url="https://house.example", keys=(key,)
    )
    return dsse.sign(TrustList(version=version, issuer="https://house.example", members=(house,)), by)


class House:
    """A coordinator that answers what it is told to, and counts."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        status = "200 OK" if self.answer else "500 Internal Server Error"
        headers = ("Connection: close", f"Content-Length: {len(self.answer)}")
        writer.write(hostile_peers.head(*headers, status=status) + self.answer)
        await writer.drain()


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
    house = House(msgspec.json.encode(listed(5)))
    with capture_logs() as lines:
        async with peer(house) as url, FederationClient("BANKDEFF", STRANGER, url) as client:
            keeping = asyncio.create_task(
                keep_confirmed(
                    store, client, member="BANKDEFF", on_newer=lambda: newer.append(store.current.version), every_s=0.05
                )
            )
            await until(lambda: store.fresh)
            await until(lambda: house.asked > 2)
            assert (newer, lines) == ([5], [])

            # What isn't believed, and what is no list, confirm nothing.
            for answer in (listed(4), listed(6, by=STRANGER), b"{}", b""):
                house.answer = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
                asked = house.asked
                await until(lambda asked=asked: house.asked > asked)
            before, asked = store.confirmed_at, house.asked
            store.confirmed_at = stale_since = before - A_DAY_AND_MORE
            await until(lambda: house.asked > asked + 1)
            assert store.confirmed_at == stale_since
            assert not store.fresh

            house.answer = msgspec.json.encode(listed(6))
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
