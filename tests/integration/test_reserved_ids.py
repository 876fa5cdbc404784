"""Nobody takes a cycle's place in a bank's journal by naming a payment so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from running_banks import order, terms
from running_coordinator import ALPHA, BRAVO
from running_desk import Desk, running_desk
from support import Live

from gateway.federation.messages.cycles import Cycle, CycleProgress
from participants.ledger import events
from tests.conftest import NewDatabase


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    async with running_desk(postgres_url, await new_database("gateway.agent"), tmp_path, live) as running:
        yield running


async def test_a_payment_named_like_a_cut_harms_no_cycle(desk: Desk) -> None:
    town = desk.town
    cycle = (await desk.get("/cycles/current", Cycle)).id
    reserved = events.cut_subject(cycle)

    # As such names are made today, nobody takes them in; nothing is recorded, and the answer stays the same.
    for _ in range(2):
        (outcome,) = town.acknowledged(await town.deliver(town.sealed(terms(1, id=reserved)))).outcomes
        assert (outcome.status, outcome.reason) == ("refused", "id_reserved")
    answer = await town.bravo.send("POST", "/payments", {**order(1), "id": reserved, "creditor_agent": ALPHA})
    assert (answer.status_code, answer.json()["code"]) == (422, "id_reserved")
    assert await town.bravo.node.pool.fetchval("SELECT count(*) FROM event WHERE subject = $1", reserved) == 0

    # As they were made before, they are payments like any others.
    earlier = terms(1, id=events.earlier_subject(reserved))
    (outcome,) = town.acknowledged(await town.deliver(town.sealed(earlier))).outcomes
    assert outcome.status == "accepted"

    await desk.post(f"/cycles/{cycle}/cut-off", Cycle, None)
    await desk.until(cycle, "attesting")
    progress = await desk.get(f"/cycles/{cycle}/progress", CycleProgress)
    assert {part.participant for part in progress.participants if part.cut_at} >= {ALPHA, BRAVO}
