"""A cycle that has to search for what settles waits for the compiler in another process, without holding anything."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from clearing_house import BANKS as FOUR
from clearing_house import COORDINATOR, House, NewHouse, rulebook
from sqlalchemy import text

from compliance.cycle.states import State
from gateway.coordinator.cycles.books import Books
from gateway.coordinator.cycles.kernels import Kernels, may_be_needed
from gateway.coordinator.cycles.steps import Steps
from gateway.coordinator.cycles.tables import cycles
from gateway.federation.settings import ORDER_BYTES_MAX
from gateway.federation.storage.database import transaction
from netting.liquidity.branch import INTERPRETED_MAX

MORE = tuple(f"BK{letter}AXX{letter}0" for letter in "ABCDEFGH")
BANKS = (*FOUR, *MORE)
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


async def matched(new_house: NewHouse, *, cap: int | None) -> tuple[House, str]:
    """Return a cycle that is netted next: every bank owes every later one, and the first has the cap, if any."""
    house = await new_house(rulebook(currencies=("EUR",)), caps={} if cap is None else {BANKS[0]: {"EUR": cap}})
    for bank in MORE:
        await house.admit(bank)
    for number, (low, high) in enumerate(combinations(BANKS, 2), start=1):
        house.pay(low, high, "EUR", 1_000 + number)
    service = house.service()
    cycle = await house.cut_off(service, BANKS)
    await house.attest(service, cycle, BANKS)
    assert await service.steps.step(cycle)
    assert await state_of(house, cycle) is State.MATCHED
    return house, cycle


async def state_of(house: House, cycle: str) -> State:
    async with transaction(house.engine) as conn:
        return (await cycles.find(conn, cycle)).state


def steps(house: House, kernels: Kernels) -> Steps:
    return Steps(
        house.engine,
        bic=COORDINATOR,
        signer=house.signer.sign,
        agent=house.books,
        now=house.clock,
        kernels=kernels,
        books=Books(),
        order_bytes_max=ORDER_BYTES_MAX,
    )


async def test_a_cycle_waits_for_the_compiler_and_is_netted_then(new_house: NewHouse, tmp_path: Path) -> None:
    assert len(list(combinations(BANKS, 2))) > INTERPRETED_MAX
    house, cycle = await matched(new_house, cap=5_000)
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


async def test_currencies_are_counted_one_by_one(new_house: NewHouse) -> None:
    """As the engine does: 36 pairs in each of two currencies are chosen from without any compiler."""
    banks = BANKS[:9]
    house = await new_house(rulebook(currencies=("EUR", "JPY")), caps={BANKS[0]: {"EUR": 5_000}})
    for bank in banks[4:]:
        await house.admit(bank)
    for number, (low, high) in enumerate(combinations(banks, 2), start=1):
        house.pay(low, high, "EUR", 1_000 + number)
        house.pay(low, high, "JPY", 1_000 + number)
    service = house.service()
    cycle = await house.cut_off(service, banks)
    await house.attest(service, cycle, banks)
    assert await service.steps.step(cycle)
    assert not may_be_needed(len(banks))
    assert await steps(house, Kernels(python("import time; time.sleep(600)"), never)).step(cycle)
    assert await state_of(house, cycle) is State.NETTED


async def test_a_compiler_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.coordinator.cycles.kernels.COMPILING_SECONDS_MAX", 0.1)
    kernels = Kernels(python("import time; time.sleep(600)"), never)
    kernels.start()
    await until(lambda: kernels.ready)


@pytest.mark.parametrize("cap", [pytest.param(None, id="no cap"), pytest.param(10**9, id="a cap that nobody reaches")])
async def test_where_no_limit_binds_nothing_is_waited_for(new_house: NewHouse, cap: int | None) -> None:
    house, cycle = await matched(new_house, cap=cap)
    kernels = Kernels(python("import time; time.sleep(600)"), never)
    assert await steps(house, kernels).step(cycle)
    assert await state_of(house, cycle) is State.NETTED
    assert not kernels.ready
