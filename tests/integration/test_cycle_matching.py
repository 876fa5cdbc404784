"""Pairs that don't match and limits that bind: what a cycle leaves for the next one."""

from __future__ import annotations

from clearing_house import (
    ALFA,
    BETA,
    DELT,
    GAMA,
    NewHouse,
    anchor_of,
    events_of,
    reasons,
    refused,
    result_of,
    trade,
)

from compliance.cycle.limits import Prefunding
from compliance.cycle.states import State
from compliance.statements import CarryReason
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.registry.lifecycle import Step


async def test_a_pair_that_disagrees_is_carried_over_when_time_is_up(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    wrong = house.submission(cycle, BETA, wrong_by={((ALFA, BETA), "EUR"): 1})
    verdict = await service.attestation.submit_attestation(BETA, cycle, wrong)
    assert [(v.counterparty, v.currency, v.revision, v.status) for v in verdict.breaks] == [(ALFA, "EUR", 1, "break")]
    assert (verdict.stored, verdict.agreed) == (0, 2)
    assert await service.advance(cycle) is State.ATTESTING
    (notice,) = (await service.views.breaks(cycle, ALFA)).breaks
    assert (notice.kind, notice.pair, notice.resolved) == ("different", (ALFA, BETA), False)
    assert (await service.views.breaks(cycle, GAMA)).breaks == ()
    assert (await service.views.progress(cycle)).pairs.differing == 1

    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    result = await result_of(service, cycle)
    assert reasons(result) == {("EUR", (ALFA, BETA)): "break"}
    # Carried over: its payments still are to be settled, from the first one on.
    settled = {lane: len(p) for lane, p in house.lanes.items() if set(lane[:2]) != {ALFA, BETA}}
    second = await house.cut_off(service)
    await house.attest(service, second, settled=settled)
    assert await service.advance(second) is State.FINAL
    assert (await result_of(service, second)).results[0].gross_minor == str(15_000 + 4_000)


async def test_a_second_revision_mends_a_break_and_the_cycle_goes_on_at_once(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    wrong = house.submission(cycle, BETA, wrong_by={((ALFA, BETA), "EUR"): 1})
    await service.attestation.submit_attestation(BETA, cycle, wrong)

    mended = house.statement(cycle, (ALFA, BETA), "EUR", revision=2)
    for bank, expected in ((BETA, (1, 0)), (ALFA, (0, 1))):
        verdict = await service.attestation.submit_attestation(bank, cycle, house.attestation(cycle, bank, mended))
        assert (verdict.stored, verdict.agreed) == expected
    # First the two differed, then the new revision was missing from one; each was told when it came and when it went.
    breaks = (await service.views.breaks(cycle, None)).breaks
    assert [(b.revision, b.kind, b.missing_from, b.resolved) for b in breaks] == [
        (1, "different", None, True),
        (2, "missing", ALFA, True),
    ]
    assert await service.advance(cycle) is State.FINAL
    assert (await result_of(service, cycle)).carried_over == ()
    assert (await events_of(house, cycle)).count("cycle.break") == 4


async def test_a_bank_that_goes_on_lying_spoils_no_export(new_house: NewHouse) -> None:
    """Its pair may agree at an earlier revision than the last one that it signed, of which the log tells."""
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    submit, pair = service.attestation.submit_attestation, (ALFA, BETA)
    await submit(ALFA, cycle, house.submission(cycle, ALFA, wrong_by={(pair, "EUR"): 1}))
    for revision, wrong_by in ((2, 0), (3, 1)):
        lie = house.statement(cycle, pair, "EUR", revision=revision, wrong_by=wrong_by)
        await submit(ALFA, cycle, house.attestation(cycle, ALFA, lie))
    answer = house.attestation(cycle, BETA, house.statement(cycle, pair, "EUR", revision=2))
    assert (await submit(BETA, cycle, answer)).agreed == 1
    assert {notice.revision for notice in (await service.views.breaks(cycle, BETA)).breaks} == {1, 2, 3}
    assert await service.advance(cycle) is State.FINAL
    assert (await result_of(service, cycle)).carried_over == ()
    verify(await service.export(cycle), anchor_of(house))


async def test_a_bank_that_is_away_holds_up_nobody_beyond_the_deadlines(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    present = [ALFA, BETA, GAMA]
    cycle = await house.cut_off(service, present)
    assert (await service.views.cycle(cycle)).state is State.CUT_OFF
    house.clock.pass_s(61)
    assert await service.advance(cycle) is State.ATTESTING
    assert DELT not in (await service.cuts.cuts_for(ALFA, cycle)).delivered

    assert await refused(service.cuts.submit(DELT, cycle, house.cut(cycle, DELT))) == "deadline_passed"
    late = service.attestation.submit_attestation(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(late) == "cut_missing"
    await house.attest(service, cycle, present)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {
        ("EUR", (ALFA, DELT)): "cut_missing",
        ("JPY", (BETA, DELT)): "cut_missing",
        ("JPY", (DELT, GAMA)): "cut_missing",
    }


async def test_a_bank_that_cuts_and_then_goes_away_is_carried_over(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    assert await service.advance(cycle) is State.ATTESTING
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    assert set(reasons(await result_of(service, cycle)).values()) == {"not_attested"}
    verify(await service.export(cycle), anchor_of(house))
    late = service.attestation.submit_attestation(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(late) == "deadline_passed"


async def test_a_bank_suspended_in_mid_cycle_is_neither_heard_nor_waited_for(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.registry.step(DELT, Step.SUSPEND, by="alice", reason="in default")
    unheard = service.attestation.submit_attestation(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(unheard) == "not_a_participant"
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    assert await service.advance(cycle) is State.FINAL
    assert set(reasons(await result_of(service, cycle)).values()) == {"participant_suspended"}
    verify(await service.export(cycle), anchor_of(house))


async def test_a_cap_leaves_a_pair_for_the_next_cycle(new_house: NewHouse) -> None:
    house = await new_house(caps={ALFA: {"EUR": 500}})
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {("EUR", (ALFA, BETA)): CarryReason.NET_DEBIT_CAP}
    positions = {p.participant: p for p in (await service.views.positions(cycle, ALFA)).positions}
    assert (positions[ALFA].net_minor, positions[ALFA].headroom_minor) == ("9778", "10278")
    verify(await service.export(cycle), anchor_of(house))


async def test_what_is_prefunded_widens_a_cap_and_a_bilateral_limit_holds_a_pair_back(new_house: NewHouse) -> None:
    house = await new_house(caps={ALFA: {"EUR": 500}})
    prefunding = Prefunding(participant=ALFA, currency="EUR", prefunded_minor="800", reserved_minor="77")
    await house.registry.set_prefunding(prefunding, by="alice", reason="deposited")
    await house.registry.set_bilateral_limit(BETA, GAMA, "EUR", 0, by="alice", reason="its rating")
    await house.registry.set_bilateral_limit(GAMA, BETA, "EUR", 11_999, by=GAMA, reason="its rating")
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    # BETA owes GAMA 12,000. ALFA may owe 500 + 800 - 77, and owes 11,000 - 9,001 - 777.
    assert reasons(await result_of(service, cycle)) == {("EUR", (BETA, GAMA)): CarryReason.BILATERAL_LIMIT}
    positions = {p.participant: p for p in (await service.views.positions(cycle, ALFA)).positions}
    assert (positions[ALFA].net_minor, positions[ALFA].limit_minor, positions[ALFA].headroom_minor) == (
        "-1222",
        "1223",
        "1",
    )
    verify(await service.export(cycle), anchor_of(house))
