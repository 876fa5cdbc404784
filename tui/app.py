"""The console itself: draws snapshots, and sends what an operator decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import ClassVar, Literal, cast

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static, TabbedContent, TabPane

from gateway.federation.http.client import RemoteError
from gateway.federation.messages.proposals import ProposalView
from tui import export, tables
from tui.actions import ACTIONS, BY_ID, Action, Pane, applies, form_for, unlocked
from tui.api import Caller, ConsoleApi
from tui.feed import Lost, said, watch
from tui.journal import Journal
from tui.model import (
    Feed,
    Snapshot,
    Tone,
    bar,
    clock,
    cycle_to_follow,
    freshness,
    gauges,
    liquidity,
    pending,
    plain,
    steps,
)
from tui.operate import Order, execute
from tui.screens.form import FormScreen
from tui.screens.help import HelpScreen, key_name
from tui.themes import THEMES, Styles, styles
from tui.widgets import Banner, LiveTable

# The parts of the cycle pane: tab, table.
PARTS = (("banks", "Participants"), ("breaks", "Breaks"), ("checks", "Checks"), ("approvals", "Approvals"))


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    environment: str = "test"
    operate: bool = False
    export_directory: Path = Path()


class Read(Message):
    """The feed read a round."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class Broke(Message):
    """The feed got no answer."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class ConsoleApp(App[None]):
    """Shows one coordinator. Workers post messages; only message handlers touch widgets."""

    CSS_PATH = "console.tcss"
    TITLE = "Concordat"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                action.key,
                f"run('{action.id}')",
                action.label,
                show=action.footer,
                key_display=key_name(action.key),
                id=action.id,
            )
            for action in ACTIONS
        ),
        Binding("escape", "clear_filter", show=False),
    ]

    def __init__(self, api: ConsoleApi, journal: Journal, options: Options) -> None:
        super().__init__()
        self.api = api
        self.journal = journal
        self.options = options
        self.caller: Caller | None = None
        self.feed = Feed()
        self.view = Snapshot()
        self.latest = Snapshot()
        self.picked: str | None = None
        self.needle = ""
        self.poke = asyncio.Event()
        self.possible: set[str] = set()

    # --- what is on the screen --------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Banner(self.options.environment, self.api.bic)
        with TabbedContent(id="panes"):
            with TabPane("1 Cycles", id="cycles"):
                yield LiveTable(id="t-cycles")
                yield LiveTable(id="totals", still=True)
            with TabPane("2 Cycle", id="cycle"):
                yield Static(id="road")
                yield Static(id="gauges")
                with TabbedContent(id="parts"):
                    for part, title in PARTS:
                        with TabPane(title, id=part):
                            yield LiveTable(id=f"t-{part}")
            with TabPane("3 Positions", id="positions"):
                yield LiveTable(id="t-positions", fixed=2)
                yield Static(id="positions-note", classes="note")
            with TabPane("4 Participants", id="participants"):
                yield LiveTable(id="t-participants")
                yield Static(id="participants-note", classes="note")
            with TabPane("5 Proposals", id="proposals"):
                yield LiveTable(id="t-proposals")
            with TabPane("6 Events", id="events"):
                yield LiveTable(id="t-events")
        yield Input(id="filter", placeholder="filter rows; escape clears", compact=True)
        yield Static(id="outcome")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "concordat"
        self.theme_changed_signal.subscribe(self, lambda _: self.draw())
        self.query_one("#t-cycles", LiveTable).focus()
        self.set_interval(1.0, self.draw_freshness)
        self.draw()
        self.follow_feed()

    @work(exclusive=True, group="feed")
    async def follow_feed(self) -> None:
        async for news in watch(self.api, lambda: self.picked, self.poke):
            if isinstance(news, Lost):
                self.post_message(Broke(news.why))
                continue
            if self.caller is None:
                self.caller = await self.api.caller()
            self.post_message(Read(news))

    @on(Read)
    def _take(self, message: Read) -> None:
        self.feed = self.feed.heard(monotonic())
        self.latest = message.snapshot
        if not self.feed.frozen:
            self.view = self.latest
            self.draw()
        self.draw_freshness()

    @on(Broke)
    def _broke(self, message: Broke) -> None:
        self.feed = self.feed.broke(message.why)
        self.draw_freshness()

    @property
    def operating(self) -> bool:
        """Whether actions exist: asked for on the command line, and the token is an operator's."""
        return self.options.operate and self.caller is not None and self.caller.role == "operator"

    @property
    def pane(self) -> Pane:
        return cast(Pane, self.query_one("#panes", TabbedContent).active or "cycles")

    @property
    def pane_table(self) -> LiveTable:
        """The main table of the pane in front."""
        part = self.query_one("#parts", TabbedContent).active if self.pane == "cycle" else self.pane
        return self.query_one(f"#t-{part}", LiveTable)

    def draw_freshness(self) -> None:
        if not self.is_running:
            return  # A last message or tick comes in while the widgets are taken down.
        banner = self.query_one(Banner)
        banner.freshness(*freshness(self.feed, monotonic()))
        if self.caller is not None:
            mode = "OPERATE" if self.operating else "READ ONLY"
            banner.who(f"{mode} · {plain(self.caller.subject)} ({plain(self.caller.role)})")

    def draw(self) -> None:
        """Draw the view, filtered."""
        if not self.is_running:
            return  # A last message or tick comes in while the widgets are taken down.
        view, tones = self.view, styles(self.current_theme)
        cycle = view.selected or ""
        shown = {
            "t-cycles": tables.cycles(view.cycles),
            "totals": tables.totals(cycle, view.progress.totals if view.progress else ()),
            "t-participants": tables.participants(view.participants, datetime.now(UTC)),
            "t-proposals": tables.proposals(view.proposals, self.caller.subject if self.caller else ""),
            "t-events": tables.events(view.events),
        }
        own = [proposal for proposal in view.proposals if proposal.cycle == cycle]
        shown["t-approvals"] = tables.proposals(own, self.caller.subject if self.caller else "", f"approvals-{cycle}")
        if view.progress is not None:
            shown["t-banks"] = tables.participants_of(view.progress)
            shown["t-breaks"] = tables.breaks(cycle, view.progress.breaks)
        if view.checks is not None:
            shown["t-checks"] = tables.checks(view.checks)
        if view.positions is not None:
            shown["t-positions"] = tables.positions(view.positions)
        for widget in self.query(LiveTable):
            table = shown.get(widget.id or "", tables.EMPTY)
            needle = self.needle if widget is self.pane_table else ""
            drawn = tables.filtered(table, needle)
            widget.show(drawn, tones, cursor=self._place(widget, drawn))
            if widget.id in ("t-positions", "t-participants"):
                self.query_one(f"#{widget.id[2:]}-note", Static).update(Text(table.note))
        self._draw_cycle(view, tones)
        self._draw_badges(view)
        self._draw_footer()

    def _place(self, widget: LiveTable, table: tables.Table) -> str | None:
        """Where the cursor goes: on the followed cycle, on the newest event if it was there; else it stays."""
        if widget.id == "t-cycles" and self.picked is None:
            return self.view.selected
        at_top = widget.id == "t-events" and widget.cursor_row == 0 and table.rows
        return table.rows[0].key if at_top else None

    def _draw_cycle(self, view: Snapshot, tones: Styles) -> None:
        road, levels = Text(no_wrap=True), Text(no_wrap=True)
        if view.progress is not None:
            cycle = view.progress.cycle
            ends = f", step ends by {clock(cycle.deadline_at)}" if cycle.deadline_at else ""
            road.append(f"{cycle.id}, value date {cycle.value_date}{ends}\n", "bold")
            for label, tone in steps(cycle.state):
                road.append(f"{label} ", tones[tone])
            for name, part, whole, remark in gauges(view.progress):
                count = f"{part}/{whole}" if whole else "–"
                levels.append(f"{name:<13}{bar(part, whole, 16)} {count:>8}  ")
                levels.append(f"{remark}\n", tones[Tone.WARN])
            levels.append("\n".join(liquidity(view.progress)))
        else:
            road.append("No cycle yet.", tones[Tone.DIM])
        self.query_one("#road", Static).update(road)
        self.query_one("#gauges", Static).update(levels)
        self.query_one("#totals").border_title = f"{view.selected} totals" if view.selected else ""

    def _draw_badges(self, view: Snapshot) -> None:
        inbox = len(pending(view.proposals))
        unresolved = sum(not notice.resolved for notice in view.progress.breaks) if view.progress else 0
        failed = sum(check.verdict == "fail" for check in view.checks.checks) if view.checks else 0
        badges = (("#panes", "proposals", "5 Proposals", inbox), ("#parts", "breaks", "Breaks", unresolved))
        for tabs, pane, title, count in (*badges, ("#parts", "checks", "Checks ✗", failed)):
            label = f"{title} ({count})" if count else title.removesuffix(" ✗")
            tab = self.query_one(tabs, TabbedContent).get_tab(pane)
            if tab.label.plain != label:
                tab.label = label

    def _draw_footer(self) -> None:
        """Build the footer anew only when other actions apply: it's the costliest widget of all."""
        possible = {action.id for action in ACTIONS if self.check_action("run", (action.id,))}
        if possible != self.possible:
            self.possible = possible
            self.refresh_bindings()

    # --- keys, footer, palette, help: all from the registry -----------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what is locked or doesn't apply."""
        if action != "run" or not self.is_running:
            return True
        wanted = BY_ID[str(parameters[0])]
        return unlocked(wanted, operate=self.operating) and applies(wanted, pane=self.pane, view=self.view)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:  # noqa: ARG002
        """The palette: the registry, then Textual's choice of theme."""
        for action in ACTIONS:
            if self.check_action("run", (action.id,)):
                yield SystemCommand(action.label, action.help, lambda chosen=action.id: self.action_run(chosen))
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def action_run(self, action_id: str) -> None:
        """Do an action of the registry."""
        action = BY_ID[action_id]
        if not self.check_action("run", (action_id,)):
            return
        if action.locked:
            self.act(action)
        elif action_id.startswith("pane_"):
            self.show_pane(cast(Pane, action_id.removeprefix("pane_")))
        else:
            simple: dict[str, Callable[[], object]] = {
                "follow": self.follow_again,
                "next_part": lambda: self.step_part(1),
                "previous_part": lambda: self.step_part(-1),
                "freeze": self.toggle_freeze,
                "filter": self.open_filter,
                "export_csv": lambda: self.export("csv"),
                "export_json": lambda: self.export("json"),
                "copy_call": self.copy_call,
                "help": lambda: self.push_screen(HelpScreen(operate=self.operating)),
                "quit": self.exit,
            }
            simple[action_id]()

    def show_pane(self, pane: Pane) -> None:
        self.query_one("#panes", TabbedContent).active = pane
        self.call_after_refresh(self._pane_shown)

    def step_part(self, step: int) -> None:
        parts = self.query_one("#parts", TabbedContent)
        names = [part for part, _ in PARTS]
        parts.active = names[(names.index(parts.active) + step) % len(names)]
        self.call_after_refresh(self._pane_shown)

    @on(TabbedContent.TabActivated)
    def _pane_shown(self) -> None:
        self.draw()
        if self.screen is self.screen_stack[0] and not isinstance(self.focused, Input):
            self.pane_table.focus()

    def toggle_freeze(self) -> None:
        self.feed = self.feed.toggled()
        self.view = self.latest
        self.draw()
        self.draw_freshness()

    # --- choosing a cycle --------------------------------------------------------------------------------

    @on(DataTable.RowHighlighted, "#t-cycles")
    def _cycle_chosen(self) -> None:
        table = self.query_one("#t-cycles", LiveTable)
        key = table.cursor_key
        if key is None or key == table.settled_key:
            return
        table.settled_key = key
        self.pick(None if key == cycle_to_follow(self.view.cycles) else key)

    @on(DataTable.RowSelected, "#t-cycles")
    def _cycle_entered(self) -> None:
        self.show_pane("cycle")

    def follow_again(self) -> None:
        self.pick(None)

    def pick(self, cycle: str | None) -> None:
        """Show a cycle; None follows the one in motion. Choosing one ends a freeze, or the panes would disagree."""
        self.picked = cycle
        if self.feed.frozen:
            self.toggle_freeze()
        self.poke.set()

    # --- filter, export, copy ------------------------------------------------------------------------------

    def open_filter(self) -> None:
        self.query_one("#filter", Input).add_class("shown").focus()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        self.needle = event.value
        self.draw()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.pane_table.focus()

    def action_clear_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = self.needle = ""
        field.remove_class("shown")
        self.pane_table.focus()
        self.draw()

    def export(self, kind: Literal["csv", "json"]) -> None:
        """Write the rows of the table in front, as filtered, and say where."""
        table = self.pane_table.table
        if table is None:
            return
        try:
            path = export.write(table, kind, self.options.export_directory)
        except OSError as error:
            self.tell(f"Not exported: {error}", Tone.BAD)
        else:
            self.tell(f"{len(table.rows)} rows written to {path.resolve()}", Tone.GOOD)

    def copy_call(self) -> None:
        """Put the API call behind the pane on the clipboard."""
        cycle = self.view.selected or "{id}"
        path = {
            "cycles": "/cycles",
            "cycle": f"/cycles/{cycle}/progress",
            "positions": f"/cycles/{cycle}/positions",
            "participants": "/participants",
            "proposals": f"/cycles/{cycle}/proposals",
            "events": "/events?after=0",
        }[self.pane]
        self.copy_to_clipboard(f"GET {self.api.url}{path}")
        self.tell(f"Copied: GET {self.api.url}{path}", Tone.GOOD)

    def tell(self, text: str, tone: Tone) -> None:
        """Show the outcome of an action on the line above the footer, where it stays until the next."""
        line = self.query_one("#outcome", Static)
        line.update(Text(plain(text)))
        line.set_classes(tone.value)

    # --- acting --------------------------------------------------------------------------------------------

    @work(exclusive=True, group="act")
    async def act(self, action: Action) -> None:
        """Ask what the action's grade asks for, log it, send it once, and show what came of it."""
        proposal = self._chosen_proposal() if action.id in ("confirm", "reject") else None
        if action.id in ("confirm", "reject") and proposal is None:
            self.tell("Choose a pending proposal first.", Tone.WARN)
            return
        cycle = proposal.cycle if proposal is not None else self.view.selected
        view = self.view
        if action.id != "open_cycle" and cycle is not None:
            try:
                view = replace(view, progress=await self.api.progress(cycle))
            except RemoteError as failure:
                self.tell(f"{action.label}: not sent · {said(failure)}", Tone.BAD)
                return
        answer = await self.push_screen_wait(FormScreen(form_for(action, view, proposal)))
        if answer is None:
            return
        order = Order(action, answer, cycle=None if action.id == "open_cycle" else cycle, proposal=proposal)
        subject = self.caller.subject if self.caller is not None else ""
        outcome = await execute(order, api=self.api, journal=self.journal, subject=subject)
        self.tell(outcome.text, outcome.tone)
        self.poke.set()

    def _chosen_proposal(self) -> ProposalView | None:
        key = self.query_one("#t-proposals", LiveTable).cursor_key
        return next((p for p in pending(self.view.proposals) if p.id == key), None)
