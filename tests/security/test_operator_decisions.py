"""Who would decide in an operator's name: a thief of tokens, another operator, the coordinator itself."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))

from running_coordinator import AGENT, ALPHA, BRAVO, COORDINATOR, Bank, Coordinator, on_demand, running_coordinator

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey, VerifyingKey
from compliance.cycle.approval import Action
from compliance.decisions import cycle_act
from compliance.export.archive import unpack
from compliance.export.files import from_files
from compliance.export.manifest import build_export
from compliance.export.record import CycleRecord
from compliance.statements import Act, ActKind, OperatorRegister
from compliance.trust import Anchor
from compliance.verifier.verify import VerificationError, verify_bytes
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.identity.deciding import DecidingKey, act_of
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.participants import ParticipantView
from gateway.federation.messages.proposals import ActProposal, Decision, Proposals, ProposalView
from tests.conftest import NewDatabase


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    url = await new_database("gateway.coordinator")
    async with running_coordinator(url, tmp_path, rulebook=on_demand(cut_deadline_s=600)) as running:
        for name in ("alice", "bob", "carol"):
            await running.client_key(name, "operator")
        yield running


@dataclass
class Caller:
    """Whoever holds a token of an operator's, and signs by any key that it has."""

    coordinator: Coordinator
    token_of: str
    key: SigningKey

    def pen(self, operator: str | None = None) -> DecidingKey:
        return DecidingKey(operator=operator or self.token_of, coordinator=COORDINATOR, key=self.key)

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        keys, url = self.coordinator.keys, self.coordinator.url
        async with FederationClient(self.token_of, keys[self.token_of], url) as client:
            return await client.request(method, url + path, audience=COORDINATOR, json=body)

    async def refused(self, method: str, path: str, body: Any) -> str:
        with pytest.raises(RemoteProblem) as problem:
            await self.send(method, path, body)
        return problem.value.code

    async def propose(self, cycle: str, action: Any = "abandon") -> ProposalView:
        request = self.pen().proposal(action, cycle, result=None, reason="looked at")
        answer = await self.send("POST", f"/cycles/{cycle}/proposals", request)
        return msgspec.json.decode(answer.content, type=ProposalView)

    async def confirm(self, made: ProposalView) -> None:
        await self.send("POST", f"/proposals/{made.id}/decision", self.pen().decision(made, "confirm", reason="seen"))


def operator(coordinator: Coordinator, name: str) -> Caller:
    return Caller(coordinator, name, coordinator.keys[name])


async def a_cut_cycle(coordinator: Coordinator) -> str:
    """A cycle that can be abandoned: it waits for a bank's cut, which doesn't come."""
    await coordinator.admit(ALPHA)
    alice = operator(coordinator, "alice")
    answer = await alice.send("POST", "/cycles", {})
    cycle = msgspec.json.decode(answer.content, type=Cycle).id
    await alice.send("POST", f"/cycles/{cycle}/cut-off")
    return cycle


# --- who holds a token and not the key ------------------------------------------------------------------------


async def test_a_token_alone_decides_nothing(coordinator: Coordinator) -> None:
    cycle = await a_cut_cycle(coordinator)
    thief = Caller(coordinator, "alice", SigningKey.generate())
    path = f"/cycles/{cycle}/proposals"
    abandoning = thief.pen().proposal("abandon", cycle, result=None, reason="mine now")
    assert await thief.refused("POST", path, replace(abandoning, signed=None)) == "decision_unsigned"
    assert await thief.refused("POST", path, abandoning) == "decision_refused"
    # Nor does the thief's own operator's key do, under alice's token, nor alice's name under another token.
    bob = Caller(coordinator, "alice", coordinator.keys["bob"])
    for pen in (bob.pen("alice"), bob.pen("bob")):
        forged = pen.proposal("abandon", cycle, result=None, reason="mine now")
        assert await bob.refused("POST", path, forged) == "decision_refused"
    suspension = thief.pen().act(
        Act(kind=ActKind.MEMBER_SUSPEND, subject=ALPHA, before={"status": "active"}), reason="mine now"
    )
    assert await thief.refused("POST", "/proposals", suspension) == "decision_refused"
    made = await operator(coordinator, "bob").propose(cycle)
    confirming = thief.pen().decision(made, "confirm")
    for decision in (confirming, Decision(decision="confirm")):
        code = await thief.refused("POST", f"/proposals/{made.id}/decision", decision)
        assert code == ("decision_refused" if decision.signed else "decision_unsigned")


