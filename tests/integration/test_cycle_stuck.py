"""A cycle whose next step fails: stuck after the second time, seen by everybody, and no obstacle for those after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from clearing_house import (
    AGENT,
    ALFA,
    BANKS,
    BETA,
    COORDINATOR,
    House,
    NewHouse,
    anchor_of,
    events_of,
    refused,
    rulebook,
    severe,
    trade,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from compliance.crypto.keys import Algorithm, SigningKey, VerifyingKey
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.states import State
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.cycles.settlement import HttpSettlementClient
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import FederationClient
from gateway.federation.iso20022 import MessageRefused
from gateway.federation.messages.proposals import Decision
from gateway.federation.storage.database import create_engine, transaction
from gateway.federation.telemetry import REGISTRY

ALWAYS = ApprovalRule(mode="always", thresholds_minor={})


@asynccontextmanager
async def refusing(house: House, table: str) -> AsyncIterator[None]:
    """Let the coordinator's database refuse every new row of a table."""
    owner = create_engine(house.engine.url.render_as_string(hide_password=False), role=None)
    async with transaction(owner) as conn:
        await conn.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$")
        )
        await conn.execute(text(f"CREATE TRIGGER refuses BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()"))
    try:
        yield
    finally:
        async with transaction(owner) as conn:
            await conn.execute(text("DROP FUNCTION refuse CASCADE"))
        await owner.dispose()


async def matched(house: House) -> str:
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.steps.step(cycle)
    assert (await service.views.cycle(cycle)).state is State.MATCHED
    return cycle


async def fail(service: CycleService) -> None:
    with pytest.raises(DBAPIError):
        await service.advance_current()


async def stuck_reason(service: CycleService, cycle: str) -> str | None:
    stuck = (await service.views.cycle(cycle)).message().stuck
    return None if stuck is None else stuck.reason


def gauge(reason: str) -> float | None:
    return REGISTRY.get_sample_value("concordat_cycle_stuck", {"reason": reason})


