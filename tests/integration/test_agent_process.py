"""The settlement agent as a process: killed at any moment, and run from the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from agent_harness import AGENT, ALFA, BETA, Desk, Scheme, request, transfer
from support import free_port

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey
from gateway.federation.iso20022 import read_status
from gateway.federation.membership.documents import APPLICATION_TYPE, Application

CONCORDAT = Path(sys.executable).with_name("concordat")
READY_TIMEOUT_S = 30


class AgentProcess:
    """`concordat agent serve` on a free port, over a database of the test's."""

    def __init__(self, scheme: Scheme, database_url: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {**os.environ, **scheme.environment(self.url, database_url), "CONCORDAT_LOG_LEVEL": "error"}
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen([CONCORDAT, "agent", "serve"], env=self.environment)
        return self.process

    async def start(self) -> None:
        process = self.launch()
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                assert process.poll() is None, "the agent ended"
                try:
                    if (await client.get(f"{self.url}/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError("the agent isn't ready")

    def kill(self) -> None:
        """SIGKILL: no clean-up, as in a power cut."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the agent in the same settings."""
        return subprocess.run(
            [CONCORDAT, "agent", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def message_in(answer: bytes) -> bytes:
    """Return the pacs.002 in an answer."""
    return msgspec.json.decode(answer, type=Envelope).payload_bytes()


@pytest.fixture
async def agent(tmp_path: Path, new_database: Any) -> AsyncIterator[AgentProcess]:
    process = AgentProcess(Scheme(tmp_path), await new_database())
    await process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


async def test_killed_at_any_moment_it_answers_the_same_and_no_money_is_lost_or_made(
    agent: AgentProcess, tmp_path: Path
) -> None:
    desk = Desk(Scheme(tmp_path), agent.url)
    for bank in (ALFA, BETA):
        await desk.open(bank, amount=100_000)
    requests = {f"{number}": request(f"{number}", *transfer(ALFA, BETA, 1 + number)) for number in range(60)}
    answers: dict[str, bytes] = {}
    cut_off = 0
    for killed_after in (1, 7, 20):
        arrived = 0
        enough = asyncio.Event()

        async def ask(message_id: str, *, killed_after: int = killed_after, enough: asyncio.Event = enough) -> None:
            nonlocal arrived, cut_off
            try:
                answer = await desk.coordinator.post(requests[message_id])
            except httpx.TransportError:
                cut_off += 1
                return
            assert answer.status_code == 200, answer.text
            assert answers.setdefault(message_id, answer.content) == answer.content
            arrived += 1
            if arrived >= killed_after:
                enough.set()

        asking = [asyncio.create_task(ask(message_id)) for message_id in requests]
        await enough.wait()
        agent.kill()
        await asyncio.gather(*asking)
        await agent.start()
    assert cut_off, "no request was under way when the agent was killed"

    for message_id, message in requests.items():
        again = (await desk.coordinator.post(message)).content
        assert answers.setdefault(message_id, again) == again
    assert {read_status(message_in(answer)).status for answer in answers.values()} == {"ACSC"}
    moved = sum(1 + number for number in range(60))
    assert [await desk.staff.balance(bank) for bank in (ALFA, BETA)] == [100_000 - moved, 100_000 + moved]
    checked = agent.run("fsck")
    assert checked.returncode == 0, checked.stdout
    assert agent.stop() == 0


async def test_the_command_line_sets_up_and_funds(agent: AgentProcess) -> None:
    applied = agent.run("init", "--name", "Central bank")
    envelope = msgspec.json.decode(applied.stdout, type=Envelope)
    offered = msgspec.json.decode(envelope.payload_bytes(), type=Application)
    assert (offered.bic, offered.name, offered.url) == (AGENT, "Central bank", agent.url)
    sign = VerifyingKey(next(key.x for key in offered.keys if key.use == "sign"))
    assert dsse.verify(envelope, Application, {sign.kid: sign}, payload_type=APPLICATION_TYPE) == offered
    assert agent.run("init", "--name", "Central bank").stdout == applied.stdout

    assert agent.run("open-account", ALFA, "KWD").stdout == "ALFADEFF KWD: 0.000\n"
    assert agent.run("fund", ALFA, "KWD", "1500.25").stdout == "F000000000001: ALFADEFF KWD 1,500.250\n"
    withdrawn = agent.run("fund", ALFA, "KWD", "0.25", "--withdraw")
    assert withdrawn.stdout.endswith("ALFADEFF KWD 1,500.000\n")
    refused = agent.run("fund", ALFA, "KWD", "1500.001", "--withdraw")
    assert refused.returncode == 1
    assert "insufficient_funds" in refused.stderr
    assert agent.run("fund", ALFA, "KWD", "1.0000").returncode == 2

    token = agent.run("token", "--subject", "erin").stdout.strip()
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
        accounts = (await client.get(f"{agent.url}/accounts")).json()
    assert [(account["participant"], account["balance_minor"]) for account in accounts] == [(ALFA, "1500000")]
    checked = agent.run("fsck")
    assert checked.returncode == 0
    assert "FAILED" not in checked.stdout


async def test_a_missing_setting_is_named(agent: AgentProcess) -> None:
    del agent.environment["CONCORDAT_ANCHOR"]
    agent.environment["CONCORDAT_PORT"] = str(free_port())
    failed = agent.run("serve")
    assert failed.returncode == 2
    assert "CONCORDAT_ANCHOR" in failed.stderr
