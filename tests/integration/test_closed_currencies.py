"""A cycle nets the currencies that settle on its value date; what is closed waits for a later one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from clearing_house import ALFA, BANKS, BETA, House, NewHouse, anchor_of, refused, result_of, rulebook, trade

from compliance.cycle.states import State
from compliance.iso20022 import read_request
from compliance.statements import Act, ActKind
from compliance.verifier.verify import verify_bytes
from gateway.coordinator import clock
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.registry import closed_days
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.messages.proposals import ActProposal, ProposalView
from gateway.federation.storage.database import transaction

LABOUR_THANKSGIVING = date(2026, 11, 23)  # BOJ-NET is closed, TARGET isn't
OPEN = date(2026, 11, 24)


def rules(**changes: Any) -> Rulebook:
    """Euros by TARGET and yen by BOJ-NET."""
    return rulebook(calendar="any_open", settlement_systems={"EUR": "TARGET", "JPY": "BOJ-NET"}, **changes)


def at(house: House, day: date, hour: int = 12) -> None:
    house.clock.now = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


async def late_one(house: House, service: CycleService) -> None:
    """End the cycle that was left open on the day before: its value date is over, and it takes nothing in."""
    late = (await service.views.current()).id
    await service.cut_off(late)
    assert set((await service.views.cycle(late)).closed.values()) == {"the value date is over"}
    kept, house.lanes = house.lanes, type(house.lanes)(list)
    for bank in BANKS:
        await service.cuts.submit(bank, late, house.cut(late, bank))
    await service.advance(late)
    await house.attest(service, late)
    assert await service.advance(late) is State.FINAL
    house.lanes = kept


async def test_what_is_closed_on_the_value_date_is_not_cut_and_settles_in_the_next_cycle(new_house: NewHouse) -> None:
    house = await new_house(rules())
    trade(house)
    at(house, LABOUR_THANKSGIVING)
    service = house.service()
    cycle = (await service.open_on_demand(None, by="alice")).id
    await service.cut_off(cycle)
    shown = (await service.views.cycle(cycle)).message()
    assert (shown.currencies, shown.closed) == (("EUR",), {"JPY": "BOJ-NET: Labor Thanksgiving Day"})

    kept = dict(house.lanes)
    house.lanes = type(house.lanes)(list, {lane: paid for lane, paid in kept.items() if lane[2] == "EUR"})
    for bank in BANKS:
        await service.cuts.submit(bank, cycle, house.cut(cycle, bank))
    await service.advance(cycle)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    result = await result_of(service, cycle)
    assert ([of.currency for of in result.results], result.carried_over) == (["EUR"], ())
    report = verify_bytes(await service.export(cycle), anchor_of(house))
    assert any("JPY (BOJ-NET: Labor Thanksgiving Day)" in said for said in report.unproven)

    at(house, OPEN)
    await late_one(house, service)
    settled = {lane: len(paid) for lane, paid in house.lanes.items()}
    house.lanes = type(house.lanes)(list, kept)
    following = await house.cut_off(service)
    await house.attest(service, following, settled=settled)
    assert await service.advance(following) is State.FINAL
    second = {of.currency: of.gross_minor for of in (await result_of(service, following)).results}
    assert second["JPY"] == "551"


async def test_a_cut_of_a_closed_currency_is_refused(new_house: NewHouse) -> None:
    house = await new_house(rules())
    house.pay(ALFA, BETA, "JPY", 100)
    at(house, LABOUR_THANKSGIVING)
    service = house.service()
    cycle = (await service.open_on_demand(None, by="alice")).id
    await service.cut_off(cycle)
    assert await refused(service.cuts.submit(BETA, cycle, house.cut(cycle, BETA))) == "wrong_currency"


async def test_nothing_settles_before_its_value_date(new_house: NewHouse) -> None:
    house = await new_house(rules(time_zone="Asia/Tokyo"))
    trade(house)
    at(house, LABOUR_THANKSGIVING)
    service = house.service()
    cycle = (await service.open_on_demand(OPEN, by="alice")).id
    await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.APPROVED
    assert house.books.asked == []
    house.clock.now = datetime(2026, 11, 23, 15, 0, 59, tzinfo=UTC)  # a minute into the day, by Tokyo's clock
    assert await service.advance(cycle) is State.APPROVED
    house.clock.pass_s(1)
    assert await service.advance(cycle) is State.FINAL
    assert read_request(house.books.asked[0]).value_date == "2026-11-24"
    verify_bytes(await service.export(cycle), anchor_of(house))


async def test_what_comes_after_its_value_date_is_refused_by_the_agent_and_settles_with_the_next_cycle(
    new_house: NewHouse,
) -> None:
    house = await new_house(rules())
    trade(house)
    at(house, OPEN, 23)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    at(house, OPEN + timedelta(days=1), 1)
    assert await service.advance(cycle) is State.HELD
    await house.decide(service, cycle, "abandon")
    await late_one(house, service)
    following = await house.cut_off(service)
    await house.attest(service, following)
    assert await service.advance(following) is State.FINAL
    assert len(house.books.asked) == 2


# --- what operators declare -----------------------------------------------------------------------------------


def day_act(kind: ActKind, currency: str, day: date | str) -> Act:
    return Act(kind=kind, subject=currency, terms={"day": str(day)})


async def decide(house: House, service: CycleService, act: Act) -> ProposalView:
    """Let alice propose and bob confirm."""
    request: ActProposal = house.deciding("alice").act(act, reason="the king's funeral")
    proposed = await service.approvals.propose_act(request, maker="alice")
    return await house.answer(service, proposed)


def business_day() -> date:
    """Return a day to come, by the registry's clock, on which both currencies settle."""
    days = (clock.now().date() + timedelta(days=n) for n in range(1, 20))
    return next(day for day in days if not rules().days.closed_of(("EUR", "JPY"), day))


