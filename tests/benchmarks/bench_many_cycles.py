"""Milliseconds of the last cycles of a long day, beside the first of another: nothing may grow with those before.

A coordinator process, an agent process and a few simulated banks clear one cycle after another, each from an operator's
cut-off to finality; CONCORDAT_BENCH_CYCLES says how many. The event log grows, the agent's books, and whatever else
somebody keeps for each cycle. Then a second house opens on the same machine, and both clear cycles in turn: the last of
the long day and, after some that aren't counted, the first of the other. So whatever else the machine does, it does to
both. A row is the median over a hundredth of the day (20 cycles at least).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from gateway.federation.messages.cycles import Cycle
from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks.house import House, running_house
from tests.benchmarks.meters import cpu_seconds, memory_peak_mib, server_cpu_seconds
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server

CYCLES = 10_000
BANKS = 4
WARMING, SAMPLE_MIN = 20, 20
READS = {
    "the newest cycles": "/cycles?limit=20",
    "a cycle's progress": "/cycles/{cycle}",
    "the newest events": "/events?after={after}&limit=100",
}
"""What an operator's console asks for again and again."""


@dataclass(frozen=True, kw_only=True)
class One:
    """One cycle, in milliseconds: from cut-off to finality, and processor time."""

    final: float
    coordinator: float
    postgres: float


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    cycles = int(os.environ.get("CONCORDAT_BENCH_CYCLES", CYCLES))
    with own_server() as (server, root):
        return uvloop.run(_measure(server, root, cycles))


async def _measure(server: EmbeddedServer, directory: Path, cycles: int) -> list[Row]:
    sample = max(SAMPLE_MIN, cycles // 100)
    first: list[One] = []
    last: list[One] = []
    async with AsyncExitStack() as stack:

        async def opened(name: str) -> House:
            (directory / name).mkdir()
            return await stack.enter_async_context(
                running_house(server.url("postgres"), directory / name, BANKS, ("EUR",))
            )

        old = await opened("long_day")
        for _ in range(max(0, cycles - sample)):
            await _clear(old)
        new = await opened("new_day")
        for _ in range(WARMING):
            await _clear(new)
        for _ in range(sample):
            last.append(await _clear(old))
            first.append(await _clear(new))
        reads_last, reads_first = await _reads(old), await _reads(new)
        memory_last, memory_first = memory_peak_mib(old.process), memory_peak_mib(new.process)
    name = f"the first {sample} of a day, after {WARMING}"
    note = f"{BANKS} banks, {cycles:,} cycles; median of {sample}, in turn"
    rows = [
        _row("the last cycles of a day: cut-off to finality", _median(last, "final"), _median(first, "final"), "ms"),
        _row("  coordinator's CPU a cycle", _median(last, "coordinator"), _median(first, "coordinator"), "ms"),
        _row("  PostgreSQL's CPU a cycle", _median(last, "postgres"), _median(first, "postgres"), "ms"),
        *(_row(f"  asking for {what}", reads_last[what], reads_first[what], "ms") for what in READS),
        _row("  coordinator's memory, peak", memory_last, memory_first, "MiB"),
    ]
    return [{**row, "peer_name": name, "note": note} for row in rows]


async def _clear(house: House) -> One:
    """Clear the open cycle."""
    operator, banks = house.operator, house.banks
    cycle = (await operator.ask(Cycle, "GET", "/cycles/current")).id
    after = house.cursor
    bodies = banks.prepare(cycle, payments=1)
    clearing = asyncio.create_task(banks.clear(cycle, bodies, after=after))
    await asyncio.sleep(0)  # until all banks have asked for news
    used = cpu_seconds(house.process), server_cpu_seconds(house.postmaster)
    started = time.perf_counter()
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    house.cursor = (await operator.event("cycle.final", cycle, after)).id
    took = time.perf_counter() - started
    await clearing
    banks.settled += 1
    return One(
        final=took * 1e3,
        coordinator=(cpu_seconds(house.process) - used[0]) * 1e3,
        postgres=(server_cpu_seconds(house.postmaster) - used[1]) * 1e3,
    )


async def _reads(house: House) -> dict[str, float]:
    """Return the milliseconds that an operator waits for each of READS."""
    operator, found = house.operator, {}
    cycle = (await operator.ask(Cycle, "GET", "/cycles/current")).id
    for what, path in READS.items():
        took = []
        for _ in range(SAMPLE_MIN):
            started = time.perf_counter()
            await operator.ask(Any, "GET", path.format(cycle=cycle, after=max(0, house.cursor - 100)))  # type: ignore[arg-type]
            took.append(time.perf_counter() - started)
        found[what] = statistics.median(took) * 1e3
    return found


def _median(cycles: list[One], of: str) -> float:
    return statistics.median(getattr(one, of) for one in cycles)


def _row(what: str, ours: float, peer: float, unit: str) -> Row:
    return {"what": what, "ours": ours, "peer": peer, "unit": unit}


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:50s} {row['ours']:10,.1f} {row['unit']:5s} {row['ours'] / row['peer']:6.2f}")
