"""`concordat participant import`: pay from a file, through the bank's own API.

Only the rows that this bank is the debtor's bank of are taken. Every payment has an id, its own or one derived from
the file and the line, so a run that was interrupted is simply run again: what was taken before is answered as it was
the first time.
"""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from compliance.crypto.keys import SigningKey
from gateway.federation.http.client import FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.identity.institution import staff_tokens
from participants.api.views import BATCH_ITEMS_MAX, OrderBatch, OrderResults
from participants.intake.files import (
    FileRefused,
    PaymentFile,
    PaymentRow,
    ReadOptions,
    RefusedRow,
    inspect_file,
    read_rows,
)
from participants.ledger.events import PaymentOrder
from participants.payments.decisions import OrderOutcome

SHOWN_REFUSALS_MAX = 10
RETRY_SECONDS_MAX = 5.0
# The request as a whole is refused: some order in it isn't even one, or it is too large.
_STATUSES_TO_DIVIDE = frozenset({400, 413, 422})
_STATUSES_TO_REPEAT = frozenset({429, 502, 503, 504})


class IntakeError(Exception):
    """The bank can't be reached, or doesn't let us in. What was taken so far stays taken."""


@dataclass
class Summary:
    """What became of a file's rows. `of_other_banks` are rows that another bank has to pay."""

    taken: int = 0
    held: int = 0
    of_other_banks: int = 0
    refusals: list[RefusedRow] = field(default_factory=list)


def order_of(row: PaymentRow) -> PaymentOrder:
    """Return the order that a row of a file stands for."""
    return PaymentOrder(
        id=row.id,
        creditor_agent=row.creditor_bank,
        amount_minor=str(row.amount_minor),
        currency=row.currency,
        debtor_account=row.debtor_account,
        debtor_name=row.debtor_name,
        creditor_account=row.creditor_account,
        creditor_name=row.creditor_name,
        remittance=row.remittance,
    )


def _ignore(_: object) -> None:
    """Watch nothing."""


class Intake:
    """Sends the rows of a file to one bank in batches, each until it is answered."""

    def __init__(
        self,
        client: FederationClient,
        *,
        url: str,
        bank: str,
        batch_items: int = 1_000,
        patience_s: float = 60,
        on_progress: Callable[[int], None] = _ignore,
        on_refusal: Callable[[RefusedRow], None] = _ignore,
    ) -> None:
        self._client = client
        self._url = url
        self._bank = bank
        self._batch_items = batch_items
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._on_refusal = on_refusal
        self.summary = Summary()

    async def run(self, file: PaymentFile, options: ReadOptions) -> Summary:
        """Take in a whole file. Raises IntakeError, FileRefused."""
        rows = self._own(read_rows(file, options))
        while batch := await asyncio.to_thread(lambda: list(islice(rows, self._batch_items))):
            await self.take(batch)
            self._on_progress(batch[-1].line)
        self._on_progress(file.lines)
        return self.summary

    def _own(self, rows: Iterator[PaymentRow | RefusedRow]) -> Iterator[PaymentRow]:
        for row in rows:
            if isinstance(row, RefusedRow):
                self._refuse(row)
            elif row.debtor_bank == self._bank:
                yield row
            else:
                self.summary.of_other_banks += 1

    async def take(self, rows: Sequence[PaymentRow]) -> None:
        """Submit rows; a request refused as a whole is divided until the row to blame stands alone."""
        try:
            outcomes = await self._submit(rows)
        except RemoteProblem as problem:
            if problem.status not in _STATUSES_TO_DIVIDE:
                raise IntakeError(str(problem)) from problem
            if len(rows) == 1:
                self._refuse(RefusedRow(rows[0].line, problem.code, problem.detail))
                return
            middle = len(rows) // 2
            await self.take(rows[:middle])
            await self.take(rows[middle:])
            return
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome.status == "refused":
                reason = outcome.reason or "unspecified"
                self._refuse(RefusedRow(row.line, reason, f"payment {row.id}: {reason.replace('_', ' ')}"))
            else:
                self.summary.taken += 1
                self.summary.held += outcome.status == "held"

    async def _submit(self, rows: Sequence[PaymentRow]) -> tuple[OrderOutcome, ...]:
        batch = OrderBatch(payments=tuple(map(order_of, rows)))
        give_up_at = time.monotonic() + self._patience_s
        delay = 0.2
        while True:
            try:
                results = await self._client.post(
                    f"{self._url}/payments/batch",
                    OrderResults,
                    audience=self._bank,
                    json=batch,
                    idempotent=True,
                    attempts_max=1,
                )
            except (RemoteUnavailable, RemoteProblem) as error:
                if isinstance(error, RemoteProblem) and error.status not in _STATUSES_TO_REPEAT:
                    raise
                if time.monotonic() + delay > give_up_at:
                    raise IntakeError(f"{self._url} doesn't answer: {error}") from error
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
            else:
                return results.results

    def _refuse(self, row: RefusedRow) -> None:
        self.summary.refusals.append(row)
        self._on_refusal(row)


