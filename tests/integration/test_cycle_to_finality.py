"""Cycles from cut-off to finality, on a real database with real keys, and what follows from one to the next."""

from __future__ import annotations

from pathlib import Path

from clearing_house import (
    ALFA,
    BANKS,
    BETA,
    DELT,
    GAMA,
    NewHouse,
    anchor_of,
    events_of,
    refused,
    result_of,
    trade,
)

from compliance.crypto import dsse
from compliance.cycle.states import State, replay
from compliance.statements import SettlementFinality, SettlementInstruction
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.log import events
from gateway.federation.storage.database import transaction


async def test_four_banks_clear_two_currencies(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    verdicts = await house.attest(service, cycle)
    assert (verdicts[ALFA].stored, verdicts[ALFA].agreed) == (3, 0)
    assert (verdicts[DELT].stored, verdicts[DELT].agreed) == (0, 3)
    assert await service.advance(cycle) is State.FINAL

    result = await result_of(service, cycle)
    assert result.carried_over == ()
    nets = {(p.participant, r.currency): int(p.net_minor) for r in result.results for p in r.positions}
    assert nets == {
        (ALFA, "EUR"): 4_000 + 9_001 + 777 - 15_000,
        (BETA, "EUR"): 15_000 - 4_000 - 12_000,
        (GAMA, "EUR"): 12_000 - 9_001,
        (DELT, "EUR"): -777,
        (GAMA, "JPY"): -250,
        (DELT, "JPY"): 250 - 301,
        (BETA, "JPY"): 301,
    }
    assert {k: v - 10**9 for k, v in (await house.books.balances()).items() if v != 10**9} == nets

    keys = {house.signer.sign.kid: house.signer.sign.verifying_key}
    instructions = [
        dsse.verify(envelope, SettlementInstruction, keys)
        for envelope in await service.delivery.instructions(cycle, None)
    ]
    assert {(one.participant, one.currency): int(one.net_minor) for one in instructions} == nets
    assert all(
        sum(int(line.receives_minor) - int(line.pays_minor) for line in one.lines) == int(one.net_minor)
        for one in instructions
    )
    finality = dsse.verify(await service.views.finality(cycle), SettlementFinality, keys)
    assert finality.result == (await service.views.cycle(cycle)).result
    assert (await events_of(house, cycle))[0] == "cycle.opened"
    assert [kind for kind in await events_of(house, cycle) if kind != "operator.acted"][1:] == [
        f"cycle.{state}"
        for state in ("cut_off", "attesting", "matched", "netted", "approved", "instructed", "settled", "final")
    ]
    async with transaction(house.engine) as conn:
        history = await events.of_cycle(conn, cycle)
    assert replay((event.type, event.data) for event in history) is State.FINAL


async def test_the_next_cycle_goes_on_where_this_one_settled(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    first = await house.cut_off(service)
    await house.attest(service, first)
    assert await service.advance(first) is State.FINAL
    settled = {lane: len(payments) for lane, payments in house.lanes.items()}

    house.pay(ALFA, BETA, "EUR", 700)
    second = await house.cut_off(service)
    assert second != first
    stale = service.attestation.submit_attestation(ALFA, second, house.submission(second, ALFA))
    assert await refused(stale) == "sequence_mismatch"
    await house.attest(service, second, settled=settled)
    assert await service.advance(second) is State.FINAL
    (eur, jpy) = (await result_of(service, second)).results
    assert (eur.gross_minor, jpy.gross_minor) == ("700", "0")


async def test_a_cycle_without_payments_becomes_final(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    assert house.books.asked == []


async def test_the_export_of_a_cycle_verifies_offline(new_house: NewHouse, tmp_path: Path) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.advance(cycle)
    for bank in BANKS:
        for instruction in await service.delivery.pending(bank):
            await service.delivery.acknowledge(bank, house.receipt(bank, instruction))
            await service.delivery.acknowledge(bank, house.receipt(bank, instruction))
        assert await service.delivery.pending(bank) == []
    archive = await service.export(cycle)
    report = verify(archive, anchor_of(house))
    assert "final" in str(report)
    progress = await service.views.progress(cycle)
    assert progress.acknowledged == progress.instructions == 7


async def test_one_cycle_at_a_time(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    cycle = await house.cut_off(service)
    following = (await service.views.current()).id
    assert await refused(service.cut_off(following)) == "cycle_in_progress"
    assert await refused(service.open_on_demand(None, by="alice")) == "cycle_open_already"
    assert (await service.cut_off(cycle)).state is State.ATTESTING
    await house.attest(service, cycle)
    await service.advance(cycle)
    assert (await service.cut_off(following)).state is State.CUT_OFF
