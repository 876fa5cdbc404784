"""Milliseconds from cut-off to signed instructions, beside the bare checking and one COPY.

A coordinator process and a settlement agent process on PostgreSQL with fsync on; the banks are simulated in this
process (`tests/simulated_banks.py`), everything they say goes over HTTP and is really signed. They follow the event
feed by long poll. All cycles of a row run at the same coordinator, the first isn't counted, the row is the median.

The clock starts before the operator's POST …/cut-off and stops when the feed has said `cycle.instructed` to the
operator. What the banks sign is signed before, for in real life each does it on a machine of its own; all else that
they do (sending, and reading and verifying what they get) shares the two cores with the coordinator and counts.
The peer does what can't be left out, one thing after another in one process: it decodes what the banks sent, makes
each statement's bytes of it and hashes them, compares each root and verifies each signature, looks whether both banks
of a pair said the same, and stores each pair by one COPY.

Processor time is told apart: of the coordinator's process, of its PostgreSQL server (which keeps the agent's database,
too), and of the banks. Whether the event loop is held up shows in what a process beside them waits for answers to
`GET /health/live`, asked every few milliseconds: on two cores that others use as well, waiting for a core is in it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path

import uvloop

from gateway.federation.messages.events import Events
from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks.house import PAYMENTS, House, Timing, clear, running_house
from tests.benchmarks.meters import cpu_seconds
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server
from tests.benchmarks.settings import houses

CYCLES = 3


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    rows: list[Row] = []
    with own_server() as (server, root):
        for name, (count, currencies) in houses().items():
            directory = root / name
            directory.mkdir()
            rows += uvloop.run(_measure(server, directory, count, currencies))
    return rows


async def _measure(server: EmbeddedServer, directory: Path, count: int, currencies: tuple[str, ...]) -> list[Row]:
    statements = count * (count - 1) * len(currencies)
    async with running_house(server.url("postgres"), directory, count, currencies) as house:
        what = f"{count} banks, {statements:,} statements"
        if len(currencies) > 1:
            what += f", {len(currencies)} currencies"
        cycles = CYCLES if count <= 200 else 1  # 500 banks sign for longer than they are measured
        timings = [await clear(house) for _ in range(1 + cycles)][1:]
        rows = _rows(what, statements, timings)
        if count in (50, 500) and len(currencies) == 1:
            rows.append(await _more_payments(house, what, timings))
        rows.append(await _waiting(house))
        return rows


def _rows(what: str, statements: int, timings: list[Timing]) -> list[Row]:
    def median(of: Callable[[Timing], float]) -> float:
        return statistics.median(of(one) for one in timings)

    def each(of: Callable[[Timing], float]) -> float:
        return median(of) * 1e3 / statements

    bare = median(lambda t: t.bare)
    spread = f"{min(t.instructed for t in timings):,.0f} to {max(t.instructed for t in timings):,.0f} ms"
    cpu = f"of {median(lambda t: t.coordinator_cpu):,.0f} ms; the banks used {median(lambda t: t.banks_cpu):,.0f}"
    held_up = max(t.held_up for t in timings)
    return [
        _row(f"{what}: to signed instructions", median(lambda t: t.instructed), bare, "ms", spread),
        _row("  coordinator's CPU a statement", each(lambda t: t.coordinator_cpu), None, "µs", cpu),
        _row("  its PostgreSQL's CPU a statement", each(lambda t: t.postgres_cpu), None, "µs", "all of the server"),
        _row("  coordinator's memory", max(t.memory_peak for t in timings), None, "MiB", "peak, to finality"),
        _row("  coordinator's event loop held up", held_up, None, "ms", "slowest answer of all cycles"),
        _row("  cuts", median(lambda t: t.cuts), None, "ms", "cycle.cut_off to cycle.attesting"),
        _row("  attestation", median(lambda t: t.attestation), None, "ms", "cycle.attesting to cycle.matched"),
        _row("  outcome", median(lambda t: t.outcome), None, "ms", "netting, checks, approval, signing instructions"),
        _row("  every bank has verified its own", median(lambda t: t.delivered), None, "ms", "from cut-off"),
        _row("  final", median(lambda t: t.final), None, "ms", "from cut-off, settled by the agent"),
    ]


async def _more_payments(house: House, what: str, before: list[Timing]) -> Row:
    """Return what the same takes with 1,000 times the payments, beside what it took before."""
    timings = [await clear(house, PAYMENTS * 1_000, 1_000, bare=False) for _ in before]
    ours, peer = (statistics.median(t.instructed for t in of) for of in (timings, before))
    note = f"{min(t.instructed for t in timings):,.0f} to {max(t.instructed for t in timings):,.0f} ms"
    row = _row(f"{what}, 1,000 times the payments", ours, peer, "ms", note)
    return {**row, "peer_name": f"{PAYMENTS} payments a lane"}


def _row(what: str, ours: float, peer: float | None, unit: str, note: str) -> Row:
    name = "decode, hash, verify, match; one COPY" if peer else ""
    return {"what": what, "ours": ours, "peer": peer, "peer_name": name, "unit": unit, "note": note}


async def _waiting(house: House) -> Row:
    """Return what it costs the coordinator that all banks wait for news and there is none."""
    after, seconds = await house.operator.newest(house.cursor), 10
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
