"""`concordat participant import`, `file-status` and `file-cancel`: pay from a file, see what became of it, undo it."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from compliance.terminal import shown
from gateway.federation.commands.failures import explained, may_pass
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.storage.whole_file import owner_only
from participants.bank_client import (
    ORDERS,
    SEES_PAYMENTS,
    Bank,
    ClientKey,
    ClientName,
    DataDir,
    Subject,
    Url,
    bank_client,
    bank_of,
)
from participants.intake.files import FileRefused, PaymentFile, ReadOptions, RefusedRow, inspect_file
from participants.intake.layouts import CONCORDAT, REPORT_COLUMNS
from participants.ledger.payment import Status

if TYPE_CHECKING:
    from participants.api.messages import BatchView
    from participants.intake.intake import Summary

SHOWN_REFUSALS_MAX = 10
SHOWN_RANGES_MAX = 20
UNREACHABLE, UNREADABLE, ROWS_REFUSED, INTERRUPTED = 1, 2, 3, 130
"""Exit codes; 0 is that every row of this bank was taken or known. 2 is also a command that is written wrong."""

IF_CHANGED = (
    "by a file of this content; if it was changed since, `import --dry-run` tells which of its rows were paid before,"
    " and by which file"
)

_File = Annotated[Path, typer.Argument(help="CSV or JSON lines of payments, plain, gzip or xz.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `concordat participant`."""
    app.command("import")(import_file)
    app.command("file-status")(file_status)
    app.command("file-cancel")(file_cancel)


def import_file(
    file: _File,
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
    currency: Annotated[str, typer.Option(help="The currency, where the file doesn't say.")] = "EUR",
    rounding: Annotated[bool, typer.Option(help="Round amounts with too many decimals, half to even.")] = False,
    banks: Annotated[int, typer.Option(help="How many banks accounts are spread over, where the file has none.")] = 6,
    batch: Annotated[int, typer.Option(min=1, max=BATCH_ITEMS_MAX, help="Payments a request.")] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Pay nothing; say what would be paid now.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Pay every row of this bank, or if one is refused none.")
    ] = False,
    pay_again: Annotated[
        bool,
        typer.Option("--pay-again", help="Pay anew, once more, what was taken before and refused afterwards."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where to write the refused rows, as CSV that can be imported as it is.")
    ] = None,
    patience_s: Annotated[float, typer.Option(min=0, help="How long to wait for a bank that doesn't answer.")] = 60,
) -> None:
    """Pay from a file. Run it again after an interruption: no payment is taken twice, from whatever file.

    A row whose payment was refused after it was taken, by the other bank or by screening, isn't paid. It is refused,
    and --pay-again pays it under a new id, which is another one only if that payment is refused as well.

    Exit code 0 when every row of this bank was taken or was known before, 3 when rows were refused, 2 when the file is
    no good (nothing was sent), 1 when the bank didn't answer or let nobody in, 130 when it was interrupted. After 1 and
    130 run it again. With --dry-run the codes are those that an import would have.
    """
    # Imported here, so that the other commands don't wait for an HTTP client.
    from participants.intake.intake import Intake

    url, bank = url.rstrip("/"), bank_of(bank)
    who: Any = {"url": url, "client": client, "key": key, "data_dir": data_dir, "subject": subject}

    async def run(
        payments: PaymentFile, on_progress: Callable[[int], None], on_refusal: Callable[[RefusedRow], None]
    ) -> tuple[Summary, dict[str, BatchView]]:
        async with bank_client(ORDERS, **who) as signed_in:
            intake = Intake(
                signed_in,
                url=url,
                bank=bank,
                batch_items=batch,
                patience_s=patience_s,
                dry_run=dry_run,
                pay_again=pay_again,
                on_progress=on_progress,
                on_refusal=on_refusal,
            )
            summary = await intake.run(payments, options, all_or_nothing=all_or_nothing)
            return summary, await intake.names()

    try:
        options = ReadOptions(currency=currency, banks=banks, rounding=rounding)
    except ValueError as error:
        _end(UNREADABLE, shown(error))
    with _failures():
        payments = inspect_file(file)
        if report is not None and report.exists() and report.samefile(file):
            _end(UNREADABLE, f"{shown(report)} is the file itself: write the refused rows to another one")
        with ExitStack() as stack:
            on_progress = stack.enter_context(_progress_bar(payments))
            on_refusal = stack.enter_context(_refusal_report(report))
            summary, names = asyncio.run(run(payments, on_progress, on_refusal))
    _show(summary, names, report=report, dry_run=dry_run)
    if summary.refusals:
        raise typer.Exit(ROWS_REFUSED)


