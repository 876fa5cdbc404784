"""The institutions as processes: start, wait until ready, kill, start again, stop; each with a log of its own."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
LOG_TAIL_BYTES = 4_000
ASSIGNABLE_PORTS = (10_000, 32_768)
"""First, and the one after the last: below what Linux (32768), macOS and Windows (49152) take for connections."""


class ProcessError(RuntimeError):
    """A process didn't start, ended too early or failed. The message ends with the last lines of its log."""


def free_ports(count: int) -> list[int]:
    """Return distinct free TCP ports of the loopback interface, drawn from those that no system gives away itself.

    A port of the range that systems take for outgoing connections can be somebody's before its server starts.
    """
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            port = random.randrange(*ASSIGNABLE_PORTS)  # noqa: S311 - no secret
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


@dataclass
class Node:
    """One `concordat … serve`: its command, its environment, and the process while it runs."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    url: str
    log: Path
    program: str = "gateway.cli"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    killed: bool = False

    @property
    def private_url(self) -> str:
        """Where the node serves its metrics and says what it lacks."""
        return f"http://127.0.0.1:{self.environment['CONCORDAT_PRIVATE_PORT']}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; what it prints goes to the end of its log."""
        if self.running:
            raise ProcessError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(*self.arguments, program=self.program),
                env=environment(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C at the terminal is for us alone: we stop the others in their order.
                start_new_session=True,
            )
        # Not before: whoever looks on takes a process that ended and wasn't killed for one that ended by itself.
        self.killed = False

    def kill(self) -> None:
        """End the process as a power cut does: SIGKILL, no clean-up."""
        if self.process is not None:
            self.killed = True
            self.process.kill()
            self.process.wait()

    def ask_to_stop(self) -> None:
        """Ask the process to finish (SIGTERM) without waiting."""
        if self.running and self.process is not None:
            self.process.terminate()

    def wait_stopped(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """Wait for the end and return the exit code, None if it never ran; kill it when it takes too long."""
        if self.process is None:
            return None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def require_running(self) -> None:
        """Raise ProcessError with the end of the log if the process has ended, unless we killed it."""
        if not self.running and not self.killed:
            code = None if self.process is None else self.process.returncode
            raise ProcessError(f"{self.name} ended with code {code}; the end of {self.log}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return "(no log)"


class Supervisor:
    """All nodes of the demonstration, stopped again whatever happens."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.nodes: list[Node] = []
        logs.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, arguments: tuple[str, ...], environ: Mapping[str, str], url: str) -> Node:
        """Make a node known without starting it."""
        node = Node(name, arguments, environ, url, self.logs / f"{name}.log")
        self.nodes.append(node)
        return node

    def wait_ready(self, *nodes: Node, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when every node answers `/health/ready` with 200. Raises ProcessError."""
        deadline = time.monotonic() + timeout_s
        waiting = list(nodes)
        with httpx.Client(timeout=2, trust_env=False) as client:
            while waiting:
                waiting = [node for node in waiting if not _is_ready(client, node)]
                if waiting and time.monotonic() > deadline:
                    slow = waiting[0]
                    raise ProcessError(
                        f"{slow.name} isn't ready after {timeout_s:.0f} s; the end of {slow.log}:\n{slow.log_tail()}"
                    )
                if waiting:
                    time.sleep(0.1)

    def stop(self) -> dict[str, int | None]:
        """Stop every node, the last started first, and return the exit codes."""
        for node in reversed(self.nodes):
            node.ask_to_stop()
        return {node.name: node.wait_stopped() for node in reversed(self.nodes)}


def run(*arguments: str, environ: Mapping[str, str], log: Path) -> str:
    """Run a `concordat` command to its end and return what it printed. Raises ProcessError if it fails."""
    process = subprocess.run(
        command(*arguments),
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    with log.open("a") as out:
        out.write(f"$ concordat {' '.join(arguments)}\n{process.stdout}{process.stderr}")
    if process.returncode != 0:
        output = (process.stderr or process.stdout).strip()[-LOG_TAIL_BYTES:]
        raise ProcessError(f"concordat {' '.join(arguments)} ended with code {process.returncode}:\n{output}")
    return process.stdout


def command(*arguments: str, program: str = "gateway.cli") -> list[str]:
    """Return the command line of this very program, or of another module, with other arguments."""
    return [sys.executable, "-m", program, *arguments]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without its own CONCORDAT_* and database settings, and with these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CONCORDAT_") and name != "DATABASE_URL"
    }
    return {**inherited, **settings}


def _is_ready(client: httpx.Client, node: Node) -> bool:
    node.require_running()
    try:
        return client.get(f"{node.url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
