"""What a node and its commands say when they can't begin, or can't yet: one line, exit code 2, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import free_port

from gateway.federation.http.client import MemberIdentity
from gateway.federation.storage.database import migrate
from gateway.federation.storage.owner import require_owner
from gateway.federation.storage.postgres import PostgresError, dsn
from tests.agent_harness import AGENT, Scheme

CONCORDAT = Path(sys.executable).with_name("concordat")
WAIT_S = 60


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCORDAT_")}
    inherited.pop("DATABASE_URL", None)
    return subprocess.run(
        [CONCORDAT, *arguments], env={**inherited, **environment}, capture_output=True, text=True, timeout=WAIT_S
    )


def refused(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    """Require that a command said in one line why it didn't begin."""
    assert answer.returncode == 2, answer
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert all(word in answer.stderr for word in words), answer.stderr


@pytest.fixture
def scheme(tmp_path: Path) -> Scheme:
    return Scheme(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "participant serve",
        "participant token --role orders --subject dora",
        "participant apply --name X --invitation code",
        "agent serve",
        "agent token",
        "agent open-account ALFADEFF EUR",
        "coordinator serve",
        "coordinator anchor",
        "coordinator invite ALFADEFF",
    ],
)
async def test_only_init_makes_keys(command: str, scheme: Scheme, tmp_path: Path, new_database: Any) -> None:
    """In a directory that is another one than was meant, nothing begins a second identity."""
    elsewhere = tmp_path / "elsewhere"
    settings = {
        "CONCORDAT_BIC": "ALFADEFF",
        "CONCORDAT_DATA_DIR": str(elsewhere),
        "CONCORDAT_PORT": str(free_port()),
        "CONCORDAT_ANCHOR": str(scheme.directory / "anchor.json"),
        "CONCORDAT_COORDINATOR_URL": "http://127.0.0.1:9",
        "CONCORDAT_DATABASE_URL": await new_database(),
    }
    refused(await asyncio.to_thread(run, settings, *command.split()), "init")
    assert not (elsewhere / "keys").exists()


@pytest.mark.parametrize("setting", ["PORT", "PRIVATE_PORT"])
async def test_a_port_in_use_is_found_before_anything_starts(setting: str, scheme: Scheme, tmp_path: Path) -> None:
    async with _listening() as port:
        settings = {
            "CONCORDAT_BIC": "ALFADEFF",
            "CONCORDAT_DATA_DIR": str(tmp_path / "bank"),
            "CONCORDAT_PORT": str(free_port()),
            "CONCORDAT_ANCHOR": str(scheme.directory / "anchor.json"),
            "CONCORDAT_COORDINATOR_URL": "http://127.0.0.1:9",
            f"CONCORDAT_{setting}": str(port),
        }
        MemberIdentity.made("ALFADEFF", tmp_path / "bank" / "keys")
        answer = await asyncio.to_thread(run, settings, "participant", "serve")
        refused(answer, f"CONCORDAT_{setting}", str(port), "in use")
        assert {path.name for path in (tmp_path / "bank").iterdir()} == {"keys"}


@pytest.mark.parametrize("kind", ["participant", "agent", "coordinator"])
async def test_the_private_port_says_from_the_beginning_what_is_waited_for(
    kind: str, scheme: Scheme, tmp_path: Path, new_database: Any
) -> None:
    real, port, private_port = dsn(await new_database()), free_port(), free_port()
    settings = {
        "CONCORDAT_BIC": "ALFADEFF",
        "CONCORDAT_DATA_DIR": str(tmp_path / "node"),
        "CONCORDAT_PORT": str(free_port()),
        "CONCORDAT_PRIVATE_PORT": str(private_port),
        "CONCORDAT_ANCHOR": str(scheme.directory / "anchor.json"),
        "CONCORDAT_COORDINATOR_URL": f"http://127.0.0.1:{free_port()}",
        "CONCORDAT_DATABASE_URL": _at(real, port),
    }
    MemberIdentity.made("ALFADEFF", tmp_path / "node" / "keys")
    process = _serving(settings, kind)
    try:
        async with asyncio.timeout(WAIT_S), httpx.AsyncClient(trust_env=False) as http:
            here = f"http://127.0.0.1:{private_port}"

            async def says(status: int, word: str) -> None:
                """Ask until it is said; nothing else is before it but that it is starting."""
                while True:
                    with suppress(httpx.TransportError):
                        answer = await http.get(f"{here}/health/ready")
                        if answer.status_code == status and word in answer.text:
                            return
                        assert answer.status_code == 503, answer.text
                    assert process.poll() is None
                    await asyncio.sleep(0.05)

            await says(503, "waiting for PostgreSQL at 127.0.0.1:")
            answer = await http.get(f"{here}/health/ready")
            assert answer.json()["code"] == "database_unavailable"
            assert "secret" not in answer.text
            assert (await http.get(f"{here}/health/live")).status_code == 200
            assert (await http.get(f"{here}/health/startup")).status_code == 503
            assert "concordat_build_info" in (await http.get(f"{here}/metrics")).text
            if kind == "participant":
                async with _relay(port, real):
                    await says(503, "waiting for the first trust list")
    finally:
        process.kill()
        process.wait(WAIT_S)


