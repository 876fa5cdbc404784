"""A cycle of many banks at a real coordinator: `make sim BANKS=2000`.

The coordinator and the settlement agent are processes on a PostgreSQL of their own; the banks are generated in this one
(`tests/simulated_banks.py`): real keys, real signatures, real HTTP, and amounts that are made up. Every bank owes every
other. It prints what happens as it does, then what each phase took and what it cost, and compares what came out with
what went in: nothing may be lost on the way, and nothing made.

Where the result is more than an order to the settlement agent may hold (from about 1,260 banks in one currency on), the
cycle ends with the instructions that every bank has verified: that is the coordinator's part. A coordinator in earnest
signs none of them, for nobody could settle them; this one is told that its agent takes orders of any size.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import uvloop

from gateway.federation.messages.cycles import Cycle, Positions
from gateway.federation.messages.events import Events
from gateway.federation.settings import ORDER_BYTES_MAX
from gateway.federation.storage.postgres import EmbeddedServer, dsn
from tests.benchmarks.house import House, Timing, clear, running_house
from tests.benchmarks.meters import server_cpu_seconds
from tests.benchmarks.server import own_server
from tests.benchmarks.settings import BANKS_MAX, BANKS_MIN
from tests.simulated_banks import Connection

BANKS = 200
PAIR_BYTES = 168
"""Of an order to the settlement agent: what its result says of one pair, in base64."""


@dataclass(frozen=True)
class Told:
    """What the coordinator said of the matching."""

    agreed: int
    carried_over: int


def main(arguments: list[str]) -> int:
    """Clear cycles of so many banks, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make sim BANKS=…", description=__doc__.splitlines()[0])
    parser.add_argument("--banks", type=_number_from(BANKS_MIN, BANKS_MAX), default=BANKS)
    parser.add_argument("--currencies", type=lambda text: tuple(sorted(text.split(","))), default=("EUR",))
    parser.add_argument("--cycles", type=_number_from(1, 9_999), default=1)
    chosen = parser.parse_args(arguments)
    try:
        with own_server("concordat-sim-") as (server, root):
            directory = root / "house"
            directory.mkdir()
            uvloop.run(_run(server, directory, chosen.banks, chosen.currencies, chosen.cycles))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; every process is stopped", file=sys.stderr)
        return 130
    return 0


def _number_from(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most:,} is taken, not {text!r}")
        return int(text)

    return number


async def _run(server: EmbeddedServer, directory: Path, banks: int, currencies: tuple[str, ...], cycles: int) -> None:
    pairs = banks * (banks - 1) // 2 * len(currencies)
    print(f"{banks:,} banks, {len(currencies)} currencies: {pairs:,} pairs, {2 * pairs:,} statements", flush=True)
    with _timed() as lap:
        async with running_house(server.url("postgres"), directory, banks, currencies) as house:
            lap("the clearing house is founded, and everybody has an account at the agent")
            settles = pairs * PAIR_BYTES < ORDER_BYTES_MAX
            if not settles:
                print("the result is more than one order may hold: the cycle ends with signed instructions", flush=True)
            for _ in range(cycles if settles else 1):
                before, size = server_cpu_seconds(house.postmaster), await _database_bytes(house)
                cycle = (await house.operator.ask(Cycle, "GET", "/cycles/current")).id
                told = asyncio.create_task(_tell(house, cycle, lap, "cycle.final" if settles else "cycle.instructed"))
                timing = await clear(house, bare=False, to_finality=settles)
                grown = await _database_bytes(house) - size
                _report(timing, 2 * pairs, server_cpu_seconds(house.postmaster) - before, grown, settles=settles)
                await _check(house, cycle, await told, pairs)


@contextmanager
def _timed() -> Iterator[Callable[[str], None]]:
    """Yield what prints a line after the seconds since the block began."""
    began = time.perf_counter()
    yield lambda line: print(f"{time.perf_counter() - began:8.1f} s  {line}", flush=True)


async def _tell(house: House, cycle: str, lap: Callable[[str], None], last: str) -> Told:
    """Print what happens to a cycle until its last event."""
    listener = Connection(house.operator.url, house.operator.token)
    after, told = await listener.newest(house.cursor), Told(0, 0)
    while True:
        page = await listener.ask(Events, "GET", f"/events?after={after}&wait_s=25")
        for event in page.events:
            if event.cycle != cycle:
                continue
            more = f", {event.data['agreed']:,} pairs agree" if event.type == "cycle.matched" else ""
            lap(f"{event.type} {cycle}{more}")
            if event.type == "cycle.matched":
                told = Told(event.data["agreed"], event.data["carried_over"])
            if event.type == last:
                listener.close()
                return told
        after = page.next


async def _database_bytes(house: House) -> int:
    connection = await asyncpg.connect(dsn(house.database))
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()


def _report(timing: Timing, statements: int, postgres_s: float, grown: int, *, settles: bool) -> None:
    def line(what: str, value: str, note: str = "") -> None:
        print(f"  {what:44s} {value:>14s}  {note}", flush=True)

    for what, milliseconds in (
        ("cuts", timing.cuts),
        ("attestation", timing.attestation),
        ("netting, checks, approval, instructions", timing.outcome),
        ("cut-off to signed instructions", timing.instructed),
        ("every bank has verified its own", timing.delivered),
        *((("cut-off to finality", timing.final),) if settles else ()),
    ):
        line(what, f"{milliseconds / 1e3:,.2f} s")
    for who, milliseconds in (
        ("coordinator", timing.coordinator_cpu),
        ("its PostgreSQL", timing.postgres_cpu),
        ("generated banks", timing.banks_cpu),
    ):
        line(f"CPU: {who}", f"{milliseconds / 1e3:,.2f} s", f"{milliseconds * 1e3 / statements:,.1f} µs a statement")
    line("CPU: PostgreSQL to the end", f"{postgres_s:,.2f} s")
    line(
        "the coordinator's database has grown by",
        f"{grown / 2**20:,.0f} MiB",
        f"{grown / statements:,.0f} bytes a statement",
    )
    line("memory of the coordinator, peak", f"{timing.memory_peak:,.0f} MiB")
    line("event loop held up, slowest answer", f"{timing.held_up:,.0f} ms")


async def _check(house: House, cycle: str, told: Told, pairs: int) -> None:
    """Compare what came out with what went in. Raises AssertionError."""
    assert told == Told(pairs, 0), told
    found = (await house.operator.ask(Positions, "GET", f"/cycles/{cycle}/positions")).positions
    assert len(found) == len(house.banks.expected)
    for position in found:
        expected = house.banks.expected[position.participant, position.currency]
        assert (int(position.receives_minor), int(position.pays_minor)) == (expected.receives, expected.pays)
        assert int(position.net_minor) == expected.receives - expected.pays
    for currency in house.banks.currencies:
        of_currency = [position for position in found if position.currency == currency]
        gross = sum(int(position.pays_minor) for position in of_currency)
        assert sum(int(position.net_minor) for position in of_currency) == 0
        assert gross == sum(int(position.receives_minor) for position in of_currency)
        debits = sum(-min(0, int(position.net_minor)) for position in of_currency)
        print(
            f"  {currency}: {gross:,} owed, {debits:,} moves; the nets sum to zero, each as its bank expects",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
