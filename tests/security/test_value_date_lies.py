"""A coordinator that works for a day that is far away: each bank refuses its instruction, and posts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from running_coordinator import AGENT, on_demand
from running_desk import Desk, pay, running_desk, until
from support import Live, NewDatabase

from compliance.cycle.approval import ApprovalRule
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.rulebook import ScreeningRule
from gateway.federation.messages.cycles import Cycle
from participants.audit.fsck import fsck
from participants.cycle.statements import InstructionReason

AHEAD = timedelta(days=40)


class Clock:
    """What the coordinator says that the time is."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def house(
    postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Desk, Clock]]:
    clock = Clock()
    monkeypatch.setitem(CycleService.__init__.__kwdefaults__, "now", clock)
    rules = on_demand(
        approval=ApprovalRule(mode="never", thresholds_minor={}),
        screening=ScreeningRule(required=False, list_age_max_hours=10_000),
    )
    database = await new_database("gateway.agent")
    async with running_desk(postgres_url, database, tmp_path, live, rulebook=rules) as desk:
        yield desk, clock


async def test_a_far_value_date_is_believed_by_no_bank(house: tuple[Desk, Clock]) -> None:
    desk, clock = house
    alpha, bravo = desk.town.alpha, desk.town.bravo
    await pay(alpha, bravo, 10)
    clock.ahead = AHEAD
    # The cycle that was open ends without taking anything in, and the next one is for a day in the far future.
    first = (await desk.get("/cycles/current", Cycle)).id
    await desk.post(f"/cycles/{first}/cut-off", Cycle, None)
    await desk.until(first, "final")
    cycle = (await desk.get("/cycles/current", Cycle)).id
    assert cycle[:10] == str((datetime.now(UTC) + AHEAD).date())
    await desk.post(f"/cycles/{cycle}/cut-off", Cycle, None)

    async def refused() -> bool:
        return all(
            InstructionReason.VALUE_DATE_REFUSED in bank.node.follower.instructions.disagreements.values()
            for bank in (alpha, bravo)
        )

    await until(refused, True)
    for bank in (alpha, bravo):
        assert await bank.balance(AGENT, kind="nostro") == 0
        report = await fsck(bank.node.database_url, bank.bic)
        assert [(check.name, check.difference) for check in report.checks if not check.ok] == []
