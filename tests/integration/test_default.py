"""A participant that can't pay: what two operators decide, and what comes of it, on real databases and books."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clearing_house import (
    AGENT,
    ALFA,
    BANKS,
    BETA,
    DELT,
    GAMA,
    House,
    NewHouse,
    anchor_of,
    events_of,
    reasons,
    refused,
    result_of,
    rulebook,
)

from compliance.crypto import canonical
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.states import State, replay
from compliance.export import archive
from compliance.export.files import from_files
from compliance.export.manifest import build_export
from compliance.export.record import FILES, CycleRecord
from compliance.statements import CarryReason, SettlementInstruction
from compliance.verifier.verify import STEPS, VerificationError
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.log import events
from gateway.coordinator.rulebook import SettlementRule, load
from gateway.federation.messages.proposals import Decision
from gateway.federation.storage.database import transaction


def trade(house: House) -> None:
    """ALFA owes most, and to all others; without it BETA owes GAMA, and DELT owes BETA."""
    house.pay(ALFA, BETA, "EUR", 10_000)
    house.pay(ALFA, GAMA, "EUR", 4_000)
    house.pay(DELT, ALFA, "EUR", 500)
    house.pay(BETA, GAMA, "EUR", 3_000)
    house.pay(DELT, BETA, "EUR", 700)
    house.pay(GAMA, DELT, "JPY", 250)


async def deferred(house: House) -> tuple[CycleService, str]:
    """Bring a cycle to where the agent says that ALFA, whose account is empty, can't pay."""
    trade(house)
    for bank in (BETA, GAMA, DELT):
        for currency in ("EUR", "JPY"):
            await house.books.fund(bank, currency, 100_000)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.DEFERRED
    return service, cycle


async def acknowledge(house: House, service: CycleService) -> None:
    for bank in BANKS:
        for instruction in await service.delivery.pending(bank):
            await service.delivery.acknowledge(bank, house.receipt(bank, instruction))


async def ids(service: CycleService, cycle: str) -> list[str]:
    return [
        msgspec.json.decode(envelope.payload_bytes(), type=SettlementInstruction).id
        for envelope in await service.delivery.instructions(cycle, None)
    ]


async def test_after_an_unwinding_the_survivors_settle_and_the_rest_is_carried_over(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    service, cycle = await deferred(house)
    await acknowledge(house, service)
    first = (await service.views.cycle(cycle)).result
    await house.decide(service, cycle, "unwind", ALFA)
    assert await service.advance(cycle) is State.FINAL

    result = await result_of(service, cycle)
    assert (result.edition, result.supersedes, result.defaulted) == (2, first, (ALFA,))
    assert set(reasons(result).values()) == {CarryReason.PARTICIPANT_DEFAULT}
    assert {pair for _, pair in reasons(result)} == {(ALFA, BETA), (ALFA, DELT), (ALFA, GAMA)}
    assert await ids(service, cycle) == [
        *(f"{cycle}/{bank}/EUR/2" for bank in (BETA, DELT, GAMA)),
        *(f"{cycle}/{bank}/JPY/2" for bank in (DELT, GAMA)),
    ]
    balances = await house.books.balances()
    assert [balances[bank, "EUR"] - 100_000 for bank in (BETA, GAMA, DELT)] == [-2_300, 3_000, -700]
    assert balances[ALFA, "EUR"] == 0
    # Nobody is asked for what was superseded, and two requests went to the agent under ids of their own.
    assert await service.delivery.pending(ALFA) == []
    assert [f"{cycle}-{number}" in asked.decode() for number, asked in enumerate(house.books.asked, 1)] == [True, True]
    # The state is what the events say it is.
    async with transaction(house.engine) as conn:
        history = await events.of_cycle(conn, cycle)
    assert replay((event.type, event.data) for event in history) is State.FINAL
    assert (await events_of(house, cycle)).count("cycle.netted") == 2

    await acknowledge(house, service)
    report = verify(await service.export(cycle), anchor_of(house))
    assert [step.detail for step in report.steps if "superseded" in step.detail]
    assert f"left out for default: {ALFA}" in report.steps[8].detail


async def test_the_next_cycle_takes_in_what_was_carried_over(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    service, cycle = await deferred(house)
    await house.decide(service, cycle, "unwind", ALFA)
    assert await service.advance(cycle) is State.FINAL
    await house.books.fund(ALFA, "EUR", 13_500)
    second = await house.cut_off(service)
    # What is settled isn't stated again.
    house.lanes = defaultdict(list, {lane: paid for lane, paid in house.lanes.items() if ALFA in lane})
    await house.attest(service, second)
    assert await service.advance(second) is State.FINAL
    assert (await house.books.balances())[ALFA, "EUR"] == 0


async def test_the_new_result_needs_the_approval_that_the_rulebook_asks_for(new_house: NewHouse) -> None:
    house = await new_house(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})), funds=0)
    trade(house)
    for bank in (BETA, GAMA, DELT):
        for currency in ("EUR", "JPY"):
            await house.books.fund(bank, currency, 100_000)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.NETTED
    await house.decide(service, cycle, "approve")
    assert await service.advance(cycle) is State.DEFERRED
    await house.decide(service, cycle, "unwind", ALFA)
    assert await service.advance(cycle) is State.NETTED
    # Half-way the export verifies too: netted again, not approved yet.
    assert verify(await service.export(cycle), anchor_of(house)).state == "netted"
    assert await service.delivery.instructions(cycle, None) == []
    await house.decide(service, cycle, "approve")
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_a_second_default_is_unwound_on_top_of_the_first(new_house: NewHouse) -> None:
    house = await new_house(rulebook(settlement=SettlementRule(retry_interval_s=30, attempts_max=2)), funds=0)
    trade(house)
    await house.books.fund(GAMA, "JPY", 1_000)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.DEFERRED
    await house.decide(service, cycle, "unwind", ALFA)
    # Each edition has its own attempts.
    assert await service.advance(cycle) is State.DEFERRED
    await house.decide(service, cycle, "unwind", BETA, DELT)
    assert await service.advance(cycle) is State.FINAL
    result = await result_of(service, cycle)
    assert (result.edition, result.defaulted, result.results) == (3, (ALFA, BETA, DELT), ())
    assert len(verify(await service.export(cycle), anchor_of(house)).steps) == len(STEPS)