async def test_a_signature_is_over_this_act(coordinator: Coordinator) -> None:
    """What was signed is neither for another cycle, another result, another action, nor for another time."""
    cycle = await a_cut_cycle(coordinator)
    alice = operator(coordinator, "alice")
    path = f"/cycles/{cycle}/proposals"
    for request in (
        alice.pen().proposal("abandon", "2020-01-01-01", result=None, reason="r"),
        alice.pen().proposal("abandon", cycle, result="7" * 64, reason="r"),
        replace(alice.pen().proposal("release", cycle, result=None, reason="r"), action="abandon"),
        replace(alice.pen().proposal("abandon", cycle, result=None, reason="r"), reason="another"),
        DecidingKey(operator="alice", coordinator="OTHRXXC0", key=alice.key).proposal(
            "abandon", cycle, result=None, reason="r"
        ),
    ):
        assert await alice.refused("POST", path, request) == "decision_refused"

    long_ago = datetime.now(UTC) - timedelta(minutes=11)
    old = DecidingKey(operator="alice", coordinator=COORDINATOR, key=alice.key, now=lambda: long_ago)
    assert await alice.refused("POST", path, old.proposal("abandon", cycle, result=None, reason="r")) == (
        "decision_too_old"
    )


async def test_a_signature_decides_once(coordinator: Coordinator) -> None:
    cycle = await a_cut_cycle(coordinator)
    alice, bob = operator(coordinator, "alice"), operator(coordinator, "bob")
    first = await alice.propose(cycle)
    again = alice.pen().proposal("abandon", cycle, result=None, reason="looked at")
    again = replace(again, signed=first.proposed)
    assert await bob.refused("POST", f"/cycles/{cycle}/proposals", again) == "decision_refused"
    assert await alice.refused("POST", f"/cycles/{cycle}/proposals", again) == "decision_known"
    # What bob said to one proposal, he didn't say to another over the same act.
    second = await alice.propose(cycle)
    to_first = bob.pen().decision(first, "confirm", reason="seen")
    assert await bob.refused("POST", f"/proposals/{second.id}/decision", to_first) == "decision_refused"
    to_reject = bob.pen().decision(second, "reject", reason="no")
    turned = replace(to_reject, decision="confirm")
    assert await bob.refused("POST", f"/proposals/{second.id}/decision", turned) == "decision_refused"
    await bob.confirm(second)


# --- changes of the registry ----------------------------------------------------------------------------------


async def test_nobody_changes_the_registry_alone(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA)
    alice, bob = operator(coordinator, "alice"), operator(coordinator, "bob")

    async def status() -> str:
        answer = await alice.send("GET", f"/participants/{ALPHA}")
        return msgspec.json.decode(answer.content, type=ParticipantView).status

    made = await coordinator.propose_act(ActKind.MEMBER_SUSPEND, ALPHA)
    own = alice.pen().decision(made, "confirm")
    assert await alice.refused("POST", f"/proposals/{made.id}/decision", own) == "maker_is_checker"
    assert await status() == "active"
    waiting = msgspec.json.decode((await bob.send("GET", "/proposals")).content, type=Proposals)
    assert [one.id for one in waiting.proposals] == [made.id]
    # The act that is done is the one that both have signed, so another can't be slipped in between them.
    other = canonical.encode(Act(kind=ActKind.MEMBER_LEAVE, subject=ALPHA)).decode()
    slipped = bob.pen().decision(replace(made, shown=other), "confirm")
    assert await bob.refused("POST", f"/proposals/{made.id}/decision", slipped) == "decision_refused"
    await bob.confirm(made)
    assert await status() == "suspended"
    # Withdrawn by whoever made it, and by nobody else; then nobody confirms it.
    second = await coordinator.propose_act(ActKind.MEMBER_ACTIVATE, ALPHA)
    assert await bob.refused("POST", f"/proposals/{second.id}/withdrawal", None) == "not_the_maker"
    await alice.send("POST", f"/proposals/{second.id}/withdrawal")
    late = bob.pen().decision(second, "confirm")
    assert await bob.refused("POST", f"/proposals/{second.id}/decision", late) == "proposal_decided"
    assert await status() == "suspended"


