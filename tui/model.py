"""The console without a screen: what is shown, how fresh it is, and how numbers and times read.

Pure functions of the coordinator's read models. `tui.tables` makes tables of them; nothing here draws.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from gateway.federation.messages.cycles import Checks, CycleProgress, CycleState, CycleSummary, Positions
from gateway.federation.messages.events import Event
from gateway.federation.messages.participants import ParticipantView
from gateway.federation.messages.proposals import ProposalView
from gateway.federation.money import format_minor

STALE_AFTER_S = 15.0
EVENTS_KEPT = 500

RUNNING: frozenset[CycleState] = frozenset(
    {"cut_off", "attesting", "matched", "netted", "held", "approved", "instructed", "deferred", "settled"}
)
TERMINAL: frozenset[CycleState] = frozenset({"final", "abandoned"})


class Tone(StrEnum):
    """How a piece of text is meant. Colour follows it, and is never the only sign of it."""

    PLAIN = "plain"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    DIM = "dim"


@dataclass(frozen=True)
class Snapshot:
    """All that the console knows, read from the coordinator in one round.

    `selected` is the cycle that panes 2 and 3 show; its parts are None where the coordinator has none yet.
    """

    cycles: tuple[CycleSummary, ...] = ()
    participants: tuple[ParticipantView, ...] = ()
    proposals: tuple[ProposalView, ...] = ()
    selected: str | None = None
    progress: CycleProgress | None = None
    positions: Positions | None = None
    checks: Checks | None = None
    events: tuple[Event, ...] = ()

    @property
    def state(self) -> CycleState | None:
        """The state of the selected cycle."""
        return self.progress.cycle.state if self.progress is not None else None

    def with_events(self, events: Iterable[Event]) -> Snapshot:
        """Return the snapshot with newer events appended, the oldest dropped beyond EVENTS_KEPT."""
        return replace(self, events=(*self.events, *events)[-EVENTS_KEPT:])


def cycle_to_follow(cycles: Sequence[CycleSummary]) -> str | None:
    """Choose the cycle to show when the operator picked none: the one in motion, else the open one, else the newest."""
    for wanted in (RUNNING, frozenset({"open"})):
        for summary in cycles:
            if summary.cycle.state in wanted:
                return summary.cycle.id
    return cycles[0].cycle.id if cycles else None


def pending(proposals: Iterable[ProposalView]) -> tuple[ProposalView, ...]:
    """Return the proposals that wait for a second person."""
    return tuple(proposal for proposal in proposals if proposal.status == "pending")


# --- freshness --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Feed:
    """What the console knows about its own knowledge. Times are of one monotonic clock, in seconds."""

    heard_at: float | None = None
    lost: str | None = None
    frozen: bool = False
    waiting: int = 0

    def heard(self, now: float) -> Feed:
        """A round was read: fresh, or one more waiting behind the freeze."""
        return replace(self, heard_at=now, lost=None, waiting=self.waiting + 1 if self.frozen else 0)

    def broke(self, why: str) -> Feed:
        return replace(self, lost=why)

    def toggled(self) -> Feed:
        return replace(self, frozen=not self.frozen, waiting=0)

    def stale(self, now: float) -> bool:
        """Tell whether what is on screen may no longer be true."""
        return self.lost is not None or (self.heard_at is not None and now - self.heard_at > STALE_AFTER_S)


def freshness(feed: Feed, now: float) -> tuple[str, Tone]:
    """Say how old the screen is, in words."""
    old = None if feed.heard_at is None else age(now - feed.heard_at)
    if feed.stale(now):
        return " · ".join(part for part in (f"STALE {old or ''}".strip(), feed.lost) if part), Tone.BAD
    if feed.frozen:
        return f"FROZEN · {feed.waiting} waiting · space resumes", Tone.WARN
    return ("connecting", Tone.DIM) if old is None else (f"updated {old} ago", Tone.GOOD)


# --- text, times, amounts ---------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return text of another's making fit for a terminal: control and direction characters become a dot."""
    return "".join("·" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else char for char in text)


