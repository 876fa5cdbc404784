"""Answers of a coordinator as the console gets them, for tests that need no coordinator."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.cycles import (
    CurrencyTotal,
    Cycle,
    CycleProgress,
    CycleState,
    CycleSummary,
    LiquidityView,
    PairCounts,
    ParticipantProgress,
    PositionView,
    StuckView,
)
from gateway.federation.messages.proposals import ProposalView
from tui.snapshot import Snapshot

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def a_cycle(number: int, state: CycleState) -> Cycle:
    return Cycle(
        id=f"2026-03-02-{number:02}",
        value_date="2026-03-02",
        number=number,
        state=state,
        currencies=("EUR", "JPY"),
        rulebook="0" * 64,
        trust_list_version=1,
        opened_at="2026-03-02T06:00:00Z",
    )


def a_view(state: CycleState = "netted", number: int = 1) -> Snapshot:
    cycle = a_cycle(number, state)
    progress = CycleProgress(
        cycle=cycle,
        participants=(
            ParticipantProgress(participant="ALPHDEFF", status="active", cut_at="2026-03-02T09:00:01Z"),
            ParticipantProgress(participant="BETAFRPP", status="active"),
            ParticipantProgress(participant="GAMMGB2L", status="suspended"),
        ),
        pairs=PairCounts(agreed=3, differing=1, missing=2),
        totals=(CurrencyTotal(currency="EUR", gross_minor="123456", settlement_minor="2345"),),
        breaks=(BreakNotice(pair=("ALPHDEFF", "BETAFRPP"), currency="EUR", revision=1, kind="different"),),
    )
    return Snapshot(cycles=(CycleSummary(cycle=cycle, pairs=progress.pairs),), selected=cycle.id, progress=progress)


STUCK = StuckView(reason="agent_inactive", since="2026-03-02T09:05:00Z", failures=3, retry_at="2026-03-02T09:06:02Z")


def a_stuck_view() -> Snapshot:
    view = a_view("approved")
    assert view.progress is not None
    cycle = msgspec.structs.replace(view.progress.cycle, stuck=STUCK)
    progress = msgspec.structs.replace(view.progress, cycle=cycle, stuck_detail="no agent\x1b[2J")
    return replace(view, cycles=(CycleSummary(cycle=cycle, pairs=progress.pairs),), progress=progress)


def a_total() -> CurrencyTotal:
    """10.00 of 25.00 settle, at most 12.00 could."""
    return CurrencyTotal(
        currency="EUR",
        gross_minor="1000",
        bilateral_minor="500",
        settlement_minor="333",
        saving_minor="667",
        liquidity=LiquidityView(
            mode="optimal",
            matched_minor="2500",
            value_minor="1000",
            upper_bound_minor="1200",
            gap_minor="200",
            optimal=False,
        ),
    )


def a_proposal(made_by: str = "alice") -> ProposalView:
    return ProposalView(
        id="018f0000-0000-7000-8000-000000000001",
        cycle="2026-03-02-01",
        action="approve",
        reason="all checks pass",
        status="pending",
        made_by=made_by,
        made_at="2026-03-02T10:00:00Z",
    )


def a_position(net: str, cap: str | None, currency: str = "EUR", participant: str = "ALPHDEFF") -> PositionView:
    return PositionView(
        participant=participant,
        currency=currency,
        receives_minor="0",
        pays_minor="0",
        net_minor=net,
        cap_minor=cap,
        limit_minor=cap,
    )
