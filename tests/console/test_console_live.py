"""The console driven by its keys, against a coordinator that runs on a real socket and a real database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Footer, Input, Static

from gateway.federation.http.client import FederationClient
from tests.conftest import NewDatabase
from tests.console.banks import take_part
from tests.integration.running_coordinator import ALPHA, BRAVO, COORDINATOR, Coordinator, running_coordinator
from tui.app import ConsoleApp
from tui.run import Settings, assemble
from tui.screens.form import FormScreen
from tui.widgets.banner import Banner
from tui.widgets.live_table import LiveTable

Console = Pilot[None]


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database("gateway.coordinator")


@pytest.fixture
async def coordinator(url: str, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(url, tmp_path) as running:
        yield running


@asynccontextmanager
async def console(
    coordinator: Coordinator,
    subject: str = "alice",
    *,
    role: str = "operator",
    operate: bool = True,
    size: tuple[int, int] = (100, 30),
) -> AsyncIterator[Console]:
    """A console of one person, once it has shown its first round."""
    settings = Settings(
        coordinator_url=coordinator.url,
        coordinator_bic=COORDINATOR,
        client=subject,
        environment="demo",
        operate=operate,
        log=coordinator.directory / f"{subject}.jsonl",
        export_directory=coordinator.directory / "exports",
    )
    key = await coordinator.client_key(subject, role)
    async with FederationClient(subject, key, coordinator.url) as client:
        app = assemble(settings, client, key)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.freshness.answered_at is not None)
            yield pilot


async def until(pilot: Console, holds: Callable[[], bool], *, within_s: float = 20) -> None:
    """Let the console run until something holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; outcome line: {outcome(pilot)!r}; {banner(pilot)!r}")
        await pilot.pause(0.02)


def app_of(pilot: Console) -> ConsoleApp:
    assert isinstance(pilot.app, ConsoleApp)
    return pilot.app


def base(pilot: Console, selector: str) -> Static:
    return pilot.app.screen_stack[0].query_one(selector, Static)


def outcome(pilot: Console) -> str:
    return str(base(pilot, "#outcome").render())


def banner(pilot: Console) -> str:
    return " ".join(str(base(pilot, f"#{part}").render()) for part in ("environment", "who", "freshness"))


def rows(pilot: Console, table: str) -> list[list[str]]:
    widget = pilot.app.screen_stack[0].query_one(f"#{table}", LiveTable)
    return [[str(cell) for cell in widget.get_row_at(index)] for index in range(widget.row_count)]


def shown_keys(pilot: Console) -> set[str]:
    """The keys in the footer."""
    return {binding.binding.key for binding in pilot.app.screen.active_bindings.values() if binding.binding.show}


def screenshot(pilot: Console) -> str:
    return pilot.app.export_screenshot().replace("&#160;", " ")


def state(pilot: Console) -> str | None:
    return app_of(pilot).view.state


async def fill(pilot: Console, **fields: str) -> None:
    """Wait for the form and type into its fields, then send it with enter."""
    await until(pilot, lambda: isinstance(pilot.app.screen, FormScreen))
    for name, text in fields.items():
        field = pilot.app.screen.query_one(f"#{name.replace('_', '-')}", Input)
        field.focus()
        await pilot.press(*("space" if char == " " else char for char in text))
    await pilot.press("enter")
    await pilot.pause()


async def open_cycle(pilot: Console) -> str:
    await pilot.press("1", "O")
    await fill(pilot)
    await until(pilot, lambda: state(pilot) == "open")
    selected = app_of(pilot).view.selected
    assert selected is not None
    return selected


async def cut_off(pilot: Console, cycle: str) -> None:
    await pilot.press("1", "C")
    await fill(pilot, typed=cycle)
    await until(pilot, lambda: outcome(pilot).startswith("Cut off: done"))


async def propose(pilot: Console, label: str, *, reason: str) -> None:
    """Propose an action by its key, the first letter of its name."""
    await pilot.press("2", label[0])
    await fill(pilot, reason=reason)
    await until(pilot, lambda: outcome(pilot).startswith(f"{label}: proposed, waits for another operator"))


async def confirm(pilot: Console, cycle: str, *, text: str) -> None:
    """Confirm the proposal that waits, wherever the cursor is, once the form says a text."""
    await pilot.press("5")
    await until(pilot, lambda: "Y" in shown_keys(pilot))
    await pilot.press("Y")
    await until(pilot, lambda: isinstance(pilot.app.screen, FormScreen))
    lines = " ".join(str(line.render()) for line in pilot.app.screen.query("#effects Static").results(Static))
    assert text in lines
    await fill(pilot, typed=cycle)
    await until(pilot, lambda: outcome(pilot).startswith("Confirm: done"))


async def netted_cycle(pilot: Console, coordinator: Coordinator) -> str:
    """Bring a cycle with two banks to where it can be approved."""
    banks = await coordinator.admit(ALPHA, BRAVO, caps_minor={"EUR": 100_000})
    cycle = await open_cycle(pilot)
    await cut_off(pilot, cycle)
    await take_part(coordinator, banks, cycle)
    await until(pilot, lambda: state(pilot) == "netted" and app_of(pilot).view.selected == cycle)
    return cycle