def file_status(
    file: _File,
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Sum up what became of a file's payments, and list its rows that aren't paid, refused by this bank or the other.

    Each row counts once, by what became of it in the end. Rows that the reader refused never reached the bank: the
    import reports them. Exit codes are those of `import`. A file is known by its content, whatever it is called by now.
    """
    from participants.intake.status import file_batches, is_unpaid, row_ends

    url, bank = url.rstrip("/"), bank_of(bank)
    who: Any = {"url": url, "client": client, "key": key, "data_dir": data_dir, "subject": subject}

    async def run(payments: PaymentFile) -> bool:
        async with bank_client(SEES_PAYMENTS, **who) as signed_in:
            batches = await file_batches(signed_in, url=url, bank=bank, file=payments)
            ends = [[end async for end in row_ends(signed_in, url=url, bank=bank, id_=batch.id)] for batch in batches]
        if not batches:
            typer.echo(f"{shown(file.name)}: no row of it has reached {bank} {IF_CHANGED}")
        for batch, rows in zip(batches, ends, strict=True):
            typer.echo(
                f"{shown(batch.name)}, imported by {shown(batch.made_by)} at {batch.recorded_at}, batch {batch.id}"
            )
            typer.echo(f"rows: {_counts(Counter(row.outcome for row in rows))}")
            typer.echo(f"payments: {_counts(Counter(row.status for row in rows if row.status is not None))}")
            for row in filter(is_unpaid, rows):
                ended = "cancelled" if row.status == Status.CANCELLED else "refused"
                afterwards = " after it was taken" if row.status is not None else ""
                typer.echo(shown(f"line {row.line}: {row.reason}: payment {row.id} was {ended}{afterwards}"))
        return bool(batches) and not any(map(is_unpaid, chain.from_iterable(ends)))

    with _failures():
        good = asyncio.run(run(inspect_file(file)))
    if not good:
        raise typer.Exit(ROWS_REFUSED)


def file_cancel(
    file: _File,
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Cancel the payments of a file that the other banks haven't answered yet.

    Whether each is in by then, its bank says: `file-status` counts them as cancelled, or as posted. Asked again, it
    cancels what is left. Those that can't be cancelled any more are named, with why: then the exit code is 3. Others
    are those of `import`.
    """
    from participants.intake.status import cancel_batch, file_batches

    url, bank = url.rstrip("/"), bank_of(bank)
    who: Any = {"url": url, "client": client, "key": key, "data_dir": data_dir, "subject": subject}

    async def run(payments: PaymentFile) -> tuple[bool, Counter[str], list[str]]:
        counts: Counter[str] = Counter()
        not_cancelled = []
        async with bank_client(ORDERS, **who) as signed_in:
            batches = await file_batches(signed_in, url=url, bank=bank, file=payments)
            for batch in batches:
                async for order, outcome in cancel_batch(signed_in, url=url, bank=bank, id_=batch.id):
                    word = str(outcome.reason or outcome.status)
                    counts[word] += 1
                    if word not in ("cancelling", "cancelled"):
                        stood = "" if order.status in (None, "reserved") else f", which is {order.status}"
                        not_cancelled.append(f"line {order.line}: {word}: payment {order.id}{stood}")
        return bool(batches), counts, not_cancelled

    with _failures():
        imported, counts, not_cancelled = asyncio.run(run(inspect_file(file)))
    if not counts:
        typer.echo(f"{shown(file.name)}: {bank} has taken no payment of it{'' if imported else f' {IF_CHANGED}'}")
        raise typer.Exit(ROWS_REFUSED)
    typer.echo(f"payments: {_counts(counts)}")
    for line in not_cancelled:
        typer.echo(shown(line))
    if not_cancelled:
        raise typer.Exit(ROWS_REFUSED)


@contextmanager
def _failures() -> Iterator[None]:
    """End the command with the exit code of whatever went wrong, having said what it was."""
    from gateway.federation.http.client import RemoteError
    from participants.intake.intake import IntakeError

    try:
        yield
    except FileRefused as error:
        _end(UNREADABLE, shown(error))
    except (IntakeError, RemoteError) as error:
        _end(UNREACHABLE, explained(error), "Run the same command again to go on." if may_pass(error) else "")
    except KeyboardInterrupt:
        _end(INTERRUPTED, "interrupted", "Run the same command again to go on.")


def _end(code: int, what: str, then: str = "") -> NoReturn:
    """End the command, having said why, in text that is fit for a terminal."""
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[red]{escape(what)}[/]{then and chr(10) + then}", highlight=False)
    raise typer.Exit(code) from None


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
    try:
        # There are customers' names in it.
        stream = open(path, "w", newline="", encoding="utf-8", errors="replace", opener=owner_only)  # noqa: SIM115 - below
    except OSError as error:
        _end(UNREADABLE, f"{shown(path)}: {error.strerror}")
    with stream:
        writer = csv.writer(stream)
        writer.writerow((*CONCORDAT.columns, *REPORT_COLUMNS))
        members = tuple(CONCORDAT.columns)

        def write(row: RefusedRow) -> None:
            writer.writerow((*(row.fields.get(member, "") for member in members), row.line, row.reason, row.detail))
            stream.flush()

        yield write


def _show(summary: Summary, names: dict[str, BatchView], *, report: Path | None, dry_run: bool) -> None:
    typer.echo(
        f"{summary.taken:,} payments {'would be ' if dry_run else ''}taken ({summary.held:,} held by screening),"
        f" {summary.known_rows:,} known before, {len(summary.refusals):,} rows refused,"
        f" {summary.of_other_banks:,} of other banks"
    )
    for batch, lines in summary.known.items():
        if batch == summary.batch:
            by = "this file, imported before"
        elif batch in names:
            by = f"{shown(names[batch].name or batch)}, imported by {shown(names[batch].made_by)}"
            by = f"{by} at {names[batch].recorded_at}"
        else:
            by = f"batch {batch}" if batch else "an order without a file, or a file of an earlier release"
        typer.echo(f"paid before by {by}: {_ranges(lines)}")
    if report is not None:
        typer.echo(f"refused rows: {shown(report)}")
        return
    for row in summary.refusals[:SHOWN_REFUSALS_MAX]:
        typer.echo(f"{row.place}: {row.reason}: {shown(row.detail)}")
    if len(summary.refusals) > SHOWN_REFUSALS_MAX:
        typer.echo(f"… and {len(summary.refusals) - SHOWN_REFUSALS_MAX:,} more: --report FILE writes them all")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items())) or "none"


def _ranges(lines: Sequence[int]) -> str:
    """Write line numbers as ranges: "lines 2, 5 to 9"."""
    ranges: list[list[int]] = []
    for line in sorted(lines):
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    parts = [f"{first} to {last}" if last > first else str(first) for first, last in ranges[:SHOWN_RANGES_MAX]]
    more = f" and {len(ranges) - SHOWN_RANGES_MAX:,} more" if len(ranges) > SHOWN_RANGES_MAX else ""
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(parts)}{more}"
