"""A default as banks live through it: their own ledgers, the coordinator and the agent, all on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR
from running_desk import Desk, pay, running_desk, settled, until
from support import Live

from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.federation.messages.cycles import CycleProgress
from gateway.federation.messages.default import DefaultView
from gateway.federation.messages.settlement import Funding
from participants.audit.fsck import fsck
from tests.conftest import NewDatabase


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    async with running_desk(postgres_url, await new_database("gateway.agent"), tmp_path, live) as running:
        yield running


async def test_banks_post_what_settled_and_keep_what_is_carried_over(desk: Desk) -> None:
    town = desk.town
    alpha, bravo, carlo = town.alpha, town.bravo, town.carlo
    before = {bank.bic: await bank.balance(AGENT, kind="nostro") for bank in (alpha, bravo, carlo)}
    await pay(alpha, bravo, 500)
    await pay(bravo, carlo, 300)
    await pay(carlo, alpha, 100)
    cycle = await desk.netted()
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "deferred")

    seen = await desk.get(f"/cycles/{cycle}/default", DefaultView, participant=ALPHA)
    assert f"{ALPHA} EUR short by 4.00" in seen.agent_says
    assert [(c.participant, c.after_minor) for c in seen.currencies[0].unwind.changes] == [
        (BRAVO, "-300"),
        (CARLO, "300"),
    ]
    await desk.decide(cycle, "unwind", ALPHA)
    await desk.until(cycle, "netted")
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "final")
    await settled(bravo, before[BRAVO] - 300)
    await settled(carlo, before[CARLO] + 300)
    assert await alpha.balance(AGENT, kind="nostro") == before[ALPHA]
    # What wasn't settled is still owed, on both sides.
    assert await bravo.balance(ALPHA, kind="due_from") == await alpha.balance(BRAVO, kind="due_to") == 500
    assert await bravo.balance(CARLO, kind="due_to") == await carlo.balance(BRAVO, kind="due_from") == 0

    # Both editions are in the bank's journal; it signed for both, and posted the second.
    async def acknowledged() -> int:
        return (await desk.get(f"/cycles/{cycle}/progress", CycleProgress)).acknowledged

    await until(acknowledged, 2)
    assert len(await bravo.get(f"/cycles/{cycle}/instructions")) == 2
    assert len(await alpha.get(f"/cycles/{cycle}/instructions")) == 1
    export = await desk.alice.request(
        "GET", f"{town.coordinator.url}/cycles/{cycle}/export", audience=COORDINATOR, timeout_s=20
    )
    report = verify_bytes(export.content, Anchor.of(COORDINATOR, town.coordinator.base.identity.sign.verifying_key))
    assert f"left out for default: {ALPHA}" in report.steps[8].detail

    # With money on the account the next cycle settles the rest by itself.
    await desk.at_agent(f"/accounts/{ALPHA}/funding", Funding(id="f" * 8 + "-0000-4000-8000-000000000000",
                                                              currency="EUR", amount_minor="400"))  # fmt: skip
    second = await desk.netted()
    await desk.decide(second, "approve")
    await desk.until(second, "final")
    await until(lambda: alpha.balance(BRAVO, kind="due_to"), 0)
    await settled(alpha, before[ALPHA] + 400 - 400)
    await settled(bravo, before[BRAVO] + 200)
    await settled(carlo, before[CARLO] + 200)
    assert await bravo.balance(ALPHA, kind="due_from") == await carlo.balance(ALPHA, kind="due_to") == 0
    for bank in (alpha, bravo, carlo):
        report = await fsck(bank.node.database_url, bank.bic)
        assert [check.name for check in report.checks if not check.ok] == []
        assert report["settlements"].examined == (1 if bank is alpha else 2)
