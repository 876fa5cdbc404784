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
from gateway.federation.identity.deciding import DecidingKey
from tui import export
from tui.actions import ACTIONS, BY_ID, Action, applies, unlocked
from tui.api import Caller, ConsoleApi, describe
from tui.feed import Failure, watch
from tui.forms import form_for
from tui.freshness import Freshness
from tui.journal import Journal
from tui.orders import Order, execute
from tui.panes import PARTS, Pane, call_behind, tables_of
from tui.screens.form import FormScreen
from tui.screens.help import HelpScreen, key_name
from tui.snapshot import Snapshot, cycle_to_follow, pending, proposal_to_decide
from tui.table import Table
from tui.text import Tone, plain
from tui.themes import THEMES, styles
from tui.widgets.banner import Banner
from tui.widgets.live_table import LiveTable
from tui.widgets.road import Road


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    environment: str = "test"
    operate: bool = False
    export_directory: Path = Path()


class SnapshotRead(Message):
    """The feed read a round."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class AnswerMissing(Message):
    """The feed got no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


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

    def __init__(self, api: ConsoleApi, deciding: DecidingKey, journal: Journal, options: Options) -> None:
        super().__init__()
        self.api = api
        self.deciding = deciding
        self.journal = journal
        self.options = options
        self.caller: Caller | None = None
        self.freshness = Freshness()
        self.view = Snapshot()
        """What is on screen: the latest, unless the screen is frozen."""
        self.latest = Snapshot()
        self.chosen_cycle: str | None = None
        """The operator's choice; None follows the cycle in motion."""
        self.needle = ""
        self.read_now = asyncio.Event()
        self.possible_actions: set[str] = set()

    # --- what is on the screen --------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Banner(self.options.environment, self.api.bic)
        with TabbedContent(id="panes"):
            with TabPane("1 Cycles", id="cycles"):
                yield LiveTable(id="t-cycles")
                yield LiveTable(id="t-totals", still=True)
            with TabPane("2 Cycle", id="cycle"):
                yield Road()
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
        async for news in watch(self.api, lambda: self.chosen_cycle, self.read_now):
            if isinstance(news, Failure):
                self.post_message(AnswerMissing(news))
                continue
            if self.caller is None:
                self.caller = await self.api.caller()
            self.post_message(SnapshotRead(news))

    @on(SnapshotRead)
    def _snapshot_read(self, message: SnapshotRead) -> None:
        self.freshness = self.freshness.answered(monotonic())
        self.latest = message.snapshot
        if not self.freshness.frozen:
            self.view = self.latest
            self.draw()
        self.draw_freshness()

    @on(AnswerMissing)
    def _answer_missing(self, message: AnswerMissing) -> None:
        self.freshness = self.freshness.failed(message.failure.words)
        self.draw_freshness()

    @property
    def subject(self) -> str:
        """Who looks at the screen; empty before the coordinator answered."""
        return self.caller.subject if self.caller is not None else ""

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
            return  # As in `draw`.
        banner = self.query_one(Banner)
        banner.show_freshness(*self.freshness.words(monotonic()))
        if self.caller is not None:
            mode = "OPERATE" if self.operating else "READ ONLY"
            banner.show_operator(f"{mode} · {plain(self.caller.subject)} ({plain(self.caller.role)})")

    def draw(self) -> None:
        """Draw the view, filtered."""
        if not self.is_running:
            return  # A last message or tick comes in while the widgets are taken down.
        view, tones = self.view, styles(self.current_theme)
        drawn = tables_of(view, subject=self.subject, now=datetime.now(UTC))
        for widget in self.query(LiveTable):
            name = (widget.id or "").removeprefix("t-")
            table = drawn.get(name, Table("empty"))
            if widget is self.pane_table:
                table = table.filtered(self.needle)
            widget.show(table, tones, cursor=self._cursor(name, widget, table))
            for note in self.query(f"#{name}-note").results(Static):
                note.update(Text(table.note))
        self.query_one(Road).show(view.progress, tones)
        self.query_one("#t-totals").border_title = f"{view.selected} totals" if view.selected else ""
        self._draw_badges(view)
        self._draw_footer()

    def _cursor(self, name: str, widget: LiveTable, table: Table) -> str | None:
        """Where the cursor goes: on the followed cycle, on the newest event if it was there; else it stays."""
        if name == "cycles" and self.chosen_cycle is None:
            return self.view.selected
        at_top = name == "events" and widget.cursor_row == 0 and table.rows
        return table.rows[0].key if at_top else None

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
        if possible != self.possible_actions:
            self.possible_actions = possible
            self.refresh_bindings()

    # --- keys, footer, palette, help: all from the registry -----------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what is locked or doesn't apply."""
        if action != "run" or not self.is_running:
            return True
        candidate = BY_ID[str(parameters[0])]
        return unlocked(candidate, operate=self.operating) and applies(
            candidate, pane=self.pane, view=self.view, subject=self.subject
        )

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
        if action.operators_only:
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
        if self.is_running and self.screen is self.screen_stack[0] and not isinstance(self.focused, Input):
            self.pane_table.focus()

    def toggle_freeze(self) -> None:
        self.freshness = self.freshness.toggled()
        self.view = self.latest
        self.draw()
        self.draw_freshness()

    # --- choosing a cycle --------------------------------------------------------------------------------

    @on(DataTable.RowHighlighted, "#t-cycles")
    def _cycle_chosen(self, event: DataTable.RowHighlighted) -> None:
        table = event.data_table
        assert isinstance(table, LiveTable)
        key = table.cursor_key
        if key is None or key == table.placed_key:
            return
        table.placed_key = key
        self.choose_cycle(None if key == cycle_to_follow(self.view.cycles) else key)

    @on(DataTable.RowSelected, "#t-cycles")
    def _cycle_entered(self) -> None:
        self.show_pane("cycle")

    def follow_again(self) -> None:
        self.choose_cycle(None)

    def choose_cycle(self, cycle: str | None) -> None:
        """Show a cycle; None follows the one in motion. Choosing one ends a freeze, or the panes would disagree."""
        self.chosen_cycle = cycle
        if self.freshness.frozen:
            self.toggle_freeze()
        self.read_now.set()

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
            self.show_outcome(f"Not exported: {error}", Tone.BAD)
        else:
            self.show_outcome(f"{len(table.rows)} rows written to {path.resolve()}", Tone.GOOD)

    def copy_call(self) -> None:
        """Put the API call behind the pane on the clipboard."""
        call = f"GET {self.api.url}{call_behind(self.pane, self.view.selected)}"
        self.copy_to_clipboard(call)
        self.show_outcome(f"Copied: {call}", Tone.GOOD)

    def show_outcome(self, text: str, tone: Tone) -> None:
        """Show the outcome of an action on the line above the footer, where it stays until the next."""
        line = self.query_one("#outcome", Static)
        line.update(Text(plain(text)))
        line.set_classes(tone.value)

    # --- acting --------------------------------------------------------------------------------------------

    @work(exclusive=True, group="act")
    async def act(self, action: Action) -> None:
        """Ask what the action's grade asks for, log it, send it once, and show what came of it."""
        proposal = None
        if action.id in ("confirm", "reject"):
            cursor = self.query_one("#t-proposals", LiveTable).cursor_key
            proposal = proposal_to_decide(self.view.proposals, self.subject, cursor=cursor)
            if proposal is None:
                self.show_outcome("Choose a pending proposal of another operator first.", Tone.WARN)
                return
        cycle = proposal.cycle if proposal is not None else self.view.selected
        view = self.view
        if action.id != "open_cycle" and cycle is not None:  # A proposal on the registry has no cycle.
            try:
                view = replace(view, progress=await self.api.progress(cycle))
            except RemoteError as failure:
                self.show_outcome(f"{action.label}: not sent · {describe(failure)}", Tone.BAD)
                return
        answer = await self.push_screen_wait(FormScreen(form_for(action, view, proposal)))
        if answer is None:
            return
        order = Order(
            action,
            answer,
            cycle=None if action.id == "open_cycle" else cycle,
            proposal=proposal,
            result=None if view.progress is None else view.progress.cycle.result,
        )
        outcome = await execute(order, api=self.api, deciding=self.deciding, journal=self.journal, subject=self.subject)
        self.show_outcome(outcome.text, outcome.tone)
        self.read_now.set()