async def test_two_replicas_count_one_failure_each_and_the_cycle_is_stuck(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    one, other = house.service(), house.service()
    async with refusing(house, "results"):
        await fail(one)
        assert await stuck_reason(other, cycle) is None
        await fail(other)
        assert await stuck_reason(one, cycle) == "step_failed"
        view = (await one.views.cycle(cycle)).message().stuck
        assert view is not None
        assert view.failures == 2
        progress = await one.views.progress(cycle)
        assert (progress.cycle.state, progress.stuck_detail) == ("matched", "the database refuses it: SQLSTATE P0001")
        # Not due yet: nobody hammers on it; every replica's metrics say so.
        assert await one.advance_current() is State.MATCHED
        assert gauge("step_failed") == 1
        house.clock.pass_s(3)
        await fail(one)
        assert (await events_of(house, cycle)).count("cycle.stuck") == 1
    assert await refused(one.cut_off((await one.views.current()).id, cause="operator")) == "cycle_in_progress"
    # The operator's way out: at once, without waiting for the time that it is tried again by itself.
    assert await one.advance_current() is State.MATCHED
    await one.retry(cycle, "the trigger is gone", by="alice")
    assert await other.advance_current() is State.FINAL
    assert await stuck_reason(one, cycle) is None
    assert await one.advance_current() is None
    assert gauge("step_failed") is None
    assert await refused(one.retry(cycle, "again", by="alice")) == "action_impossible"
    verify(await one.export(cycle), anchor_of(house))


async def test_it_heals_by_itself(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    service = house.service()
    async with refusing(house, "results"):
        await fail(service)
        await fail(service)
    house.clock.pass_s(3)
    assert await service.advance_current() is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_the_next_cut_off_overtakes_a_cycle_that_is_stuck(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    service = house.service()
    following = (await service.views.current()).id
    async with refusing(house, "results"):
        await fail(service)
        # Once may be chance.
        assert await refused(service.cut_off(following)) == "cycle_in_progress"
        await fail(service)
        assert await refused(service.cut_off(following, cause="operator", by="alice")) == "cycle_in_progress"
        assert (await service.cut_off(following)).state is State.CUT_OFF
    assert (await service.views.cycle(cycle)).state is State.ABANDONED
    assert (await events_of(house, cycle))[-2:] == ["cycle.stuck", "cycle.abandoned"]
    verify(await service.export(cycle), anchor_of(house))
    # Nothing was settled, so the next cycle takes in the same payments.
    house.pay(ALFA, BETA, "EUR", 5)
    for bank in BANKS:
        await service.cuts.submit(bank, following, house.cut(following, bank))
    await service.advance(following)
    await house.attest(service, following)
    assert await service.advance(following) is State.FINAL
    verify(await service.export(following), anchor_of(house))


async def test_two_operators_abandon_a_cycle_that_is_stuck(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    service = house.service()
    async with refusing(house, "instructions"):
        await fail(service)
        await fail(service)
        assert (await service.views.cycle(cycle)).state is State.APPROVED
        proposal = await house.propose(service, cycle, "abandon")
        confirm = Decision(decision="confirm")
        assert await refused(service.approvals.decide(proposal.id, confirm, checker="Alice")) == "maker_is_checker"
        await house.answer(service, proposal)
    assert await service.advance_current() is None
    verify(await service.export(cycle), anchor_of(house))
    second = await house.cut_off(service)
    await house.attest(service, second)
    assert await service.advance(second) is State.FINAL


async def test_what_was_instructed_is_never_abandoned(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    service = house.service()
    async with refusing(house, "finalities"):
        await fail(service)
        await fail(service)
        assert (await service.views.cycle(cycle)).state is State.SETTLED
        assert await refused(house.propose(service, cycle, "abandon")) == "action_impossible"
        assert await refused(service.cut_off((await service.views.current()).id)) == "cycle_in_progress"
    house.clock.pass_s(3)
    assert await service.advance_current() is State.FINAL
    assert len(house.books.asked) == 1


# --- the settlement agent ------------------------------------------------------------------------------------


def by_registry(house: House) -> CycleService:
    """A coordinator that asks whichever agent the registry has as active, over HTTP."""
    client = FederationClient(COORDINATOR, house.signer.auth, "http://127.0.0.1:9")
    return house.service(agent=HttpSettlementClient(client, house.registry.settlement_agent))


async def test_a_suspended_agent_is_waited_for_by_name(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    service = by_registry(house)
    await house.registry.step(AGENT, Step.SUSPEND, by="alice", reason="maintenance")
    for _ in range(2):
        assert await service.advance_current() is State.APPROVED
        house.clock.pass_s(2)
    assert await stuck_reason(service, cycle) == "agent_inactive"
    await house.registry.step(AGENT, Step.ACTIVATE, by="alice", reason="back")
    assert await service.advance_current() is State.INSTRUCTED

    # While a request may be on its way, the agent that was asked is asked again, and no other.
    await house.registry.step(AGENT, Step.SUSPEND, by="alice", reason="maintenance")
    await house.admit_agent("OTHRXXS0")
    house.clock.pass_s(2)
    for _ in range(2):
        assert await service.advance_current() is State.INSTRUCTED
        house.clock.pass_s(2)
    assert await stuck_reason(service, cycle) == "agent_inactive"
    assert (
        await service.views.progress(cycle)
    ).stuck_detail == f"{AGENT} was asked to settle, and OTHRXXS0 is active now"
    assert house.books.asked == []
    leave = house.registry.step(AGENT, Step.LEAVE, by="alice", reason="replaced")
    assert await refused(leave) == "settlement_under_way"
    # The agent answers again.
    assert await house.service().advance_current() is State.FINAL
    await house.registry.step(AGENT, Step.LEAVE, by="alice", reason="replaced")
    verify(await service.export(cycle), anchor_of(house))


async def test_an_agent_that_is_replaced_after_a_shortfall_settles_the_next_cycle(new_house: NewHouse) -> None:
    house = await new_house(funds=0)
    cycle = await matched(house)
    assert await house.service().advance_current() is State.DEFERRED
    await house.registry.step(AGENT, Step.SUSPEND, by="alice", reason="replaced")
    await house.admit_agent("OTHRXXS0")
    house.clock.pass_s(31)
    service = by_registry(house)
    for _ in range(2):
        # The banks were instructed with the first one.
        assert await service.advance_current() is State.DEFERRED
        house.clock.pass_s(2)
    assert await stuck_reason(service, cycle) == "agent_inactive"
    await service.cut_off((await service.views.current()).id)
    assert (await service.views.cycle(cycle)).state is State.ABANDONED
    verify(await service.export(cycle), anchor_of(house))


async def test_large_and_small_amounts_settle_together(new_house: NewHouse) -> None:
    house = await new_house(rulebook(currencies=("EUR", "JPY", "KWD")))
    await house.books.fund(ALFA, "JPY", 9 * 10**14)
    house.pay(ALFA, BETA, "JPY", 500_000_000_000_000)
    house.pay(BETA, ALFA, "KWD", 1)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    balances = await house.books.balances()
    assert balances[BETA, "JPY"] == 10**9 + 5 * 10**14
    assert balances[ALFA, "KWD"] == 10**9 + 1
    verify(await service.export(cycle), anchor_of(house))


async def test_what_no_message_can_carry_is_named_and_can_be_abandoned(new_house: NewHouse) -> None:
    house = await new_house(rulebook(checks=severe(screening="warn")))
    house.pay(ALFA, BETA, "JPY", *[10**15 - 1] * 1_001)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    for _ in range(2):
        with pytest.raises(MessageRefused):
            await service.advance(cycle)
    assert (await service.views.cycle(cycle)).state is State.APPROVED
    assert await stuck_reason(service, cycle) == "message_refused"
    detail = (await service.views.progress(cycle)).stuck_detail
    assert detail is not None
    assert "18 digits" in detail
    assert (await service.cut_off((await service.views.current()).id)).state is State.CUT_OFF
    assert (await service.views.cycle(cycle)).state is State.ABANDONED
    verify(await service.export(cycle), anchor_of(house))


# --- nothing is held while it computes -----------------------------------------------------------------------


class Module:
    """A key whose signatures take as long as somebody lets them."""

    slow = True

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.asked, self.go_on = threading.Event(), threading.Event()

    @property
    def kid(self) -> str:
        return self.key.kid

    @property
    def scheme(self) -> str | None:
        return self.key.scheme

    @property
    def algorithm(self) -> Algorithm:
        return self.key.algorithm

    @property
    def verifying_key(self) -> VerifyingKey:
        return self.key.verifying_key

    def sign(self, message: bytes) -> bytes:
        self.asked.set()
        self.go_on.wait(60)
        return self.key.sign(message)


async def computing(house: House, cycle: str) -> tuple[Module, asyncio.Task[bool]]:
    """Begin to net a cycle and return when the computation is under way."""
    module = Module(house.signer.sign)
    step = asyncio.create_task(house.service(signer=module).steps.step(cycle))
    await asyncio.to_thread(module.asked.wait, 60)
    return module, step


async def test_netting_holds_no_lock_and_no_transaction(new_house: NewHouse) -> None:
    house = await new_house()
    cycle = await matched(house)
    module, step = await computing(house, cycle)
    async with transaction(house.engine) as conn:
        open_elsewhere = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        assert (await conn.execute(open_elsewhere)).scalar_one() == 0
        await conn.execute(text("SELECT FROM cycles WHERE id = :id FOR UPDATE NOWAIT"), {"id": cycle})
    # Another replica nets meanwhile; whoever comes second finds it done.
    assert await house.service().steps.step(cycle)
    result = (await house.service().views.cycle(cycle)).result
    module.go_on.set()
    assert await step
    after = await house.service().views.cycle(cycle)
    assert (after.state, after.result) == (State.NETTED, result)
    assert (await events_of(house, cycle)).count("cycle.netted") == 1


async def test_a_cycle_abandoned_while_it_is_netted_stays_abandoned(new_house: NewHouse) -> None:
    house = await new_house(rulebook(approval=ALWAYS))
    cycle = await matched(house)
    module, step = await computing(house, cycle)
    service = house.service()
    await house.decide(service, cycle, "abandon")
    module.go_on.set()
    assert await step
    after = await service.views.cycle(cycle)
    assert (after.state, after.result) == (State.ABANDONED, None)
    verify(await service.export(cycle), anchor_of(house))
