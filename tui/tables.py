"""Every table of the console, column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from compliance.person import same_person
from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.cycles import (
    Checks,
    CheckView,
    CurrencyTotal,
    CycleProgress,
    CycleSummary,
    LiquidityView,
    ParticipantProgress,
    Positions,
    PositionView,
)
from gateway.federation.messages.events import Event
from gateway.federation.messages.participants import ParticipantStatus, ParticipantView
from gateway.federation.messages.proposals import ProposalView
from tui.progress import state_tone
from tui.table import Cell, Column, Columns, Table, amount, count, optional, text, time
from tui.text import Tone, age_of, bar, money, plain

# --- cycles -----------------------------------------------------------------------------------------------


def _agreed(summary: CycleSummary) -> Cell:
    pairs = summary.pairs
    attested = pairs.agreed + pairs.differing + pairs.missing
    return Cell(f"{pairs.agreed}/{attested}", Tone.PLAIN if attested else Tone.DIM)


def _state(summary: CycleSummary) -> Cell:
    state = summary.cycle.state
    if summary.cycle.stuck is not None:
        return Cell(f"{state} ✗ stuck", Tone.BAD, state)
    return Cell(state, state_tone(state))


_CYCLES: Columns[CycleSummary] = (
    Column("cycle", "Cycle", lambda summary: Cell(summary.cycle.id)),
    Column("value_date", "Value date", lambda summary: Cell(summary.cycle.value_date)),
    Column("state", "State", _state),
    Column("opened_at", "Opened", lambda summary: time(summary.cycle.opened_at)),
    Column("cut_off_at", "Cut-off", lambda summary: time(summary.cycle.cut_off_at)),
    Column("pairs_agreed", "Agreed", _agreed, numeric=True),
    Column("breaks", "Breaks", lambda summary: count(summary.pairs.differing, Tone.BAD), numeric=True),
)


def cycles(summaries: Iterable[CycleSummary]) -> Table:
    """The cycles, newest first."""
    return Table.of("cycles", _CYCLES, summaries, key=lambda summary: summary.cycle.id)


def _saving(total: CurrencyTotal) -> Cell:
    gross = int(total.gross_minor)
    if total.settlement_minor is None or gross == 0:
        return Cell("–", Tone.DIM)
    per_mille = (gross - int(total.settlement_minor)) * 1000 // gross
    return Cell(f"{per_mille // 10}.{per_mille % 10} %", Tone.GOOD if per_mille else Tone.DIM)


def _liquidity(total: CurrencyTotal, figure: Callable[[LiquidityView], str], tone: Tone = Tone.PLAIN) -> Cell:
    """A figure of what limits let settle; the tone is that of any but zero."""
    minor = None if total.liquidity is None else figure(total.liquidity)
    return amount(minor, total.currency, Tone.PLAIN if minor in (None, "0") else tone)


_TOTALS: Columns[CurrencyTotal] = (
    Column("currency", "Ccy", lambda total: Cell(total.currency)),
    Column("gross", "Gross", lambda total: amount(total.gross_minor, total.currency), numeric=True),
    Column("to_settle", "Net to settle", lambda total: amount(total.settlement_minor, total.currency), numeric=True),
    Column("saved", "Saved", _saving, numeric=True),
    Column("bilateral", "Pair by pair", lambda total: amount(total.bilateral_minor, total.currency), numeric=True),
    Column("matched", "Matched", lambda total: _liquidity(total, lambda view: view.matched_minor), numeric=True),
    Column("at_most", "At most", lambda total: _liquidity(total, lambda view: view.upper_bound_minor), numeric=True),
    Column("gap", "Gap", lambda total: _liquidity(total, lambda view: view.gap_minor, Tone.WARN), numeric=True),
)


def totals(cycle: str, currencies: Iterable[CurrencyTotal]) -> Table:
    """One cycle's currencies: gross, what netting leaves to settle and saves, and what limits let settle at most."""
    return Table.of(f"totals-{cycle}", _TOTALS, currencies, key=lambda total: total.currency)


# --- one cycle --------------------------------------------------------------------------------------------


