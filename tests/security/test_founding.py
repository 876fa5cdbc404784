"""Whoever sits at the coordinator's machine founds the house, and runs it no more once operators do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from running_coordinator import AGENT, ALPHA, BRAVO, COORDINATOR, Bank, on_demand
from support import free_port
from typer.testing import CliRunner

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Act, ActKind, OperatorRegister
from gateway.coordinator.cli import app
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.identity.deciding import DecidingKey
from gateway.federation.membership.documents import APPLICATION_TYPE
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.events import Events
from gateway.federation.messages.proposals import ProposalView
from tests.conftest import NewDatabase

CONCORDAT = Path(sys.executable).with_name("concordat")
START_SECONDS_MAX = 60


@dataclass
class House:
    """`concordat coordinator serve`, and its owner's command line beside it."""

    directory: Path
    url: str
    environment: dict[str, str]

    async def run(self, *arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=self.environment)
        return result.exit_code, result.output

    async def done(self, *arguments: str) -> str:
        code, output = await self.run(*arguments)
        assert code == 0, output
        return output

    async def refused(self, *arguments: str) -> bool:
        """Tell whether a command is refused because two operators decide it."""
        code, output = await self.run(*arguments)
        return code == 1 and "four_eyes_needed" in output

    def application(self, bic: str, account: str | None = "default") -> str:
        scheme = MemberIdentity.of_coordinator(COORDINATOR, self.directory / "house" / "keys").scheme
        bank = Bank(MemberIdentity.made(bic, self.directory / bic, scheme))
        path = self.directory / f"{bic}.json"
        signed = dsse.sign(bank.application(account=account), bank.identity.sign, payload_type=APPLICATION_TYPE)
        path.write_bytes(msgspec.json.encode(signed))
        return str(path)

    def has_key(self, name: str) -> bool:
        return (self.directory / name).exists()

    def key(self, name: str) -> SigningKey:
        return SigningKey.load(self.directory / name / "auth.pem")

    async def send(self, name: str, method: str, path: str, form: type[Any], body: Any = None) -> Any:
        async with FederationClient(name, self.key(name), self.url) as client:
            answer = await client.request(method, self.url + path, audience=COORDINATOR, json=body)
            return msgspec.json.decode(answer.content, type=form)

    def pen(self, name: str) -> DecidingKey:
        return DecidingKey(operator=name, coordinator=COORDINATOR, key=self.key(name))

    async def register(self, reader: str) -> OperatorRegister:
        envelope = await self.send(reader, "GET", "/operators", Envelope)
        return canonical.decode(envelope.payload_bytes(), OperatorRegister)