async def test_both_sign_what_is_changed_from(coordinator: Coordinator) -> None:
    """Each value that there is before, in the act that both sign; nothing where there is none."""
    await coordinator.admit(ALPHA)
    await coordinator.admit(BRAVO)
    view = await coordinator.registry.view(ALPHA)
    agent, _, number = str(view.settlement_account).partition("/")
    keys = {key.use: key.kid for key in view.keys}
    cap = {"currency": "JPY", "cap_minor": "7"}
    prefunding = {"currency": "JPY", "prefunded_minor": "9", "reserved_minor": "2"}
    limit = {"counterparty": BRAVO, "currency": "JPY", "limit_minor": "5"}
    client = {"role": "auditor", "x": SigningKey.generate().x}
    rows: list[tuple[ActKind, str, dict[str, str], dict[str, str]]] = [
        (ActKind.CAP, ALPHA, cap, {}),
        (ActKind.CAP, ALPHA, {**cap, "cap_minor": "8"}, {"cap_minor": "7"}),
        (ActKind.PREFUNDING, ALPHA, prefunding, {}),
        (ActKind.PREFUNDING, ALPHA, prefunding, {"prefunded_minor": "9", "reserved_minor": "2"}),
        (ActKind.BILATERAL_LIMIT, ALPHA, limit, {}),
        (ActKind.BILATERAL_LIMIT, ALPHA, {"counterparty": BRAVO, "currency": "JPY"}, {"limit_minor": "5"}),
        (ActKind.SETTLEMENT_ACCOUNT, ALPHA, {"agent": agent, "account": "else"}, {"agent": agent, "account": number}),
        (ActKind.KEY_REVOKE, ALPHA, {"kid": keys["auth"]}, {"status": "active"}),
        (ActKind.CLIENT_LET_IN, "otto", client, {}),
        (ActKind.CLIENT_REMOVE, "otto", {}, {"role": "auditor", "kid": VerifyingKey(client["x"]).kid}),
        (ActKind.MEMBER_SUSPEND, ALPHA, {}, {"status": "active"}),
    ]
    for kind, subject, terms, before in rows:
        made = await coordinator.propose_act(kind, subject, **terms)
        assert act_of(made).before == before, kind
        await coordinator.answer(made)


async def test_an_approval_is_of_the_keys_that_were_looked_at(coordinator: Coordinator, tmp_path: Path) -> None:
    """Turned away and invited anew, a bank has other keys: nobody confirms what was signed for the first."""
    first, second = (Bank(MemberIdentity.made("NEWBXXC0", tmp_path / name)) for name in ("first", "second"))
    for applicant in (first, second):
        code = await coordinator.invite("NEWBXXC0")
        await coordinator.registry.apply(applicant.signed_application(invitation=code))
        if applicant is first:
            approval = await coordinator.propose_act(ActKind.MEMBER_APPROVE, "NEWBXXC0")
            assert act_of(approval).before["sign key"] == first.identity.sign.kid
            await coordinator.decided(ActKind.MEMBER_LEAVE, "NEWBXXC0")
    bob = operator(coordinator, "bob")
    confirming = bob.pen().decision(approval, "confirm")
    assert await bob.refused("POST", f"/proposals/{approval.id}/decision", confirming) == "act_before_differs"
    assert (await coordinator.registry.view("NEWBXXC0")).status == "applied"