def logged(coordinator: Coordinator, subject: str) -> list[dict[str, str]]:
    return [
        msgspec.json.decode(line) for line in (coordinator.directory / f"{subject}.jsonl").read_bytes().splitlines()
    ]


def exported(path: str) -> list[str]:
    return Path(path.strip()).read_text().splitlines()


# --- reading --------------------------------------------------------------------------------------------------


async def test_shows_what_is_there_and_who_is_looking(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA, BRAVO, caps_minor={"EUR": 5_000_000_00})
    async with console(coordinator, operate=False, size=(80, 24)) as pilot:
        assert banner(pilot).split()[:8] == ["DEMO", "READ", "ONLY", "·", "alice", "(operator)", "·", COORDINATOR]
        await until(pilot, lambda: "updated" in banner(pilot))
        await pilot.press("4")
        await until(pilot, lambda: len(rows(pilot, "t-participants")) >= 2)
        shown = {row[0]: row for row in rows(pilot, "t-participants")}
        assert shown[ALPHA][2] == "active"
        assert "EUR 5,000,000.00" in shown[ALPHA][5]
        assert pilot.app.screen.query_one(Footer).region.bottom == 24


async def test_read_only_has_no_action_in_footer_palette_or_help(coordinator: Coordinator) -> None:
    async with console(coordinator, operate=False) as pilot:
        locked = {"O", "C", "A", "H", "R", "X", "Y", "N"}
        assert locked.isdisjoint(shown_keys(pilot))
        titles = {command.title for command in pilot.app.get_system_commands(pilot.app.screen)}
        assert {"Open", "Cut off", "Approve"}.isdisjoint(titles)
        assert {"Cycles", "Help", "Export"} <= titles
        await pilot.press("O")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, FormScreen)
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Approve" not in screenshot(pilot)


async def test_operate_without_an_operators_token_stays_read_only(coordinator: Coordinator) -> None:
    async with console(coordinator, "rita", role="auditor") as pilot:
        await until(pilot, lambda: "READ ONLY · rita (auditor)" in banner(pilot))
        assert "O" not in shown_keys(pilot)


async def test_says_stale_when_the_coordinator_stops_and_recovers_when_it_is_back(url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_coordinator(url, tmp_path))
        async with console(running) as pilot:
            await open_cycle(pilot)
            before = rows(pilot, "t-cycles")
            await stack.aclose()
            await until(pilot, lambda: "STALE" in banner(pilot))
            assert "no answer (" in banner(pilot)
            assert pilot.app.query_one(Banner).has_class("stale")
            assert rows(pilot, "t-cycles") == before
            async with running_coordinator(url, tmp_path, port=running.settings.port):
                await until(pilot, lambda: "updated" in banner(pilot) and "STALE" not in banner(pilot))


async def test_freeze_holds_the_screen_until_space_again(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot, operator_client(coordinator) as otto:
        await pilot.press("space")
        await until(pilot, lambda: "FROZEN" in banner(pilot))
        await otto.post(f"{coordinator.url}/cycles", msgspec.Raw, audience=COORDINATOR, json={})
        await until(pilot, lambda: app_of(pilot).freshness.rounds_waiting > 0 and bool(app_of(pilot).latest.cycles))
        assert rows(pilot, "t-cycles") == []
        await pilot.press("space")
        await until(pilot, lambda: len(rows(pilot, "t-cycles")) == 1)


@asynccontextmanager
async def operator_client(coordinator: Coordinator) -> AsyncIterator[FederationClient]:
    async with await coordinator.operator("otto") as client:
        yield client


async def test_filter_and_export_give_exactly_the_rows_on_screen(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA, BRAVO)
    async with console(coordinator, operate=False) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: len(rows(pilot, "t-participants")) >= 2)
        await pilot.press("slash", *ALPHA[:4].lower(), "enter")
        await until(pilot, lambda: [row[0] for row in rows(pilot, "t-participants")] == [ALPHA])
        await pilot.press("e")
        await until(pilot, lambda: "1 rows written to" in outcome(pilot))
        header, *lines = exported(outcome(pilot).partition(" written to ")[2])
        assert header.startswith("bic,name,status")
        assert [line.split(",")[0] for line in lines] == [ALPHA]
        await pilot.press("escape")
        await until(pilot, lambda: len(rows(pilot, "t-participants")) >= 2)


# --- acting ---------------------------------------------------------------------------------------------------


