"""How far a cycle is: the road of its steps, and a gauge for each."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from gateway.federation.messages.cycles import CycleProgress
from tui.progress import gauges, liquidity, steps, trouble
from tui.text import Tone, bar, clock
from tui.themes import Styles


class Road(Vertical):
    """The head of the pane of one cycle."""

    def compose(self) -> ComposeResult:
        yield Static(id="road")
        yield Static(id="gauges")

    def show(self, progress: CycleProgress | None, styles: Styles) -> None:
        road, levels = Text(no_wrap=True), Text(no_wrap=True)
        if progress is not None:
            cycle = progress.cycle
            deadline = f", step ends by {clock(cycle.deadline_at)}" if cycle.deadline_at else ""
            road.append(f"{cycle.id}, value date {cycle.value_date}{deadline}\n", "bold")
            for label, tone in steps(cycle.state):
                road.append(f"{label} ", styles[tone])
            if (words := trouble(progress)) is not None:
                road.append(f"\n{words}", styles[Tone.BAD])
            for name, part, whole, remark in gauges(progress):
                count = f"{part}/{whole}" if whole else "–"
                levels.append(f"{name:<13}{bar(part, whole, 16)} {count:>8}  ")
                levels.append(f"{remark}\n", styles[Tone.WARN])
            levels.append("\n".join(liquidity(progress)))
        else:
            road.append("No cycle yet.", styles[Tone.DIM])
        self.query_one("#road", Static).update(road)
        self.query_one("#gauges", Static).update(levels)
