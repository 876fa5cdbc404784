"""The command `concordat demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.demo.plan import BANKS_MAX, BANKS_MIN


def demo(
    payments: Annotated[
        Path | None, typer.Option(help="Run the day on this payment file instead of invented payments.")
    ] = None,
    banks: Annotated[
        int, typer.Option(min=BANKS_MIN, max=BANKS_MAX, help="How many banks (a file may name its own).")
    ] = 6,
    cycles: Annotated[int, typer.Option(min=2, max=20, help="How many cycles.")] = 4,
    payments_count: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many invented payments.")] = 12_000,
    seed: Annotated[int, typer.Option(help="The same seed invents the same day.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="Keep logs, keys, databases and exports in this empty or new directory.")
    ] = None,
    rounding: Annotated[
        bool,
        typer.Option(
            "--rounding/--no-rounding",
            help="Round a file's amounts to minor units, half to even, or refuse those with too many decimals.",
        ),
    ] = True,
    currency: Annotated[str, typer.Option(help="The currency of a file that names none.")] = "EUR",
) -> None:
    """Run a whole clearing day on this machine: a coordinator, a settlement agent and banks as separate processes.

    Ends with what was cleared and the proof that every ledger balances; exit code 0 only if everything holds.
    """
    # Imported here, so that the other commands don't wait for all that the demonstration needs.
    from gateway.demo.run import DemoOptions, run_demo

    options = DemoOptions(
        payments=payments,
        banks=banks,
        cycles=cycles,
        count=payments_count,
        seed=seed,
        keep=keep,
        rounding=rounding,
        currency=currency,
    )
    raise typer.Exit(run_demo(options))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)