async def test_what_is_not_changed_from_there_is_not_carried_out(coordinator: Coordinator) -> None:
    """A proposer can't say that there was another value, or leave it out; nor does it count once it has changed."""
    await coordinator.admit(ALPHA)
    alice, bob = operator(coordinator, "alice"), operator(coordinator, "bob")
    await coordinator.decided(ActKind.CAP, ALPHA, currency="JPY", cap_minor="700")
    for before in ({}, {"cap_minor": "7"}, {"cap_minor": "700", "status": "active"}):
        act = Act(kind=ActKind.CAP, subject=ALPHA, terms={"currency": "JPY", "cap_minor": "701"}, before=before)
        assert await alice.refused("POST", "/proposals", alice.pen().act(act, reason="r")) == "act_before_differs"
    raised = await coordinator.propose_act(ActKind.CAP, ALPHA, currency="JPY", cap_minor="701")
    await coordinator.decided(ActKind.CAP, ALPHA, currency="JPY", cap_minor="0")
    confirming = bob.pen().decision(raised, "confirm")
    assert await bob.refused("POST", f"/proposals/{raised.id}/decision", confirming) == "act_before_differs"
    (cap,) = (cap for cap in (await coordinator.registry.view(ALPHA)).caps if cap.currency == "JPY")
    assert cap.cap_minor == "0"


async def test_who_was_removed_decides_nothing_more(coordinator: Coordinator) -> None:
    await coordinator.admit(ALPHA)
    carol, bob = operator(coordinator, "carol"), operator(coordinator, "bob")
    hers = await coordinator.propose_act(ActKind.MEMBER_SUSPEND, ALPHA, maker="carol")
    waiting = await coordinator.propose_act(ActKind.MEMBER_SUSPEND, ALPHA)
    await coordinator.decided(ActKind.CLIENT_REMOVE, "carol")
    # Neither her own proposals, nor her word on others', whatever token she still holds.
    assert await bob.refused("POST", f"/proposals/{hers.id}/decision", bob.pen().decision(hers, "confirm")) == (
        "decision_refused"
    )
    with pytest.raises(Exception):  # noqa: B017, PT011 - the token endpoint refuses, or the decision is refused
        await carol.confirm(waiting)
    register = msgspec.json.decode((await bob.send("GET", "/operators")).content, type=dsse.Envelope)
    keys = {one.kid: one for one in [coordinator.base.identity.sign.verifying_key]}
    known = dsse.verify(register, OperatorRegister, keys)
    assert {one.name: one.status for one in known.operators} == {
        "alice": "active",
        "bob": "active",
        "carol": "removed",
    }
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.propose_act(ActKind.CLIENT_REMOVE, "bob")
    assert problem.value.code == "operators_too_few"


async def test_nobody_is_let_in_as_two_people(coordinator: Coordinator) -> None:
    """Neither by another spelling of a name, nor by the key of somebody who is in."""
    for name in ("Alice", "\u0430lice", "alice ", "ali\u200bce", "\uff41lice"):
        with pytest.raises(RemoteProblem) as problem:
            await coordinator.propose_act(ActKind.CLIENT_LET_IN, name, role="operator", x=SigningKey.generate().x)
        assert problem.value.code == "act_malformed"
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.propose_act(ActKind.CLIENT_LET_IN, "dora", role="operator", x=coordinator.keys["bob"].x)
    assert problem.value.code == "key_known"
    # Nor by a key that somebody had: the register names it as his for ever.
    old = coordinator.keys["carol"]
    await coordinator.decided(ActKind.CLIENT_LET_IN, "carol", role="operator", x=SigningKey.generate().x)
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.propose_act(ActKind.CLIENT_LET_IN, "dora", role="operator", x=old.x)
    assert problem.value.code == "key_known"


