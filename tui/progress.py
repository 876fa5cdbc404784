"""How far a cycle is, in words and numbers. Pure functions of what the coordinator says of it."""

from __future__ import annotations

from gateway.federation.messages.cycles import CycleProgress, CycleState
from tui.text import Tone, clock, money, plain

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
    step, word = ASIDE.get(state, (state, ""))
    places = [place for place, _ in STEPS]
    if step not in places:
        return ((f"▶{state}", Tone.WARN),)  # a newer coordinator's
    here = places.index(step)
    road = []
    for index, (_, label) in enumerate(STEPS):
        if index < here or state == "final":
            road.append((f"✓{label}", Tone.GOOD))
        elif index == here:
            road.append((f"▶{word or label}", Tone.WARN))
        else:
            road.append((f"·{label}", Tone.DIM))
    return tuple(road)


def trouble(progress: CycleProgress) -> str | None:
    """Say why a cycle can't go on, since when, and when it is tried again; None for one that can.

    Of one that the settlement agent didn't settle, what the agent says.
    """
    view = progress.cycle.stuck
    if view is None:
        return None if progress.agent_says is None else f"✗ the settlement agent says: {plain(progress.agent_says)}"
    again = f", again at {clock(view.retry_at)}" if view.retry_at is not None else ""
    words = f"✗ STUCK since {clock(view.since)}: {view.reason}, failed {view.failures} times{again}"
    return words if progress.stuck_detail is None else f"{words}: {plain(progress.stuck_detail)}"


def liquidity(progress: CycleProgress) -> tuple[str, ...]:
    """Say in lines what settles where limits leave something for later; a line that all settles where none does."""
    netted = [(total.currency, total.liquidity) for total in progress.totals if total.liquidity is not None]
    lines = [
        f"{currency} settles {money(view.value_minor, currency)} of at most {money(view.upper_bound_minor, currency)}"
        f" (gap {money(view.gap_minor, currency)}); {money(view.matched_minor, currency)} matched"
        for currency, view in netted
        if view.value_minor != view.matched_minor
    ]
    return tuple(lines) if lines or not netted else ("All that matched settles: no limit stands in its way.",)


def gauges(progress: CycleProgress) -> tuple[tuple[str, int, int, str], ...]:
    """Return the per-step counts of a cycle: name, how many, of how many, remark."""
    banks = [bank for bank in progress.participants if bank.status == "active"]
    pairs = progress.pairs
    attested = pairs.agreed + pairs.differing + pairs.missing
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
        ("Pairs agreed", pairs.agreed, attested, ", ".join(remarks)),
        (
            "Acknowledged",
            progress.acknowledged,
            progress.instructions,
            f"{attempts} settlement request{'s' if attempts > 1 else ''}" if attempts else "",
        ),
    )
