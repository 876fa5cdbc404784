"""What all commands for analysts share: a file in, an answer out as a whole, or one line of why not."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

REFUSED = 2
"""Exit code: the input can't be used, or the output can't be written."""


def _checked_format(form: str | None) -> str | None:
    if form not in (None, "json", "csv"):
        raise typer.BadParameter(f"{form!r} is neither json nor csv")
    return form


InputFile = Annotated[str, typer.Argument(help="JSON or CSV; - is standard input.", show_default=False)]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", callback=_checked_format, help="json or csv; by the file's name or its first character if absent."
    ),
]
CreditNotes = Annotated[
    bool, typer.Option("--credit-notes", help="Take a negative amount for the same debt the other way round.")
]
OutputOption = Annotated[Path | None, typer.Option(help="Where to write; standard output if absent.", dir_okay=False)]


@contextmanager
def refusing() -> Iterator[None]:
    """Answer a refusal with one line and code 2.

    Nobody searches for garbage meanwhile: millions of records without cycles would be walked again and again.
    """
    from gateway.analysis.files import InputRefusedError

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    except InputRefusedError as error:
        typer.echo(f"concordat: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    finally:
        if was_enabled:
            gc.enable()


def write(output: Path | None, content: bytes) -> None:
    """Write an answer as a whole, to a file or to standard output. Raises InputRefusedError."""
    from gateway.analysis.files import InputReason, InputRefusedError

    try:
        if output is not None:
            from gateway.federation.storage.whole_file import write_whole

            write_whole(output, content)
            return
        # A stream of its own: what standard output's would keep after an error, it would write again at the end.
        with open(sys.stdout.fileno(), "wb", closefd=False) as stream:
            stream.write(content)
    except OSError as error:
        target = "standard output" if output is None else str(output)
        raise InputRefusedError(InputReason.OUTPUT_UNWRITABLE, target, detail=error.strerror or str(error)) from error