async def test_two_operators_remain_whatever_else_others_become(coordinator: Coordinator) -> None:
    """Or else whoever has the machine could act alone, as if the house were being founded."""
    await coordinator.decided(ActKind.CLIENT_LET_IN, "carol", role="auditor", x=SigningKey.generate().x)
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.propose_act(ActKind.CLIENT_LET_IN, "bob", role="auditor", x=SigningKey.generate().x)
    assert problem.value.code == "operators_too_few"


# --- the coordinator itself: exports that it signs anew -------------------------------------------------------


def signed_by(key: SigningKey, record: CycleRecord, action: Action = Action.ABANDON) -> CycleRecord:
    """Return the record with the first proposal's confirmation written by another key in bob's name."""
    proposal = record.proposals[0]
    assert proposal.proposed is not None
    pen = DecidingKey(operator="bob", coordinator=COORDINATOR, key=key)
    act = cycle_act(action, record.cycle, result=proposal.subject_sha256)
    view = ProposalView(
        id=proposal.id,
        cycle=record.cycle,
        action=action.value,
        reason=proposal.reason,
        status="pending",
        subject_sha256=proposal.subject_sha256,
        made_by=proposal.made_by,
        made_at=proposal.made_at,
        shown=canonical.encode(act).decode(),
        proposed=proposal.proposed,
    )
    forged = pen.decision(view, "confirm", reason=proposal.decision_reason).signed
    return replace(record, proposals=(replace(proposal, answered=forged), *record.proposals[1:]))


def with_key(coordinator: Coordinator, record: CycleRecord, key: SigningKey) -> CycleRecord:
    """Return the record with bob's key swapped in the register of operators, signed by the coordinator."""
    register = msgspec.json.decode(record.operators[-1].payload_bytes(), type=OperatorRegister)
    swapped = tuple(replace(one, kid=key.kid, x=key.x) if one.name == "bob" else one for one in register.operators)
    forged = dsse.sign(replace(register, operators=swapped), coordinator.base.identity.sign)
    return replace(record, operators=(*record.operators[:-1], forged))


def swapped(record: CycleRecord) -> CycleRecord:
    first, second = record.proposals
    return replace(
        record,
        proposals=(replace(first, proposed=second.proposed), replace(second, proposed=first.proposed)),
    )


def first(record: CycleRecord, **changes: Any) -> CycleRecord:
    return replace(record, proposals=(replace(record.proposals[0], **changes), *record.proposals[1:]))


async def test_an_export_verifies_whatever_operators_decided_meanwhile(coordinator: Coordinator) -> None:
    """About the registry: proposed and left, rejected, withdrawn, confirmed. What was done is named as unproven."""
    cycle = await a_cut_cycle(coordinator)
    await coordinator.admit(BRAVO)
    alice, bob = operator(coordinator, "alice"), operator(coordinator, "bob")
    cap = {"currency": "EUR", "cap_minor": "5"}
    await coordinator.propose_act(ActKind.CAP, ALPHA, **cap)
    await coordinator.answer(await coordinator.propose_act(ActKind.CAP, BRAVO, **cap), "reject")
    withdrawn = await coordinator.propose_act(ActKind.CAP, BRAVO, **cap)
    await alice.send("POST", f"/proposals/{withdrawn.id}/withdrawal")
    auth = next(key.kid for key in (await coordinator.registry.view(BRAVO)).keys if key.use == "auth")
    prefunded = {"currency": "EUR", "prefunded_minor": "5", "reserved_minor": "1"}
    limit = {"counterparty": BRAVO, "currency": "EUR", "limit_minor": "5"}
    confirmed: list[tuple[ActKind, str, dict[str, str]]] = [
        (ActKind.CAP, BRAVO, cap),
        (ActKind.PREFUNDING, BRAVO, prefunded),
        (ActKind.BILATERAL_LIMIT, ALPHA, limit),
        (ActKind.SETTLEMENT_ACCOUNT, BRAVO, {"agent": AGENT, "account": "X-9"}),
        (ActKind.KEY_REVOKE, BRAVO, {"kid": auth}),
        (ActKind.MEMBER_SUSPEND, BRAVO, {}),
        (ActKind.MEMBER_LEAVE, BRAVO, {}),
        (ActKind.RULEBOOK_ADOPT, COORDINATOR, {"version": "x", "sha256": "0" * 64}),
        (ActKind.CLIENT_LET_IN, "otto", {"role": "auditor", "x": SigningKey.generate().x}),
        (ActKind.CLIENT_REMOVE, "otto", {}),
        (ActKind.CLIENT_REMOVE, "carol", {}),
    ]
    for kind, subject, terms in confirmed:
        await coordinator.decided(kind, subject, **terms)
    await bob.confirm(await alice.propose(cycle))
    export = (await alice.send("GET", f"/cycles/{cycle}/export")).content
    report = verify_bytes(export, Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key))
    (besides,) = (said for said in report.unproven if "what operators did besides" in said)
    for action in (f"cap {BRAVO}", f"suspend {BRAVO}", f"rulebook {COORDINATOR}", "remove_client carol"):
        assert f"{action} alice, bob" in besides