def staff_client(data_dir: Path, *, url: str, subject: str) -> FederationClient:
    """Return a client that shows the bank's own staff tokens, signed by the `token.pem` of its data directory."""
    path = data_dir / "keys" / "token.pem"
    if not path.exists():
        raise IntakeError(f"{path} is missing: run this where the bank's keys are (concordat participant init)")
    key = SigningKey.load(path)
    tokens = staff_tokens(key, issuer=url, subject=subject)
    return FederationClient(subject, key, url, timeout_s=60, token_source=tokens)


def register(app: typer.Typer) -> None:
    """Add the command to `concordat participant`."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(help="CSV or JSON lines of payments, plain, gzip or xz.")],
    url: Annotated[str, typer.Option(envvar="CONCORDAT_URL", help="The bank's base URL.")],
    bank: Annotated[str, typer.Option(envvar="CONCORDAT_BIC", help="The bank's BIC: rows of others are passed over.")],
    data_dir: Annotated[Path, typer.Option(envvar="CONCORDAT_DATA_DIR", help="Where the bank's keys are.")],
    currency: Annotated[str, typer.Option(help="The currency, where the file doesn't say.")] = "EUR",
    rounding: Annotated[bool, typer.Option(help="Round amounts with too many decimals, half to even.")] = False,
    banks: Annotated[int, typer.Option(help="How many banks accounts are spread over, where the file has none.")] = 6,
    batch: Annotated[int, typer.Option(min=1, max=BATCH_ITEMS_MAX, help="Payments a request.")] = 1_000,
    report: Annotated[Path | None, typer.Option(help="Where to write the refused rows, as CSV.")] = None,
    subject: Annotated[str, typer.Option(help="Who is importing.")] = "import",
    patience_s: Annotated[float, typer.Option(min=0, help="How long to wait for a bank that doesn't answer.")] = 60,
) -> None:
    """Pay from a file. Run it again after an interruption: no payment is taken twice.

    Exit code 0 when every row was taken or reported, 1 when the bank didn't answer, 2 when the file is no good.
    """
    from rich.console import Console

    console = Console(stderr=True)
    url = url.rstrip("/")
    try:
        payments = inspect_file(file)
        options = ReadOptions(currency=currency, banks=banks, rounding=rounding)
    except (FileRefused, ValueError) as error:
        console.print(f"[red]{error}[/]", highlight=False)
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
        console.print(f"[red]{error}[/]\nRun the same command again to go on.", highlight=False)
        raise typer.Exit(1) from None
    except FileRefused as error:
        console.print(f"[red]{error}[/]", highlight=False)
        raise typer.Exit(2) from None
    _show(summary, report)


@contextmanager
def _progress_bar(file: PaymentFile) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(file.path.name, total=file.lines)
        yield lambda line: progress.update(task, completed=line)


@contextmanager
def _refusal_report(path: Path | None) -> Iterator[Callable[[RefusedRow], None]]:
    """Write refused rows as they come, so that an interrupted run leaves its report too."""
    if path is None:
        yield _ignore
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
        typer.echo(f"refused rows: {report}")
        return
    for row in summary.refusals[:SHOWN_REFUSALS_MAX]:
        typer.echo(f"line {row.line}: {row.reason}: {row.detail}")
    if len(summary.refusals) > SHOWN_REFUSALS_MAX:
        typer.echo(f"… and {len(summary.refusals) - SHOWN_REFUSALS_MAX:,} more: --report FILE writes them all")
