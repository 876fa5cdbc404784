"""Seconds to export a cycle and to verify it offline, beside packing its files and the bare checking.

The export is asked for as an auditor does it, by `concordat export` at a coordinator process, and verified by
`concordat verify` from the file alone. Of each command the processor time and the greatest memory are its own
process's; what the coordinator uses for an export stands beside it, and so does how long it keeps others waiting.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.federation.messages.cycles import Cycle
from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks.house import COORDINATOR, OPERATOR, OPERATOR_KEY, House, bare_seconds, clear, running_house
from tests.benchmarks.meters import cpu_seconds, forget_memory_peak, memory_peak_mib, server_cpu_seconds
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server

BANKS = 500


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command took: seconds, processor seconds, and its greatest memory in MiB."""

    seconds: float
    cpu: float
    memory_peak: float
    output: str


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    banks = int(os.environ.get("CONCORDAT_BENCH_BANKS", BANKS))
    with own_server() as (server, root):
        directory = root / "house"
        directory.mkdir()
        return uvloop.run(_measure(server, directory, banks))


async def _measure(server: EmbeddedServer, directory: Path, banks: int) -> list[Row]:
    async with running_house(server.url("postgres"), directory, banks, ("EUR",)) as house:
        cycle = (await house.operator.ask(Cycle, "GET", "/cycles/current")).id
        bodies = house.banks.prepare(cycle, payments=25)
        bare = await bare_seconds(house, cycle, bodies)
        await clear(house, bare=False)
        file = directory / "cycle.zip"
        forget_memory_peak(house.process)
        await house.watch.begin()
        before = cpu_seconds(house.process), server_cpu_seconds(house.postmaster)
        exported = await asyncio.to_thread(_export, house, cycle, file)
        coordinator = cpu_seconds(house.process) - before[0]
        database = server_cpu_seconds(house.postmaster) - before[1]
        held_up, memory = await house.watch.end(), memory_peak_mib(house.process)
    verified = _command("verify", str(file), "--trust", str(directory / "anchor.json"))
    if f"(cycle {cycle}, final" not in verified.output:
        raise RuntimeError(verified.output)
    packed, written = _packed(file)
    statements = banks * (banks - 1)
    size = file.stat().st_size
    note = f"coordinator's CPU {coordinator:.1f} s, its PostgreSQL's {database:.1f} s"
    checked = f"CPU {verified.cpu:.1f} s, {verified.cpu * 1e6 / statements:.1f} µs a statement"
    what = f"{banks} banks, {statements:,} statements"
    return [
        _row(f"export of a cycle, {what}", exported.seconds, packed, "s", "its files, packed", note),
        _row("  coordinator's memory meanwhile", memory, None, "MiB", "", "peak"),
        _row("  coordinator's event loop held up", held_up, None, "ms", "", "slowest answer"),
        _row("  the archive", size / 2**20, written / 2**20, "MiB", "unpacked", f"{size / statements:,.0f} bytes each"),
        _row(f"its offline verification, {what}", verified.seconds, bare, "s", "the bare checking, one COPY", checked),
        _row("  the verifier's memory", verified.memory_peak, None, "MiB", "", "peak"),
    ]


def _export(house: House, cycle: str, file: Path) -> Ran:
    key = str(house.directory / OPERATOR_KEY)
    coordinator = ("--coordinator", house.environment["CONCORDAT_COORDINATOR_URL"], "--coordinator-bic", COORDINATOR)
    return _command("export", cycle, *coordinator, "--client", OPERATOR, "--key", key, "--out", str(file))


def _command(*arguments: str) -> Ran:
    """Run `concordat …`. Raises RuntimeError where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-m", "gateway.cli", *arguments], stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - started
        output.seek(0)
        said = output.read().decode()
    if process.returncode:
        raise RuntimeError(f"concordat {arguments[0]} ended with {process.returncode}:\n{said[-2000:]}")
    return Ran(seconds=took, cpu=used.ru_utime + used.ru_stime, memory_peak=used.ru_maxrss / 2**10, output=said)


def _packed(file: Path) -> tuple[float, int]:
    """Return the seconds that packing an archive's files takes, and the bytes that they are."""
    with zipfile.ZipFile(file) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    started = time.perf_counter()
    with zipfile.ZipFile(file.with_suffix(".again.zip"), "w") as again:
        for info, data in files.items():
            again.writestr(info, data)
    return time.perf_counter() - started, sum(map(len, files.values()))


def _row(what: str, ours: float, peer: float | None, unit: str, peer_name: str, note: str) -> Row:
    return {"what": what, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "note": note}


if __name__ == "__main__":
    for row in run():
        peer = f"{row['ours'] / row['peer']:5.1f} x {row['peer']:8.1f}" if row["peer"] else ""
        print(f"{row['what']:75s} {row['ours']:10,.1f} {row['unit']:5s} {peer:20s} {row['note']}")