def age(seconds: float) -> str:
    """Say a duration in its largest unit: "2 s", "3 min", "4 h", "5 d"."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def instant(timestamp: str) -> datetime:
    """Parse a wire timestamp (UTC)."""
    return datetime.fromisoformat(timestamp).astimezone(UTC)


def clock(timestamp: str | None) -> str:
    """Return the UTC time of day "HH:MM:SS", or a dash."""
    return "–" if timestamp is None else f"{instant(timestamp):%H:%M:%S}"


def age_of(timestamp: str | None, now: datetime) -> str:
    """Say how long ago a wire timestamp was, or a dash."""
    return "–" if timestamp is None else age((now - instant(timestamp)).total_seconds())


def money(minor: str | int | None, currency: str) -> str:
    """Return an exact amount with grouped digits, or a dash where there is none."""
    return "–" if minor is None else format_minor(int(minor), currency)


def decimal(minor: str | int | None, currency: str) -> str:
    """Return an exact amount as other programs read it: no grouping, empty where there is none."""
    return "" if minor is None else format_minor(int(minor), currency).replace(",", "")


def bar(part: int, whole: int, width: int) -> str:
    """Draw part of whole `width` wide: any part at all shows, and only all of it fills the bar."""
    if whole <= 0 or part <= 0:
        return "╌" * width
    filled = width if part >= whole else min(width - 1, max(1, part * width // whole))
    return "━" * filled + "╌" * (width - filled)


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


# --- the life of a cycle ----------------------------------------------------------------------------------

STEPS: tuple[tuple[CycleState, str], ...] = (
    ("open", "open"),
    ("cut_off", "cut-off"),
    ("attesting", "attesting"),
    ("matched", "matched"),
    ("netted", "netted"),
    ("approved", "approved"),
    ("instructed", "instructed"),
    ("final", "final"),
)
# The states beside the straight road stand at the step that they interrupt, with a word of their own.
ASIDE: dict[CycleState, tuple[CycleState, str]] = {
    "held": ("netted", "HELD"),
    "deferred": ("instructed", "DEFERRED"),
    "settled": ("final", "settled"),
}


def state_tone(state: CycleState) -> Tone:
    if state == "final":
        return Tone.GOOD
    if state in ("held", "deferred"):
        return Tone.WARN
    return Tone.BAD if state == "abandoned" else Tone.PLAIN


def steps(state: CycleState) -> tuple[tuple[str, Tone], ...]:
    """Return the road of a cycle: each step with its mark (✓ done, ▶ now, · to come) and tone."""
    if state == "abandoned":
        return (("✗ ABANDONED: everything is carried over", Tone.BAD),)
    at, word = ASIDE.get(state, (state, ""))
    places = [step for step, _ in STEPS]
    if at not in places:
        return ((f"▶{state}", Tone.WARN),)  # a newer coordinator's
    here = places.index(at)
    road = []
    for index, (_, label) in enumerate(STEPS):
        if index < here or state == "final":
            road.append((f"✓{label}", Tone.GOOD))
        elif index == here:
            road.append((f"▶{word or label}", Tone.WARN))
        else:
            road.append((f"·{label}", Tone.DIM))
    return tuple(road)


def liquidity(progress: CycleProgress) -> tuple[str, ...]:
    """Say in lines what settles where limits leave something for later; a line that all settles where none does."""
    bound = [(one, one.liquidity) for one in progress.totals if one.liquidity is not None]
    lines = [
        f"{one.currency} settles {money(found.value_minor, one.currency)}"
        f" of at most {money(found.upper_bound_minor, one.currency)}"
        f" (gap {money(found.gap_minor, one.currency)}); {money(found.matched_minor, one.currency)} matched"
        for one, found in bound
        if found.value_minor != found.matched_minor
    ]
    return tuple(lines) if lines or not bound else ("All that matched settles: no limit stands in its way.",)


def gauges(progress: CycleProgress) -> tuple[tuple[str, int, int, str], ...]:
    """Return the per-step counts of a cycle: name, how many, of how many, remark."""
    banks = [bank for bank in progress.participants if bank.status == "active"]
    pairs = progress.pairs
    known = pairs.agreed + pairs.differing + pairs.missing
    remarks = [
        f"{count} {word}"
        for count, word in (
            (pairs.differing, "differing"),
            (pairs.missing, "missing"),
            (pairs.carried_over, "carried over"),
        )
        if count
    ]
    attempts = progress.settlement_attempts
    return (
        ("Cut in", sum(bank.cut_at is not None for bank in banks), len(banks), ""),
        ("Attested", sum(bank.attested_at is not None for bank in banks), len(banks), ""),
        ("Pairs agreed", pairs.agreed, known, ", ".join(remarks)),
        (
            "Acknowledged",
            progress.acknowledged,
            progress.instructions,
            f"{attempts} settlement request{'s' if attempts > 1 else ''}" if attempts else "",
        ),
    )
