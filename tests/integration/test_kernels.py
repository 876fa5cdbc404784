"""A cycle that has to search for what settles waits for the compiler in another process, without holding anything."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from clearing_house import COORDINATOR, Books, Clock, House, rulebook
from sqlalchemy import text

from compliance.cycle.states import State
from gateway.agent.ledger import Ledger
from gateway.coordinator.app import own_application
from gateway.coordinator.cycles.kernels import Kernels, may_be_needed
from gateway.coordinator.cycles.steps import Steps
from gateway.coordinator.cycles.tables import cycles
from gateway.coordinator.registry.registry import Registry
from gateway.federation.http.client import MemberIdentity
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import asyncpg_pool, create_engine, transaction
from netting.liquidity.branch import INTERPRETED_MAX

BANKS = tuple(f"BK{letter}AXX{letter}0" for letter in "ABCDEFGHIJKL")
WAITS_FOR = "import sys, time, pathlib\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"


def python(script: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-c", script, *map(str, arguments))


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def never() -> bool:
    return False


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(python("pass"), id="it compiles"),
        pytest.param(python("raise SystemExit(3)"), id="it fails"),
        pytest.param(("/no/such/python",), id="it can't be started"),
    ],
)
async def test_however_compiling_ends_nothing_waits_for_it_any_longer(command: tuple[str, ...]) -> None:
    kernels = Kernels(command, never)
    assert not kernels.ready
    kernels.start()
    assert not kernels.ready
    await until(lambda: kernels.ready)


async def test_what_is_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    kernels = Kernels(python("open(__import__('sys').argv[1], 'w')", tmp_path / "began"), lambda: True)
    kernels.start()
    await kernels.stop()
    assert kernels.ready
    assert not (tmp_path / "began").exists()


async def test_stopping_ends_the_compiler(tmp_path: Path) -> None:
    script = "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)"
    kernels = Kernels(python(script, tmp_path / "pid"), never)
    kernels.start()
    await until(lambda: written(tmp_path / "pid"))
    await kernels.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(int(written(tmp_path / "pid")), 0)


@pytest.mark.parametrize(("banks", "needed"), [(0, False), (6, False), (11, False), (12, True), (200, True)])
def test_few_banks_never_need_them(banks: int, needed: bool) -> None:
    assert may_be_needed(banks) is needed


@pytest.fixture
async def house(new_database: Any, tmp_path: Path) -> AsyncIterator[House]:
    """A clearing house with so many banks that the pairs of all of them are netted by compiled kernels."""
    rules = rulebook(currencies=("EUR",))
    engine = create_engine(await new_database("gateway.coordinator"))
    pool = await asyncpg_pool(await new_database("gateway.agent"))
    identity = MemberIdentity(COORDINATOR, tmp_path / COORDINATOR)
    settings = NodeSettings(bic=COORDINATOR, url="http://127.0.0.1:9", port=9, data_dir=tmp_path / COORDINATOR)
    registry = Registry(engine, signer=identity.sign, issuer=settings.url, rulebook=rules)
    await registry.found(own_application(settings, identity, "Clearing house"))
    house = House(engine, registry, Clock(), Books(Ledger(pool, "CNCDXXS0")), identity, rules, tmp_path)
    yield house
    await engine.dispose()
    await pool.close()


async def matched(house: House, *, cap: int | None) -> str:
    """Return a cycle that is netted next: every bank owes every later one, and the first has the cap, if any."""
    for bank in BANKS:
        await house.admit(bank, caps_minor={"EUR": cap} if cap is not None and bank == BANKS[0] else None)
    for number, (low, high) in enumerate(combinations(BANKS, 2), start=1):
        house.pay(low, high, "EUR", 1_000 + number)
    service = house.service()
    cycle = await house.cut_off(service, BANKS)
    await house.attest(service, cycle, BANKS)
    assert await service.steps.step(cycle)
    assert await state_of(house, cycle) is State.MATCHED
    return cycle


async def state_of(house: House, cycle: str) -> State:
    async with transaction(house.engine) as conn:
        return (await cycles.find(conn, cycle)).state


def steps(house: House, kernels: Kernels) -> Steps:
    return Steps(
        house.engine, bic=COORDINATOR, signer=house.signer.sign, agent=house.books, now=house.clock, kernels=kernels
    )


async def test_a_cycle_waits_for_the_compiler_and_is_netted_then(house: House, tmp_path: Path) -> None:
    assert len(list(combinations(BANKS, 2))) > INTERPRETED_MAX
    cycle = await matched(house, cap=5_000)
    kernels = Kernels(python(WAITS_FOR, tmp_path / "compiled"), never)
    moving = steps(house, kernels)
    for _ in range(2):
        assert not await moving.step(cycle)
    async with transaction(house.engine) as conn:
        free = await conn.execute(text("SELECT id FROM cycles FOR UPDATE NOWAIT"))
        assert cycle in free.scalars()
    (tmp_path / "compiled").touch()
    await until(lambda: kernels.ready)
    assert await moving.step(cycle)
    assert await state_of(house, cycle) is State.NETTED


@pytest.mark.parametrize("cap", [pytest.param(None, id="no cap"), pytest.param(10**9, id="a cap that nobody reaches")])
async def test_where_no_limit_binds_nothing_is_waited_for(house: House, cap: int | None) -> None:
    cycle = await matched(house, cap=cap)
    kernels = Kernels(python("import time; time.sleep(600)"), never)
    assert await steps(house, kernels).step(cycle)
    assert await state_of(house, cycle) is State.NETTED
    assert not kernels.ready
