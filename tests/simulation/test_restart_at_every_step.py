"""Every process is killed at every step of a cycle and started again; the cycle comes to what it would have anyway.

Each case is one cycle of one federation. A gate (`gates.py`) holds a process in the middle of a step, before that
step is durable; there it is killed. What the cycle must come to is known beforehand, to the byte (`oracle.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

VICTIM, PEER = "ALDRXXA0", "BRCHXXB0"


@dataclass(frozen=True)
class Kill:
    """Whom to kill when somebody is about to write a row: `gate` is "<institution>: <table>.<value>"."""

    when: str
    gate: str
    victims: tuple[str, ...]

    @property
    def place(self) -> str:
        return self.gate.partition(": ")[0]

    @property
    def row(self) -> str:
        return self.gate.partition(": ")[2]


def bank(when: str, gate: str) -> Kill:
    return Kill(f"bank {when}", gate, (VICTIM,))


def coordinator(when: str, gate: str) -> Kill:
    return Kill(f"coordinator {when}", gate, ("coordinator",))


def agent(when: str, gate: str, *others: str) -> Kill:
    return Kill(f"agent {when}", gate, ("agent", *others))


KILLS = (
    # A bank, with payments under way: as their sender, as their receiver, and as the one who is to hear the answer.
    bank("before an order is durable", f"{VICTIM}: event.payment.reserved"),
    bank("before an incoming payment is durable", f"{VICTIM}: event.payment.accepted"),
    bank("while the other one accepts", f"{PEER}: event.payment.accepted"),
    bank("with the answer in hand", f"{VICTIM}: event.payment.posted"),
    # A bank, in the cycle.
    bank("before its cut is durable", f"{VICTIM}: event.cycle.cut"),
    bank("before its cut is taken in", f"coordinator: cuts.{VICTIM}"),
    bank("before its statements are durable", f"{VICTIM}: event.cycle.attested"),
    bank("before its statements are taken in", f"coordinator: statements.{VICTIM}"),
    bank("when all pairs agree", "coordinator: cycles.matched"),
    bank("before approval", "coordinator: proposals.approve"),
    bank("before an instruction is kept", f"{VICTIM}: event.cycle.instructed"),
    bank("before its receipt is taken in", f"coordinator: instructions.{VICTIM}"),
    bank("before finality", "coordinator: cycles.final"),
    bank("before its settlement leg is durable", f"{VICTIM}: event.cycle.settled"),
    # The coordinator, before each of its steps is durable.
    coordinator("while the banks pay", f"{VICTIM}: event.payment.reserved"),
    coordinator("before the cut-off", "coordinator: cycles.cut_off"),
    coordinator("while cuts come in", f"coordinator: cuts.{VICTIM}"),
    coordinator("with all cuts in", "coordinator: cycles.attesting"),
    coordinator("while statements come in", f"coordinator: statements.{VICTIM}"),
    coordinator("with all pairs agreed", "coordinator: cycles.matched"),
    coordinator("with the result computed", "coordinator: cycles.netted"),
    coordinator("before a proposal is durable", "coordinator: proposals.approve"),
    coordinator("before approval is durable", "coordinator: cycles.approved"),
    coordinator("with instructions signed", "coordinator: cycles.instructed"),
    coordinator("before the agent has settled", "agent: entry.settlement"),
    coordinator("after the agent has settled, before it knows", "coordinator: cycles.settled"),
    coordinator("before finality is durable", "coordinator: cycles.final"),
    coordinator("before a bank posts", f"{VICTIM}: event.cycle.settled"),
    # The agent.
    agent("before approval", "coordinator: cycles.approved"),
    agent("before it is asked", "coordinator: cycles.instructed"),
    agent("before its postings are durable", "agent: entry.settlement"),
    agent("before its answer is durable", "agent: answer.ACSC"),
    agent("and coordinator, settled and unheard", "coordinator: cycles.settled", "coordinator"),
)


async def test_an_undisturbed_cycle(world: World) -> None:
    """What the others are compared with is what happens when nothing happens."""
    await world.run_cycle(0)
    await _proven(world)


@pytest.mark.parametrize(("number", "kill"), enumerate(KILLS, start=1), ids=[kill.when for kill in KILLS])
async def test_restart_at_every_step(world: World, number: int, kill: Kill) -> None:
    async with world.gate(kill.place, kill.row) as gate:
        cycle = asyncio.create_task(world.run_cycle(number))
        await gate.reached_by(cycle)
        await world.kill(*kill.victims)
        if kill.place in kill.victims:
            await gate.roll_back()
    await world.restart(*kill.victims)
    await cycle


@pytest.mark.parametrize(
    ("number", "row", "reason"),
    [(len(KILLS) + 1, "event.cycle.cut", "cut_missing"), (len(KILLS) + 3, "event.cycle.attested", "not_attested")],
)
async def test_a_bank_that_stays_away_is_carried_over(world: World, number: int, row: str, reason: str) -> None:
    """Killed before its cut, or before it attests, and back when the cycle is over: the next one takes it in."""
    rows = world.federation.plan.cycles[number]
    carried = {key: reason for key in world.oracle.pairs_with(rows) if VICTIM in key}
    async with world.gate(VICTIM, row) as gate:
        cycle = asyncio.create_task(world.run_cycle(number, carried, away=VICTIM))
        await gate.reached_by(cycle)
        await world.kill(VICTIM)
        await gate.roll_back()
    await world.let_deadline_pass()
    await cycle
    await world.restart(VICTIM)
    await world.run_cycle(number + 1)


async def test_everything_is_where_it_belongs(world: World) -> None:
    """After all of it: no payment lost or doubled, money conserved, every ledger proven from its journal."""
    await _proven(world)


async def _proven(world: World) -> None:
    await world.check_lanes()
    await world.check_money()
    await world.check_books()
