"""Every table of the console as data: the same rows are drawn, filtered and exported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.cycles import Checks, CurrencyTotal, CycleProgress, CycleSummary, Positions
from gateway.federation.messages.events import Event
from gateway.federation.messages.participants import ParticipantStatus, ParticipantView
from gateway.federation.messages.proposals import ProposalView
from tui.model import Tone, age_of, bar, clock, decimal, limit_use, money, plain, state_tone


@dataclass(frozen=True)
class Column:
    """A column. `numeric` ones are aligned to the right."""

    key: str
    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what an export writes for it where that differs (None: the text)."""

    text: str
    tone: Tone = Tone.PLAIN
    value: str | int | None = None

    @property
    def exported(self) -> str | int:
        return self.text if self.value is None else self.value


@dataclass(frozen=True)
class Row:
    """A row with a key that stays the same from one snapshot to the next."""

    key: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A named table. `note` is the line under it."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


def filtered(table: Table, needle: str) -> Table:
    """Keep the rows that hold the needle in any cell, whatever its case."""
    wanted = needle.strip().casefold()
    if not wanted:
        return table
    return replace(
        table, rows=tuple(row for row in table.rows if any(wanted in cell.text.casefold() for cell in row.cells))
    )


def _text(text: str, tone: Tone = Tone.PLAIN) -> Cell:
    return Cell(plain(text), tone)


def _optional(text: str | None) -> Cell:
    return Cell("–", Tone.DIM, "") if text is None else _text(text)


def _amount(minor: str | int | None, currency: str, tone: Tone = Tone.PLAIN) -> Cell:
    return Cell(money(minor, currency), tone, decimal(minor, currency))


def _count(number: int, tone: Tone = Tone.PLAIN) -> Cell:
    return Cell(str(number), tone if number else Tone.DIM, number)


def _time(timestamp: str | None) -> Cell:
    return Cell(clock(timestamp), Tone.PLAIN if timestamp else Tone.DIM, timestamp or "")


def cycles(summaries: Iterable[CycleSummary]) -> Table:
    """The cycles, newest first."""
    rows = []
    for summary in summaries:
        cycle, pairs = summary.cycle, summary.pairs
        known = pairs.agreed + pairs.differing + pairs.missing
        rows.append(
            Row(
                cycle.id,
                (
                    Cell(cycle.id),
                    Cell(cycle.value_date),
                    Cell(cycle.state, state_tone(cycle.state)),
                    _time(cycle.opened_at),
                    _time(cycle.cut_off_at),
                    Cell(f"{pairs.agreed}/{known}", Tone.PLAIN if known else Tone.DIM),
                    _count(pairs.differing, Tone.BAD),
                ),
            )
        )
    columns = (
        Column("cycle", "Cycle"),
        Column("value_date", "Value date"),
        Column("state", "State"),
        Column("opened_at", "Opened"),
        Column("cut_off_at", "Cut-off"),
        Column("pairs_agreed", "Agreed", numeric=True),
        Column("breaks", "Breaks", numeric=True),
    )
    return Table("cycles", columns, tuple(rows))


def totals(cycle: str, per_currency: Sequence[CurrencyTotal]) -> Table:
    """One cycle's currencies: gross, what netting leaves to settle and saves, and what limits let settle at most."""
    rows = []
    for total in per_currency:
        gross = int(total.gross_minor)
        left = None if total.settlement_minor is None else int(total.settlement_minor)
        saved = None if left is None or gross == 0 else (gross - left) * 1000 // gross
        found = total.liquidity
        gap = None if found is None else found.gap_minor
        rows.append(
            Row(
                total.currency,
                (
                    Cell(total.currency),
                    _amount(gross, total.currency),
                    _amount(left, total.currency),
                    Cell("–" if saved is None else f"{saved // 10}.{saved % 10} %", Tone.GOOD if saved else Tone.DIM),
                    _amount(total.bilateral_minor, total.currency),
                    _amount(None if found is None else found.matched_minor, total.currency),
                    _amount(None if found is None else found.upper_bound_minor, total.currency),
                    _amount(gap, total.currency, Tone.WARN if gap not in (None, "0") else Tone.PLAIN),
                ),
            )
        )
    columns = (
        Column("currency", "Ccy"),
        Column("gross", "Gross", numeric=True),
        Column("to_settle", "Net to settle", numeric=True),
        Column("saved", "Saved", numeric=True),
        Column("bilateral", "Pair by pair", numeric=True),
        Column("matched", "Matched", numeric=True),
        Column("at_most", "At most", numeric=True),
        Column("gap", "Gap", numeric=True),
    )
    return Table(f"totals-{cycle}", columns, tuple(rows))