async def test_two_operators_declare_a_day_closed_and_take_it_back(new_house: NewHouse) -> None:
    house = await new_house(rules())
    service, day = house.service(), business_day()
    close, reopen = (day_act(kind, "JPY", day) for kind in (ActKind.DAY_CLOSE, ActKind.DAY_REOPEN))
    assert await refused(decide(house, service, reopen)) == "day_open"
    await decide(house, service, close)
    assert await refused(decide(house, service, close)) == "day_closed"
    (found,) = [one for one in (await house.registry.calendar(31)).closed if one.declared is not None]
    assert (found.day, found.currency, found.why) == (str(day), "JPY", "declared closed")
    assert "the king's funeral" in str(found.declared)

    at(house, day)
    cycle = (await service.open_on_demand(None, by="alice")).id
    assert (await service.views.cycle(cycle)).closed == {"JPY": "declared closed"}
    await decide(house, service, reopen)
    await service.cut_off(cycle)
    assert (await service.views.cycle(cycle)).currencies == ("EUR", "JPY")
    # Now a cycle counts on it; and once that is final the day was open.
    assert await refused(decide(house, service, close)) == "day_under_way"
    for bank in BANKS:
        await service.cuts.submit(bank, cycle, house.cut(cycle, bank))
    await service.advance(cycle)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    assert await refused(decide(house, service, close)) == "day_settled"


async def test_one_operator_opens_a_cycle_for_today_or_the_next_day_that_settles(new_house: NewHouse) -> None:
    """A far value date would hold up every cycle after it."""
    house = await new_house(rules())
    at(house, date(2026, 11, 27))  # a Friday
    service = house.service()
    for day in ("2026-11-26", "2026-11-28", "2026-12-01", "2026-12-25"):
        asked = service.open_on_demand(date.fromisoformat(day), by="alice")
        assert await refused(asked) == "value_date_refused", day
    async with transaction(house.engine) as conn:
        for currency in ("EUR", "JPY"):
            await closed_days.close(conn, currency, date(2026, 11, 30), "a day of mourning")
    assert await refused(service.open_on_demand(date(2026, 11, 30), by="alice")) == "value_date_refused"
    assert (await service.open_on_demand(date(2026, 12, 1), by="alice")).value_date == date(2026, 12, 1)


@pytest.mark.parametrize(
    ("currency", "day", "reason"),
    [
        ("EUR", "2020-01-06", "day_under_way"),
        ("EUR", "2027-03-26", "day_closed"),
        ("EUR", "2027-02-30", "act_malformed"),
        ("KWD", "2027-03-24", "currency_unknown"),
        ("euro", "2027-03-24", "act_malformed"),
    ],
)
async def test_declarations_that_are_refused(new_house: NewHouse, currency: str, day: str, reason: str) -> None:
    house = await new_house(rules())
    assert await refused(decide(house, house.service(), day_act(ActKind.DAY_CLOSE, currency, day))) == reason
