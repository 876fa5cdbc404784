"""The end of the day as tables that a person understands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.federation.money import format_minor


@dataclass(frozen=True, slots=True)
class CurrencyLine:
    """One currency of one cycle: what the banks owed each other, what was left to settle, and what was settled."""

    currency: str
    gross_minor: int
    settlement_minor: int
    settled_minor: int


@dataclass(slots=True)
class CycleReport:
    """How one cycle ended. `attempts` counts requests to the settlement agent."""

    id: str
    state: str
    lines: tuple[CurrencyLine, ...]
    pairs: int
    carried_over: tuple[str, ...] = ()
    attempts: int = 1


@dataclass(slots=True)
class BreakReport:
    """A pair that disagreed: in which cycle, over what, how it ended and in which cycle it was settled."""

    cycle: str
    pair: tuple[str, str]
    currency: str
    cause: str
    ended: str
    ended_in: str | None = None


@dataclass(slots=True)
class BankReport:
    """One bank at the end of the day. `nostro` and `at_agent` are minor units by currency."""

    bic: str
    name: str
    sent: int
    received: int
    returned: int
    proven: bool
    nostro: Mapping[str, int]
    at_agent: Mapping[str, int]

    @property
    def agrees(self) -> bool:
        """Whether the bank's books and the agent's say the same."""
        return _without_zero(self.nostro) == _without_zero(self.at_agent)


@dataclass(slots=True)
class DayReport:
    """Everything the day has to show. `proofs` are (claim, whether it holds)."""

    cycles: list[CycleReport] = field(default_factory=list)
    breaks: list[BreakReport] = field(default_factory=list)
    banks: list[BankReport] = field(default_factory=list)
    proofs: list[tuple[str, bool]] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Return what doesn't hold; the day is good when there is nothing."""
        failures = [f"cycle {cycle.id} ended {cycle.state}" for cycle in self.cycles if cycle.state != "final"]
        failures += [f"{bank.bic}: the ledger isn't proven" for bank in self.banks if not bank.proven]
        failures += [f"{bank.bic}: nostro and account at the agent differ" for bank in self.banks if not bank.agrees]
        failures += [f"the break of {item.cycle} wasn't settled" for item in self.breaks if item.ended_in is None]
        failures += [claim for claim, holds in self.proofs if not holds]
        return failures


def show(report: DayReport, console: Console) -> None:
    """Print the day."""
    console.print()
    console.print(_cycles(report.cycles))
    console.print(_outcomes(report.cycles))
    if report.breaks:
        console.print(_breaks(report.breaks))
    console.print(_banks(report.banks))
    for claim, holds in report.proofs:
        console.print(_mark(holds), claim)
    failures = report.failures()
    console.print()
    if failures:
        console.print(Text("The day does not hold:", style="bold red"))
        for failure in failures:
            console.print(" ", failure)
    else:
        console.print(Text("Everything holds.", style="bold green"))


def saved_per_mille(gross_minor: int, settlement_minor: int) -> int:
    """Return what netting saved of the gross, in thousandths, rounded down."""
    return (gross_minor - settlement_minor) * 1_000 // gross_minor if gross_minor else 0


def _cycles(cycles: Sequence[CycleReport]) -> Table:
    table = _table("What netting saved")
    table.add_column("cycle", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in ("gross", "net to settle", "saved", "settled"):
        table.add_column(column, justify="right", no_wrap=True)
    for cycle in cycles:
        for number, line in enumerate(cycle.lines):
            table.add_row(
                cycle.id if number == 0 else "", *_money_row(line), end_section=number == len(cycle.lines) - 1
            )
    for number, line in enumerate(_totals(cycle_line for cycle in cycles for cycle_line in cycle.lines)):
        table.add_row("the day" if number == 0 else "", *_money_row(line), style="bold")
    return table


def _outcomes(cycles: Sequence[CycleReport]) -> Table:
    table = _table("How each cycle went")
    table.add_column("cycle", no_wrap=True)
    table.add_column("outcome")
    table.add_column("pairs netted", justify="right")
    table.add_column("carried over")
    for cycle in cycles:
        outcome = cycle.state if cycle.attempts <= 1 else f"{cycle.state} at attempt {cycle.attempts}"
        table.add_row(cycle.id, outcome, str(cycle.pairs), "\n".join(cycle.carried_over))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )


def _money_row(line: CurrencyLine) -> tuple[str, ...]:
    saved = saved_per_mille(line.gross_minor, line.settlement_minor)
    return (
        line.currency,
        format_minor(line.gross_minor, line.currency),
        format_minor(line.settlement_minor, line.currency),
        f"{saved // 10}.{saved % 10} %",
        format_minor(line.settled_minor, line.currency),
    )


def _totals(lines: Iterable[CurrencyLine]) -> list[CurrencyLine]:
    totals: dict[str, CurrencyLine] = {}
    for line in lines:
        before = totals.get(line.currency, CurrencyLine(line.currency, 0, 0, 0))
        totals[line.currency] = CurrencyLine(
            line.currency,
            before.gross_minor + line.gross_minor,
            before.settlement_minor + line.settlement_minor,
            before.settled_minor + line.settled_minor,
        )
    return [totals[currency] for currency in sorted(totals)]


def _breaks(breaks: Sequence[BreakReport]) -> Table:
    table = _table("Breaks")
    for column in ("cycle", "pair", "currency", "cause", "how it ended"):
        table.add_column(column)
    for item in breaks:
        table.add_row(item.cycle, " / ".join(item.pair), item.currency, item.cause, item.ended)
    return table


def _banks(banks: Sequence[BankReport]) -> Table:
    table = _table("Banks")
    table.add_column("bank", no_wrap=True)
    table.add_column("name")
    for column in ("sent", "received", "returned"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("nostro = at the agent", justify="right", no_wrap=True)
    table.add_column("ledger", no_wrap=True)
    for bank in banks:
        money = "\n".join(
            f"{format_minor(bank.nostro.get(currency, 0), currency)} {currency}"
            + ("" if bank.nostro.get(currency, 0) == held else f" ≠ {format_minor(held, currency)}")
            for currency, held in sorted(bank.at_agent.items())
        )
        proven = Text("balanced", style="green") if bank.proven else Text("NOT PROVEN", style="red")
        table.add_row(
            bank.bic,
            bank.name,
            f"{bank.sent:,}",
            f"{bank.received:,}",
            f"{bank.returned:,}",
            Text(money, style="" if bank.agrees else "red"),
            proven,
            end_section=True,
        )
    return table


def _mark(holds: bool) -> Text:
    return Text("✔", style="green") if holds else Text("✘", style="bold red")


def _without_zero(amounts: Mapping[str, int]) -> dict[str, int]:
    return {currency: amount for currency, amount in amounts.items() if amount}
