"""One member's large requests are its own to wait for: unfinished or of a million values, they hold up nobody."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from running_banks import WAIT_S, Town, order, terms
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR
from structlog.testing import capture_logs

from gateway.coordinator.cycles.api import ATTESTATION_BYTES_MAX
from gateway.coordinator.log.api import WAIT_S_MAX
from gateway.coordinator.log.feed import WAITING_MAX as FEED_WAITING_MAX
from gateway.federation.http.edge import LARGE_UNDER_WAY_MAX
from gateway.federation.settings import NodeSettings
from gateway.federation.sharing import Shares
from gateway.federation.strict_json import VALUES_MAX
from participants.payments.inbound import WAITING_MAX
from participants.payments.recall_desk import UNDER_WAY_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")
CYCLE = "/cycles/2020-01-01-01"
BATCH_BYTES = 16 * 1024 * 1024
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def begin(
    node: NodeSettings,
    path: str,
    token: str,
    *,
    method: str = "POST",
    length: int = 1_000,
    content_type: str = "application/json",
) -> Connection:
    """Send the head of a request and two bytes of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{node.port}",
        f"Authorization: Bearer {token}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
    ]
    writer.write("\r\n".join([*lines, "", '{"']).encode())
    await writer.drain()
    return reader, writer


async def told(connection: Connection) -> tuple[int, str, bool]:
    """Return what a request is answered with: status, code, and whether when to ask again."""
    reader, _ = connection
    async with asyncio.timeout(WAIT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        code = json.loads(await reader.readexactly(length)).get("code", "")
    return int(head.split()[1]), code, "retry-after: " in head


@asynccontextmanager
async def unfinished(count: int, start: Callable[[], Awaitable[Connection]]) -> AsyncIterator[list[Connection]]:
    """Have requests under way whose bodies don't end; whoever sends them goes away in the end."""
    connections = [await start() for _ in range(count)]
    await until(lambda: under_way() == count)
    try:
        yield connections
    finally:
        for _, writer in connections:
            writer.transport.abort()
        await until(lambda: under_way() == 0)


def under_way() -> int:
    """Return how many requests of ALPHA have a share of what may be large, wherever."""
    found = [shares for shares in gc.get_objects() if isinstance(shares, Shares)]
    return sum(shares._under_way[ALPHA] for shares in found if shares._each < FEED_WAITING_MAX)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_batches_that_never_end_are_few_and_in_nobodys_way(town: Town) -> None:
    bravo, most = town.bravo, WAITING_MAX + 1
    token = town.assertion(ALPHA, BRAVO)

    async def start() -> Connection:
        return await begin(bravo.settings, "/federation/payments", token, length=BATCH_BYTES)

    with capture_logs() as logs:
        async with unfinished(most, start):
            refused = await start()
            assert await told(refused) == (503, "too_many_batches", True)
            refused[1].close()
            (outcome,) = town.acknowledged(
                await town.deliver(town.sealed(terms(1), sender=CARLO), sender=CARLO)
            ).outcomes
            assert outcome.status == "accepted"
        ended = [line for line in logs if line.get("route") == "/federation/payments" and line.get("status") == 400]
        assert [line["log_level"] for line in ended] == ["info"] * most
        assert not [line for line in logs if line["log_level"] == "error"]
    # Its share is its own again.
    assert town.acknowledged(await town.deliver(town.sealed(terms(1)))).outcomes[0].status == "accepted"


async def test_recalls_that_never_end(town: Town) -> None:
    bravo = town.bravo
    token = town.assertion(ALPHA, BRAVO)

    async def start() -> Connection:
        return await begin(bravo.settings, "/federation/recalls", token)

    async with unfinished(UNDER_WAY_MAX, start):
        refused = await start()
        assert await told(refused) == (503, "too_many_recalls_open", True)
        refused[1].close()


@pytest.mark.parametrize("content_type", ["application/json", "application/json;  charset=utf-8"])
@pytest.mark.parametrize(("method", "path"), [("POST", "attestations"), ("PUT", "cuts")])
async def test_a_cycle_takes_few_submissions_of_a_bank_at_once(
    town: Town, method: str, path: str, content_type: str
) -> None:
    """Whichever way they go: one share is for both."""
    coordinator = town.coordinator
    tokens = {bic: town.member_token(bic, COORDINATOR) for bic in (ALPHA, CARLO)}

    async def start(bic: str = ALPHA, length: int = ATTESTATION_BYTES_MAX) -> Connection:
        return await begin(
            coordinator.base.settings, f"{CYCLE}/{path}", tokens[bic], method=method, length=length,
            content_type=content_type,
        )  # fmt: skip

    async with unfinished(LARGE_UNDER_WAY_MAX, start):
        for other_way in ("application/json", "application/json; charset=UTF-8"):
            refused = await begin(
                coordinator.base.settings, f"{CYCLE}/{path}", tokens[ALPHA], method=method, content_type=other_way
            )
            assert await told(refused) == (429, "too_many_requests", True)
            refused[1].close()
        other = await start(CARLO, length=2)
        assert await told(other) == (400, "bad_request", False), "it was read"
        other[1].close()
    again = await start(length=2)
    assert await told(again) == (400, "bad_request", False)
    again[1].close()


async def test_a_document_of_too_many_values_is_none(town: Town) -> None:
    coordinator = town.coordinator
    token = town.member_token(ALPHA, COORDINATOR)
    members = json.dumps({"attestation": {f"{n:x}": 0 for n in range(VALUES_MAX)}}, separators=(",", ":")).encode()
    objects = b'{"payload":[' + b"{}," * VALUES_MAX + b"{}]}"
    for method, path, body in (
        ("POST", "attestations", members),
        ("POST", "attestations", objects),
        ("PUT", "cuts", members),
        ("PUT", "cuts", objects),
    ):
        _, writer = connection = await begin(
            coordinator.base.settings, f"{CYCLE}/{path}", token, method=method, length=len(body)
        )
        writer.write(body[2:])
        assert (await told(connection))[:2] == (400, "bad_request")
        writer.close()
    # What nobody may hand in any more isn't even waited for.
    connection = await begin(coordinator.base.settings, f"{CYCLE}/statements", token, length=ATTESTATION_BYTES_MAX)
    assert await told(connection) == (410, "release_too_old", False)
    connection[1].close()


async def test_who_waits_for_news_often_leaves_others_their_wait(town: Town) -> None:
    coordinator = town.coordinator

    def ask(bic: str, wait_s: int = WAIT_S_MAX) -> Awaitable[httpx.Response]:
        headers = {"Authorization": f"Bearer {town.member_token(bic, COORDINATOR)}"}
        return http.get(f"{coordinator.url}/events?after={2**40}&wait_s={wait_s}", headers=headers)

    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits()) as http:
        waiting = [asyncio.ensure_future(ask(ALPHA)) for _ in range(FEED_WAITING_MAX)]
        # ALPHA's own node is among those that wait.
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {one.result().status_code for one in done} == {429}
        refused = await ask(ALPHA)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert "retry-after" in refused.headers
        assert (await ask(ALPHA, wait_s=0)).status_code == 200, "who doesn't wait is answered"
        assert (await ask(CARLO, wait_s=1)).status_code == 200
        for one in waiting:
            one.cancel()


async def test_a_client_that_goes_away_is_no_failure_of_the_node(town: Town) -> None:
    """Of whatever request: it is told in one line, as every request is."""
    with capture_logs() as logs:
        for path in ("/payments", "/payments/batch", "/accounts"):
            _, writer = await begin(town.alpha.settings, path, town.alpha.staff_token("core", "orders"))
            writer.transport.abort()
        await until(lambda: sum(line.get("event") == "request" for line in logs) >= 2)
        assert (await town.alpha.send("POST", "/payments", order(1))).status_code == 201
    assert not [line for line in logs if line["log_level"] == "error"]