def participants_of(progress: CycleProgress) -> Table:
    """Who is how far in one cycle."""
    rows = []
    for bank in progress.participants:
        behind = Tone.PLAIN if bank.acknowledged == bank.instructions else Tone.WARN
        rows.append(
            Row(
                bank.participant,
                (
                    Cell(bank.participant),
                    Cell(bank.status, _status_tone(bank.status)),
                    _time(bank.cut_at),
                    _time(bank.attested_at),
                    _count(bank.pairs.agreed),
                    _count(bank.pairs.differing, Tone.BAD),
                    _count(bank.pairs.missing, Tone.WARN),
                    Cell(f"{bank.acknowledged}/{bank.instructions}", behind if bank.instructions else Tone.DIM),
                ),
            )
        )
    columns = (
        Column("participant", "Participant"),
        Column("status", "Status"),
        Column("cut_at", "Cut in"),
        Column("attested_at", "Attested"),
        Column("pairs_agreed", "Agreed", numeric=True),
        Column("pairs_differing", "Differ", numeric=True),
        Column("pairs_missing", "Missing", numeric=True),
        Column("acknowledged", "Ackn.", numeric=True),
    )
    return Table(f"progress-{progress.cycle.id}", columns, tuple(rows))


def breaks(cycle: str, notices: Iterable[BreakNotice]) -> Table:
    """The pairs of one cycle whose statements differ or lack."""
    rows = []
    for notice in notices:
        status = ("resolved", Tone.GOOD) if notice.resolved else ("open", Tone.BAD)
        rows.append(
            Row(
                f"{notice.pair[0]}/{notice.pair[1]}/{notice.currency}",
                (
                    Cell(notice.pair[0]),
                    Cell(notice.pair[1]),
                    Cell(notice.currency),
                    Cell(notice.kind, Tone.WARN),
                    _optional(notice.missing_from),
                    Cell(str(notice.revision), value=notice.revision),
                    Cell(*status),
                ),
            )
        )
    columns = (
        Column("bank_1", "Bank"),
        Column("bank_2", "Bank"),
        Column("currency", "Ccy"),
        Column("kind", "Kind"),
        Column("missing_from", "Missing from"),
        Column("revision", "Revision", numeric=True),
        Column("status", "Status"),
    )
    return Table(f"breaks-{cycle}", columns, tuple(rows))


_VERDICTS = {"pass": ("✓ pass", Tone.GOOD), "warn": ("! warn", Tone.WARN), "fail": ("✗ fail", Tone.BAD)}


def checks(found: Checks) -> Table:
    """The checks before settlement: a row per check, and one per line of its evidence."""
    rows = []
    for check in found.checks:
        verdict, tone = _VERDICTS.get(check.verdict, (check.verdict, Tone.WARN))
        rows.append(Row(check.name, (_text(check.name), Cell(verdict, tone, check.verdict), _text(check.detail))))
        rows += [
            Row(f"{check.name}/{index}", (Cell("", value=check.name), Cell("", value=""), _text(line, Tone.DIM)))
            for index, line in enumerate(check.evidence)
        ]
    columns = (Column("check", "Check"), Column("verdict", "Verdict"), Column("detail", "Detail and evidence"))
    return Table(f"checks-{found.cycle}", columns, tuple(rows))


def positions(found: Positions) -> Table:
    """Each participant in each currency, with its use of what it may owe. What matters most comes first."""
    rows = []
    for position in found.positions:
        ccy = position.currency
        used = limit_use(position.net_minor, position.limit_minor)
        if used is None:
            use = Cell("no cap", Tone.DIM, "")
        else:
            mark, tone = ("✗", Tone.BAD) if used > 100 else ("!", Tone.WARN) if used >= 80 else (" ", Tone.PLAIN)
            use = Cell(f"{bar(used, 100, 8)} {used:>3} %{mark}", tone, used)
        below_zero = position.headroom_minor is not None and position.headroom_minor.startswith("-")
        rows.append(
            Row(
                f"{ccy}/{position.participant}",
                (
                    Cell(ccy),
                    Cell(position.participant),
                    use,
                    _amount(position.net_minor, ccy),
                    _amount(position.headroom_minor, ccy, Tone.BAD if below_zero else Tone.PLAIN),
                    _amount(position.cap_minor, ccy),
                    _amount(position.receives_minor, ccy),
                    _amount(position.pays_minor, ccy),
                ),
            )
        )
    columns = (
        Column("currency", "Ccy"),
        Column("participant", "Participant"),
        Column("cap_use_percent", "Cap use"),
        Column("net", "Net", numeric=True),
        Column("headroom", "Headroom", numeric=True),
        Column("cap", "Cap", numeric=True),
        Column("receives", "Receives", numeric=True),
        Column("pays", "Pays", numeric=True),
    )
    sums = []
    for ccy, of_currency in groupby(found.positions, key=lambda position: position.currency):
        total = sum(int(position.net_minor) for position in of_currency)
        sums.append(f"{ccy} {money(total, ccy)}{'' if total == 0 else ' ✗'}")
    standing = "provisional, before limits" if found.provisional else "as netted"
    note = f"{found.cycle} · {standing} · sum of nets: {', '.join(sums) or '–'}"
    return Table(f"positions-{found.cycle}", columns, tuple(rows), note)