async def test_a_crash_between_any_two_steps_of_an_unwinding_changes_nothing(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    service, cycle = await deferred(house)
    await house.decide(service, cycle, "unwind", ALFA)
    states: list[str] = []
    while True:
        # Each step by a replica that has never seen the cycle, and one that dies before it commits.
        step = asyncio.ensure_future(house.service().steps.step(cycle))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        if not await house.service().steps.step(cycle):
            break
        states.append((await house.service().views.cycle(cycle)).state.value)
    assert states == ["netted", "approved", "instructed", "settled", "final"]
    assert (await result_of(service, cycle)).edition == 2
    verify(await service.export(cycle), anchor_of(house))


async def test_what_is_refused(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    service, cycle = await deferred(house)
    for action, banks in (("unwind", ()), ("unwind", (AGENT,)), ("abandon", (ALFA,))):
        assert await refused(house.propose(service, cycle, action, *banks)) == "participants_refused"  # type: ignore[arg-type]
    proposal = await house.propose(service, cycle, "unwind", ALFA)
    own = service.approvals.decide(proposal.id, Decision(decision="confirm"), checker="alice")
    assert await refused(own) == "maker_is_checker"
    await house.decide(service, cycle, "unwind", ALFA)
    # What was proposed on the first result can't be confirmed any more, in any state.
    late = service.approvals.decide(proposal.id, Decision(decision="confirm"), checker="bob")
    assert await refused(late) == "action_impossible"
    assert await service.advance(cycle) is State.FINAL
    assert await refused(house.propose(service, cycle, "unwind", BETA)) == "action_impossible"


async def test_the_dry_run_shows_all_alternatives_and_changes_nothing(new_house: NewHouse) -> None:
    rule = msgspec.structs.replace(
        load().default_waterfall,
        capital_minor={"EUR": "1000"},
        collateral_minor={ALFA: {"EUR": "5000"}},
        contributions_minor={ALFA: {"EUR": "500"}, BETA: {"EUR": "2000"}, GAMA: {"EUR": "1000"}},
        assessment_caps_minor={BETA: {"EUR": "50000"}},
    )
    house = await new_house(rulebook(default_waterfall=rule), funds=0)
    service, cycle = await deferred(house)
    before = await events_of(house, cycle)
    seen = await service.defaults.dry_run(cycle, [ALFA, ALFA])
    assert (seen.participants, seen.edition, seen.covered) == ((ALFA,), 1, True)
    assert seen.agent_says is not None
    assert f"{ALFA} EUR short by 135.00" in seen.agent_says
    euro, yen = seen.currencies
    assert [(one.participant, one.amount_minor) for one in euro.losses] == [(ALFA, "13500")]
    assert [(layer.paid_minor, layer.remaining_minor) for layer in euro.waterfall.layers] == [
        ("5000", "8500"),
        ("500", "8000"),
        ("1000", "7000"),
        ("3000", "4000"),
        ("4000", "0"),
    ]
    assert [(c.participant, c.before_minor, c.after_minor) for c in euro.unwind.changes] == [
        (BETA, "7700", "-2300"),
        (DELT, "-1200", "-700"),
        (GAMA, "7000", "3000"),
    ]
    assert euro.clearing is not None
    # ALFA has nothing but what DELT pays it; BETA would have to find money for GAMA, and falls for want of it.
    assert [(bank.participant, bank.fell, bank.paid_minor) for bank in euro.clearing.banks] == [
        (ALFA, 1, "500"),
        (BETA, 2, "1057"),
    ]
    assert (yen.currency, yen.losses, yen.waterfall.loss_minor) == ("JPY", (), "0")
    assert await events_of(house, cycle) == before
    assert await refused(service.defaults.dry_run(cycle, [AGENT])) == "participants_refused"
    # What is shown of an unwinding is what comes of it.
    await house.decide(service, cycle, "unwind", ALFA)
    assert await service.advance(cycle) is State.FINAL
    positions = [p for of in (await result_of(service, cycle)).results for p in of.positions if of.currency == "EUR"]
    assert {p.participant: p.net_minor for p in positions} == {
        change.participant: change.after_minor for change in euro.unwind.changes
    }


async def test_there_is_nothing_to_show_before_a_result(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    service = house.service()
    cycle = await house.cut_off(service)
    assert await refused(service.defaults.dry_run(cycle, [ALFA])) == "result_unknown"


# --- forged exports ---------------------------------------------------------------------------------------


@pytest.fixture
async def unwound(new_house: NewHouse) -> tuple[House, CycleRecord]:
    """A house and the record of its unwound cycle."""
    house = await new_house(funds=0)
    service, cycle = await deferred(house)
    await acknowledge(house, service)
    await house.decide(service, cycle, "unwind", ALFA)
    await service.advance(cycle)
    files = archive.unpack(await service.export(cycle))
    return house, from_files({name: files[name] for name in FILES})


def finding(house: House, record: CycleRecord, **changes: Any) -> tuple[int, str]:
    data = build_export(msgspec.structs.replace(record, **changes), house.signer.sign)
    with pytest.raises(VerificationError) as caught:
        verify(data, anchor_of(house))
    return caught.value.step, caught.value.finding


async def test_an_export_can_t_lie_about_an_unwinding(unwound: tuple[House, CycleRecord], tmp_path: Path) -> None:
    house, record = unwound
    (proposal,) = record.proposals
    (superseded,) = record.superseded
    replace = msgspec.structs.replace
    # The first result hidden; the second one hidden; the first shown as the one that settled.
    assert finding(house, record, superseded=()) == (5, "result_differs")
    assert finding(house, record, result=None) == (5, "result_differs")
    first = {"result": superseded.result, "certificates": superseded.certificates}
    assert finding(house, record, **first, superseded=()) == (8, "instructions_differ")
    # Decided by nobody, about another bank, or about another result.
    assert finding(house, record, proposals=()) == (9, "approval_missing")
    others = (replace(proposal, participants=(BETA,)),)
    assert finding(house, record, proposals=others) == (9, "approval_missing")
    undecided = (replace(proposal, decision="reject"),)
    assert finding(house, record, proposals=undecided) == (9, "approval_missing")
    later = (replace(proposal, subject_sha256=canonical.digest(b"")),)
    assert finding(house, record, proposals=later) == (9, "approval_missing")
    # The first result's own documents.
    fewer = (replace(superseded, instructions=superseded.instructions[1:], receipts=()),)
    assert finding(house, record, superseded=fewer) == (8, "instructions_differ")
    assert finding(house, record, superseded=(superseded, replace(superseded, receipts=()))) == (5, "result_differs")