async def test_opens_a_cycle_and_shows_it(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot:
        cycle = await open_cycle(pilot)
        assert rows(pilot, "t-cycles")[0][0] == cycle
        assert outcome(pilot).startswith("Open: done")
        before, after = logged(coordinator, "alice")
        assert (before["action"], before["outcome"], after["outcome"]) == ("open_cycle", "asked", "done")
        assert before["correlation_id"] == after["correlation_id"]
        assert before["correlation_id"] in outcome(pilot)


async def test_cut_off_needs_the_cycles_id_typed(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA, BRAVO)
    async with console(coordinator) as pilot:
        cycle = await open_cycle(pilot)
        await pilot.press("C")
        await fill(pilot, typed=cycle[:-1])
        assert isinstance(pilot.app.screen, FormScreen)
        assert pilot.app.screen.query_one("#go").disabled
        assert "2 active of 2" in screenshot(pilot)
        await pilot.press(cycle[-1], "enter")
        await until(pilot, lambda: outcome(pilot).startswith("Cut off: done"))
        await until(pilot, lambda: state(pilot) in ("cut_off", "attesting"))
        assert app_of(pilot).view.selected == cycle


async def test_a_refused_action_shows_code_and_detail(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot:
        await open_cycle(pilot)
        await pilot.press("O")
        await fill(pilot)
        await until(pilot, lambda: "Open refused" in outcome(pilot))
        assert "cycle_open_already: " in outcome(pilot)
        assert logged(coordinator, "alice")[-1]["code"] == "cycle_open_already"


async def test_alice_proposes_and_only_somebody_else_confirms(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot:
        cycle = await netted_cycle(pilot, coordinator)
        await pilot.press("3")
        await until(pilot, lambda: len(rows(pilot, "t-positions")) == 2)
        assert [row[3] for row in rows(pilot, "t-positions")] == ["-300.00", "300.00"]
        assert "sum of nets: EUR 0.00" in str(base(pilot, "#positions-note").render())

        await propose(pilot, "Approve", reason="all checks pass")
        await pilot.press("5")
        await until(pilot, lambda: len(rows(pilot, "t-proposals")) == 1)
        assert rows(pilot, "t-proposals")[0][:4] == [cycle, "approve", "pending", "alice (you)"]

        assert {"Y", "N"}.isdisjoint(shown_keys(pilot))
        await pilot.press("Y")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, FormScreen)

    async with console(coordinator, "bob") as pilot:
        await confirm(pilot, cycle, text="alice proposes to approve")
        await until(pilot, lambda: rows(pilot, "t-proposals")[0][2] == "confirmed")
        await until(pilot, lambda: state(pilot) in ("approved", "instructed", "deferred", "settled", "final"))
        assert [entry["outcome"] for entry in logged(coordinator, "bob")] == ["asked", "done"]


async def test_a_hold_is_rejected_with_a_reason(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot:
        await netted_cycle(pilot, coordinator)
        await propose(pilot, "Hold", reason="a list is old")
    async with console(coordinator, "bob") as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "N" in shown_keys(pilot))
        await pilot.press("N")
        await fill(pilot, reason="the list was renewed")
        await until(pilot, lambda: outcome(pilot).startswith("Reject: done"))
        await until(pilot, lambda: rows(pilot, "t-proposals")[0][2] == "rejected")
        assert state(pilot) == "netted"


async def test_a_release_lifts_a_hold_and_the_result_still_needs_its_approval(coordinator: Coordinator) -> None:
    async with console(coordinator) as alice, console(coordinator, "bob") as bob:
        cycle = await netted_cycle(alice, coordinator)
        await propose(alice, "Hold", reason="a list is old")
        await confirm(bob, cycle, text="settlement waits. Only a confirmed release lets the cycle go on")
        await until(bob, lambda: state(bob) == "held")
        await propose(bob, "Release", reason="the list was renewed")
        await confirm(alice, cycle, text="the hold is lifted. Only a confirmed approve lets the cycle go on")
        await until(alice, lambda: state(alice) == "netted")
        await propose(alice, "Approve", reason="all checks pass")
        await confirm(bob, cycle, text="instructions are signed")
        await until(bob, lambda: state(bob) in ("approved", "instructed", "deferred", "settled", "final"))


async def test_a_break_shows_while_banks_differ(coordinator: Coordinator) -> None:
    async with console(coordinator) as pilot:
        banks = await coordinator.admit(ALPHA, BRAVO)
        cycle = await open_cycle(pilot)
        await cut_off(pilot, cycle)
        await take_part(coordinator, banks, cycle, differing=True)
        await pilot.press("2", "right_square_bracket")
        await until(pilot, lambda: len(rows(pilot, "t-breaks")) == 1)
        assert rows(pilot, "t-breaks")[0][:4] == [ALPHA, BRAVO, "EUR", "different"]
        await pilot.press("1")
        await until(pilot, lambda: any(row[0] == cycle and row[6] == "1" for row in rows(pilot, "t-cycles")))


async def test_the_cursor_stays_on_the_cycle_that_was_picked(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA, BRAVO)
    async with console(coordinator) as pilot:
        first = await open_cycle(pilot)
        await cut_off(pilot, first)
        await until(pilot, lambda: len(rows(pilot, "t-cycles")) == 2)
        newest = rows(pilot, "t-cycles")[0][0]
        assert app_of(pilot).view.selected == first
        pilot.app.query_one("#t-cycles").focus()
        await pilot.press("k")
        await until(pilot, lambda: app_of(pilot).view.selected == newest)
        await pilot.press("f")
        await until(pilot, lambda: app_of(pilot).view.selected == first)
