"""An outcome for people at a terminal: the breaks as a table, as many as fit, and the figures."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compliance.terminal import shown
from gateway.federation.money import format_minor
from participants.matching.explanation import Document, Explanation
from participants.matching.outcome import Outcome

BREAKS_SHOWN_MIN = 5
BREAKS_SHOWN = 20
"""Where output is no terminal whose height is known."""
LINES_OF_FIGURES = 16
TEXT_CHARACTERS_MAX = 60


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print a screenful of breaks, how many more there are, and the summary."""
    room = max(BREAKS_SHOWN_MIN, console.size.height - LINES_OF_FIGURES) if console.is_terminal else BREAKS_SHOWN
    shown_breaks = outcome.breaks[:room]
    explanation = Explanation(outcome, shown_breaks)
    if shown_breaks:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("break", no_wrap=True)
        table.add_column("reference", overflow="fold")
        table.add_column("A", justify="right", overflow="fold")
        table.add_column("B", justify="right", overflow="fold")
        table.add_column("why", overflow="fold")
        for item in shown_breaks:
            a, b = explanation.rows(item)
            reference = shown(explanation.reference(item) or "", characters_max=TEXT_CHARACTERS_MAX)
            why = shown(explanation.why(item), characters_max=4 * TEXT_CHARACTERS_MAX)
            table.add_row(*map(Text, (item.kind.value, reference, _cell(a), _cell(b), why)))
        console.print(table)
    if len(outcome.breaks) > len(shown_breaks):
        more = len(outcome.breaks) - len(shown_breaks)
        console.print(
            f"… and {more:,} more breaks; --json lists all, --html FILE shows them with charts\n", soft_wrap=True
        )
    _print_figures(outcome, console)


def _cell(rows: list[Document]) -> str:
    """Return the line and amount of the first row, and how many more there are."""
    if not rows:
        return "-"
    more = f" +{len(rows) - 1}" if len(rows) > 1 else ""
    return f"line {rows[0]['line']}{more}\n{rows[0]['amount']} {rows[0]['currency']}"


def _print_figures(outcome: Outcome, console: Console) -> None:
    matching = outcome.matching
    kinds = ", ".join(f"{count:,} {kind.value}" for kind, count in outcome.by_kind.items())
    passes = ", ".join(f"{count:,} by {label}" for label, (count, _) in outcome.by_pass.items() if count)
    lines = [
        f"A {shown(matching.a.table.name)}: {len(matching.a.amount):,} rows",
        f"B {shown(matching.b.table.name)}: {len(matching.b.amount):,} rows",
        f"{outcome.matches:,} matches{': ' if passes else ''}{passes}",
        f"{len(outcome.breaks):,} breaks{': ' if kinds else ''}{kinds}",
    ]
    for label, count in matching.not_tried.items():
        lines.append(f"{count:,} rows were too many alike to be tried by {label}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    rows: list[tuple[str, ...]] = [("sums", "A", "B", "A - B", "of breaks", "of matches")]
    for code, sums in outcome.sums.items():
        figures = (sums.a, sums.b, sums.difference, sums.of_breaks, sums.of_matches)
        rows.append((code, *(format_minor(figure, code) for figure in figures)))
    # Not a table of Rich's, which would cut figures off to fit a terminal.
    console.print()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[: len(rows) if len(rows) > 1 else 0]:
        line = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        console.print(Text(f"{row[0]:<{widths[0]}}  {line}"), soft_wrap=True)
