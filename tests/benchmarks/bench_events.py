"""Events a second that a bank's core hears, by feed, stream and webhook, beside the rate at which they are made.

Each way is measured by itself, over the same events: orders that were taken in batches just before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import uvloop

from tests.benchmarks import load
from tests.benchmarks.bank import BenchBank, batches, open_accounts, running_bank
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server
from tests.support import uuid7

SIZE, CLIENTS, PAGE = 100, 16, 1_000


def run(*, payments: int = 60_000) -> list[Row]:
    """Return a row for each way to hear; higher is better."""
    with own_server() as (server, root), running_bank(root / "bank", server.url("postgres")) as bank:
        return uvloop.run(_measure(bank, payments))


async def _measure(bank: BenchBank, payments: int) -> list[Row]:
    await open_accounts(bank)
    headers = {"Authorization": f"Bearer {bank.hearer}"}
    base = f"http://127.0.0.1:{bank.port}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=120, trust_env=False) as http:
        begin = (await http.get("/events", params={"after": 0, "limit": 1})).json()["head"]
        requests = batches(bank, payments // SIZE, SIZE)
        made = await load.run("127.0.0.1", bank.port, requests, connections=CLIENTS)
        made.require_success("orders")
        rate = payments / made.seconds
        ways = {"feed, pages of 1,000": _feed, "stream": _stream, "webhook, 100 in a message": _webhook}
        rows = []
        for what, hear in ways.items():
            started = time.perf_counter()
            count = await hear(http, begin, payments)
            rows.append(_row(what, count / (time.perf_counter() - started), rate))
        return rows


def _row(what: str, ours: float, rate: float) -> Row:
    return {
        "what": f"events heard by {what}",
        "ours": ours,
        "peer": rate,
        "peer_name": f"orders taken, batches of {SIZE}, {CLIENTS} clients",
        "unit": "events/s",
        "note": "one core, by itself",
    }


async def _feed(http: httpx.AsyncClient, after: int, payments: int) -> int:
    heard = 0
    while heard < payments:
        answer = await http.get("/events", params={"after": after, "limit": PAGE, "type": "payment.reserved"})
        page = msgspec.json.decode(answer.raise_for_status().content)
        heard, after = heard + len(page["events"]), page["next"]
    return heard


async def _stream(http: httpx.AsyncClient, after: int, payments: int) -> int:
    heard, mark, rest = 0, b"event: payment.reserved", b""
    params = {"after": after, "type": "payment.reserved"}
    async with http.stream("GET", "/events", params=params, headers={"Accept": "text/event-stream"}) as stream:
        async for part in stream.aiter_raw():
            heard += (rest + part).count(mark)
            rest = part[-len(mark) + 1 :]
            if heard >= payments:
                break
    return heard


async def _webhook(http: httpx.AsyncClient, after: int, payments: int) -> int:
    async with _receiver() as (port, events, taken):
        body = {
            "id": uuid7(), "url": f"http://127.0.0.1:{port}/", "types": ["payment.reserved"], "after": after,
        }  # fmt: skip
        (await http.post("/webhooks", json=body)).raise_for_status()
        while len(events) < payments:
            await taken.wait()
            taken.clear()
        (await http.delete(f"/webhooks/{body['id']}")).raise_for_status()
    return len(events)


@asynccontextmanager
async def _receiver() -> AsyncIterator[tuple[int, list[Any], asyncio.Event]]:
    """Answer whatever is posted with 204, and keep its events."""
    events: list[Any] = []
    taken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_length = b"content-length:"
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            except (asyncio.IncompleteReadError, asyncio.CancelledError):
                writer.close()
                return
            at = head.index(with_length) + len(with_length)
            body = await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
            events.extend(msgspec.json.decode(body)["data"]["events"])
            taken.set()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22) as server:
        yield server.sockets[0].getsockname()[1], events, taken


if __name__ == "__main__":
    for row in run():
        print(row)
