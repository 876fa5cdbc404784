"""A stranger learns whether a node serves; its own people learn why not, on another port of the same process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_harness import COORDINATOR, Scheme
from support import free_port

CONCORDAT = Path(sys.executable).with_name("concordat")
START_SECONDS_MAX = 60
BIC_OR_VERSION = re.compile(r"[A-Z]{6}[A-Z0-9]{2}|revision|version|\d")


class Agent:
    """`concordat agent serve` with a private port."""

    def __init__(self, scheme: Scheme, database_url: str) -> None:
        self.port, self.private_port = free_port(), free_port()
        self.url, self.private_url = (f"http://127.0.0.1:{port}" for port in (self.port, self.private_port))
        environment = {**scheme.environment(self.url, database_url), "CONCORDAT_PRIVATE_PORT": str(self.private_port)}
        self.environment = {**os.environ, **environment, "CONCORDAT_LOG_LEVEL": "warning"}

    def launch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CONCORDAT, "agent", "serve"], env=self.environment, stderr=subprocess.PIPE, text=True, bufsize=1
        )


@pytest.fixture
async def agent(tmp_path: Path, new_database: Any) -> Agent:
    return Agent(Scheme(tmp_path), await new_database())


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=20, transport=httpx.HTTPTransport(retries=0)) as client:
        yield client


def until_ready(url: str, http: httpx.Client, process: subprocess.Popen[str]) -> None:
    for _ in range(START_SECONDS_MAX * 20):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            if http.get(f"{url}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("not ready")


def test_strangers_learn_yes_or_no_and_one_signal_ends_both_ports(agent: Agent, http: httpx.Client) -> None:
    process = agent.launch()
    until_ready(agent.url, http, process)
    assert http.get(f"{agent.url}/health/ready").json() == {"status": "ready"}
    for path in ("/metrics", "/health/details", "/health/ready/details"):
        assert http.get(f"{agent.url}{path}").status_code == 404
    # Nor by the name of the private listener, or as if a proxy had sent it.
    as_if = {"Host": f"127.0.0.1:{agent.private_port}", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Port": "1"}
    assert http.get(f"{agent.url}/health/ready", headers=as_if).json() == {"status": "ready"}
    for path in ("/health/live", "/health/startup", "/health/ready", "/nothing"):
        answer = http.get(f"{agent.url}{path}")
        assert not {"server", "x-powered-by", "via"} & {name.lower() for name in answer.headers}
        body = {**answer.json(), "instance": "", "type": "", "status": ""}
        assert not BIC_OR_VERSION.search(str(body)), body

    details = http.get(f"{agent.private_url}/health/ready").json()
    assert re.fullmatch(r"version 1, confirmed \d+ s ago", details["trust_list"])
    assert "concordat_http_requests_total" in http.get(f"{agent.private_url}/metrics").text
    # The private port isn't a second way in.
    for path in ("/accounts", "/schema/openapi.json"):
        assert http.get(f"{agent.private_url}{path}").status_code == 404

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    for port in (agent.port, agent.private_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert process.stderr is not None
    process.stderr.close()


def test_strangers_learn_no_more_while_it_is_not_ready(agent: Agent, http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "trust-list.json").unlink()
    process = agent.launch()
    for _ in range(START_SECONDS_MAX * 20):
        try:
            answer = http.get(f"{agent.url}/health/ready")
            break
        except httpx.TransportError:
            assert process.poll() is None
            signal.sigtimedwait([], 0.05)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["detail"] == "the node isn't ready"
    assert COORDINATOR not in answer.text
    said = http.get(f"{agent.private_url}/health/ready")
    assert (said.status_code, said.json()["detail"]) == (503, "no trust list yet")
    process.terminate()
    _, log = process.communicate(timeout=30)
    # Without a private port the log has it, once.
    assert log.count('"event":"not ready"') == 1
    assert '"detail":"no trust list yet"' in log


def test_a_private_port_that_is_taken_ends_the_start(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", agent.private_port)):
        process = agent.launch()
        _, log = process.communicate(timeout=START_SECONDS_MAX)
    assert process.returncode == 2
    assert "CONCORDAT_PRIVATE_PORT" in log
    assert "can't be listened on" in log
