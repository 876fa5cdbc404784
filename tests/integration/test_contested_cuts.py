"""A cut that names payments which their sender doesn't know costs its own lanes, and nobody else's.

Four banks, coordinator and agent on real sockets and databases. One bank lies in its cut; one dies after it, with
answers unsent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import combinations
from pathlib import Path

import msgspec
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send
from running_banks import RunningBank, order
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR, on_demand
from running_desk import Desk, pay, running_desk, until
from support import Live

from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import ApprovalRule
from compliance.statements import CycleCut, LaneCut, NettingResult
from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.federation.messages.attestation import Breaks
from gateway.federation.messages.cycles import Cycle, CycleProgress
from gateway.federation.messages.events import Events
from gateway.federation.messages.settlement import Funding
from participants.audit.fsck import fsck
from participants.cycle.commands import FixCut
from participants.ledger import events
from participants.ledger.books import Books
from tests.conftest import NewDatabase

DELTA = "DELTESM0"
BANKS = (ALPHA, BRAVO, CARLO, DELTA)
PAIRS = {tuple(sorted(pair)) for pair in combinations(BANKS, 2)}
OVERSTATED_BY = 2


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    rules = on_demand(
        cut_deadline_s=3,
        attestation_deadline_s=12,
        approval=ApprovalRule(mode="never", thresholds_minor={}),
    )
    async with running_desk(
        postgres_url, await new_database("gateway.agent"), tmp_path, live, bics=BANKS, rulebook=rules
    ) as running:
        funding = Funding(id="0198b1a0-0000-7000-8000-000000000001", currency="EUR", amount_minor="1000000")
        await running.at_agent(f"/accounts/{ALPHA}/funding", funding)
        yield running


async def everybody_pays(desk: Desk, amount: int, *, without: str = "") -> None:
    for payer, payee in combinations((b for b in BANKS if b != without), 2):
        await pay(desk.town.banks[payer], desk.town.banks[payee], amount)


async def cut_off(desk: Desk) -> str:
    cycle: str = (await desk.get("/cycles/current", Cycle)).id
    await desk.post(f"/cycles/{cycle}/cut-off", Cycle, None)
    return cycle


async def finish(desk: Desk, cycle: str, tmp_path: Path) -> tuple[set[tuple[str, str]], dict[tuple[str, str], str]]:
    """Wait until a cycle is final, have its export verified; return what settled, and what was carried over and why."""
    await desk.until(cycle, "final")
    export = await desk.alice.request("GET", f"{desk.town.coordinator.url}/cycles/{cycle}/export", audience=COORDINATOR)
    verify_bytes(export.content, Anchor.read(tmp_path / "anchor.json"))
    envelope = await desk.get(f"/cycles/{cycle}/result", Envelope)
    result = msgspec.json.decode(envelope.payload_bytes(), type=NettingResult)
    carried = {pair.pair: str(pair.reason) for pair in result.carried_over}
    return {pair.pair for pair in result.statements}, carried


async def books_are_right(desk: Desk) -> None:
    for bank in desk.town.banks.values():
        report = await fsck(bank.node.database_url, bank.bic)
        assert [(check.name, check.difference) for check in report.checks if not check.ok] == []


@pytest.fixture
def carlo_lies(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """CARLO cuts ALPHA's lane where it hasn't come to, as long as the list isn't empty, and signs that itself."""
    lying = [True]
    honest = FixCut.decide

    def decide(self: FixCut, books: Books) -> CycleCut:
        if books.bank != CARLO or not lying:
            return honest(self, books)
        lanes = []
        for key, lane in sorted(books.lanes.items()):
            if key.receiver == CARLO and lane.last_sequence:
                more = OVERSTATED_BY if key.sender == ALPHA else 0
                lanes.append(LaneCut(sender=key.sender, currency=key.currency, last_sequence=lane.last_sequence + more))
        cut = CycleCut(cycle=self.cycle, receiver=CARLO, lanes=tuple(lanes))
        books.record(events.cut_subject(self.cycle), 1, "cycle.cut", events.CutFixed(cycle=self.cycle, cut=cut))
        return cut

    monkeypatch.setattr(FixCut, "decide", decide)
    return lying


