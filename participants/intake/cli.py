"""The command `concordat participant import`: pay from a file."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.bic import normal_bic
from compliance.terminal import shown
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from participants.intake.files import FileRefused, PaymentFile, ReadOptions, RefusedRow, inspect_file

if TYPE_CHECKING:
    from participants.intake.intake import Summary

SHOWN_REFUSALS_MAX = 10


def register(app: typer.Typer) -> None:
    """Add the command to `concordat participant`."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines of payments, plain, gzip or xz.")],
    url: Annotated[str, typer.Option(envvar="CONCORDAT_URL", help="The bank's base URL.")],
    bank: Annotated[str, typer.Option(envvar="CONCORDAT_BIC", help="The bank's BIC: rows of others are passed over.")],
    data_dir: Annotated[Path, typer.Option(envvar="CONCORDAT_DATA_DIR", help="Where the bank's keys are.")],
    subject: Annotated[str, typer.Option(help="Who is importing: recorded with each order as who made it.")],
    currency: Annotated[str, typer.Option(help="The currency, where the file doesn't say.")] = "EUR",
    rounding: Annotated[bool, typer.Option(help="Round amounts with too many decimals, half to even.")] = False,
    banks: Annotated[int, typer.Option(help="How many banks accounts are spread over, where the file has none.")] = 6,
    batch: Annotated[int, typer.Option(min=1, max=BATCH_ITEMS_MAX, help="Payments a request.")] = 1_000,
    report: Annotated[Path | None, typer.Option(help="Where to write the refused rows, as CSV.")] = None,
    patience_s: Annotated[float, typer.Option(min=0, help="How long to wait for a bank that doesn't answer.")] = 60,
) -> None:
    """Pay from a file. Run it again after an interruption: no payment is taken twice.

    Exit code 0 when every row was taken or reported, 1 when the bank didn't answer, 2 when the file is no good.
    """
    # Imported here, so that the other commands don't wait for an HTTP client.
    from rich.console import Console
    from rich.markup import escape

    from participants.intake.intake import Intake, IntakeError, staff_client

    console = Console(stderr=True)
    url = url.rstrip("/")
    try:
        bank = normal_bic(bank)
        payments = inspect_file(file)
        options = ReadOptions(currency=currency, banks=banks, rounding=rounding)
    except (FileRefused, ValueError) as error:
        console.print(f"[red]{escape(shown(error))}[/]", highlight=False)
        raise typer.Exit(2) from None

    async def run(on_progress: Callable[[int], None], on_refusal: Callable[[RefusedRow], None]) -> Summary:
        async with staff_client(data_dir, url=url, subject=subject) as client:
            intake = Intake(
                client,
                url=url,
                bank=bank,
                batch_items=batch,
                patience_s=patience_s,
                on_progress=on_progress,
                on_refusal=on_refusal,
            )
            return await intake.run(payments, options)

    try:
        with ExitStack() as stack:
            on_progress = stack.enter_context(_progress_bar(payments))
            on_refusal = stack.enter_context(_refusal_report(report))
            summary = asyncio.run(run(on_progress, on_refusal))
    except IntakeError as error:
        console.print(f"[red]{escape(shown(error))}[/]\nRun the same command again to go on.", highlight=False)
        raise typer.Exit(1) from None
    except FileRefused as error:
        console.print(f"[red]{escape(shown(error))}[/]", highlight=False)
        raise typer.Exit(2) from None
    _show(summary, report)


@contextmanager
def _progress_bar(file: PaymentFile) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(shown(file.path.name), total=file.lines)
        yield lambda line: progress.update(task, completed=line)


@contextmanager
def _refusal_report(path: Path | None) -> Iterator[Callable[[RefusedRow], None]]:
    """Write refused rows as they come, so that an interrupted run leaves its report too."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("line", "reason", "detail"))
        yield lambda row: writer.writerow((row.line, row.reason, row.detail))


def _show(summary: Summary, report: Path | None) -> None:
    typer.echo(
        f"{summary.taken:,} payments taken ({summary.held:,} held by screening),"
        f" {len(summary.refusals):,} rows refused, {summary.of_other_banks:,} of other banks"
    )
    if report is not None:
        typer.echo(f"refused rows: {shown(report)}")
        return
    for row in summary.refusals[:SHOWN_REFUSALS_MAX]:
        typer.echo(f"line {row.line}: {row.reason}: {shown(row.detail)}")
    if len(summary.refusals) > SHOWN_REFUSALS_MAX:
        typer.echo(f"… and {len(summary.refusals) - SHOWN_REFUSALS_MAX:,} more: --report FILE writes them all")