@pytest.fixture
async def house(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[House]:
    """A clearing house of one bank that two operators run: a cycle was cut off."""
    port = free_port()
    rules = tmp_path / "rules.json"
    rules.write_bytes(canonical.encode(on_demand(cut_deadline_s=600)))
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "CONCORDAT_BIC": COORDINATOR,
        "CONCORDAT_DATA_DIR": str(tmp_path / "house"),
        "CONCORDAT_DATABASE_URL": await new_database(),
        "CONCORDAT_URL": url,
        "CONCORDAT_PORT": str(port),
        "CONCORDAT_PRIVATE_PORT": str(free_port()),
        "CONCORDAT_RULEBOOK": str(rules),
        "CONCORDAT_LOG_LEVEL": "error",
    }
    one = House(tmp_path, url, environment)
    MemberIdentity.made(COORDINATOR, tmp_path / "house" / "keys")
    process = await asyncio.create_subprocess_exec(CONCORDAT, "coordinator", "serve", env=environment)
    try:
        async with asyncio.timeout(START_SECONDS_MAX), httpx.AsyncClient(trust_env=False) as http:
            while True:
                assert process.returncode is None
                try:
                    if (await http.get(f"{url}/health/ready")).is_success:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        yield one
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def test_the_machine_founds_the_house_and_then_runs_it_no_more(house: House) -> None:
    """Until two operators are in and a cycle was cut off it lets in whom it likes; afterwards nobody, and says so."""
    await house.done("add-participant", house.application(ALPHA))
    for name in ("alice", "bob"):
        await house.done("add-operator", name, "--create", str(house.directory / name))
    await house.done("add-operator", "carol", "--create", str(house.directory / "carol"))
    cycle = (await house.send("alice", "POST", "/cycles", Cycle, {})).id
    await house.send("alice", "POST", f"/cycles/{cycle}/cut-off", Cycle)

    before = await house.register("alice")
    mallory = str(house.directory / "mallory")
    assert await house.refused("add-operator", "mallory", "--create", mallory)
    assert not house.has_key("mallory"), "who is refused leaves no key behind"
    assert await house.refused("add-operator", "mallory", "--key", SigningKey.generate().x)
    assert await house.refused("add-operator", "alice", "--key", SigningKey.generate().x), "not by another key either"
    assert await house.refused("add-operator", "otto", "--role", "auditor", "--key", SigningKey.generate().x)
    assert await house.refused("add-participant", house.application(BRAVO))
    assert await house.refused("add-agent", house.application(AGENT, None))
    assert await house.register("alice") == before
    status = await house.done("status")
    assert "the chain of hashes is whole" in status
    assert not any(word in status for word in ("mallory", "otto", BRAVO, AGENT))

    # What is left is for operators who lost their keys: with a reason, and seen by everybody who operates.
    for blank in ("", "  "):
        assert (await house.run("add-operator", "alice", "--create", mallory, "--recovery", blank))[0] == 2
    waiting = house.pen("alice").act(
        Act(kind=ActKind.MEMBER_SUSPEND, subject=ALPHA, before={"status": "active"}), reason="before the theft"
    )
    made = await house.send("alice", "POST", "/proposals", ProposalView, waiting)
    stolen = house.key("alice")
    (house.directory / "alice").rename(house.directory / "stolen")
    recovered = ("add-operator", "alice", "--create", str(house.directory / "alice"))
    await house.done(*recovered, "--recovery", "her laptop was stolen")
    after = await house.register("bob")
    assert (after.version, after.supersedes) == (before.version + 1, canonical.digest(canonical.encode(before)))
    assert {(key.kid, key.status) for key in after.operators if key.name == "alice"} == {
        (stolen.kid, "removed"),
        (house.key("alice").kid, "active"),
    }
    events = (await house.send("bob", "GET", "/events?after=0&limit=1000", Events)).events
    acted = [event.data for event in events if event.type == "operator.acted" and event.data["subject"] == "alice"]
    assert (acted[-1]["by"], acted[-1]["reason"]) == ("command line", "recovery: her laptop was stolen")
    assert acted[-1]["kid"] == house.key("alice").kid

    # The old key opens nothing, and what it proposed before isn't done.
    async with FederationClient("alice", stolen, house.url) as thief:
        with pytest.raises(RemoteProblem):
            await thief.get(f"{house.url}/participants", dict, audience=COORDINATOR)
    confirming = house.pen("bob").decision(made, "confirm", reason="seen")
    with pytest.raises(RemoteProblem) as problem:
        await house.send("bob", "POST", f"/proposals/{made.id}/decision", ProposalView, confirming)
    assert problem.value.code == "decision_refused"
    # Recovery takes no one in as somebody else, and opens no other door.
    assert "key_known" in (await house.run("add-operator", "dora", "--key", house.key("bob").x, "--recovery", "r"))[1]
    assert await house.refused("add-participant", house.application(BRAVO))


async def test_one_operator_alone_is_no_house(house: House) -> None:
    """With one operator nobody could confirm anything, so the machine lets the second one in, whatever has been cut."""
    await house.done("add-participant", house.application(ALPHA))
    await house.done("add-operator", "alice", "--create", str(house.directory / "alice"))
    cycle = (await house.send("alice", "POST", "/cycles", Cycle, {})).id
    await house.send("alice", "POST", f"/cycles/{cycle}/cut-off", Cycle)
    await house.done("add-operator", "otto", "--role", "auditor", "--create", str(house.directory / "otto"))
    await house.done("add-operator", "bob", "--create", str(house.directory / "bob"))
    assert await house.refused("add-operator", "carol", "--create", str(house.directory / "carol"))