async def test_an_overstated_cut_costs_its_own_pair(desk: Desk, tmp_path: Path, carlo_lies: list[bool]) -> None:
    lied_about = (ALPHA, CARLO)
    for amount in (1_000, 700):  # in the cycle, and in the next one
        await everybody_pays(desk, amount)
        cycle = await cut_off(desk)
        agreed, carried = await finish(desk, cycle, tmp_path)
        assert carried == {lied_about: "cut_contested"}
        assert agreed == PAIRS - {lied_about}
        # Both banks are named to those who look, neither as the guilty one.
        (notice,) = (await desk.get(f"/cycles/{cycle}/breaks", Breaks)).breaks
        assert (notice.kind, notice.pair, notice.missing_from, notice.resolved) == (
            "contested", lied_about, ALPHA, False,
        )  # fmt: skip
        assert notice.cut_at == (notice.known_through or 0) + OVERSTATED_BY
        assert (await desk.get(f"/cycles/{cycle}/progress", CycleProgress)).breaks == (notice,)
        seen = (await desk.get("/events", Events, after=0)).events
        said = [event.data for event in seen if (event.type, event.cycle) == ("cycle.cut_contested", cycle)]
        assert [(one["sender"], one["receiver"]) for one in said] == [(ALPHA, CARLO)]
    carlo_lies.clear()
    await pay(desk.town.alpha, desk.town.carlo, 50)
    agreed, carried = await finish(desk, await cut_off(desk), tmp_path)
    assert (agreed, carried) == ({lied_about}, {})
    await until(lambda: desk.town.alpha.balance(CARLO, kind="due_to"), 0)
    await until(lambda: desk.town.carlo.balance(ALPHA, kind="due_from"), 0)
    await books_are_right(desk)


class Doors:
    """A layer around a bank that loses its answers to other banks, or is dead altogether."""

    def __init__(self, bank: RunningBank) -> None:
        self.losing = self.dead = False
        self._inner: ASGIApp = bank.app.asgi_handler
        bank.app.asgi_handler = self  # type: ignore[assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (self.dead or self.losing):
            await self._inner(scope, receive, send)
            return

        async def nowhere(message: object) -> None:
            pass

        if not self.dead and "/federation/" in scope["path"]:
            await self._inner(scope, receive, nowhere)  # type: ignore[arg-type]
        elif not self.dead:
            await self._inner(scope, receive, send)
            return
        raise ConnectionError("the bank is gone")


async def test_a_bank_that_dies_after_its_cut_costs_its_own_pairs(desk: Desk, tmp_path: Path) -> None:
    town = desk.town
    alpha, bravo = town.alpha, town.bravo
    await everybody_pays(desk, 1_000)
    doors = Doors(bravo)
    doors.losing = True
    lost = order(250)
    assert (await alpha.send("POST", "/payments", lost)).status_code == 201
    await bravo.until(lost["id"], "accepted")
    # As long as one cut is missing nobody attests.
    await town.carlo.node.follower.stop()
    cycle = await cut_off(desk)

    async def delivered() -> bool:
        progress = await desk.get(f"/cycles/{cycle}/progress", CycleProgress)
        return all(part.cut_at is not None for part in progress.participants if part.participant == BRAVO)

    await until(delivered, True)
    doors.dead = True
    await bravo.node.follower.stop()
    town.carlo.node.follower.start()
    agreed, carried = await finish(desk, cycle, tmp_path)
    assert agreed == {pair for pair in PAIRS if BRAVO not in pair}
    assert carried[ALPHA, BRAVO] == "cut_contested"
    assert {reason for pair, reason in carried.items() if pair != (ALPHA, BRAVO)} == {"not_attested"}
    # It stays away, and the others go on.
    await everybody_pays(desk, 70, without=BRAVO)
    agreed, carried = await finish(desk, await cut_off(desk), tmp_path)
    assert agreed == {pair for pair in PAIRS if BRAVO not in pair}
    assert set(carried.values()) == {"cut_missing"}
    # It is back, and everything settles that it had taken in.
    doors.dead = doors.losing = False
    bravo.node.follower.start()
    await alpha.until(lost["id"], "posted", "settled")
    agreed, carried = await finish(desk, await cut_off(desk), tmp_path)
    assert (agreed, carried) == ({pair for pair in PAIRS if BRAVO in pair}, {})
    await until(lambda: bravo.balance(AGENT, kind="nostro"), await _nostro(bravo, 1_250 - 2_000))
    await asyncio.gather(*(until(lambda b=b: b.balance(BRAVO, kind="due_to"), 0) for b in (alpha, town.carlo)))
    await books_are_right(desk)


async def _nostro(bank: RunningBank, moved: int) -> int:
    """Return what a bank's nostro is after a movement: nobody funded it."""
    return moved
