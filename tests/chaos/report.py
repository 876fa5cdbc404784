"""What a run has to say: a page for people, and the same as JSON."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.chaos.faults import FaultRecord
from tests.chaos.people import CycleRecord
from tests.chaos.proof import Proofs, excuse
from tests.chaos.schedule import AIMS_S

SHOWN = 8


@dataclass
class Report:
    """Everything about one run. It is passed when every proof holds and nothing failed."""

    seed: int
    again: str
    seconds: float = 0
    payments: int = 0
    not_reached: int = 0
    faults: Sequence[FaultRecord] = ()
    cycles: Sequence[CycleRecord] = ()
    proofs: Proofs = field(default_factory=Proofs)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unclean: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return self.proofs.hold and not self.failures

    def healing(self) -> dict[str, dict[str, Any]]:
        """Return how long each kind took to heal: count, median and worst, beside the aim, in seconds."""
        taken: defaultdict[str, list[float]] = defaultdict(list)
        for record in self.faults:
            if record.healed_after_s is not None:
                taken[record.fault.kind].append(record.healed_after_s)
        aims = {str(kind): aim for kind, aim in AIMS_S.items()}
        return {
            kind: {
                "count": len(times),
                "median_s": round(statistics.median(times), 1),
                "worst_s": round(max(times), 1),
                "aim_s": aims.get(kind),
            }
            for kind, times in sorted(taken.items())
        }

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "seed": self.seed,
            "again": self.again,
            "passed": self.passed,
            "seconds": round(self.seconds, 1),
            "payments": self.payments,
            "faults": [
                {
                    "number": record.fault.number,
                    "kind": record.fault.kind,
                    "whom": record.fault.whom,
                    "began_at_s": round(record.began_at, 1),
                    "over_at_s": round(record.over_at, 1),
                    "healed_after_s": None if record.healed_after_s is None else round(record.healed_after_s, 1),
                    "served_meanwhile": record.served_meanwhile,
                    "remarks": record.remarks,
                }
                for record in self.faults
            ],
            "not_reached": self.not_reached,
            "healing": self.healing(),
            "cycles": [
                {
                    "id": cycle.id,
                    "state": cycle.state,
                    "opened_at_s": round(cycle.opened_at, 1),
                    "ended_at_s": round(cycle.ended_at, 1),
                    "settled": len(cycle.settled),
                    "carried_over": cycle.carried,
                    "absent": cycle.absent,
                    "contested": [" ".join(key) for key in cycle.contested],
                }
                for cycle in self.cycles
            ],
            "proofs": self.proofs.claims,
            "failures": self.failures,
            "remarks": self.remarks,
            "unclean_answers": dict(self.unclean),
        }

    def show(self, console: Console) -> None:
        """Print the report."""
        for table in (self._faults(), self._healing(), self._cycles()):
            console.print()
            console.print(table)
        for record in self.faults:
            for remark in record.remarks:
                console.print(f"  fault {record.fault.number}, {record.fault}: {remark}", highlight=False, markup=False)
        for what, count in sorted(self.unclean.items()):
            console.print(f"  {count} unclean answers: {what}", highlight=False)
        for remark in self.remarks:
            console.print(f"  {remark}", highlight=False, markup=False)
        for claim, against in self.proofs.claims.items():
            console.print("[bold red]✘[/]" if against else "[green]✔[/]", claim, highlight=False)
            for line in [*against[:SHOWN], *([f"and {len(against) - SHOWN} more"] if len(against) > SHOWN else [])]:
                console.print(f"    {line}", highlight=False, markup=False)
        for failure in self.failures:
            console.print("[bold red]✘[/]", end=" ")
            console.print(failure, highlight=False, markup=False)
        verdict = "[bold green]passed[/]" if self.passed else "[bold red]FAILED[/]"
        console.print(
            f"\n{verdict}: {len(self.faults)} faults, {len(self.cycles)} cycles, {self.payments:,} payments in "
            f"{self.seconds:.0f} s; to see it again: [bold]{self.again}[/]",
            highlight=False,
        )

    def _faults(self) -> Table:
        table = _table("What was broken", "", "at", "what", "whom", "for", "served meanwhile", "healed after")
        for record in sorted(self.faults, key=lambda record: record.began_at):
            table.add_row(
                str(record.fault.number),
                f"{record.began_at:.1f} s",
                record.fault.kind,
                " | ".join(record.fault.whom),
                f"{record.over_at - record.began_at:.1f} s",
                {None: "", True: "yes", False: "no"}[record.served_meanwhile],
                "not healed" if record.healed_after_s is None else f"{record.healed_after_s:.1f} s",
            )
        return table

    def _healing(self) -> Table:
        table = _table("How long it took to serve again", "what", "times", "median", "worst", "aim")
        for kind, row in self.healing().items():
            aim = "" if row["aim_s"] is None else f"{row['aim_s']} s"
            table.add_row(kind, str(row["count"]), f"{row['median_s']} s", f"{row['worst_s']} s", aim)
        return table

    def _cycles(self) -> Table:
        table = _table("Cycles", "cycle", "from", "to", "outcome", "pairs settled", "pairs carried over, and why")
        for cycle in self.cycles:
            carried = Counter(
                (reason, excuse(cycle, key[1:], reason, self.faults)) for key, reason in cycle.carried_pairs().items()
            )
            lines = [
                f"{count} {reason}: {'NOTHING' if cause is None else f'fault {cause.fault.number}, {cause.fault}'}"
                for (reason, cause), count in carried.items()
            ]
            if cycle.absent:
                lines.append(f"no cut from {', '.join(cycle.absent)}")
            table.add_row(
                cycle.id,
                f"{cycle.opened_at:.0f} s",
                f"{cycle.ended_at:.0f} s",
                cycle.state,
                str(len(cycle.settled)),
                "\n".join(lines),
            )
        return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("at", "for", "times", "median", "worst", "aim") else "left"
        )
    return table
