"""The command `concordat reconcile`: two files in, what breaks between them out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.terminal import shown
from gateway.federation.commands.progress import Progress

if TYPE_CHECKING:
    from participants.matching.outcome import Outcome

BREAKS, REFUSED = 1, 2
"""Exit codes: there are breaks; a file can't be read, or an output can't be written."""


def reconcile(
    a: Annotated[Path, typer.Argument(help="CSV, a statement or an ISO 20022 message.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="What it is compared with.", show_default=False)],
    rules: Annotated[Path | None, typer.Option(metavar="FILE", help="Rules in TOML; the program's if absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a line per break and one of figures.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report with charts here.")] = None,
    matches: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every match, and why, here.")] = None,
) -> None:
    """Compare two files of payments without any server: which rows belong together, and what breaks.

    CSV has the columns reference, amount, currency and value_date in any order, and perhaps text, account, cycle and
    status; the rules may name other columns. Amounts are decimal text in units of the currency. Statements and payment
    messages of ISO 20022 are read as they are.

    Every row ends in exactly one match or one break, and the sums say so. With --json each break is a line
    {"kind": …, "a": row or null, "b": row or null, "reference": …, "why": …}, and the last line {"summary": {…}}.

    Exit code 0: no breaks. 1: there are some. 2: a file is refused, with its reason, line and column.
    """
    from participants.matching.refusals import TableReason, TableRefused

    try:
        outcome = _outcome(a, b, rules)
        if html is not None:
            _write(html, _html(outcome))
        if matches is not None:
            _write(matches, _matches(outcome))
    except TableRefused as error:
        typer.echo(f"concordat: {shown(error)}", err=True)
        raise typer.Exit(REFUSED) from error
    try:
        if as_json:
            _print_json(outcome)
        else:
            _print_table(outcome)
    except OSError as error:
        typer.echo(f"concordat: {TableReason.OUTPUT}: standard output: {error.strerror or error}", err=True)
        raise typer.Exit(REFUSED) from error
    if outcome.breaks:
        raise typer.Exit(BREAKS)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(reconcile)


def _outcome(a: Path, b: Path, rules_file: Path | None) -> Outcome:
    from participants.matching.engine import reconcile as matched
    from participants.matching.reading import read_tables
    from participants.matching.rules import load_rules

    rules = load_rules(rules_file)
    with Progress() as progress:
        progress.show("reading both files")
        return matched(*read_tables(a, b, rules), rules, progress=progress.show)


def _html(outcome: Outcome) -> Iterator[bytes]:
    from participants.matching.page import page

    return (piece.encode() for piece in page(outcome))


def _matches(outcome: Outcome) -> Iterator[bytes]:
    from participants.matching.match_file import match_lines

    return match_lines(outcome)


def _write(target: Path, pieces: Iterator[bytes]) -> None:
    from gateway.federation.storage.whole_file import whole_file
    from participants.matching.refusals import TableReason, TableRefused

    try:
        with whole_file(target) as stream:
            for piece in pieces:
                stream.write(piece)
    except OSError as error:
        raise TableRefused(TableReason.OUTPUT, str(target), detail=error.strerror or str(error)) from error


def _print_json(outcome: Outcome) -> None:
    from participants.matching.json_lines import json_lines

    # A stream of its own: what standard output's would keep after an error, it would write again at the end.
    with open(sys.stdout.fileno(), "wb", closefd=False) as stream:
        for lines in json_lines(outcome):
            stream.write(lines)


def _print_table(outcome: Outcome) -> None:
    from rich.console import Console

    from participants.matching.screen import print_outcome

    print_outcome(outcome, Console())
