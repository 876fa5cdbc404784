"""What the coordinator makes of contested cuts: who is told, how long it waits, what it refuses."""

from __future__ import annotations

import msgspec
from clearing_house import (
    ALFA,
    BETA,
    DELT,
    GAMA,
    House,
    NewHouse,
    anchor_of,
    events_of,
    reasons,
    refusal_of,
    refused,
    result_of,
    trade,
)

from compliance.crypto import dsse
from compliance.cycle.contests import ContestedLane
from compliance.cycle.states import State
from compliance.export.archive import unpack
from compliance.export.files import from_files
from compliance.export.record import FILES
from compliance.statements import CycleCut, LaneCut
from compliance.verifier.verify import verify_bytes
from gateway.coordinator.cycles.service import CycleService
from gateway.federation.messages.attestation import AttestationSubmission

PAIR = ("EUR", (ALFA, BETA))
LANE = ContestedLane(receiver=BETA, currency="EUR", cut_at=2, known_through=1)


async def contested(house: House, service: CycleService) -> str:
    """Attest everything but ALFA's pair with BETA, whose cut ALFA contests; return the cycle."""
    trade(house)
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    await service.attestation.submit_attestation(ALFA, cycle, partly(house, cycle))
    return cycle


def partly(house: House, cycle: str, *lanes: ContestedLane) -> AttestationSubmission:
    return house.submission(cycle, ALFA, without=[BETA], contested=lanes or (LANE,))


