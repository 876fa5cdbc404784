"""`make bench`: every benchmark, each beside its peers in the same run. Name some to run only those."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def main(names: list[str]) -> None:
    """Run `bench_*.py` modules of this directory: each has `run()`, which returns its rows."""
    console = Console()
    found = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith("bench_"))
    for name in found:
        if names and name.removeprefix("bench_") not in names:
            continue
        module = importlib.import_module(f"tests.benchmarks.{name}")
        table = Table(title=(module.__doc__ or name).splitlines()[0])
        for column in ("what", "ours", "peer", "ratio", "peer is", "note"):
            table.add_column(column, justify="right" if column in ("ours", "peer", "ratio") else "left")
        for row in module.run():
            ours, peer = row["ours"], row["peer"]
            table.add_row(
                row["what"],
                ours if isinstance(ours, str) else f"{ours:,.1f} {row['unit']}",
                f"{peer:,.1f}" if peer else "",
                f"{ours / peer:.2f}" if peer else "",
                row["peer_name"],
                row["note"],
            )
        console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
