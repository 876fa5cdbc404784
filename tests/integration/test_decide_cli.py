"""`concordat decide`: two operators change the registry from the command line."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

from clearing_house import rulebook
from running_coordinator import ALPHA, COORDINATOR, Coordinator, running_coordinator
from typer.testing import CliRunner

from gateway.coordinator import clock
from gateway.coordinator.registry import members
from gateway.federation.commands.decide import app
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase


async def decide(coordinator: Coordinator, name: str, *arguments: str, typed: str = "", code: int = 0) -> str:
    path = coordinator.directory / f"{name}.pem"
    if not path.exists():
        (await coordinator.client_key(name, "operator")).save(path)
    environment = {
        "CONCORDAT_COORDINATOR_URL": coordinator.url,
        "CONCORDAT_COORDINATOR_BIC": COORDINATOR,
        "CONCORDAT_CLIENT": name,
        "CONCORDAT_CLIENT_KEY": str(path),
    }
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment, input=typed)
    assert result.exit_code == code, result.output
    return result.output


def id_of(output: str) -> str:
    """Return the proposal's id; the coordinator in this process logs to the same output."""
    found = re.search(r"^([0-9a-f-]{36}) pending", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


async def test_two_operators_suspend_a_bank(new_database: NewDatabase, tmp_path: Path) -> None:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as coordinator:
        await coordinator.admit(ALPHA)
        made = await decide(coordinator, "alice", "propose", "member.suspend", ALPHA, "--reason", "its key is stolen")
        proposal = id_of(made)
        assert f'{{"before":{{"status":"active"}},"kind":"member.suspend","subject":"{ALPHA}"}}' in made
        assert "  status: active now\n" in made
        await decide(coordinator, "alice", "confirm", proposal, "--reason", "r", typed=f"{ALPHA}\n", code=1)
        assert proposal in await decide(coordinator, "bob", "list")
        # Whoever confirms types what it is about, having read it.
        await decide(coordinator, "bob", "confirm", proposal, "--reason", "seen", typed="BRAVFRP0\n", code=1)
        assert "confirmed" in await decide(
            coordinator, "bob", "confirm", proposal, "--reason", "seen", typed=f"{ALPHA}\n"
        )
        async with transaction(coordinator.base.engine) as conn:
            assert (await members.require(conn, ALPHA)).status == "suspended"
        again = await decide(coordinator, "alice", "propose", "member.activate", ALPHA, "--reason", "it has new keys")
        assert "withdrawn" in await decide(coordinator, "alice", "withdraw", id_of(again))
        await coordinator.registry.set_cap(ALPHA, "EUR", 9, by="test", reason="set up")
        cap = ("propose", "cap", ALPHA, "--term", "currency=EUR", "--term", "cap_minor=5", "--reason", "its rating")
        shown = await decide(coordinator, "bob", *cap)
        assert "  cap_minor: from 9 to 5\n" in shown
        lowered = id_of(shown)
        assert "rejected" in await decide(coordinator, "alice", "reject", lowered, "--reason", "too low")
        for wrong in (("explode", ALPHA), ("cap", ALPHA, "--term", "currency")):
            await decide(coordinator, "bob", "propose", *wrong, "--reason", "r", code=2)


async def test_two_operators_close_a_day_and_open_it_again(new_database: NewDatabase, tmp_path: Path) -> None:
    rules = rulebook(calendar="any_open", settlement_systems={"EUR": "TARGET", "JPY": "BOJ-NET"}, slots=())
    days = (clock.now().date() + timedelta(days=n) for n in range(2, 20))
    day = str(next(day for day in days if not rules.days.closed_of(("EUR", "JPY"), day)))
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=rules) as coordinator:
        propose = ("propose", "day.close", "JPY", "--reason", "an earthquake", "--term")
        made = await decide(coordinator, "alice", *propose, f"day={day}")
        assert f'"kind":"day.close","subject":"JPY","terms":{{"day":"{day}"}}' in made
        assert day not in await decide(coordinator, "alice", "calendar"), "one person closes nothing"
        done = await decide(coordinator, "bob", "confirm", id_of(made), "--reason", "seen", typed="JPY\n")
        assert "confirmed" in done
        shown = await decide(coordinator, "bob", "calendar")
        assert f"{day} JPY declared closed: " in shown
        assert "an earthquake" in shown
        again = await decide(
            coordinator, "bob", "propose", "day.reopen", "JPY", "--reason", "r", "--term", f"day={day}"
        )
        await decide(coordinator, "alice", "confirm", id_of(again), "--reason", "seen", typed="JPY\n")
        assert day not in await decide(coordinator, "alice", "calendar")
        for wrong in ("day=2027-02-30", "date=2027-03-24", "day=yesterday"):
            said = await decide(coordinator, "alice", *propose, wrong, code=1)
            assert "day" in said


async def test_what_is_wrong_is_named(new_database: NewDatabase, tmp_path: Path) -> None:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as coordinator:
        for kind, subject, blamed in (("member.banish", ALPHA, "KIND"), ("member.suspend", "no bank", "SUBJECT")):
            said = await decide(coordinator, "alice", "propose", kind, subject, "--reason", "r", code=2)
            assert f"Invalid value for {blamed}" in said, said