def _acknowledged(bank: ParticipantProgress) -> Cell:
    tone = Tone.PLAIN if bank.acknowledged == bank.instructions else Tone.WARN
    return Cell(f"{bank.acknowledged}/{bank.instructions}", tone if bank.instructions else Tone.DIM)


_PROGRESS: Columns[ParticipantProgress] = (
    Column("participant", "Participant", lambda bank: Cell(bank.participant)),
    Column("status", "Status", lambda bank: _status(bank.status)),
    Column("cut_at", "Cut in", lambda bank: time(bank.cut_at)),
    Column("attested_at", "Attested", lambda bank: time(bank.attested_at)),
    Column("pairs_agreed", "Agreed", lambda bank: count(bank.pairs.agreed), numeric=True),
    Column("pairs_differing", "Differ", lambda bank: count(bank.pairs.differing, Tone.BAD), numeric=True),
    Column("pairs_missing", "Missing", lambda bank: count(bank.pairs.missing, Tone.WARN), numeric=True),
    Column("acknowledged", "Ackn.", _acknowledged, numeric=True),
)


def progress(of_cycle: CycleProgress) -> Table:
    """Who is how far in one cycle."""
    name = f"progress-{of_cycle.cycle.id}"
    return Table.of(name, _PROGRESS, of_cycle.participants, key=lambda bank: bank.participant)


_RESOLVED, _UNRESOLVED = Cell("resolved", Tone.GOOD), Cell("open", Tone.BAD)
_BREAKS: Columns[BreakNotice] = (
    Column("bank_1", "Bank", lambda notice: Cell(notice.pair[0])),
    Column("bank_2", "Bank", lambda notice: Cell(notice.pair[1])),
    Column("currency", "Ccy", lambda notice: Cell(notice.currency)),
    Column("kind", "Kind", lambda notice: Cell(notice.kind, Tone.WARN)),
    Column("missing_from", "Missing from", lambda notice: optional(notice.missing_from)),
    Column("revision", "Revision", lambda notice: Cell(str(notice.revision), value=notice.revision), numeric=True),
    Column("status", "Status", lambda notice: _RESOLVED if notice.resolved else _UNRESOLVED),
)


def breaks(cycle: str, notices: Iterable[BreakNotice]) -> Table:
    """The pairs of one cycle whose statements differ or lack."""
    return Table.of(f"breaks-{cycle}", _BREAKS, notices, key=lambda notice: "/".join((*notice.pair, notice.currency)))


class _CheckLine(NamedTuple):
    """A check, or a line of its evidence."""

    key: str
    check: CheckView
    evidence: str | None = None


_VERDICTS = {
    "pass": Cell("✓ pass", Tone.GOOD, "pass"),
    "warn": Cell("! warn", Tone.WARN, "warn"),
    "fail": Cell("✗ fail", Tone.BAD, "fail"),
}


def _verdict(check: CheckView) -> Cell:
    """The verdict with its mark; a newer coordinator's is shown as it is."""
    return _VERDICTS.get(check.verdict, Cell(check.verdict, Tone.WARN))


def _first_line(line: _CheckLine, cell: Cell, *, value: str) -> Cell:
    """Show the cell beside the check itself only; an export has `value` beside its evidence."""
    return cell if line.evidence is None else Cell("", value=value)


def _detail(line: _CheckLine) -> Cell:
    return text(line.check.detail) if line.evidence is None else text(line.evidence, Tone.DIM)


_CHECKS: Columns[_CheckLine] = (
    Column("check", "Check", lambda line: _first_line(line, text(line.check.name), value=line.check.name)),
    Column("verdict", "Verdict", lambda line: _first_line(line, _verdict(line.check), value="")),
    Column("detail", "Detail and evidence", _detail),
)


def _check_lines(of_cycle: Checks) -> Iterator[_CheckLine]:
    for check in of_cycle.checks:
        yield _CheckLine(check.name, check)
        for index, evidence in enumerate(check.evidence):
            yield _CheckLine(f"{check.name}/{index}", check, evidence)


