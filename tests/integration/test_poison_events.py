"""An event of the feed that can't be dealt with: set aside, told of, passed over, and tried again after a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from litestar.types import ASGIApp, Scope
from rewritten_answers import RewrittenAnswers
from running_coordinator import AGENT, BRAVO, on_demand
from running_desk import Desk, pay, running_desk, settled, until
from support import Live

from compliance.cycle.approval import ApprovalRule
from gateway.federation.messages.cycles import Cycle
from gateway.federation.storage.postgres import dsn
from tests.conftest import NewDatabase

UNREADABLE = {"id": 900_000, "type": "cycle.final", "at": "the 31st of February", "cycle": 7, "data": []}
UNKNOWN = {"id": 1, "type": "cycle.reconciled", "at": "2026-01-01T00:00:00.000Z", "data": {}}


class Poisoner(RewrittenAnswers):
    """Puts events that nobody can read or knows into every page, and breaks the signature of one cycle's finality.

    With `junk` it leaves the signatures whole, of instructions too, and puts one that nobody verifies beside each.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.poisons = True
        self.junk = False
        self.forged: str | None = None
        poisoners.append(self)

    def rewrite(self, scope: Scope, start: Any, body: bytes) -> bytes:
        here = f"/cycles/{self.forged}"
        if start["status"] != 200:
            return body
        if self.junk:
            return with_junk(body) if scope["path"] in (f"{here}/finality", f"{here}/instructions") else body
        return self.poisoned(body) if self.poisons and scope["path"] in ("/events", f"{here}/finality") else body

    def poisoned(self, body: bytes) -> bytes:
        document = json.loads(body)
        if "events" in document:
            if document["events"]:
                document["events"] = [UNREADABLE, UNKNOWN, *document["events"]]
        else:
            sig = document["signatures"][0]["sig"]
            document["signatures"][0]["sig"] = ("B" if sig[0] == "A" else "A") + sig[1:]
        return json.dumps(document).encode()


def with_junk(body: bytes) -> bytes:
    """Put a signature that nobody verifies beside the good one of each envelope."""
    document = json.loads(body)
    for envelope in document if isinstance(document, list) else [document]:
        envelope["signatures"].append({"keyid": "unheard-of", "sig": "AAAA"})
    return json.dumps(document).encode()


poisoners: list[Poisoner] = []


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    rules = on_demand(approval=ApprovalRule(mode="never", thresholds_minor={}))
    async with running_desk(
        postgres_url, await new_database("gateway.agent"), tmp_path, live, wrap=Poisoner, rulebook=rules
    ) as running:
        yield running


async def run_cycle(desk: Desk, amount: int, *, forged: bool) -> str:
    await pay(desk.town.bravo, desk.town.alpha, amount)
    cycle: str = (await desk.get("/cycles/current", Cycle)).id
    poisoners[-1].forged = cycle if forged else None
    await desk.post(f"/cycles/{cycle}/cut-off", Cycle, None)
    await desk.until(cycle, "final")
    return cycle


async def test_an_event_that_cannot_be_dealt_with_stops_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bravo = desk.town.bravo
    node = bravo.node
    before = await bravo.balance(AGENT, kind="nostro")
    first = await run_cycle(desk, 100, forged=True)
    await until(lambda: _aside(node), {"unreadable", "cycle.final"})
    # The feed goes on: every bank hears of the next cut-off and hands in its cut.
    poisoners[-1].forged = None
    second: str = (await desk.get("/cycles/current", Cycle)).id
    await desk.post(f"/cycles/{second}/cut-off", Cycle, None)
    await desk.until(second, "attesting")
    ready = (await bravo.get("/health/ready"))["coordinator_feed"]
    assert ready.startswith("heard ")
    assert f" cycle.final {first}" in ready
    metrics = (await bravo.send("GET", "/metrics")).text
    assert f'concordat_feed_events_behind{{bank="{BRAVO}"}}' in metrics
    assert float(metrics.partition("\nconcordat_feed_events_set_aside_total ")[2].split()[0]) >= 2

    # Started again when it is mended, the bank deals with what it had set aside.
    poisoners[-1].poisons = False
    await node.follower.stop()
    node.follower.start()
    await settled(bravo, before - 100)
    await until(lambda: _aside(node), {"unreadable"})

    monkeypatch.setattr("participants.readiness.SILENCE_SECONDS_MAX", 0.0)
    silent = await bravo.get("/health/ready")
    assert silent["status"] == "degraded"
    assert silent["coordinator_feed"].startswith("behind: heard ")


async def test_instructions_and_finality_carry_one_signature(desk: Desk) -> None:
    """What a bank keeps of the coordinator's is verified whole: with junk beside the signature nothing is kept."""
    bravo = desk.town.bravo
    before = await bravo.balance(AGENT, kind="nostro")
    poisoners[-1].junk = True
    await run_cycle(desk, 100, forged=True)
    await until(lambda: _aside(bravo.node), {"unreadable", "cycle.instructed", "cycle.final"})
    aside = {event.type: event.reason for event in bravo.node.follower.set_aside}
    assert aside["cycle.instructed"] == aside["cycle.final"] == "EvidenceError: 2 signatures instead of 1"
    owner = await asyncpg.connect(dsn(bravo.node.database_url))
    assert await owner.fetchval("SELECT count(*) FROM event WHERE type IN ('cycle.instructed', 'cycle.settled')") == 0
    await owner.close()
    poisoners[-1].junk = poisoners[-1].poisons = False
    await bravo.node.follower.stop()
    bravo.node.follower.start()
    await settled(bravo, before - 100)
    await until(lambda: _aside(bravo.node), {"unreadable"})


async def _aside(node: Any) -> set[str]:
    return {event.type for event in node.follower.set_aside}


async def test_a_cursor_that_cannot_be_read_is_read_again(desk: Desk) -> None:
    """The table of the cursor is out of reach while the follower starts, as behind a long lock."""
    alpha = desk.town.alpha
    await alpha.node.follower.stop()
    owner = await asyncpg.connect(dsn(alpha.node.database_url))
    await owner.execute("ALTER TABLE feed_cursor RENAME TO feed_cursor_away")
    alpha.node.follower.start()
    await pay(desk.town.bravo, alpha, 10)
    await owner.execute("ALTER TABLE feed_cursor_away RENAME TO feed_cursor")
    await owner.close()
    before = await alpha.balance(AGENT, kind="nostro")
    await run_cycle(desk, 10, forged=False)
    await settled(alpha, before + 20)
