"""The command `concordat net`: an analyst's files in, figures out.

It loads neither a web framework nor a database, and the compiled kernels only for many obligations.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.analysis.files import Form

REFUSED = 2
"""Exit code: the input can't be used, or the output can't be written."""


def net(
    file: Annotated[str, typer.Argument(help="JSON or CSV; - is standard input.", show_default=False)],
    format_: Annotated[
        str | None,
        typer.Option("--format", help="json or csv; by the file's name or its first character if absent."),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="BANK", help="Say in words why this bank's nets are what they are.")
    ] = None,
    top: Annotated[
        int, typer.Option(help="Counterparties that --explain names, the largest first; 0 names all.", min=0)
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; standard output if absent.", dir_okay=False)
    ] = None,
) -> None:
    """Net obligations: gross, bilateral and multilateral figures for each currency, positions and pairs, as JSON.

    JSON is {"obligations": [{"id": "T1", "from": "A", "to": "B", "amount": 5, "currency": "EUR"}]}; "id" and
    "currency" may be left out, "payments" is another name for "obligations", and with "participants": ["A", "B"]
    any other bank is refused. What `concordat gridlock` reads is accepted. CSV has the columns from, to, amount and
    perhaps id and currency, in any order. Amounts are whole minor units, of up to 38 digits.

    The answer depends on the set of obligations alone, to the byte. Exit code 2: the input is refused, with
    its reason and place.
    """
    from gateway.analysis.files import Form, InputRefusedError

    if format_ is not None and format_ not in list(Form):
        raise typer.BadParameter(f"{format_!r} is neither json nor csv", param_hint="--format")
    try:
        with without_collections():
            answer = _answer(file, None if format_ is None else Form(format_), explain, top)
        write(output, answer)
    except (InputRefusedError, OSError) as error:
        typer.echo(f"concordat: {error}", err=True)
        raise typer.Exit(REFUSED) from error


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(net)


def write(output: Path | None, content: bytes) -> None:
    """Write an answer as a whole, to a file or to standard output. Raises OSError."""
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        from gateway.federation.whole_file import write_whole

        write_whole(output, content)


@contextmanager
def without_collections() -> Iterator[None]:
    """Don't search for garbage meanwhile: millions of records without cycles would be walked again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _answer(file: str, form: Form | None, bank: str | None, top: int) -> bytes:
    from gateway.analysis import figures
    from gateway.analysis.documents import ROWS, Document, Entry, collect
    from gateway.analysis.files import InputRefusedError, read_records
    from gateway.analysis.progress import Progress
    from netting.model import ObligationReason
    from netting.multilateral import net_batch

    with Progress() as progress:
        read = read_records(file, Document, rows=ROWS, row_kind=Entry, form=form, progress=progress)
        batch = collect(read)
        nettings = net_batch(batch)
    if bank is None:
        return figures.document(nettings)
    if bank not in batch.participants:
        raise InputRefusedError(ObligationReason.UNKNOWN_PARTICIPANT, file, at="--explain", detail=bank)
    return figures.explanation(nettings, bank, top=top)