async def test_a_command_that_gets_no_answer_says_so_in_one_line(scheme: Scheme, tmp_path: Path) -> None:
    """It asks again meanwhile, and doesn't talk of that."""
    keys = tmp_path / "bank" / "keys"
    MemberIdentity.made("ALFADEFF", keys)
    settings = {
        "CONCORDAT_BIC": "ALFADEFF",
        "CONCORDAT_DATA_DIR": str(tmp_path / "bank"),
        "CONCORDAT_URL": f"http://127.0.0.1:{free_port()}",
    }
    answer = await asyncio.to_thread(run, settings, "participant", "webhook-list", "--subject", "core")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "stamina" not in answer.stderr


async def test_it_waits_for_postgresql(scheme: Scheme, new_database: Any) -> None:
    real, port = dsn(await new_database()), free_port()
    url = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, **scheme.environment(url, _at(real, port)), "CONCORDAT_LOG_LEVEL": "error"}
    process = await asyncio.create_subprocess_exec(
        CONCORDAT, "agent", "serve", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_S):
            first = (await process.stderr.readline()).decode()
            assert first.startswith("concordat: waiting for PostgreSQL at 127.0.0.1:"), first
            assert "secret" not in first
            async with _relay(port, real):
                await _until_ready(url)
        process.terminate()
        rest = (await process.stderr.read()).decode()
        assert "is there" in rest
        assert "Traceback" not in rest
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_start_that_waits_for_the_coordinator_says_so_and_can_be_stopped(
    scheme: Scheme, tmp_path: Path, new_database: Any
) -> None:
    settings = {
        "CONCORDAT_BIC": "ALFADEFF",
        "CONCORDAT_DATA_DIR": str(tmp_path / "bank"),
        "CONCORDAT_PORT": str(free_port()),
        "CONCORDAT_ANCHOR": str(scheme.directory / "anchor.json"),
        "CONCORDAT_COORDINATOR_URL": f"http://127.0.0.1:{free_port()}",
        "CONCORDAT_DATABASE_URL": await new_database(),
    }
    MemberIdentity.made("ALFADEFF", tmp_path / "bank" / "keys")
    process = await asyncio.create_subprocess_exec(
        CONCORDAT, "participant", "serve", env={**os.environ, **settings}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_S):
            while b"waiting for the first trust list" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            assert settings["CONCORDAT_COORDINATOR_URL"].encode() in line
            process.terminate()
            rest = await process.stderr.read()
            assert await process.wait() == 0, rest
            assert b"Traceback" not in rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_database_works_for_its_own_institution_only(scheme: Scheme, new_database: Any, tmp_path: Path) -> None:
    database = await new_database()
    url = f"http://127.0.0.1:{free_port()}"
    process = _serving(scheme.environment(url, database))
    try:
        await asyncio.wait_for(_until_ready(url), WAIT_S)
    finally:
        process.terminate()
        process.wait(WAIT_S)
    other = {**scheme.environment(url, database), "CONCORDAT_BIC": "OTHRXXA0"}
    for command in ("serve", "fsck"):
        refused(await asyncio.to_thread(run, other, "agent", command), f"belongs to {AGENT}", "OTHRXXA0")


async def test_a_ledger_is_named_once_by_who_serves_it(new_database: Any) -> None:
    database = await new_database("participants.ledger")
    await require_owner(database, "ALFADEFF")
    names = ["ALFADEFF", "BETADEFF"]
    answers = await asyncio.gather(*(require_owner(database, bic, claim=True) for bic in names), return_exceptions=True)
    (lost,) = [answer for answer in answers if answer is not None]
    assert isinstance(lost, PostgresError)
    winner = names[answers.index(None)]
    await migrate(database, "participants.ledger")
    await require_owner(database, winner, claim=True)
    with pytest.raises(PostgresError, match=f"belongs to {winner}"):
        await require_owner(database, "GAMADEFF")


async def test_the_registry_of_another_coordinator_is_left_alone(tmp_path: Path, new_database: Any) -> None:
    database = await new_database()

    def house(bic: str) -> dict[str, str]:
        return {
            "CONCORDAT_BIC": bic,
            "CONCORDAT_DATA_DIR": str(tmp_path / bic),
            "CONCORDAT_DATABASE_URL": database,
            "CONCORDAT_PORT": str(free_port()),
        }

    assert (await asyncio.to_thread(run, house("CNCDXXC0"), "coordinator", "init")).returncode == 0
    for command in ("init", "serve", "status"):
        answer = await asyncio.to_thread(run, house("OTHRXXC0"), "coordinator", command)
        refused(answer, "belongs to CNCDXXC0", "OTHRXXC0")


def _serving(environment: dict[str, str], kind: str = "agent") -> subprocess.Popen[bytes]:
    return subprocess.Popen([CONCORDAT, kind, "serve"], env={**os.environ, **environment})


@asynccontextmanager
async def _listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _at(url: str, port: int) -> str:
    """Return the URL of the same database, reached at another port of this machine."""
    from sqlalchemy.engine import make_url

    return make_url(url).set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)


@asynccontextmanager
async def _relay(port: int, url: str) -> AsyncIterator[None]:
    """Let a port lead to a database, which may be on a unix socket."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    directory = parsed.query.get("host") or (parsed.host if (parsed.host or "").startswith("/") else None)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if directory:
            there = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{parsed.port or 5432}")
        else:
            there = await asyncio.open_connection(parsed.host, parsed.port or 5432)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


async def _until_ready(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                if (await http.get(f"{url}/health/startup")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
