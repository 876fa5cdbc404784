"""Checks, four eyes and settlement: what a cycle waits for, and who lets it go on."""

from __future__ import annotations

import pytest
from clearing_house import (
    ALFA,
    BANKS,
    BETA,
    DELT,
    GAMA,
    NewHouse,
    anchor_of,
    outcome,
    refused,
    rulebook,
    severe,
    trade,
)
from sqlalchemy import text

from compliance.cycle.approval import ApprovalRule
from compliance.cycle.states import State
from compliance.verifier.verify import VerificationError
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.rulebook import SettlementRule
from gateway.federation.messages.proposals import Decision
from gateway.federation.storage.database import transaction


async def test_the_maker_is_never_the_checker(new_house: NewHouse) -> None:
    house = await new_house(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})))
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.NETTED
    decide, confirm = service.approvals.decide, Decision(decision="confirm")

    first = await house.propose(service, cycle, "approve")
    for name in ("alice", "Alice", " ALICE ", "\uff41lice"):
        assert await refused(decide(first.id, confirm, checker=name)) == "maker_is_checker"
    assert await service.advance(cycle) is State.NETTED
    assert (await house.answer(service, first, "reject")).status == "rejected"

    second = await house.propose(service, cycle, "hold")
    assert (await house.answer(service, second)).status == "confirmed"
    assert (await house.answer(service, second)).status == "confirmed"
    assert await refused(house.answer(service, second, checker="carol")) == "proposal_decided"
    assert await service.advance(cycle) is State.HELD
    assert await refused(house.propose(service, cycle, "approve", maker="bob")) == "action_impossible"
    third = await house.propose(service, cycle, "release", maker="bob")
    assert (await house.answer(service, third, "reject", checker="carol")).status == "rejected"
    fourth = await house.propose(service, cycle, "release", maker="bob")
    await house.answer(service, fourth, checker="carol")
    # A release is no approval.
    assert await service.advance(cycle) is State.NETTED
    assert (await service.views.progress(cycle)).four_eyes == ("always",)
    await house.decide(service, cycle, "approve")
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_a_proposal_expires_and_another_is_made(new_house: NewHouse) -> None:
    house = await new_house(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})))
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.advance(cycle)
    first = await house.propose(service, cycle, "approve")
    house.clock.pass_s(3_601)
    assert await refused(house.answer(service, first)) == "proposal_expired"
    await house.decide(service, cycle, "approve")
    assert await service.advance(cycle) is State.FINAL
    # The log's clock wasn't moved: by its times, operators signed an hour ahead of what it tells of them.
    with pytest.raises(VerificationError, match="proposal_differs"):
        verify(await service.export(cycle), anchor_of(house))


async def test_the_database_refuses_a_maker_who_checks(new_house: NewHouse) -> None:
    house = await new_house(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})))
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.advance(cycle)
    await house.propose(service, cycle, "approve")
    with pytest.raises(Exception, match="maker_is_never_checker"):
        async with transaction(house.engine) as conn:
            await conn.execute(text("UPDATE proposals SET decision='confirm', decided_by=made_by, decided_at=now()"))


@pytest.mark.parametrize("mode", ["never", "above", "always"])
async def test_a_failed_check_holds_the_cycle_until_two_people_release_it(new_house: NewHouse, mode: str) -> None:
    approval = ApprovalRule(mode=mode, thresholds_minor={"EUR": "1000000", "JPY": "1000000"})  # type: ignore[arg-type]
    house = await new_house(rulebook(checks=severe(completeness="fail"), approval=approval))
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.HELD
    verdicts = {check.name: check.verdict for check in (await service.views.checks(cycle)).checks}
    assert verdicts == {
        "conservation": "pass",
        "completeness": "fail",
        "net_debit_caps": "pass",
        "bilateral_limits": "pass",
        "screening_attested": "pass",
        "aggregate_flow": "pass",
    }
    await house.decide(service, cycle, "release")
    asked = {"never": (), "above": ("check_not_passed",), "always": ("always", "check_not_passed")}[mode]
    assert (await service.views.progress(cycle)).four_eyes == asked
    if mode != "never":
        assert await service.advance(cycle) is State.NETTED
        await house.decide(service, cycle, "approve")
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_a_shortfall_defers_and_the_retry_settles(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.DEFERRED
    assert await service.advance(cycle) is State.DEFERRED
    says = (await service.views.progress(cycle)).agent_says
    assert says is not None
    assert says.startswith("AM04: ")
    before = await outcome(service, cycle)
    for bank in BANKS:
        for currency in ("EUR", "JPY"):
            await house.books.fund(bank, currency, 100_000)
    house.clock.pass_s(31)
    assert await service.advance(cycle) is State.FINAL
    assert len(house.books.asked) == 2
    assert await outcome(service, cycle) == before
    progress = await service.views.progress(cycle)
    assert (progress.settlement_attempts, progress.agent_says) == (2, None)


async def test_when_attempts_are_used_up_everything_is_carried_over(new_house: NewHouse) -> None:
    house = await new_house(rulebook(settlement=SettlementRule(retry_interval_s=30, attempts_max=2)), funds=0)
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.DEFERRED
    house.clock.pass_s(31)
    assert await service.advance(cycle) is State.ABANDONED
    assert set((await house.books.balances()).values()) == {0}
    assert await service.delivery.pending(ALFA) == []
    # The next cycle takes in the same payments.
    second = await house.cut_off(service)
    await house.attest(service, second)
    await house.books.fund(ALFA, "EUR", 10**6)
    await house.books.fund(BETA, "EUR", 10**6)
    await house.books.fund(DELT, "EUR", 10**6)
    for bank in (GAMA, DELT):
        await house.books.fund(bank, "JPY", 10**6)
    assert await service.advance(second) is State.FINAL


async def test_what_the_agent_rejects_is_for_people_to_decide(new_house: NewHouse) -> None:
    house = await new_house()
    house.pay(ALFA, BETA, "EUR", 5)
    service = house.service()
    # A bank without an account at the agent: a settlement that can never work as it is.
    stranger = "STRAFRPP"
    await house.admit(stranger)
    house.pay(stranger, ALFA, "EUR", 7)
    cycle = await house.cut_off(service, [*BANKS, stranger])
    await house.attest(service, cycle, [*BANKS, stranger])
    assert await service.advance(cycle) is State.HELD
    says = (await service.views.progress(cycle)).agent_says
    assert says is not None
    assert stranger in says
    await house.books.open([stranger], ["EUR"], 100)
    await house.decide(service, cycle, "release")
    assert await service.advance(cycle) is State.FINAL
