"""`make bench`: every benchmark, each beside its peers in the same run. Name some to run only those."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import settings
from tests.benchmarks.rows import SKIPPED, Row
from tests.benchmarks.settings import SettingError

RAN, NOT_ALL_RAN, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; argparse ends with 2 for a name that it doesn't know."""

WIDTH = 250
"""Of what is written to a file or a pipe, in columns."""

SETTINGS = """\
settings (environment variables):
  CONCORDAT_DATA           the directory of the public data sets that some rows need (../shared/data)
  CONCORDAT_BENCH_AGAINST  another checkout, where make test has run, for "against" to measure beside this one
  CONCORDAT_BENCH_HOUSES   the houses of "cutoff": how many banks, x2 or x3 for more currencies (6,50,50x3,200,500)
  CONCORDAT_BENCH_CYCLES   how many cycles the day of "many_cycles" has (10000, half an hour)
  CONCORDAT_BENCH_BANKS    how many banks the cycle of "export" has (500)
  CONCORDAT_BENCH_COUNTERPARTIES  how many the bank of "bank_cycle" has (500)
  CONCORDAT_BENCH_PAYMENTS how many payments the banks of "reconciliation" have (1000000)
  CONCORDAT_BENCH_POSTINGS how many postings the ledger of large_ledger has (4000000)
  CONCORDAT_BENCH_ROWS     how many rows the files of "reconcile" have (1000000)
  CONCORDAT_BENCH_SEEDS    how many seeds gridlock draws its queues from (1)
  CONCORDAT_BENCH_HIGHS_S  how many seconds HiGHS gets on each of them (30 or 60)

What can't be measured here is a row that says why. Exit code 1: a benchmark that was named, or all, couldn't run.
"""
PREFIX = "bench_"


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named, or all, and return the exit code."""
    benches = {
        module.name.removeprefix(PREFIX): f"tests.benchmarks.{module.name}"
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if module.name.startswith(PREFIX)
    }
    names = _parser(sorted(benches)).parse_args(arguments).names
    try:
        settings.check()
        return _run(benches, names)
    except SettingError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; every process is stopped", file=sys.stderr)
        return INTERRUPTED


def _run(benches: dict[str, str], names: list[str]) -> int:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    skipped = []
    for name in names or sorted(benches):
        module = importlib.import_module(benches[name])
        rows = module.run()
        if all(row["ours"] == SKIPPED for row in rows):
            skipped.append(name)
            console.print(f"{name} is skipped: {'; '.join(row['note'] for row in rows)}\n", soft_wrap=True)
        else:
            console.print(_table(_title(module.__doc__), rows))
    return NOT_ALL_RAN if set(skipped) & set(names) or len(skipped) == len(benches) else RAN


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make bench ARGS="…"',
        description=_title(__doc__),
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Not `choices=`, which refuses to be given no name at all.
    parser.add_argument("names", nargs="*", type=_one_of(names), metavar="NAME", help=", ".join(names))
    return parser


def _one_of(names: list[str]) -> Callable[[str], str]:
    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"no benchmark {text!r}; there are {', '.join(names)}")
        return text

    return name


def _title(text: str | None) -> str:
    return (text or "").splitlines()[0]


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title)
    for column in ("what", "ours", "peer", "ratio", "peer is", "note"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "ratio") else "left")
    for row in rows:
        ours, peer = row["ours"], row["peer"]
        table.add_row(
            row["what"],
            ours if isinstance(ours, str) else f"{ours:,.1f} {row['unit']}",
            f"{peer:,.1f} {row['unit']}" if peer else "",
            _ratio(ours / peer) if peer else "",
            row["peer_name"],
            row["note"],
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
