"""What a process has used: its processor time, its memory, and how long its event loop kept somebody waiting.

Run as a program (`python -m tests.benchmarks.meters HOST PORT`) it asks a node whether it lives every few
milliseconds: from a line `begin` of its standard input to a line `end`, for which it prints what the slowest answer
took. It is a process of its own, because whoever measures beside others' work waits for himself as well.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil

from gateway.federation.storage.postgres import dsn

ASK_EVERY_S = 0.01
_QUESTION = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process has used of the processors, to the nanosecond where the system tells it."""
    with suppress(OSError):
        # Linux's clock of another process (clock_getcpuclockid): its number is made of the process's own.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


def server_cpu_seconds(postmaster: psutil.Process) -> float:
    """Return what a PostgreSQL server has used of the processors: all its processes, also those that have ended."""
    times = postmaster.cpu_times()
    used = cpu_seconds(postmaster) + float(times.children_user + times.children_system)
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            used += cpu_seconds(child)
    return used


async def postmaster_of(database_url: str) -> psutil.Process:
    """Return the process of the PostgreSQL server, on this machine, that serves a database."""
    connection = await asyncpg.connect(dsn(database_url))
    try:
        parent = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).parent()
    finally:
        await connection.close()
    assert parent is not None, "a backend has a postmaster"
    return parent


def memory_peak_mib(process: psutil.Process) -> float:
    """Return the most memory that a process has had at once; where the system doesn't say, what it has now."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return float(process.memory_info().rss / 2**20)


def forget_memory_peak(process: psutil.Process) -> None:
    """Let a process's peak begin anew at what it has now, where the system can do that."""
    with suppress(OSError):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


class Watch:
    """How long a node's event loop keeps somebody waiting, while it works."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def begin(self) -> None:
        """Ask from now on."""
        await asyncio.to_thread(self._say, "begin")

    async def end(self) -> float:
        """Ask no more; return what the slowest answer took, in milliseconds."""
        return float(await asyncio.to_thread(self._say, "end"))

    def _say(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def watching(url: str) -> Iterator[Watch]:
    """Watch the event loop of a node until the block ends."""
    place = urlsplit(url)
    command = [sys.executable, "-m", "tests.benchmarks.meters", place.hostname or "", str(place.port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            yield Watch(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=20)


def main(host: str, port: str) -> None:
    """Watch whenever it is said, until standard input ends."""
    asking: tuple[threading.Thread, threading.Event, list[float]] | None = None
    for word in map(str.strip, sys.stdin):
        if word == "begin":
            enough, took = threading.Event(), [0.0]
            thread = threading.Thread(target=_ask, args=((host, int(port)), enough, took), daemon=True)
            thread.start()
            asking = thread, enough, took
            print(flush=True)
        elif asking is not None:
            thread, enough, took = asking
            enough.set()
            thread.join()
            print(max(took) * 1e3, flush=True)


def _ask(place: tuple[str, int], enough: threading.Event, took: list[float]) -> None:
    """Ask until it is enough, and note what each answer took, in seconds."""
    with socket.create_connection(place) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not enough.wait(ASK_EVERY_S):
            asked_at = time.perf_counter()
            connection.sendall(_QUESTION)
            answer = b""
            while b'"live"}' not in answer:
                if not (more := connection.recv(4096)):
                    raise ConnectionError("the node doesn't answer whether it lives")
                answer += more
            took.append(time.perf_counter() - asked_at)


if __name__ == "__main__":
    main(*sys.argv[1:])
