"""Each refusal and each change leaves one line that says who and from where, whatever strangers write into theirs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_harness import AGENT, ALFA, Desk, Scheme
from support import free_port

from compliance.crypto.keys import SigningKey, b64url
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.storage.postgres import create_database, drop_database

CONCORDAT = Path(sys.executable).with_name("concordat")
START_SECONDS_MAX = 60
ODD = {
    "line break": 'x\n{"log":"security","event":"forged"}',
    "carriage return": 'x\r{"log":"security","event":"forged"}',
    "line separator": "x\u2028forged",
    "next line": "x\u0085forged",
    "vertical tab": "x\x0bforged",
    "escape": "x\x1b[2Jforged",
    "nothing": "x\x00forged",
    "right to left": "x\u202eforged",
    "two scripts": "d\u043era",
}


class AgentProcess:
    """`concordat agent serve` whose log is a file, with as few lines as it can be told to write."""

    def __init__(self, scheme: Scheme, database_url: str, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        environment = {**os.environ, **scheme.environment(self.url, database_url), "CONCORDAT_LOG_LEVEL": "error"}
        with log.open("wb") as out:
            self.process = subprocess.Popen([CONCORDAT, "agent", "serve"], env=environment, stdout=out, stderr=out)

    def ready(self) -> None:
        for _ in range(START_SECONDS_MAX * 20):
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/health/ready", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("not ready")

    def records(self) -> list[dict[str, Any]]:
        """Return the security log as its readers may read it: whatever can be taken for the end of a line is one."""
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        return [line for line in lines if line.get("log") == "security"]

    def record(self, audit_id: str) -> dict[str, Any]:
        """Return the one record of a request."""
        deadline = time.monotonic() + 10
        while not (found := [one for one in self.records() if one.get("audit_id") == audit_id]):
            assert time.monotonic() < deadline, "no record"
            time.sleep(0.02)
        (record,) = found
        return record

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are and return the answer's head."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer and (more := connection.recv(65_536)):
                answer += more
        return answer


@pytest.fixture(scope="module")
def agent(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One process for all tests: each asks for the records of its own requests."""
    directory, name = tmp_path_factory.mktemp("agent"), f"security_log_{os.getpid()}"
    url = asyncio.run(create_database(postgres_url, name))
    process = AgentProcess(Scheme(directory), url, directory / "log")
    try:
        process.ready()
        yield process
    finally:
        process.process.terminate()
        process.process.wait(30)
        asyncio.run(drop_database(postgres_url, name))


@pytest.fixture
def desk(agent: AgentProcess) -> Desk:
    return Desk(Scheme(agent.log.parent), agent.url)


def audit_id(answer: httpx.Response) -> str:
    return str(answer.headers["X-Correlation-ID"])


async def test_refusals_and_changes_are_told_apart_and_say_who(agent: AgentProcess, desk: Desk) -> None:
    opened = await desk.staff.http.post(
        "/accounts", json={"participant": ALFA, "currency": "EUR", "overdraft_limit_minor": "91729172917"}
    )
    assert opened.status_code == 201
    record = agent.record(audit_id(opened))
    assert (record["event"], record["address"], record["route"]) == ("changed", "127.0.0.1", "/accounts")
    assert (record["subject"], record["client"], record["role"], record["issuer"]) == (
        "dora",
        "dora",
        "staff",
        agent.url,
    )
    assert re.fullmatch(r"[0-9a-f-]{36}", record["token"])
    assert "91729172917" not in json.dumps({**record, "audit_id": "", "token": "", "timestamp": ""})

    stranger = await desk.member(ALFA).http.post("/accounts", json={})
    record = agent.record(audit_id(stranger))
    assert (record["event"], record["reason"], record["subject"]) == ("refused", "role_not_allowed", ALFA)
    for headers, reason in (({}, "token_missing"), ({"Authorization": "Bearer a.b"}, "token_malformed")):
        answer = await asyncio.to_thread(httpx.get, f"{agent.url}/accounts", headers=headers, trust_env=False)
        record = agent.record(audit_id(answer))
        assert (answer.status_code, record["reason"], record["status"]) == (401, reason, 401)
        assert "subject" not in record
    # A read that is allowed, and one that is refused for another reason, leave none.
    read = await desk.staff.http.get("/accounts")
    wrong = await desk.coordinator.post(b"<no/>")
    known = {one.get("audit_id") for one in agent.records()}
    assert not {audit_id(read), audit_id(wrong)} & known


@pytest.mark.parametrize("kind", ODD)
def test_no_subject_forges_or_loses_a_line(agent: AgentProcess, desk: Desk, kind: str) -> None:
    subject = ODD[kind]
    token = issue_access_token(
        key=desk.staff_key, issuer=agent.url, subject=subject, audience=AGENT, client_id=subject, role="staff"
    )
    account = {"participant": ALFA, "currency": "GBP", "overdraft_limit_minor": "0"}
    answer = httpx.post(
        f"{agent.url}/accounts", json=account, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "token_subject_refused")
    record = agent.record(audit_id(answer))
    assert (record["event"], record["reason"]) == ("refused", "token_subject_refused")
    assert not [one for one in agent.records() if one["event"] not in ("refused", "changed")]


def test_surrogates_and_long_texts_are_recorded_as_refused(agent: AgentProcess, desk: Desk) -> None:
    payload = {"iss": agent.url, "aud": AGENT, "client_id": "x", "role": "staff", "iat": 1, "exp": 2, "jti": "j"}
    for subject in ('"\\ud800"', '"\\udfff\\n{}"', json.dumps("x" * 10_000)):
        body = json.dumps(payload)[:-1] + f', "sub": {subject}}}'
        answer = httpx.get(
            f"{agent.url}/accounts",
            headers={"Authorization": f"Bearer {forged(desk.staff_key, body)}"},
            trust_env=False,
        )
        record = agent.record(audit_id(answer))
        assert (answer.status_code, record["event"]) == (401, "refused")
        assert len(json.dumps(record)) < 2_000


def forged(key: SigningKey, body: str) -> str:
    head = b64url(json.dumps({"alg": key.algorithm.jws, "kid": key.kid, "typ": "at+jwt"}).encode())
    signed = f"{head}.{b64url(body.encode())}"
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


def test_bytes_in_heads_and_paths_forge_nothing(agent: AgentProcess) -> None:
    line = b'{"log":"security","event":"forged"}'
    requests = (
        b"GET /accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\x80" + line + b"\r\n\r\n",
        b"GET /accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"A" * 10_000 + b"\r\n\r\n",
        b"GET /accounts HTTP/1.1\r\nHost: x\r\nX-Correlation-ID: a\xe2\x80\xa8" + line + b"\r\n\r\n",
        b"POST /accounts/%0a%7b%22log%22%3a%22security%22%7d/funding HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /accounts/%ed%a0%80/funding HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /accounts HTTP/1.1\r\nHost: x\r\nUser-Agent: " + line + b"\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n",
    )
    for sent in requests:
        answer = agent.raw(sent)
        (named,) = re.findall(rb"x-correlation-id: ([^\r]+)", answer, re.IGNORECASE)
        record = agent.record(named.decode("ascii"))
        # Who stands before us says nothing about where a request comes from: only the connection does.
        assert (record["event"], record["address"]) == ("refused", "127.0.0.1")
    assert {one["event"] for one in agent.records()} <= {"changed", "refused"}
