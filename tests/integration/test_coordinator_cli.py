"""`concordat coordinator …` as an operator types it."""

import asyncio
import os
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from running_coordinator import AGENT, ALPHA, COORDINATOR, Bank
from sqlalchemy import text
from support import free_port
from typer.testing import CliRunner

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.trust import Anchor
from gateway.coordinator.cli import app
from gateway.federation.http.client import FederationClient, MemberIdentity
from gateway.federation.membership.documents import APPLICATION_TYPE
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.events import Events
from gateway.federation.storage.database import create_engine, transaction
from tests.conftest import NewDatabase

CONCORDAT = Path(sys.executable).with_name("concordat")
RUNNER = CliRunner()


@pytest.fixture
async def environment(new_database: NewDatabase, tmp_path: Path) -> dict[str, str]:
    return {
        "CONCORDAT_BIC": COORDINATOR,
        "CONCORDAT_DATA_DIR": str(tmp_path / "coordinator"),
        "CONCORDAT_DATABASE_URL": await new_database(),
    }


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, list(arguments), env=environment)
    assert result.exit_code == code, result.output
    return result.output


def application(directory: Path, bic: str, *, account: str | None) -> str:
    bank = Bank(MemberIdentity.made(bic, directory / bic))
    signed = dsse.sign(bank.application(account=account), bank.identity.sign, payload_type=APPLICATION_TYPE)
    path = directory / f"{bic}.json"
    path.write_bytes(msgspec.json.encode(signed))
    return str(path)


def test_a_clearing_house_from_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    anchor = tmp_path / "anchor.json"
    first = run(environment, "init", "--name", "Clearing house of the test")
    run(environment, "anchor", "--out", str(anchor))
    assert msgspec.json.decode(first, type=Anchor) == Anchor.read(anchor)
    assert run(environment, "init") == first

    run(environment, "add-agent", application(tmp_path, AGENT, account=None))
    bank = application(tmp_path, ALPHA, account="default")
    assert "ALPHDEF0" in run(environment, "add-participant", bank, "--cap", "EUR=2500000.00", "--cap", "JPY=1000")
    assert "participant_exists" in run(environment, "add-participant", bank, code=1)
    assert "alice is operator" in run(environment, "add-operator", "alice", "--create", str(tmp_path / "alice"))
    run(environment, "add-operator", "rita", "--role", "auditor", "--create", str(tmp_path / "rita"))
    assert (tmp_path / "alice" / "auth.pem").exists()

    shown = run(environment, "status")
    for line in ("whole", "Clearing house of the test", f"{ALPHA}    active", f"{AGENT}    active", "alice", "rita"):
        assert line in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add-operator", "Alice", "--key", "x"], "small letters"),
        (["add-operator", "alice"], "either"),
        (["add-operator", "alice", "--key", "short"], "public"),
        (["add-operator", "alice", "--key", "x", "--role", "king"], "auditor"),
        (["add-participant", "missing.json"], "missing.json"),
    ],
)
def test_what_cant_be_meant(environment: dict[str, str], arguments: list[str], complaint: str) -> None:
    run(environment, "init")
    assert complaint in run(environment, *arguments, code=2)


def test_caps_are_decimal_numbers_of_cleared_currencies(environment: dict[str, str], tmp_path: Path) -> None:
    run(environment, "init")
    bank = application(tmp_path, ALPHA, account="default")
    for cap in ("EUR=1.234", "EUR=-1", "EUR", "EUR=1e5", "XXX=1"):
        assert run(environment, "add-participant", bank, "--cap", cap, code=2)
    assert "currency_unknown" in run(environment, "add-participant", bank, "--cap", "KWD=1.234", code=1)


def test_status_tells_of_tampering(environment: dict[str, str]) -> None:
    run(environment, "init")

    async def tamper() -> None:
        engine = create_engine(environment["CONCORDAT_DATABASE_URL"], role=None)
        async with transaction(engine) as conn:
            await conn.execute(text("ALTER TABLE events DISABLE TRIGGER USER"))
            await conn.execute(text("UPDATE events SET type = 'nothing.happened' WHERE id = 1"))
        await engine.dispose()

    asyncio.run(tamper())
    assert "event 1" in run(environment, "status", code=1)


async def test_the_process_serves_and_leaves_promptly(environment: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    url, settings = f"http://127.0.0.1:{port}", environment | {"CONCORDAT_PORT": str(port)}
    # In a thread, as every command here: it runs an event loop of its own.
    await asyncio.to_thread(run, settings, "init")
    process = await asyncio.create_subprocess_exec(CONCORDAT, "coordinator", "serve", env={**os.environ, **settings})
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            await ready(http, url, process)
            await asyncio.to_thread(run, settings, "add-operator", "alice", "--create", str(tmp_path / "alice"))
            store = TrustStore(msgspec.json.decode(await asyncio.to_thread(run, settings, "anchor"), type=Anchor))
            async with FederationClient("alice", SigningKey.load(tmp_path / "alice" / "auth.pem"), url) as alice:
                await store.refresh(alice)
                assert store.current.issuer == url
                # A long poll is under way when the process is told to stop, and doesn't hold it up.
                seen = await alice.get(f"{url}/events", Events, audience=COORDINATOR)
                poll = asyncio.create_task(
                    alice.get(
                        f"{url}/events",
                        Events,
                        audience=COORDINATOR,
                        params={"after": seen.next, "wait_s": 25},
                        timeout_s=30,
                    )
                )
                await asyncio.wait([poll], timeout=0.5)
                process.terminate()
                assert (await poll).events == ()
                assert await asyncio.wait_for(process.wait(), 8) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ready(http: httpx.AsyncClient, url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while process.returncode is None:
            try:
                if (await http.get(f"{url}/health/ready")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError("the coordinator ended")