async def test_an_export_with_other_decisions_doesnt_verify(coordinator: Coordinator) -> None:
    cycle = await a_cut_cycle(coordinator)
    alice, bob = operator(coordinator, "alice"), operator(coordinator, "bob")
    made = await alice.propose(cycle)
    rejected = bob.pen().decision(made, "reject", reason="not yet")
    await bob.send("POST", f"/proposals/{made.id}/decision", rejected)
    second = await alice.propose(cycle)
    await bob.confirm(second)
    signer = coordinator.base.identity.sign
    anchor = Anchor.of(COORDINATOR, signer.verifying_key)
    honest = (await alice.send("GET", f"/cycles/{cycle}/export")).content
    report = verify_bytes(honest, anchor)
    assert report.steps[8].detail.endswith("4 decisions signed by their operators")
    files = {name: data for name, data in unpack(honest).items() if not name.startswith("manifest")}
    record = from_files(files)
    assert build_export(record, signer) == honest

    other = SigningKey.generate()
    lies: dict[str, Callable[[], CycleRecord]] = {
        "a signature by a key that isn't bob's": lambda: signed_by(other, record),
        "bob's key swapped beside it": lambda: with_key(coordinator, signed_by(other, record), other),
        "two proposals' signatures swapped": lambda: swapped(record),
        "a proposal unsigned": lambda: first(record, proposed=None),
        "an answer unsigned": lambda: first(record, answered=None),
        "an answer that is the proposal": lambda: first(record, answered=record.proposals[0].proposed),
        "another maker": lambda: first(record, made_by="carol"),
        "another checker": lambda: first(record, decided_by="carol"),
        "a rejection turned": lambda: first(record, decision="confirm"),
        "another reason": lambda: first(record, reason="because"),
        "another result": lambda: first(record, subject_sha256="7" * 64),
        "proposals left out": lambda: replace(record, proposals=record.proposals[1:]),
        "no proposals": lambda: replace(record, proposals=()),
        "no register": lambda: replace(record, operators=()),
        "a register too many": lambda: replace(
            record,
            operators=(
                *record.operators,
                dsse.sign(
                    OperatorRegister(
                        coordinator=COORDINATOR,
                        version=99,
                        supersedes=canonical.digest(record.operators[-1].payload_bytes()),
                        operators=(),
                    ),
                    signer,
                ),
            ),
        ),
    }
    for lie, tell in lies.items():
        forged = build_export(tell(), signer)
        with pytest.raises(VerificationError) as refuted:
            verify_bytes(forged, anchor)
        assert refuted.value.step == 9, lie


def test_a_proposal_of_acts_is_closed() -> None:
    """Nothing beside the signed act gets in with it."""
    body = b'{"act":{"kind":"cap","subject":"ALPHDEF0","terms":{},"more":1},"reason":"r","signed":null}'
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=ActProposal)
