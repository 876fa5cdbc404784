"""Cycles on a real database with real keys: from cut-off to finality, with everything that gets in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clearing_house import (
    AGENT,
    ALFA,
    BANKS,
    BETA,
    COORDINATOR,
    DELT,
    GAMA,
    Books,
    Clock,
    House,
    rulebook,
    severe,
)
from sqlalchemy import text

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.limits import Prefunding
from compliance.cycle.result import BILATERAL_LIMIT, NET_DEBIT_CAP
from compliance.cycle.states import State, replay
from compliance.statements import NettingResult, PositionStatement, SettlementFinality, SettlementInstruction
from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes as verify
from gateway.agent.ledger import Ledger
from gateway.coordinator.app import own_application
from gateway.coordinator.cycles.driver import Driver
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.log import events
from gateway.coordinator.registry.lifecycle import Step
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import Rulebook, SettlementRule
from gateway.federation.http.client import MemberIdentity
from gateway.federation.http.problems import Refusal
from gateway.federation.messages.attestation import StatementSubmission
from gateway.federation.messages.cycles import CycleState
from gateway.federation.messages.proposals import Decision, ProposalRequest
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import asyncpg_pool, create_engine, transaction

Found = Callable[..., Coroutine[Any, Any, House]]


@pytest.fixture
async def found(new_database: Any, tmp_path: Path) -> AsyncIterator[Found]:
    """A factory of clearing houses with four banks, funded settlement accounts and no payments yet."""
    opened: list[Any] = []

    async def make(
        rules: Rulebook | None = None, *, caps: dict[str, dict[str, int]] | None = None, funds: int = 10**9
    ) -> House:
        rules = rules or rulebook()
        engine = create_engine(await new_database("gateway.coordinator"))
        pool = await asyncpg_pool(await new_database("gateway.agent"))
        opened.extend((engine, pool))
        identity = MemberIdentity(COORDINATOR, tmp_path / COORDINATOR)
        settings = NodeSettings(bic=COORDINATOR, url="http://127.0.0.1:9", port=9, data_dir=tmp_path / COORDINATOR)
        registry = Registry(engine, signer=identity.sign, issuer=settings.url, rulebook=rules)
        await registry.found(own_application(settings, identity, "Clearing house"))
        house = House(engine, registry, Clock(), Books(Ledger(pool, AGENT)), identity, rules, tmp_path)
        await house.admit(AGENT)
        for bank in BANKS:
            await house.admit(bank, caps_minor=(caps or {}).get(bank))
        await house.books.open(BANKS, rules.currencies, funds)
        return house

    yield make
    engine, pool = (opened[-2], opened[-1]) if opened else (None, None)
    if engine is not None and pool is not None:
        await engine.dispose()
        await pool.close()


def trade(house: House) -> None:
    """Payments in two currencies between most pairs."""
    house.pay(ALFA, BETA, "EUR", 10_000, 5_000)
    house.pay(BETA, ALFA, "EUR", 4_000)
    house.pay(BETA, GAMA, "EUR", 12_000)
    house.pay(GAMA, ALFA, "EUR", 9_000, 1)
    house.pay(DELT, ALFA, "EUR", 777)
    house.pay(GAMA, DELT, "JPY", 250)
    house.pay(DELT, BETA, "JPY", 300, 1)


async def events_of(house: House, cycle: str) -> list[str]:
    async with transaction(house.engine) as conn:
        rows = await conn.execute(text("SELECT type FROM events WHERE cycle = :cycle ORDER BY id"), {"cycle": cycle})
        return list(rows.scalars())


async def result_of(service: CycleService, cycle: str) -> NettingResult:
    return msgspec.json.decode((await service.reading.result(cycle)).payload_bytes(), type=NettingResult)


async def outcome(service: CycleService, cycle: str) -> tuple[bytes, list[bytes]]:
    """The bytes that a cycle comes down to."""
    instructions = await service.delivery.instructions(cycle, None)
    return (await service.reading.result(cycle)).payload_bytes(), [one.payload_bytes() for one in instructions]


def reasons(result: NettingResult) -> dict[tuple[str, tuple[str, str]], str]:
    return {(one.currency, one.pair): one.reason for one in result.carried_over}


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(Refusal) as refusal:
        await work
    return refusal.value.reason


# --- the whole of it --------------------------------------------------------------------------------------


async def test_four_banks_clear_two_currencies(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    verdicts = await house.attest(service, cycle)
    assert {v.status for v in verdicts[ALFA]} == {"stored"}
    assert {v.status for v in verdicts[DELT]} == {"agreed"}
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
    finality = dsse.verify(await service.reading.finality(cycle), SettlementFinality, keys)
    assert finality.result == (await service.reading.cycle(cycle)).result
    assert (await events_of(house, cycle))[0] == "cycle.opened"
    assert [kind for kind in await events_of(house, cycle) if kind != "operator.acted"][1:] == [
        f"cycle.{state}"
        for state in ("cut_off", "attesting", "matched", "netted", "approved", "instructed", "settled", "final")
    ]
    async with transaction(house.engine) as conn:
        history = await events.of_cycle(conn, cycle)
    assert replay((event.type, event.data) for event in history) is State.FINAL


async def test_the_next_cycle_goes_on_where_this_one_settled(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    first = await house.cut_off(service)
    await house.attest(service, first)
    assert await service.advance(first) is State.FINAL
    settled = {lane: len(payments) for lane, payments in house.lanes.items()}

    house.pay(ALFA, BETA, "EUR", 700)
    second = await house.cut_off(service)
    assert second != first
    stale = service.attestation.submit_statements(ALFA, second, house.submission(second, ALFA))
    assert await refused(stale) == "sequence_mismatch"
    await house.attest(service, second, settled=settled)
    assert await service.advance(second) is State.FINAL
    (eur, jpy) = (await result_of(service, second)).results
    assert (eur.gross_minor, jpy.gross_minor) == ("700", "0")


async def test_a_cycle_without_payments_becomes_final(found: Found) -> None:
    house = await found()
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    assert house.books.asked == []


async def test_the_export_of_a_cycle_verifies_offline(found: Found, tmp_path: Path) -> None:
    house = await found()
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
    progress = await service.reading.progress(cycle)
    assert progress.acknowledged == progress.instructions == 7


def anchor_of(house: House) -> Anchor:
    return Anchor.of(COORDINATOR, house.signer.sign.verifying_key)


# --- what doesn't match -----------------------------------------------------------------------------------


async def test_a_pair_that_disagrees_is_carried_over_when_time_is_up(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    wrong = house.submission(cycle, BETA, wrong_by={((ALFA, BETA), "EUR"): 1})
    verdicts = await service.attestation.submit_statements(BETA, cycle, wrong)
    assert {(v.counterparty, v.currency): v.status for v in verdicts}[ALFA, "EUR"] == "break"
    assert await service.advance(cycle) is State.ATTESTING
    (notice,) = (await service.reading.breaks(cycle, ALFA)).breaks
    assert (notice.kind, notice.pair, notice.resolved) == ("different", (ALFA, BETA), False)
    assert (await service.reading.breaks(cycle, GAMA)).breaks == ()
    assert (await service.reading.progress(cycle)).pairs.differing == 1

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


async def test_a_second_revision_mends_a_break_and_the_cycle_goes_on_at_once(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    wrong = house.submission(cycle, BETA, wrong_by={((ALFA, BETA), "EUR"): 1})
    await service.attestation.submit_statements(BETA, cycle, wrong)

    mended = house.statement(cycle, (ALFA, BETA), "EUR", revision=2)
    for bank, expected in ((BETA, "stored"), (ALFA, "agreed")):
        submission = StatementSubmission(statements=(house.sign(bank, mended),), complete=False)
        (verdict,) = await service.attestation.submit_statements(bank, cycle, submission)
        assert (verdict.status, verdict.revision) == (expected, 2)
    # First the two differed, then the new revision was missing from one; each was told when it came and when it went.
    breaks = (await service.reading.breaks(cycle, None)).breaks
    assert [(b.revision, b.kind, b.missing_from, b.resolved) for b in breaks] == [
        (1, "different", None, True),
        (2, "missing", ALFA, True),
    ]
    assert await service.advance(cycle) is State.FINAL
    assert (await result_of(service, cycle)).carried_over == ()
    assert (await events_of(house, cycle)).count("cycle.break") == 4


async def test_a_bank_that_is_away_holds_up_nobody_beyond_the_deadlines(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    present = [ALFA, BETA, GAMA]
    cycle = await house.cut_off(service, present)
    assert (await service.reading.cycle(cycle)).state is State.CUT_OFF
    house.clock.pass_s(61)
    assert await service.advance(cycle) is State.ATTESTING
    assert DELT not in (await service.attestation.cuts_for(ALFA, cycle)).delivered

    assert await refused(service.attestation.submit_cut(DELT, cycle, house.cut(cycle, DELT))) == "deadline_passed"
    late = service.attestation.submit_statements(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(late) == "cut_missing"
    await house.attest(service, cycle, present)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {
        ("EUR", (ALFA, DELT)): "cut_missing",
        ("JPY", (BETA, DELT)): "cut_missing",
        ("JPY", (DELT, GAMA)): "cut_missing",
    }


async def test_a_bank_that_cuts_and_then_goes_away_is_carried_over(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    assert await service.advance(cycle) is State.ATTESTING
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    assert set(reasons(await result_of(service, cycle)).values()) == {"not_attested"}
    late = service.attestation.submit_statements(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(late) == "deadline_passed"


async def test_a_bank_suspended_in_mid_cycle_is_neither_heard_nor_waited_for(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.registry.step(DELT, Step.SUSPEND, by="alice", reason="in default")
    unheard = service.attestation.submit_statements(DELT, cycle, house.submission(cycle, DELT))
    assert await refused(unheard) == "not_a_participant"
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    assert await service.advance(cycle) is State.FINAL
    assert set(reasons(await result_of(service, cycle)).values()) == {"participant_suspended"}


async def test_a_cap_leaves_a_pair_for_the_next_cycle(found: Found) -> None:
    house = await found(caps={ALFA: {"EUR": 500}})
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {("EUR", (ALFA, BETA)): NET_DEBIT_CAP}
    positions = {p.participant: p for p in (await service.reading.positions(cycle, ALFA)).positions}
    assert (positions[ALFA].net_minor, positions[ALFA].headroom_minor) == ("9778", "10278")
    verify(await service.export(cycle), anchor_of(house))


async def test_what_is_prefunded_widens_a_cap_and_a_bilateral_limit_holds_a_pair_back(found: Found) -> None:
    house = await found(caps={ALFA: {"EUR": 500}})
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
    assert reasons(await result_of(service, cycle)) == {("EUR", (BETA, GAMA)): BILATERAL_LIMIT}
    positions = {p.participant: p for p in (await service.reading.positions(cycle, ALFA)).positions}
    assert (positions[ALFA].net_minor, positions[ALFA].limit_minor, positions[ALFA].headroom_minor) == (
        "-1222",
        "1223",
        "1",
    )
    verify(await service.export(cycle), anchor_of(house))


# --- refusals ---------------------------------------------------------------------------------------------


async def test_submissions_are_refused_by_the_first_reason_that_holds(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    opened = (await service.open_on_demand(None, by="alice")).id
    submit = service.attestation.submit_statements
    assert await refused(submit("NOONEXX0", opened, house.submission(opened, ALFA))) == "not_a_participant"
    assert await refused(submit(ALFA, "2026-01-05-77", house.submission(opened, ALFA))) == "cycle_unknown"
    assert await refused(submit(ALFA, opened, house.submission(opened, ALFA))) == "cycle_not_attesting"
    early = service.attestation.submit_cut(ALFA, opened, house.cut(opened, ALFA))
    assert await refused(early) == "cycle_not_cut_off"

    cycle = await house.cut_off(service)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows

    def one(statement: PositionStatement, signer: str = ALFA) -> Coroutine[Any, Any, Any]:
        return submit(ALFA, cycle, StatementSubmission(statements=(house.sign(signer, statement),)))

    def changed(**flow: Any) -> PositionStatement:
        return msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, **flow), back))

    stranger = dsse.sign(good, SigningKey.generate())
    loose = dsse.seal(b" " + msgspec.json.encode(good), house.sign(ALFA, good).payloadType, house.identity(ALFA).sign)
    refusals = [
        (one(msgspec.structs.replace(good, cycle="2026-01-05-77")), "wrong_cycle"),
        (one(house.statement(cycle, (BETA, GAMA), "EUR")), "wrong_pair"),
        (one(msgspec.structs.replace(good, currency="USD")), "wrong_currency"),
        (submit(ALFA, cycle, StatementSubmission(statements=(stranger,))), "unknown_key"),
        (one(good, BETA), "unknown_key"),
        (submit(ALFA, cycle, StatementSubmission(statements=(loose,))), "not_canonical"),
        (one(changed(count=7)), "inconsistent"),
        (one(changed(amount_minor="9" * 30)), "inconsistent"),
        (one(msgspec.structs.replace(good, revision=2)), "revision_refused"),
        (one(changed(last_sequence=3)), "sequence_mismatch"),
        (one(changed(first_sequence=2, count=1)), "sequence_mismatch"),
    ]
    assert [await refused(work) for work, _ in refusals] == [reason for _, reason in refusals]
    # Nothing of what was refused is left.
    assert (await service.reading.progress(cycle)).participants[0].statements == 0


async def test_the_same_submission_again_gets_the_same_answer(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))
    first = await house.attest(service, cycle, [ALFA])
    assert await house.attest(service, cycle, [ALFA]) == first
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    await service.advance(cycle)
    # Even when the cycle is over: the answer may have been lost.
    again = await house.attest(service, cycle, [ALFA])
    assert {verdict.status for verdict in again[ALFA]} == {"agreed"}
    await service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))


async def test_two_different_statements_of_one_revision_are_kept_as_evidence(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA])
    other = house.sign(ALFA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    lie = StatementSubmission(statements=(other,), complete=False)
    for _ in range(2):
        assert await refused(service.attestation.submit_statements(ALFA, cycle, lie)) == "equivocation"
    house.pay(BETA, ALFA, "EUR", 1)
    assert await refused(service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))) == "equivocation"
    house.lanes[BETA, ALFA, "EUR"].pop()
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 2
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_one_cycle_at_a_time(found: Found) -> None:
    house = await found()
    service = house.service()
    cycle = await house.cut_off(service)
    following = (await service.reading.current()).id
    assert await refused(service.cut_off(following)) == "cycle_in_progress"
    assert await refused(service.open_on_demand(None, by="alice")) == "cycle_open_already"
    assert (await service.cut_off(cycle)).state is State.ATTESTING
    await house.attest(service, cycle)
    await service.advance(cycle)
    assert (await service.cut_off(following)).state is State.CUT_OFF


# --- checks, four eyes, settlement ------------------------------------------------------------------------


async def test_the_maker_is_never_the_checker(found: Found) -> None:
    house = await found(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})))
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.NETTED
    propose, decide = service.approvals.propose, service.approvals.decide

    first = await propose(cycle, ProposalRequest(action="approve", reason="as every day"), maker="alice")
    confirm = Decision(decision="confirm")
    for name in ("alice", "Alice", " ALICE ", "\uff41lice"):
        assert await refused(decide(first.id, confirm, checker=name)) == "maker_is_checker"
    assert await service.advance(cycle) is State.NETTED
    house.clock.pass_s(3_601)
    assert await refused(decide(first.id, confirm, checker="bob")) == "proposal_expired"

    second = await propose(cycle, ProposalRequest(action="hold", reason="a question is open"), maker="alice")
    assert (await decide(second.id, confirm, checker="bob")).status == "confirmed"
    assert (await decide(second.id, confirm, checker="bob")).status == "confirmed"
    assert await refused(decide(second.id, confirm, checker="carol")) == "proposal_decided"
    assert await service.advance(cycle) is State.HELD
    approve = ProposalRequest(action="approve", reason="all fine")
    assert await refused(propose(cycle, approve, maker="bob")) == "action_impossible"
    third = await propose(cycle, ProposalRequest(action="release", reason="answered"), maker="bob")
    assert (await decide(third.id, Decision(decision="reject", reason="not yet"), checker="carol")).status == "rejected"
    fourth = await propose(cycle, ProposalRequest(action="release", reason="answered"), maker="bob")
    await decide(fourth.id, confirm, checker="carol")
    # A release is no approval.
    assert await service.advance(cycle) is State.NETTED
    fifth = await propose(cycle, approve, maker="alice")
    await decide(fifth.id, confirm, checker="bob")
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_the_database_refuses_a_maker_who_checks(found: Found) -> None:
    house = await found(rulebook(approval=ApprovalRule(mode="always", thresholds_minor={})))
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    await service.advance(cycle)
    await service.approvals.propose(cycle, ProposalRequest(action="approve", reason="x"), maker="alice")
    with pytest.raises(Exception, match="maker_is_never_checker"):
        async with transaction(house.engine) as conn:
            await conn.execute(text("UPDATE proposals SET decision='confirm', decided_by=made_by, decided_at=now()"))


@pytest.mark.parametrize("mode", ["never", "above", "always"])
async def test_a_failed_check_holds_the_cycle_until_two_people_release_it(found: Found, mode: str) -> None:
    approval = ApprovalRule(mode=mode, thresholds_minor={"EUR": "1000000", "JPY": "1000000"})  # type: ignore[arg-type]
    house = await found(rulebook(checks=severe(completeness="fail"), approval=approval))
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, BETA, GAMA])
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.HELD
    verdicts = {check.name: check.verdict for check in (await service.reading.checks(cycle)).checks}
    assert verdicts == {
        "conservation": "pass",
        "completeness": "fail",
        "net_debit_caps": "pass",
        "bilateral_limits": "pass",
        "screening_attested": "pass",
        "aggregate_flow": "pass",
    }
    proposal = await service.approvals.propose(cycle, ProposalRequest(action="release", reason="known"), maker="alice")
    await service.approvals.decide(proposal.id, Decision(decision="confirm"), checker="bob")
    if mode != "never":
        assert await service.advance(cycle) is State.NETTED
        approve = ProposalRequest(action="approve", reason="and so be it")
        proposal = await service.approvals.propose(cycle, approve, maker="alice")
        await service.approvals.decide(proposal.id, Decision(decision="confirm"), checker="bob")
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_a_shortfall_defers_and_the_retry_settles(found: Found) -> None:
    house = await found(funds=0)
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.DEFERRED
    assert await service.advance(cycle) is State.DEFERRED
    before = await outcome(service, cycle)
    for bank in BANKS:
        for currency in ("EUR", "JPY"):
            await house.books.fund(bank, currency, 100_000)
    house.clock.pass_s(31)
    assert await service.advance(cycle) is State.FINAL
    assert len(house.books.asked) == 2
    assert await outcome(service, cycle) == before
    assert (await service.reading.progress(cycle)).settlement_attempts == 2


async def test_when_attempts_are_used_up_everything_is_carried_over(found: Found) -> None:
    house = await found(rulebook(settlement=SettlementRule(retry_interval_s=30, attempts_max=2)), funds=0)
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


async def test_what_the_agent_rejects_is_for_people_to_decide(found: Found) -> None:
    house = await found()
    house.pay(ALFA, BETA, "EUR", 5)
    service = house.service()
    # A bank without an account at the agent: a settlement that can never work as it is.
    stranger = "STRAFRPP"
    await house.admit(stranger)
    house.pay(stranger, ALFA, "EUR", 7)
    cycle = await house.cut_off(service, [*BANKS, stranger])
    await house.attest(service, cycle, [*BANKS, stranger])
    assert await service.advance(cycle) is State.HELD
    await house.books.open([stranger], ["EUR"], 100)
    proposal = await service.approvals.propose(
        cycle, ProposalRequest(action="release", reason="the account is open now"), maker="alice"
    )
    await service.approvals.decide(proposal.id, Decision(decision="confirm"), checker="bob")
    assert await service.advance(cycle) is State.FINAL


# --- crashes and replicas ---------------------------------------------------------------------------------


async def test_a_crash_between_any_two_steps_changes_nothing(found: Found) -> None:
    house = await found()
    trade(house)
    cycle = await house.cut_off(house.service())
    await house.attest(house.service(), cycle)
    states: list[CycleState] = []
    # Every step is taken by a replica that has never seen the cycle.
    while await house.service().steps.step(cycle):
        states.append((await house.service().reading.cycle(cycle)).message().state)
    assert states == ["matched", "netted", "approved", "instructed", "settled", "final"]
    assert len(house.books.asked) == 1
    assert sorted((await house.books.balances()).values()) == sorted(
        10**9 + net for net in (-1222, -1000, 2999, -777, -250, -51, 301, 0)
    )


async def test_an_answer_lost_in_a_crash_is_asked_for_again_and_settles_once(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle)
    while (await service.reading.cycle(cycle)).state is not State.INSTRUCTED:
        await service.steps.step(cycle)

    class CrashError(Exception):
        pass

    class LosesTheAnswer(Books):
        async def settle(self, message_id: str, message: bytes) -> Any:
            await super().settle(message_id, message)
            raise CrashError

    dying = House(**{**vars(house), "books": LosesTheAnswer(house.books.ledger)}).service()
    with pytest.raises(CrashError):
        await dying.steps.step(cycle)
    balances = await house.books.balances()
    assert await house.service().advance(cycle) is State.FINAL
    assert await house.books.balances() == balances


async def test_two_replicas_take_each_step_once(found: Found) -> None:
    house = await found()
    trade(house)
    cycle = await house.cut_off(house.service())
    await house.attest(house.service(), cycle)
    replicas = [house.service() for _ in range(4)]
    assert set(await asyncio.gather(*(replica.advance(cycle) for replica in replicas))) == {State.FINAL}
    kinds = await events_of(house, cycle)
    assert len(kinds) == len(set(kinds))
    following = (await replicas[0].reading.current()).id
    states = await asyncio.gather(*(replica.cut_off(following) for replica in replicas))
    assert {one.state for one in states} == {State.CUT_OFF}
    assert (await events_of(house, following)).count("cycle.cut_off") == 1


async def test_replicas_open_a_slot_once(found: Found) -> None:
    house = await found()
    service = house.service()
    day = house.clock().date()
    opened = await asyncio.gather(*(house.service().open_slot(day, 1) for _ in range(4)))
    assert {one.id for one in opened if one} == {f"{day}-01"}
    assert (await events_of(house, f"{day}-01")) == ["cycle.opened"]
    assert await refused(service.open_slot(day, 2)) == "cycle_open_already"


async def test_the_driver_moves_a_cycle_as_soon_as_the_last_bank_has_attested(found: Found) -> None:
    house = await found()
    trade(house)
    service = house.service()
    driver = Driver(service, look_every_s=60)
    driver.start()
    try:
        cycle = (await service.open_on_demand(None, by="alice")).id
        await service.cut_off(cycle)
        for bank in BANKS:
            await service.attestation.submit_cut(bank, cycle, house.cut(cycle, bank))
        await until(service, cycle, State.ATTESTING)
        await house.attest(service, cycle)
        await until(service, cycle, State.FINAL)
    finally:
        await driver.stop()


async def until(service: CycleService, cycle: str, state: State) -> None:
    async with asyncio.timeout(20):
        while (await service.reading.cycle(cycle)).state is not state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
