"""One federation for all simulations that can share it: three banks, a coordinator and an agent as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from coordinators import TwoCoordinators
from invented import plan_of
from kills import BANKS
from world import World, running

CYCLES = 70
PER_LANE = 2
SEED = 1


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world() -> AsyncIterator[World]:
    """The shared federation. Every cycle of its plan is used once; what a test leaves open, it finishes itself."""
    async with running(plan_of(BANKS, cycles=CYCLES, per_lane=PER_LANE, seed=SEED), TwoCoordinators) as shared:
        yield shared
