"""Cycles of so many pairs that nothing of them may be written, read or computed at once: here the limits are small."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from clearing_house import ALFA, NewHouse, anchor_of, events_of, result_of, trade
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from compliance.crypto import canonical
from compliance.cycle.states import State
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.tables import cycles, pairs, results, settlements, submissions
from gateway.federation.storage.database import computed, create_engine, transaction
from tests.conftest import NewDatabase

LIMIT_S = 2.0


async def test_a_transaction_stays_open_while_its_process_computes(new_database: NewDatabase) -> None:
    url = await new_database("gateway.coordinator")
    engine = create_engine(url, idle_in_transaction_seconds=LIMIT_S)

    def compute() -> int:
        ends_at = time.monotonic() + 2 * LIMIT_S
        while time.monotonic() < ends_at:
            sum(range(1_000))
        return 7

    try:
        async with transaction(engine) as conn:
            before = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            assert await computed(conn, compute) == 7
            assert (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one() == before
    finally:
        await engine.dispose()


async def test_a_long_result_is_kept_in_parts_and_read_as_it_was_signed(
    new_house: NewHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PART_BYTES", 100)
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    # The settlement agent gets it whole, and settles.
    assert await service.advance(cycle) is State.FINAL
    kept = (await service.views.cycle(cycle)).result
    assert kept is not None
    envelope = await service.views.result(cycle)
    assert canonical.digest(envelope.payload_bytes()) == kept
    assert (await result_of(service, cycle)).cycle == cycle
    verify(await service.export(cycle), anchor_of(house))
    async with transaction(house.engine) as conn:
        query = text("SELECT octet_length(part) FROM result_parts ORDER BY number")
        sizes = list((await conn.execute(query)).scalars())
        assert await results.size(conn, kept) == sum(sizes) == len(envelope.payload_bytes())
        assert len(sizes) > 5
        assert set(sizes[:-1]) == {100}
    for change in ("DELETE FROM result_parts", "UPDATE result_parts SET part = ''"):
        with pytest.raises(DBAPIError):
            async with transaction(house.engine) as conn:
                await conn.execute(text(change))


async def test_a_result_that_no_order_can_hold_is_named(new_house: NewHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PART_BYTES", 100)
    house = await new_house()
    trade(house)
    service = house.service(order_bytes_max=500)
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.APPROVED
    async with transaction(house.engine) as conn:
        waiting = await cycles.find(conn, cycle)
    assert waiting.failure_reason == FailureReason.MESSAGE_REFUSED
    assert house.books.asked == []
    # Nobody is instructed with what can't be settled, and the cycle may be abandoned.
    assert await service.delivery.follow(cycle_id=cycle, acknowledged=None) == []
    house.clock.pass_s(3600)
    assert await house.service().advance(cycle) is State.FINAL, "an agent that takes more"


async def test_rows_are_written_some_at_a_time(new_house: NewHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limit in ((pairs, "SEVERAL"), (submissions, "SEVERAL"), (settlements, "AT_ONCE_BYTES")):
        monkeypatch.setattr(module, limit, 1)
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    # Another process, which has to read what the first one wrote.
    other = house.service()
    assert await other.advance(cycle) is State.FINAL
    assert "cycle.final" in await events_of(house, cycle)
    result = await result_of(other, cycle)
    assert all((a.currency, a.pair) < (b.currency, b.pair) for a, b in pairwise(result.statements))
    assert {i.participant for i in await other.delivery.follow(cycle_id=cycle, acknowledged=None)} >= {ALFA}
    verify(await other.export(cycle), anchor_of(house))
