"""Milliseconds from cut-off to signed instructions, beside the bare signature checks and one COPY.

A coordinator process and a settlement agent process on PostgreSQL with fsync on; the banks are simulated in this
process (`tests/simulated_banks.py`), everything they say goes over HTTP and is really signed. They follow the event
feed by long poll. All cycles of a row run at the same coordinator, the first isn't counted, the row is the median.

The clock starts before the operator's POST …/cut-off and stops when the feed has said `cycle.instructed` to the
operator. What the banks sign is signed before, for in real life each does it on a machine of its own; all else that
they do (sending, and reading and verifying what they get) shares the two cores with the coordinator and counts.
The peer does what can't be left out: it verifies as many signatures and stores as many rows by one COPY.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from gateway.federation.messages.events import Events
from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks.house import PAYMENTS, House, Timing, clear, cpu_seconds, running_house
from tests.benchmarks.rows import Row

CYCLES = 3


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name:
        server = EmbeddedServer(Path(name) / "postgres")
        server.start()
        try:
            for count, currencies in ((6, ("EUR",)), (50, ("EUR",)), (50, ("CHF", "EUR", "USD")), (200, ("EUR",))):
                directory = Path(name) / f"{count}-{len(currencies)}"
                directory.mkdir()
                rows += uvloop.run(_measure(server, directory, count, currencies))
        finally:
            server.stop()
    return rows


async def _measure(server: EmbeddedServer, directory: Path, count: int, currencies: tuple[str, ...]) -> list[Row]:
    async with running_house(server.url("postgres"), directory, count, currencies) as house:
        what = f"{count} banks, {count * (count - 1) * len(currencies):,} statements"
        if len(currencies) > 1:
            what += f", {len(currencies)} currencies"
        cycles = CYCLES if count <= 50 else 1  # 200 banks sign for longer than they are measured
        timings = [await clear(house) for _ in range(1 + cycles)][1:]
        rows = _rows(what, timings)
        if count == 50 and len(currencies) == 1:
            timings = [await clear(house, PAYMENTS * 1_000, 1_000) for _ in range(CYCLES)]
            rows += _rows(f"{what}, 1,000 times the payments", timings)[:1]
        resident = house.process.memory_info().rss / 2**20
        rows.append(_row("  coordinator's memory after these cycles", resident, None, "MiB", "resident set"))
        rows.append(await _waiting(house))
        return rows


def _rows(what: str, timings: list[Timing]) -> list[Row]:
    def median(of: Callable[[Timing], float]) -> float:
        return statistics.median(of(one) for one in timings)

    bare = median(lambda t: t.bare)
    spread = f"{min(t.instructed for t in timings):,.0f} to {max(t.instructed for t in timings):,.0f} ms"
    cpu = f"CPU: coordinator {median(lambda t: t.coordinator_cpu):,.0f}, banks {median(lambda t: t.banks_cpu):,.0f} ms"
    return [
        _row(f"{what}: to signed instructions", median(lambda t: t.instructed), bare, "ms", f"{spread}; {cpu}"),
        _row("  cuts", median(lambda t: t.cuts), None, "ms", "cycle.cut_off to cycle.attesting"),
        _row("  attestation", median(lambda t: t.attestation), None, "ms", "cycle.attesting to cycle.matched"),
        _row("  outcome", median(lambda t: t.outcome), None, "ms", "netting, checks, approval, signing instructions"),
        _row("  every bank has verified its own", median(lambda t: t.delivered), None, "ms", "from cut-off"),
    ]


def _row(what: str, ours: float, peer: float | None, unit: str, note: str) -> Row:
    name = "verify each signature, one COPY" if peer else ""
    return {"what": what, "ours": ours, "peer": peer, "peer_name": name, "unit": unit, "note": note}


async def _waiting(house: House) -> Row:
    """Return what it costs the coordinator that all banks wait for news and there is none."""
    after, seconds = await house.operator.newest(), 10
    path = f"/events?after={after}&wait_s={seconds}"
    before = cpu_seconds(house.process)
    await asyncio.gather(*(bank.connection.ask(Events, "GET", path) for bank in house.banks.banks))
    used = (cpu_seconds(house.process) - before) / (seconds * len(house.banks.banks))
    note = f"share of one core, {len(house.banks.banks)} banks"
    return _row("  one bank waiting for news", used * 1e6, None, "µs/s", note)


if __name__ == "__main__":
    for row in run():
        peer = f"{row['ours'] / row['peer']:5.1f} x {row['peer']:8.1f}" if row["peer"] else ""
        print(f"{row['what']:75s} {row['ours']:10,.1f} {row['unit']:5s} {peer:20s} {row['note']}")