def _status_tone(status: ParticipantStatus) -> Tone:
    if status == "active":
        return Tone.GOOD
    return Tone.BAD if status == "suspended" else Tone.DIM if status == "left" else Tone.WARN


def participants(members: Iterable[ParticipantView], now: datetime) -> Table:
    """The participants of the scheme: status, limits, and how old their active keys are."""
    rows = []
    for member in members:
        oldest: dict[str, str] = {}
        for key in member.keys:
            if key.status == "active":
                oldest[key.use] = min(oldest.get(key.use, key.since), key.since)
        ages = ", ".join(f"{use} {age_of(since, now)}" for use, since in sorted(oldest.items()))
        granted = ", ".join(
            f"{one.counterparty} {one.currency} {money(one.limit_minor, one.currency)}"
            for one in member.bilateral_limits
        )
        rows.append(
            Row(
                member.bic,
                (
                    Cell(member.bic),
                    _text(member.name),
                    Cell(member.status, _status_tone(member.status)),
                    Cell(age_of(member.last_seen_at, now), value=member.last_seen_at or ""),
                    _optional(ages or None),
                    _optional(", ".join(_caps(member)) or None),
                    _optional(granted or None),
                    _optional(member.settlement_account),
                ),
            )
        )
    columns = (
        Column("bic", "BIC"),
        Column("name", "Name"),
        Column("status", "Status"),
        Column("last_seen_at", "Seen"),
        Column("key_ages", "Keys' age"),
        Column("caps", "Net debit caps"),
        Column("bilateral_limits", "Bilateral limits"),
        Column("settlement_account", "Settlement account"),
    )
    by_status: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        by_status[row.cells[2].text] += 1
    note = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))
    return Table("participants", columns, tuple(rows), note)


def _caps(member: ParticipantView) -> list[str]:
    """Return what a participant may owe: its caps, and what it prefunded beside them."""
    held = {one.currency: one for one in member.prefunding}
    shown = []
    for cap in member.caps:
        text = f"{cap.currency} {money(cap.cap_minor, cap.currency)}"
        if (prefunded := held.get(cap.currency)) is not None:
            free = int(prefunded.prefunded_minor) - int(prefunded.reserved_minor)
            text += f" + {money(free, cap.currency)} prefunded"
        shown.append(text)
    return shown


_PROPOSAL_TONES = {"pending": Tone.WARN, "confirmed": Tone.GOOD, "rejected": Tone.BAD, "expired": Tone.DIM}


def proposals(made: Iterable[ProposalView], subject: str, name: str = "proposals") -> Table:
    """Four-eyes proposals; one's own are marked, for somebody else must decide them."""
    rows = []
    for proposal in made:
        own = " (you)" if proposal.made_by == subject else ""
        rows.append(
            Row(
                proposal.id,
                (
                    Cell(proposal.cycle),
                    Cell(" ".join((proposal.action, *proposal.participants))),
                    Cell(proposal.status, _PROPOSAL_TONES.get(proposal.status, Tone.PLAIN)),
                    Cell(plain(proposal.made_by) + own, value=proposal.made_by),
                    _text(proposal.reason),
                    _time(proposal.made_at),
                    _optional(proposal.decided_by),
                    _optional(proposal.decision_reason),
                ),
            )
        )
    columns = (
        Column("cycle", "Cycle"),
        Column("action", "Action"),
        Column("status", "Status"),
        Column("made_by", "Made by"),
        Column("reason", "Reason"),
        Column("made_at", "At"),
        Column("decided_by", "Decided by"),
        Column("decision_reason", "Decision's reason"),
    )
    return Table(name, columns, tuple(rows))


def _said(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_said, value)) or "–"
    return "–" if value is None else str(value)


def events(seen: Iterable[Event]) -> Table:
    """The feed, newest first."""
    rows = []
    for event in sorted(seen, key=lambda event: event.id, reverse=True):
        data = ", ".join(f"{name}={_said(value)}" for name, value in sorted(event.data.items()))
        rows.append(
            Row(
                str(event.id),
                (
                    Cell(str(event.id), Tone.DIM, event.id),
                    _time(event.at),
                    _optional(event.cycle),
                    _text(event.type),
                    _text(data, Tone.DIM),
                ),
            )
        )
    columns = (
        Column("id", "No.", numeric=True),
        Column("at", "At"),
        Column("cycle", "Cycle"),
        Column("type", "Event"),
        Column("data", "Data"),
    )
    return Table("events", columns, tuple(rows))


EMPTY = Table("empty", (Column("nothing", ""),), ())
