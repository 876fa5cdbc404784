"""`concordat statements …`: what a file of statements says, without any server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.federation.commands.group import group
from gateway.federation.commands.progress import Progress

if TYPE_CHECKING:
    from participants.statements.csv_layout import CsvLayout

UNREADABLE = 2
_LINES_PER_WORD = 5_000

app = group("statements", "Statements that others sent.")


@app.callback()
def _statements() -> None:
    """Keep a group around the one command."""


@app.command()
def read(
    files: Annotated[
        list[Path], typer.Argument(help="camt.052, .053, .054, MT940, MT942, BAI2 or CSV; plain, gzip or xz.")
    ],
    layout: Annotated[
        Path | None, typer.Option(help="A file of TOML that says how CSV is to be read; then all files are CSV.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write a line of JSON per statement, entry and finding.")
    ] = False,
) -> None:
    """Check files of statements and print what they say.

    What they are is told by their content. A file is read whole or refused with its reason, line and field: structure,
    counts, totals and balances must be right, and statements of one account must follow each other without a gap.

    With --json each line is an object with one member: "statement", then its "finding"s and its "entry"s, each with its
    line and field; "refused" for a file that isn't read; and at last "summary".

    Exit code 0 when every file was read, 2 when one wasn't.
    """
    csv_layout = _layout(layout)
    from participants.statements.output import JsonOutput, TableOutput
    from participants.statements.reading import read as read_file
    from participants.statements.reasons import StatementRefused

    output = JsonOutput(sys.stdout) if json else TableOutput(sys.stdout, sys.stderr)
    refused = 0
    for file in files:
        try:
            with _progress() as progress:
                statements = read_file(file, layout=csv_layout, progress=progress)
        except StatementRefused as refusal:
            refused += 1
            output.refused(file, refusal)
        else:
            output.statements(file, statements)
    output.end()
    if refused:
        raise typer.Exit(UNREADABLE)


def _layout(path: Path | None) -> CsvLayout | None:
    if path is None:
        return None
    from participants.statements.csv_layout import LayoutError, read_layout

    try:
        return read_layout(path)
    except LayoutError as error:
        raise typer.BadParameter(str(error), param_hint="--layout") from None


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    with Progress() as progress:
        next_word = _LINES_PER_WORD

        def hear(line: int) -> None:
            nonlocal next_word
            if line >= next_word:
                next_word = line + _LINES_PER_WORD
                progress(line)

        yield hear
