"""The command behind `make chaos`."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.chaos.report import Report
from tests.chaos.run import Options, run
from tests.chaos.schedule import Kind

INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description="Break a federation on purpose, and see it heal.")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same faults")
    parser.add_argument("--minutes", type=float, default=5, help="how long faults are begun (5)")
    parser.add_argument("--every", type=float, default=7, help="seconds from one fault to the next, about (7)")
    parser.add_argument("--banks", type=int, default=5, help="how many banks, 3 to 6; the last two are liars (5)")
    parser.add_argument("--deadline", type=int, default=15, help="seconds a cycle waits for each step of a bank (15)")
    parser.add_argument(
        "--only", nargs="*", metavar="KIND", type=Kind, help=f"of these kinds only: {[*map(str, Kind)]}"
    )
    parser.add_argument("--without", nargs="*", metavar="KIND", type=Kind, default=[], help="of these kinds none")
    parser.add_argument("--report", type=Path, default=None, help="write the report as JSON into this file")
    parser.add_argument("--keep", action="store_true", help="keep logs, keys and databases of a run that passes, too")
    asked = parser.parse_args()
    seed = random.randrange(1, 10_000) if asked.seed is None else asked.seed
    kinds = tuple(kind for kind in asked.only or Kind if kind not in asked.without)
    again = f"make chaos SEED={seed} MINUTES={asked.minutes:g}"
    extra = list(sys.argv[1:])
    for name in ("--seed", "--minutes"):
        if name in extra:
            at = extra.index(name)
            del extra[at : at + 2]
    if extra:
        again += " ARGS='" + " ".join(f'"{word}"' if " " in word else word for word in extra) + "'"
    console = Console(width=None if sys.stdout.isatty() else 160)
    options = Options(
        seed=seed,
        seconds=asked.minutes * 60,
        every_s=asked.every,
        banks=asked.banks,
        deadline_s=asked.deadline,
        kinds=kinds,
        again=again,
        report=asked.report,
        keep=asked.keep,
    )
    console.print(f"[bold]{again}[/]", highlight=False)
    try:
        report = asyncio.run(_until_signal(options, lambda text: console.print(text, highlight=False, markup=False)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; every process is stopped")
        return INTERRUPTED
    report.show(console)
    return 0 if report.passed else 1


async def _until_signal(options: Options, tell: Callable[[str], None]) -> Report:
    """Run it; a signal to end stops every process first."""
    work = asyncio.ensure_future(run(options, tell))
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    return await work


if __name__ == "__main__":
    sys.exit(main())
