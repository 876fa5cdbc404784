"""Every process is killed at every step of a cycle; the cycle comes to what it would have anyway.

Each case is one cycle of one federation. A gate (`gates.py`) holds a process in the middle of a step, before that
step is durable; there it is killed, and started again; or it stays dead, and there is a second coordinator to go on.
What the cycle must come to is known beforehand, to the byte (`oracle.py`).
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from coordinators import TwoCoordinators
from kills import KILLS, TAKEN_OVER, VICTIM, Kill
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Two cycles' payments for each case, after those of the cases before and of `test_secrecy.py`.
FIRST_TAKEN_OVER = 40


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(world: World) -> TwoCoordinators:
    """The same federation, from now on with two coordinators."""
    federation = world.federation
    assert isinstance(federation, TwoCoordinators)
    await federation.start_replicas()
    return federation


async def test_an_undisturbed_cycle(world: World) -> None:
    """What the others are compared with is what happens when nothing happens."""
    await world.run_cycle(0)
    await world.prove()


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


@pytest.mark.parametrize(
    ("number", "kill", "turn"),
    [(FIRST_TAKEN_OVER + 2 * case, kill, turn) for case, (kill, turn) in enumerate(TAKEN_OVER)],
    ids=[kill.when if turn is None else f"{kill.when}, {turn}" for kill, turn in TAKEN_OVER],
)
async def test_another_coordinator_ends_the_cycle(
    world: World, pair: TwoCoordinators, number: int, kill: Kill, turn: int | None
) -> None:
    """The one that takes the step stays dead until the cycle is final, and payments go on; then it is started again."""
    async with world.gate(kill.place, kill.row) as gate:
        cycle = asyncio.create_task(world.run_cycle(number, later=world.federation.plan.cycles[number + 1]))
        await gate.reached_by(cycle)
        dead = await pair.coordinator_at(gate) if turn is None else pair.coordinators[turn]
        await asyncio.to_thread(dead.kill)
        if turn is None:
            await gate.roll_back()
    await cycle
    assert not dead.running
    await pair.start_coordinators()


async def test_everything_is_where_it_belongs(world: World) -> None:
    """After all of it: no payment lost or doubled, money conserved, every ledger proven from its journal."""
    await world.prove()