def checks(of_cycle: Checks) -> Table:
    """The checks before settlement: a row per check, and one per line of its evidence."""
    return Table.of(f"checks-{of_cycle.cycle}", _CHECKS, _check_lines(of_cycle), key=lambda line: line.key)


# --- positions --------------------------------------------------------------------------------------------


def _cap_use(position: PositionView) -> Cell:
    percent = limit_use(position.net_minor, position.limit_minor)
    if percent is None:
        return Cell("no cap", Tone.DIM, "")
    mark, tone = ("✗", Tone.BAD) if percent > 100 else ("!", Tone.WARN) if percent >= 80 else (" ", Tone.PLAIN)
    return Cell(f"{bar(percent, 100, 8)} {percent:>3} %{mark}", tone, percent)


def _headroom(position: PositionView) -> Cell:
    below_zero = position.headroom_minor is not None and position.headroom_minor.startswith("-")
    return amount(position.headroom_minor, position.currency, Tone.BAD if below_zero else Tone.PLAIN)


_POSITIONS: Columns[PositionView] = (
    Column("currency", "Ccy", lambda position: Cell(position.currency)),
    Column("participant", "Participant", lambda position: Cell(position.participant)),
    Column("cap_use_percent", "Cap use", _cap_use),
    Column("net", "Net", lambda position: amount(position.net_minor, position.currency), numeric=True),
    Column("headroom", "Headroom", _headroom, numeric=True),
    Column("cap", "Cap", lambda position: amount(position.cap_minor, position.currency), numeric=True),
    Column("receives", "Receives", lambda position: amount(position.receives_minor, position.currency), numeric=True),
    Column("pays", "Pays", lambda position: amount(position.pays_minor, position.currency), numeric=True),
)


def positions(of_cycle: Positions) -> Table:
    """Each participant in each currency, with its use of what it may owe. What matters most comes first."""
    sums = []
    for currency, group in groupby(of_cycle.positions, key=lambda position: position.currency):
        total = sum(int(position.net_minor) for position in group)
        sums.append(f"{currency} {money(total, currency)}{'' if total == 0 else ' ✗'}")
    standing = "provisional, before limits" if of_cycle.provisional else "as netted"
    return Table.of(
        f"positions-{of_cycle.cycle}",
        _POSITIONS,
        of_cycle.positions,
        key=lambda position: f"{position.currency}/{position.participant}",
        note=f"{of_cycle.cycle} · {standing} · sum of nets: {', '.join(sums) or '–'}",
    )