async def test_only_the_contested_pair_waits_and_not_until_the_deadline(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    cycle = await contested(house, service)
    assert await service.advance(cycle) is State.ATTESTING
    (notice,) = (await service.views.breaks(cycle, BETA)).breaks
    assert (notice.kind, notice.pair, notice.missing_from) == ("contested", (ALFA, BETA), ALFA)
    assert (notice.cut_at, notice.known_through, notice.resolved) == (2, 1, False)
    assert (await service.views.breaks(cycle, GAMA)).breaks == ()
    house.clock.pass_s(74)
    assert await service.advance(cycle) is State.ATTESTING
    house.clock.pass_s(2)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {PAIR: "cut_contested"}
    verify_bytes(await service.export(cycle), anchor_of(house))
    # The next cycle takes it in, from the first payment on.
    settled = {lane: len(p) for lane, p in house.lanes.items() if set(lane[:2]) != {ALFA, BETA}}
    second = await house.cut_off(service)
    await house.attest(service, second, settled=settled)
    assert await service.advance(second) is State.FINAL
    assert (await result_of(service, second)).carried_over == ()


async def test_what_is_still_outstanding_is_waited_for_as_ever(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    trade(house)
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [BETA, GAMA])
    await service.attestation.submit_attestation(ALFA, cycle, partly(house, cycle))
    house.clock.pass_s(299)
    assert await service.advance(cycle) is State.ATTESTING
    house.clock.pass_s(2)
    assert await service.advance(cycle) is State.FINAL
    carried = reasons(await result_of(service, cycle))
    assert carried.pop(PAIR) == "cut_contested"
    assert set(carried.values()) == {"not_attested"}
    verify_bytes(await service.export(cycle), anchor_of(house))


async def test_a_pair_is_attested_once_the_answers_have_come(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    cycle = await contested(house, service)
    later = house.attestation(cycle, ALFA, house.statement(cycle, (ALFA, BETA), "EUR"), complete=True)
    verdict = await service.attestation.submit_attestation(ALFA, cycle, later)
    assert (verdict.stored, verdict.agreed) == (0, 1)
    # An answer got lost, and the first submission comes again.
    await service.attestation.submit_attestation(ALFA, cycle, partly(house, cycle))
    (notice,) = (await service.views.breaks(cycle, None)).breaks
    assert (notice.kind, notice.resolved) == ("contested", True)
    assert (await events_of(house, cycle)).count("cycle.cut_contested") == 1
    assert await service.advance(cycle) is State.FINAL
    assert (await result_of(service, cycle)).carried_over == ()
    verify_bytes(await service.export(cycle), anchor_of(house))


async def test_a_contest_that_the_cuts_do_not_bear_out_is_refused(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    trade(house)
    cycle = await house.cut_off(service)
    for lane, reason in (
        ({"cut_at": 3}, "sequence_mismatch"),
        ({"known_through": 2}, "sequence_mismatch"),
        ({"currency": "JPY"}, "sequence_mismatch"),
        ({"receiver": ALFA}, "sequence_mismatch"),
    ):
        said = partly(house, cycle, msgspec.structs.replace(LANE, **lane))
        answer = await service.attestation.submit_attestation(ALFA, cycle, said)
        assert [(part.pointer, part.reason) for part in answer.refused] == [("/contested/0", reason)]
        # Its statements count all the same.
        assert answer.agreed + answer.stored == len(said.positions)
    assert "cycle.cut_contested" not in await events_of(house, cycle)


async def test_what_is_contested_is_signed_and_in_order(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    trade(house)
    cycle = await house.cut_off(service)
    signed = partly(house, cycle)
    other = msgspec.structs.replace(LANE, known_through=0)
    attested = msgspec.structs.replace(LANE, receiver=GAMA, cut_at=0)
    for said, pointer, reason in (
        (msgspec.structs.replace(signed, contested=()), "/contested", "not_attested"),
        (msgspec.structs.replace(signed, contested=(other,)), "/contested", "not_attested"),
        (msgspec.structs.replace(house.submission(cycle, ALFA), contested=(LANE,)), "/contested", "not_attested"),
        (partly(house, cycle, LANE, LANE), "/contested/1", "inconsistent"),
        (partly(house, cycle, attested, LANE), "/contested/1", "inconsistent"),
        (partly(house, cycle, attested), "/contested/0", "inconsistent"),
    ):
        refusal = await refusal_of(service.attestation.submit_attestation(ALFA, cycle, said))
        assert (refusal.reason, refusal.pointer) == (reason, pointer)
    assert "cycle.cut_contested" not in await events_of(house, cycle)


async def test_an_attestation_of_nothing_but_a_contest_is_kept(new_house: NewHouse) -> None:
    """BETA said that it had all, and contests a cut after that: the export shows it under its signature."""
    house = await new_house()
    service = house.service()
    trade(house)
    cycle = await house.cut_off(service)
    await service.attestation.submit_attestation(ALFA, cycle, house.submission(cycle, ALFA, without=[BETA]))
    for known_through in (1, 0):
        lane = msgspec.structs.replace(LANE, known_through=known_through)
        again = house.attestation(cycle, ALFA, contested=[lane])
        await service.attestation.submit_attestation(ALFA, cycle, again)
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    house.clock.pass_s(400)
    assert await service.advance(cycle) is State.FINAL
    files = unpack(await service.export(cycle))
    record = from_files({name: files[name] for name in FILES})
    # The lane was contested already when it was contested otherwise, so nothing of that is kept.
    assert [of.contested for of in record.attestations] == [(), (LANE,), (), (), ()]
    assert reasons(await result_of(service, cycle)) == {PAIR: "cut_contested"}
    verify_bytes(await service.export(cycle), anchor_of(house))


async def test_a_cut_of_a_lane_from_nobody_is_refused(new_house: NewHouse) -> None:
    """Its pair could only be carried over, in each cycle anew, for a reason that no verifier would believe."""
    house = await new_house()
    service = house.service()
    trade(house)
    cycle = await house.cut_off(service, [ALFA, BETA, GAMA])
    honest = msgspec.json.decode(house.cut(cycle, DELT).payload_bytes(), type=CycleCut)
    lane = LaneCut(sender="ZZZZXXZ0", currency="EUR", last_sequence=3)
    forged = dsse.sign(msgspec.structs.replace(honest, lanes=(*honest.lanes, lane)), house.identity(DELT).sign)
    assert await refused(service.cuts.submit(DELT, cycle, forged)) == "wrong_pair"
    await service.cuts.submit(DELT, cycle, house.cut(cycle, DELT))
    await service.advance(cycle)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
