"""Exports of cycles in which pairs had nothing new: what both banks signed before proves it, also much later."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from clearing_house import ALFA, BANKS, BETA, GAMA, House, Lane, NewHouse, anchor_of

from compliance.cycle.states import State
from compliance.event_log import LoggedEvent
from compliance.export import archive
from compliance.export.files import from_files
from compliance.export.manifest import build_export
from compliance.export.record import SettledStatement
from compliance.statements import PositionStatement
from compliance.verifier.verify import VerificationError, verify_bytes
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.cycles.tables import stated
from gateway.coordinator.rulebook import Rulebook, load


def unattended() -> Rulebook:
    """Return rules by which no person has to approve."""
    rules = msgspec.structs.replace(load(), slots=(), calendar="every_day", settlement_systems={})
    return msgspec.structs.replace(rules, approval=msgspec.structs.replace(rules.approval, mode="never"))


def count(house: House) -> dict[Lane, int]:
    return {lane: len(payments) for lane, payments in house.lanes.items()}


async def settle(
    house: House, service: CycleService, settled: Mapping[Lane, int], *, mistaken: str | None = None
) -> str:
    """Clear what is new since `settled`; banks state nothing for a pair with nothing new.

    A bank that is `mistaken` states all its pairs from their first payment on, and what isn't taken in of that never
    again.
    """
    cycle = await house.cut_off(service)
    new = {frozenset(lane[:2]) for lane, payments in house.lanes.items() if len(payments) > settled.get(lane, 0)}
    for bank in BANKS:
        submission = house.submission(cycle, bank, settled=dict(settled))
        kept = [p for p in submission.positions if frozenset((p.low, p.high)) in new]
        if bank == mistaken:
            others = [p for p in house.submission(cycle, bank).positions if frozenset((p.low, p.high)) not in new]
            rows = sorted((*kept, *others), key=lambda p: p.key)
            first = house.attest_rows(cycle, bank, rows, complete=True)
            verdict = await service.attestation.submit_attestation(bank, cycle, first)
            assert [part.reason for part in verdict.refused] == ["sequence_mismatch"] * len(others)
            kept = []
        submission = house.attest_rows(cycle, bank, kept, screening=submission.screening, complete=True)
        await service.attestation.submit_attestation(bank, cycle, submission)
    assert await service.advance(cycle) is State.FINAL
    return cycle


async def proven(house: House, service: CycleService, cycle: str) -> tuple[list[tuple[str, tuple[str, str]]], str]:
    """Verify a cycle's export; return the cycles and pairs of what it holds from before, and what stays unproven."""
    data = await service.export(cycle)
    lines = archive.unpack(data)["settled.jsonl"].splitlines()
    report = verify_bytes(data, anchor_of(house))
    settled = [msgspec.json.decode(line, type=SettledStatement).proven for line in lines]
    statements = [msgspec.json.decode(of.statement, type=PositionStatement) for of in settled if of is not None]
    assert len(statements) == len(lines)
    return sorted({(one.cycle, one.pair) for one in statements}), " ".join(report.unproven)


async def test_two_banks_sign_that_they_have_nothing_more(new_house: NewHouse) -> None:
    """That is the proof that their pair had nothing new; no earlier cycle is asked."""
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    house.pay(BETA, GAMA, "EUR", 200)
    await settle(house, service, {})
    before = count(house)
    house.pay(BETA, GAMA, "EUR", 300)
    statements, unproven = await proven(house, service, await settle(house, service, before))
    assert statements == []
    assert "pairs without new payments" not in unproven
    assert "leaves of attestations" not in unproven


async def test_pairs_with_nothing_new_of_a_bank_that_stated_more_than_was_taken_in(new_house: NewHouse) -> None:
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    house.pay(BETA, GAMA, "EUR", 200)
    first = await settle(house, service, {})
    before = count(house)
    house.pay(BETA, GAMA, "EUR", 300)
    second = await settle(house, service, before, mistaken=BETA)
    before = count(house)
    house.pay(ALFA, BETA, "EUR", 400)
    third = await settle(house, service, before, mistaken=BETA)

    assert (await proven(house, service, first))[0] == []
    # By now the pair has settled again; what was the last before the second cycle is still found.
    statements, unproven = await proven(house, service, second)
    assert statements == [(first, (ALFA, BETA))]
    assert "pairs without new payments: 1" in unproven
    assert "took in from nobody: 1;" in unproven
    statements, _ = await proven(house, service, third)
    assert statements == [(second, (BETA, GAMA))]


@pytest.mark.parametrize("others_pay", [False, True])
async def test_a_pair_of_a_bank_that_was_away(new_house: NewHouse, others_pay: bool) -> None:
    """On its lane nothing is taken in, however far that is settled; the other lane is compared as ever."""
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    house.pay(BETA, ALFA, "EUR", 200)
    first = await settle(house, service, {})
    house.pay(BETA, ALFA, "EUR", 300)
    second = await settle(house, service, dict.fromkeys(house.lanes, 1))
    if others_pay:
        house.pay(ALFA, GAMA, "EUR", 400)
    here = [bank for bank in BANKS if bank != BETA]
    third = await house.cut_off(service, here)
    house.clock.pass_s(house.rules.cut_deadline_s + 1)
    assert await service.advance(third) is State.ATTESTING
    for bank in here:
        news = [house.statement(third, (ALFA, GAMA), "EUR")] if others_pay and bank in (ALFA, GAMA) else []
        word = house.attestation(third, bank, *news, screening=house.screening(third, bank), complete=True)
        await service.attestation.submit_attestation(bank, third, word)
    assert await service.advance(third) is State.FINAL

    assert (await proven(house, service, third))[0] == [(second, (ALFA, BETA))]
    files = archive.unpack(await service.export(third))
    record = from_files({name: content for name, content in files.items() if not name.startswith("manifest")})
    async with house.engine.connect() as conn:
        earlier = await stated.agreed(conn, first, ("EUR", ALFA, BETA))
    assert earlier is not None
    forged = msgspec.structs.replace(record, settled=tuple(SettledStatement(proven=of) for of in earlier))
    with pytest.raises(VerificationError, match=r"attested through \(1, 1\), and is cut at \(None, 2\)"):
        verify_bytes(build_export(forged, house.signer.sign), anchor_of(house))


async def test_limits_come_with_the_last_change_of_each(new_house: NewHouse) -> None:
    house = await new_house(rules=unattended())
    service = house.service()
    for minor in (5_000, 70_000):
        await house.registry.set_cap(ALFA, "EUR", minor, by="alice", reason="as agreed")
    house.pay(ALFA, BETA, "EUR", 100)
    cycle = await settle(house, service, {})
    # What is changed afterwards isn't what the cycle kept.
    await house.registry.set_cap(ALFA, "EUR", 1, by="alice", reason="as agreed")
    data = await service.export(cycle)
    assert verify_bytes(data, anchor_of(house)).state == "final"
    changes = archive.unpack(data)["limit-events.jsonl"].splitlines()
    caps = [msgspec.json.decode(line, type=LoggedEvent).data for line in changes]
    assert [cap["cap_minor"] for cap in caps if cap["bic"] == ALFA] == ["70000"]
