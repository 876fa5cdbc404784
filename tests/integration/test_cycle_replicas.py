"""Crashes and replicas: a cycle goes on where it stood, and takes each step once."""

from __future__ import annotations

import asyncio

import pytest
from clearing_house import (
    BANKS,
    Books,
    House,
    NewHouse,
    events_of,
    refused,
    trade,
    until,
)

from compliance.cycle.states import State
from gateway.coordinator.cycles.driver import Driver
from gateway.coordinator.cycles.settlement import Reply
from gateway.federation.messages.cycles import CycleState
from gateway.federation.messages.settlement import SettlementOrder


async def test_a_crash_between_any_two_steps_changes_nothing(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    cycle = await house.cut_off(house.service())
    await house.attest(house.service(), cycle)
    states: list[CycleState] = []
    # Every step is taken by a replica that has never seen the cycle.
    while await house.service().steps.step(cycle):
        states.append((await house.service().views.cycle(cycle)).message().state)
    assert states == ["matched", "netted", "approved", "instructed", "settled", "final"]
    assert len(house.books.asked) == 1
    assert sorted((await house.books.balances()).values()) == sorted(
        10**9 + net for net in (-1222, -1000, 2999, -777, -250, -51, 301, 0)
    )


async def test_an_answer_lost_in_a_crash_is_asked_for_again_and_settles_once(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    while (await service.views.cycle(cycle)).state is not State.INSTRUCTED:
        await service.steps.step(cycle)

    class CrashError(Exception):
        pass

    class LosesTheAnswer(Books):
        async def settle(self, agent: str, message_id: str, order: SettlementOrder) -> Reply:
            await super().settle(agent, message_id, order)
            raise CrashError

    dying = House(
        **{
            **vars(house),
            "books": LosesTheAnswer(house.books.ledger, coordinator=house.books.coordinator, signer=house.books.signer),
        }
    ).service()
    with pytest.raises(CrashError):
        await dying.steps.step(cycle)
    balances = await house.books.balances()
    assert await house.service().advance(cycle) is State.FINAL
    assert await house.books.balances() == balances


async def test_two_replicas_take_each_step_once(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    cycle = await house.cut_off(house.service())
    await house.attest(house.service(), cycle)
    replicas = [house.service() for _ in range(4)]
    assert set(await asyncio.gather(*(replica.advance(cycle) for replica in replicas))) == {State.FINAL}
    kinds = await events_of(house, cycle)
    assert len(kinds) == len(set(kinds))
    following = (await replicas[0].views.current()).id
    states = await asyncio.gather(*(replica.cut_off(following) for replica in replicas))
    assert {one.state for one in states} == {State.CUT_OFF}
    assert (await events_of(house, following)).count("cycle.cut_off") == 1


async def test_replicas_open_a_slot_once(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    day = house.clock().date()
    opened = await asyncio.gather(*(house.service().open_slot(day, 1) for _ in range(4)))
    assert {one.id for one in opened if one} == {f"{day}-01"}
    assert (await events_of(house, f"{day}-01")) == ["cycle.opened"]
    assert await refused(service.open_slot(day, 2)) == "cycle_open_already"


async def test_the_driver_moves_a_cycle_as_soon_as_the_last_bank_has_attested(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    driver = Driver(service, look_every_s=60)
    driver.start()
    try:
        cycle = (await service.open_on_demand(None, by="alice")).id
        await service.cut_off(cycle)
        for bank in BANKS:
            await service.cuts.submit(bank, cycle, house.cut(cycle, bank))
        await until(service, cycle, State.ATTESTING)
        await house.attest(service, cycle)
        await until(service, cycle, State.FINAL)
    finally:
        await driver.stop()
