"""Whoever has the coordinator's machine gives it another rulebook: it counts once two operators agreed on it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from running_coordinator import ALPHA, COORDINATOR, Coordinator, on_demand, running_coordinator

from compliance.cycle.approval import ApprovalRule
from compliance.statements import ActKind
from gateway.coordinator.registry import rulebooks
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.identity.deciding import act_of
from gateway.federation.messages.cycles import Cycle, CyclePage
from gateway.federation.messages.proposals import ProposalView
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase

CONCORDAT = Path(sys.executable).with_name("concordat")
STRICT = replace(on_demand(cut_deadline_s=600), approval=ApprovalRule(mode="always", thresholds_minor={}))
TIGHT = replace(STRICT, revisions_max=1, version="tight")
LAX = replace(STRICT, approval=ApprovalRule(mode="never", thresholds_minor={}), version="lax")


@dataclass
class House:
    coordinator: Coordinator
    directory: Path

    async def run(self, *arguments: str, rulebook: Rulebook) -> tuple[int, str]:
        """Run a command at the coordinator's machine, with this rulebook as the file."""
        file = self.directory / f"{rulebook.version}.json"
        file.write_bytes(msgspec.json.encode(rulebook))
        settings = self.coordinator.settings
        environment = {
            **os.environ,
            "CONCORDAT_BIC": COORDINATOR,
            "CONCORDAT_URL": settings.url,
            "CONCORDAT_DATA_DIR": str(settings.data_dir),
            "CONCORDAT_DATABASE_URL": self.coordinator.database_url,
            "CONCORDAT_RULEBOOK": str(file),
        }
        process = await asyncio.create_subprocess_exec(
            CONCORDAT,
            "coordinator",
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def agree(self, rulebook: Rulebook, version: str | None = None) -> None:
        """Let two operators agree on a rulebook."""
        terms = {"version": version or rulebook.version, "sha256": rulebook.sha256}
        await self.coordinator.answer(await self.coordinator.propose_act(ActKind.RULEBOOK_ADOPT, COORDINATOR, **terms))

    async def to_go_by(self, given: Rulebook) -> Rulebook:
        async with transaction(self.coordinator.base.engine) as conn:
            return await rulebooks.to_go_by(conn, given)


@pytest.fixture
async def house(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[House]:
    """A clearing house at work: two operators, and a cycle that was cut off."""
    url = await new_database("gateway.coordinator")
    async with running_coordinator(url, tmp_path, rulebook=STRICT) as coordinator:
        await coordinator.admit(ALPHA)
        async with await coordinator.operator("alice") as alice:
            await coordinator.client_key("bob", "operator")
            opened = await alice.request("POST", f"{coordinator.url}/cycles", audience=COORDINATOR, json={})
            cycle = msgspec.json.decode(opened.content)["id"]
            await alice.request("POST", f"{coordinator.url}/cycles/{cycle}/cut-off", audience=COORDINATOR)
        yield House(coordinator, tmp_path)


async def test_a_file_alone_changes_no_rules(house: House) -> None:
    code, output = await house.run("init", rulebook=LAX)
    assert code == 1
    assert "four_eyes_needed" in output
    # Nor does it stop the house: it starts, by the rulebook in force.
    assert await house.to_go_by(LAX) == STRICT
    assert (await house.run("init", rulebook=STRICT))[0] == 0


async def test_two_operators_agree_on_a_rulebook_by_its_digest(house: House) -> None:
    code, printed = await house.run("rulebook", rulebook=LAX)
    assert (code, printed) == (0, f"sha256={LAX.sha256} version=lax\n")
    terms = {"version": LAX.version, "sha256": LAX.sha256}
    made = await house.coordinator.propose_act(ActKind.RULEBOOK_ADOPT, COORDINATOR, **terms)
    assert await house.to_go_by(LAX) == STRICT
    await house.coordinator.answer(made)
    assert await house.to_go_by(LAX) == LAX
    other = replace(LAX, version="slipped in")
    assert await house.to_go_by(other) == STRICT
    assert (await house.run("init", rulebook=LAX))[0] == 0
    # Now it is in force, and the way back takes two people as well.
    assert await house.to_go_by(STRICT) == LAX
    with pytest.raises(RemoteProblem) as problem:
        await house.coordinator.propose_act(ActKind.RULEBOOK_ADOPT, COORDINATOR, **terms)
    assert problem.value.code == "rulebook_in_force"


async def test_an_agreement_is_taken_back_by_two_as_well(house: House) -> None:
    """The rulebook in force is agreed on anew: then the next start with the other one changes nothing."""
    await house.agree(LAX)
    await house.agree(STRICT)
    assert await house.to_go_by(LAX) == STRICT
    assert (await house.run("init", rulebook=LAX))[0] == 1


async def test_both_sign_which_rulebook_is_replaced(house: House) -> None:
    """Two agreed on another one meanwhile: what was proposed before that isn't what the second operator confirms."""
    stale = await house.coordinator.propose_act(
        ActKind.RULEBOOK_ADOPT, COORDINATOR, version=LAX.version, sha256=LAX.sha256
    )
    assert act_of(stale).before == {"sha256": STRICT.sha256}
    await house.agree(TIGHT)
    with pytest.raises(RemoteProblem) as problem:
        await house.coordinator.answer(stale)
    assert problem.value.code == "act_before_differs"
    assert await house.to_go_by(LAX) == STRICT


async def test_a_digest_is_agreed_on_under_its_version(house: House) -> None:
    await house.agree(LAX, version="strict")
    assert await house.to_go_by(LAX) == STRICT


async def test_a_process_that_runs_goes_by_what_another_one_adopted(house: House) -> None:
    await house.agree(TIGHT)
    assert (await house.run("init", rulebook=TIGHT))[0] == 0
    coordinator = house.coordinator
    async with FederationClient("alice", coordinator.keys["alice"], coordinator.url) as alice:
        opened = await alice.get(f"{coordinator.url}/cycles/current", Cycle, audience=COORDINATOR)
        cycles = await alice.get(f"{coordinator.url}/cycles", CyclePage, audience=COORDINATOR)
        (running,) = (line.cycle for line in cycles.items if line.cycle.id != opened.id)
        assert {opened.rulebook, running.rulebook} == {STRICT.sha256}
        made = coordinator.deciding("alice").proposal("abandon", running.id, result=None, reason="it waits for nobody")
        url = f"{coordinator.url}/cycles/{running.id}/proposals"
        await coordinator.answer(await alice.post(url, ProposalView, audience=COORDINATOR, json=made))
        await alice.request("POST", f"{coordinator.url}/cycles/{opened.id}/cut-off", audience=COORDINATOR)
        following = await alice.get(f"{coordinator.url}/cycles/current", Cycle, audience=COORDINATOR)
    assert (following.id != opened.id, following.rulebook) == (True, TIGHT.sha256)


async def test_a_rulebook_is_the_coordinators(house: House) -> None:
    with pytest.raises(RemoteProblem) as problem:
        await house.coordinator.propose_act(ActKind.RULEBOOK_ADOPT, ALPHA, version="1", sha256="0" * 64)
    assert problem.value.code == "participant_unknown"
