"""What a cycle's outcome reads and writes: everything that grows with the pairs of banks once, however many steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from clearing_house import ALFA, BETA, NewHouse, result_of, trade
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.result import InconsistentInputError
from compliance.cycle.states import State
from gateway.coordinator.cycles.result_positions import ResultPositions
from gateway.coordinator.cycles.tables import results
from gateway.federation.storage.database import transaction


@contextmanager
def counted(engine: AsyncEngine, **wanted: str) -> Iterator[Counter[str]]:
    """Count the statements that hold each of some texts."""
    counts: Counter[str] = Counter()

    def before(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        counts.update(name for name, part in wanted.items() if part in statement)

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    try:
        yield counts
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", before)


WANTED = {
    "positions": "p.back_root",
    "result": "SELECT envelope::text FROM results",
    "history": "AS total",
}


async def test_positions_and_result_are_read_once_from_netting_to_finality(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    with counted(house.engine, **WANTED) as counts:
        assert await service.advance(cycle) is State.FINAL
        assert {position.participant for position in (await service.views.positions(cycle, None)).positions} >= {ALFA}
    # The result goes to the settlement agent as it was signed; nobody else asks for it.
    assert counts == Counter(positions=1, result=1)

    for replica, histories in ((service, 0), (house.service(), 2)):
        settled = {lane: len(payments) for lane, payments in house.lanes.items()}
        house.pay(ALFA, BETA, "EUR", 700)
        cycle = await house.cut_off(replica)
        await house.attest(replica, cycle, settled=settled)
        with counted(house.engine, **WANTED) as counts:
            assert await replica.advance(cycle) is State.FINAL
        assert counts == Counter(positions=1, result=1, history=histories), "who settled a cycle needn't read it"


async def test_what_is_kept_beside_a_result_is_what_was_signed(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.advance(cycle)
    document = await result_of(service, cycle)
    async with transaction(house.engine) as conn:
        kept = await results.find(conn, cycle)
        assert kept is not None
        assert (kept.edition, kept.currencies) == (document.edition, document.results)
        from_tables = await ResultPositions().of(conn, cycle, kept.sha256)
    assert [digest for digest, _ in from_tables] == [pair.sha256 for pair in document.statements]


async def test_nothing_is_signed_where_the_pairs_do_not_come_to_the_result(new_house: NewHouse) -> None:
    """The tables name other pairs than the result: whoever changed them gets no instruction."""
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    while (await service.views.cycle(cycle)).state is not State.APPROVED:
        await service.steps.step(cycle)
    async with transaction(house.engine) as conn:
        await conn.execute(
            text("UPDATE cycle_pairs SET carried = 'break' WHERE cycle = :cycle AND currency = 'JPY'"), {"cycle": cycle}
        )
    with pytest.raises(InconsistentInputError):
        await house.service().advance(cycle)
    assert await service.delivery.instructions(cycle, None) == []