def limit_use(net_minor: str, limit_minor: str | None) -> int | None:
    """Return the percentage in use of what a participant may owe, rounded up; None without a limit.

    Rounded up, so that 100 shows only once the whole limit is used or exceeded by less than a percent, never hidden.
    """
    if limit_minor is None:
        return None
    debit, limit = max(0, -int(net_minor)), int(limit_minor)
    if limit == 0:
        return 0 if debit == 0 else 999
    return -(-debit * 100 // limit)


# --- participants -----------------------------------------------------------------------------------------

_STATUS_TONES: dict[ParticipantStatus, Tone] = {"active": Tone.GOOD, "suspended": Tone.BAD, "left": Tone.DIM}


def _status(status: ParticipantStatus) -> Cell:
    return Cell(status, _STATUS_TONES.get(status, Tone.WARN))


def _last_seen(member: ParticipantView, now: datetime) -> Cell:
    return Cell(age_of(member.last_seen_at, now), value=member.last_seen_at or "")


def _key_ages(member: ParticipantView, now: datetime) -> str:
    """Say how old the oldest active key of each use is."""
    oldest: dict[str, str] = {}
    for key in member.keys:
        if key.status == "active":
            oldest[key.use] = min(oldest.get(key.use, key.since), key.since)
    return ", ".join(f"{use} {age_of(since, now)}" for use, since in sorted(oldest.items()))


def _caps(member: ParticipantView) -> str:
    """Say what a participant may owe: its caps, and what it prefunded beside them."""
    prefunding = {deposit.currency: deposit for deposit in member.prefunding}
    caps = []
    for cap in member.caps:
        words = f"{cap.currency} {money(cap.cap_minor, cap.currency)}"
        if (deposit := prefunding.get(cap.currency)) is not None:
            free = int(deposit.prefunded_minor) - int(deposit.reserved_minor)
            words += f" + {money(free, cap.currency)} prefunded"
        caps.append(words)
    return ", ".join(caps)


def _bilateral_limits(member: ParticipantView) -> str:
    """Say what a participant lets others owe it."""
    return ", ".join(
        f"{limit.counterparty} {limit.currency} {money(limit.limit_minor, limit.currency)}"
        for limit in member.bilateral_limits
    )


def _participants(now: datetime) -> Columns[ParticipantView]:
    return (
        Column("bic", "BIC", lambda member: Cell(member.bic)),
        Column("name", "Name", lambda member: text(member.name)),
        Column("status", "Status", lambda member: _status(member.status)),
        Column("last_seen_at", "Seen", lambda member: _last_seen(member, now)),
        Column("key_ages", "Keys' age", lambda member: optional(_key_ages(member, now))),
        Column("caps", "Net debit caps", lambda member: optional(_caps(member))),
        Column("bilateral_limits", "Bilateral limits", lambda member: optional(_bilateral_limits(member))),
        Column("settlement_account", "Settlement account", lambda member: optional(member.settlement_account)),
    )


def participants(members: Iterable[ParticipantView], now: datetime) -> Table:
    """The participants of the scheme: status, limits, and how old their active keys are."""
    members = tuple(members)
    by_status = sorted(Counter(member.status for member in members).items())
    note = ", ".join(f"{number} {status}" for status, number in by_status)
    return Table.of("participants", _participants(now), members, key=lambda member: member.bic, note=note)


# --- proposals --------------------------------------------------------------------------------------------

_PROPOSAL_TONES = {
    "pending": Tone.WARN,
    "confirmed": Tone.GOOD,
    "rejected": Tone.BAD,
    "expired": Tone.DIM,
    "withdrawn": Tone.DIM,
}


def _maker(proposal: ProposalView, subject: str) -> Cell:
    own = " (you)" if same_person(proposal.made_by, subject) else ""
    return Cell(plain(proposal.made_by) + own, value=proposal.made_by)


def _proposals(subject: str) -> Columns[ProposalView]:
    return (
        Column("cycle", "Cycle", lambda proposal: Cell(proposal.cycle or plain(proposal.subject or "–"))),
        Column("action", "Action", lambda proposal: Cell(" ".join((proposal.action, *proposal.participants)))),
        Column(
            "status", "Status", lambda proposal: Cell(proposal.status, _PROPOSAL_TONES.get(proposal.status, Tone.PLAIN))
        ),
        Column("made_by", "Made by", lambda proposal: _maker(proposal, subject)),
        Column("reason", "Reason", lambda proposal: text(proposal.reason)),
        Column("made_at", "At", lambda proposal: time(proposal.made_at)),
        Column("decided_by", "Decided by", lambda proposal: optional(proposal.decided_by)),
        Column("decision_reason", "Decision's reason", lambda proposal: optional(proposal.decision_reason)),
    )


def proposals(made: Iterable[ProposalView], subject: str, name: str = "proposals") -> Table:
    """Four-eyes proposals; one's own are marked, for somebody else must decide them."""
    return Table.of(name, _proposals(subject), made, key=lambda proposal: proposal.id)


# --- events -----------------------------------------------------------------------------------------------


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_value, value)) or "–"
    return "–" if value is None else str(value)


def _members(data: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in sorted(data.items()))


_EVENTS: Columns[Event] = (
    Column("id", "No.", lambda event: Cell(str(event.id), Tone.DIM, event.id), numeric=True),
    Column("at", "At", lambda event: time(event.at)),
    Column("cycle", "Cycle", lambda event: optional(event.cycle)),
    Column("type", "Event", lambda event: text(event.type)),
    Column("data", "Data", lambda event: text(_members(event.data), Tone.DIM)),
)


def events(feed: Iterable[Event]) -> Table:
    """The feed, newest first."""
    newest_first = sorted(feed, key=lambda event: event.id, reverse=True)
    return Table.of("events", _EVENTS, newest_first, key=lambda event: str(event.id))
