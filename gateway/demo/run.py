"""The demonstration from start to end: plan the day, run it, prove it, clean up."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gateway.demo.closing import export_cycles, prove, read_books
from gateway.demo.day import Day
from gateway.demo.desks import DayFailedError
from gateway.demo.federation import Federation
from gateway.demo.generator import generate
from gateway.demo.names import BANKS
from gateway.demo.plan import NothingToPayError, Plan, plan_day
from gateway.demo.processes import ProcessError
from gateway.demo.report import show
from gateway.federation.http.client import RemoteError
from gateway.federation.storage.postgres import PostgresError
from participants.intake.files import FileRefused, ReadOptions, inspect_file, read_rows
from participants.intake.rows import bank_bic

HOLDS, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
RETURNED_ONE_IN = 250


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for."""

    payments: Path | None
    banks: int
    cycles: int
    count: int
    seed: int
    keep: Path | None
    rounding: bool
    currency: str


def run_demo(options: DemoOptions) -> int:
    """Run the day and return the exit code: 0 only if everything holds, 2 for input that can't be used."""
    console = Console()
    started_at = time.monotonic()
    if options.payments is not None:
        console.print(f"reading {options.payments}", highlight=False)
    try:
        plan = plan_from(options)
        directory = _directory(options.keep)
    except (FileRefused, NothingToPayError, ValueError) as error:
        Console(stderr=True).print("[red]refused:[/]", str(error), highlight=False)
        return REFUSED
    _introduce(plan, options, directory, console)
    code = FAILED
    try:
        code = asyncio.run(_run(plan, directory, console))
    except (DayFailedError, ProcessError, RemoteError, PostgresError) as error:
        console.print("[bold red]The day failed:[/]", Text(str(error)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; every process is stopped")
        code = INTERRUPTED
    console.print(f"{time.monotonic() - started_at:.0f} seconds", highlight=False)
    if options.keep is not None or code == FAILED:
        console.print(f"logs, keys, databases and exports are in {directory}", highlight=False)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return code


def plan_from(options: DemoOptions) -> Plan:
    """Return the day that the options ask for. Raises FileRefused, NothingToPayError, ValueError."""
    if options.payments is None:
        bics = [BANKS[n][0] if n < len(BANKS) else bank_bic(f"bank_{n:02d}") for n in range(options.banks)]
        day = generate(bics, count=options.count, seed=options.seed)
        return plan_day(day.payments, cycles=options.cycles, banks=bics, returned=day.returned)
    file = inspect_file(options.payments)
    read = ReadOptions(currency=options.currency, banks=options.banks, rounding=options.rounding)
    return plan_day(read_rows(file, read), cycles=options.cycles, returned_one_in=RETURNED_ONE_IN)


def _introduce(plan: Plan, options: DemoOptions, directory: Path, console: Console) -> None:
    source = options.payments or f"invented, seed {options.seed}"
    console.print(
        f"[bold]Concordat: a clearing day[/] of {len(plan.cycles)} cycles, {len(plan.banks)} banks, "
        f"{plan.payments:,} payments in {', '.join(plan.currencies)} ({source})",
        highlight=False,
    )
    if options.payments is not None and options.rounding:
        console.print("  amounts with more decimals than their currency has are rounded, half to even", highlight=False)
    for reason, count in plan.refused.items():
        example = next((row for row in plan.refused_first if row.reason == reason), None)
        detail = f": line {example.line}, {example.detail}" if example else ""
        console.print(f"  [yellow]{count:,} rows not taken, {reason}[/]{detail}", highlight=False)
    console.print(f"[dim]work directory {directory}[/]", highlight=False)


async def _run(plan: Plan, directory: Path, console: Console) -> int:
    """Run the day between setting up and cleaning up."""
    _cancel_on_signals(console)
    federation = Federation(directory, plan)
    day = Day(federation, plan, console)
    try:
        try:
            await federation.set_up(day.tell)
            await day.run()
            await read_books(federation, plan, day.report, day.returned)
            exports = await export_cycles(federation, day.report, directory / "audit")
            day.tell("the books are read and the audit exports fetched; every process is asked to stop")
        finally:
            codes = await federation.stop()
        day.report.proofs.append(("every process ended in good order", not any(codes.values())))
        await prove(federation, day.report, exports)
    finally:
        await asyncio.to_thread(federation.server.stop)
    show(day.report, console)
    return FAILED if day.report.failures() else HOLDS


def _cancel_on_signals(console: Console) -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP end the day once, so that every process is stopped in order."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    is_stopping = False

    def stop() -> None:
        nonlocal is_stopping
        if not is_stopping and task is not None:
            is_stopping = True
            console.print("stopping every process …")
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def _directory(keep: Path | None) -> Path:
    """Return the work directory: a new temporary one, or the empty or new one to keep. Raises ValueError."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="concordat-demo-"))
    keep = keep.expanduser().resolve()
    try:
        keep.mkdir(parents=True, exist_ok=True)
        occupied = any(keep.iterdir())
    except OSError as error:
        raise ValueError(f"{keep}: {error.strerror}") from error
    if occupied:
        raise ValueError(f"{keep} isn't empty")
    return keep
