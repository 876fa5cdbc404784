"""What the coordinator shows a participant of others, by route, role and standing; over HTTP, after a real netting.

| caller | why each yes is a yes |
|---|---|
| operator | runs the clearing house |
| auditor | verifies it, and needs the whole record; who has applied is no part of it |
| active | what is its own, and what the trust list tells everybody |
| suspended | what it needs to settle what it owes, and its own entry |
| approved | that it waits to become active |
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, Coordinator, on_demand, running_coordinator

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle.commitment import commit, is_proven
from compliance.cycle.positions import verify_proven
from compliance.statements import ResultCommitment
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.messages.attestation import AgreedPosition
from gateway.federation.messages.cycles import Cycle, CyclePage, OpenCycle, Positions, ResultProof
from gateway.federation.messages.events import Events
from gateway.federation.messages.participants import ParticipantPage, ParticipantView
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from tests.console.banks import take_part

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPROVED, APPLIED = "DELTESM0", "ECHOGB20"
CALLERS = ("operator", "auditor", "active", "suspended", "approved")


@dataclass
class Scene:
    """A netted cycle of ALPHA and BRAVO; CARLO is suspended, APPROVED approved, APPLIED has applied."""

    coordinator: Coordinator
    clients: dict[str, FederationClient]
    cycle: str

    async def get(self, caller: str, path: str, kind: Any, **params: Any) -> Any:
        url = self.coordinator.url + path.format(cycle=self.cycle)
        return await self.clients[caller].get(url, kind, audience=COORDINATOR, params=params)

    async def status(self, caller: str, path: str) -> int:
        url = self.coordinator.url + path.format(cycle=self.cycle)
        try:
            answer = await self.clients[caller].request("GET", url, audience=COORDINATOR)
        except RemoteProblem as problem:
            return problem.status
        return answer.status_code


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    name, directory = "what_a_participant_sees", tmp_path_factory.mktemp("scene")
    url = await create_database(postgres_url, name)
    await migrate(url, "gateway.coordinator")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drop_database, postgres_url, name)
        yield await _set(stack, url, directory)


async def _set(stack: AsyncExitStack, url: str, directory: Path) -> Scene:
    coordinator = await stack.enter_async_context(running_coordinator(url, directory, rulebook=on_demand()))
    banks = await coordinator.admit(ALPHA, BRAVO, CARLO, caps_minor={"EUR": 10**6})
    clients = {
        "operator": await coordinator.operator("alice"),
        "auditor": await coordinator.operator("otto", "auditor"),
        "active": coordinator.client(banks[0]),
        "suspended": coordinator.client(banks[2]),
        "approved": coordinator.client(coordinator.bank(APPROVED)),
    }
    for client in clients.values():
        await stack.enter_async_context(client)
    for bic in (APPROVED, APPLIED):
        invitation = await coordinator.invite(bic)
        await coordinator.registry.apply(coordinator.bank(bic).signed_application(invitation=invitation))
    await coordinator.registry.step(APPROVED, Step.APPROVE, by="alice", reason="known")
    await coordinator.registry.step(CARLO, Step.SUSPEND, by="alice", reason="late")
    scene = Scene(coordinator, clients, "")
    opened = await clients["operator"].post(f"{coordinator.url}/cycles", Cycle, audience=COORDINATOR, json=OpenCycle())
    scene.cycle = opened.id
    await clients["operator"].request("POST", f"{coordinator.url}/cycles/{opened.id}/cut-off", audience=COORDINATOR)
    await take_part(coordinator, banks[:2], opened.id)
    after = 0
    while True:
        page = await scene.get("operator", "/events", Events, after=after, wait_s=10)
        if any(event.type == "cycle.netted" for event in page.events):
            return scene
        after = page.next


# The status that each caller gets, in the order of CALLERS.
MATRIX: dict[str, tuple[int, int, int, int, int]] = {
    "/cycles": (200, 200, 200, 403, 403),
    "/cycles/current": (200, 200, 200, 403, 403),
    "/cycles/{cycle}": (200, 200, 200, 403, 403),
    "/cycles/{cycle}/cuts": (403, 403, 200, 403, 403),
    "/cycles/{cycle}/breaks": (200, 200, 200, 403, 403),
    "/cycles/{cycle}/progress": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/positions": (200, 200, 200, 200, 403),
    "/cycles/{cycle}/positions/" + f"{BRAVO}/{ALPHA}/EUR": (200, 200, 200, 404, 403),
    "/cycles/{cycle}/positions/" + f"{BRAVO}/{ALPHA}/CHF": (404, 404, 404, 404, 403),
    "/cycles/{cycle}/checks": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/result": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/proof": (200, 200, 200, 200, 403),
    "/cycles/{cycle}/certificates": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/finality": (404, 404, 404, 404, 403),
    "/cycles/{cycle}/export": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/proposals": (200, 200, 403, 403, 403),
    "/cycles/{cycle}/default?participant=" + ALPHA: (200, 200, 403, 403, 403),
    "/cycles/{cycle}/instructions": (200, 200, 200, 200, 403),
    "/cycles/{cycle}/deliveries": (200, 200, 403, 403, 403),
    "/participants": (200, 200, 200, 200, 200),
    f"/participants/{BRAVO}": (200, 200, 200, 200, 200),
    f"/participants/{APPLIED}": (200, 404, 404, 404, 404),
    "/events": (200, 200, 200, 200, 200),
    # Its own, whatever its standing: by this a bank finds out that it runs on an old backup.
    "/submissions/latest": (403, 403, 200, 200, 200),
    "/instructions": (403, 403, 200, 200, 403),
    "/exposure-limits": (403, 403, 200, 403, 403),
    "/proposals": (200, 200, 403, 403, 403),
    "/operators": (200, 200, 403, 403, 403),
    "/trust-list": (200, 200, 200, 200, 200),
    "/v2/trust-list": (200, 200, 200, 200, 200),
    "/trust-list/confirmation": (200, 200, 200, 200, 200),
}


@pytest.mark.parametrize("path", MATRIX)
async def test_a_route_answers(scene: Scene, path: str) -> None:
    statuses = tuple([await scene.status(caller, path) for caller in CALLERS])
    # A default is weighed of a cycle whose agent was short of money; here the question alone is refused.
    assert tuple(200 if status == 409 else status for status in statuses) == MATRIX[path]


async def test_what_an_active_participant_reads_names_no_other_s_numbers(scene: Scene) -> None:
    mine, whole = [
        next(one for one in (await scene.get(caller, "/cycles", CyclePage)).items if one.cycle.id == scene.cycle)
        for caller in ("active", "auditor")
    ]
    assert (mine.pairs.agreed, mine.totals) == (1, ())
    assert whole.totals
    positions = await scene.get("active", "/cycles/{cycle}/positions", Positions)
    assert {position.participant for position in positions.positions} == {ALPHA}
    events = (await scene.get("active", "/events", Events, limit=1000)).events
    everything = {event.id: event for event in (await scene.get("operator", "/events", Events, limit=1000)).events}
    assert {event.data["bic"] for event in events if event.type == "cap.changed"} == {ALPHA}
    told_of = {event.data["bic"] for event in events if event.type == "participant.changed" and "bic" in event.data}
    assert APPLIED not in told_of
    (netted,) = (event for event in events if event.type == "cycle.netted")
    assert set(netted.data) == {"state", "happening", "result"}
    assert {"liquidity", "warned"} <= set(everything[netted.id].data)
    for event in events:
        assert set(event.data) <= set(everything[event.id].data)
        assert not {"absent", "agreed", "carried_over", "failed", "liquidity", "instructions", "by"} & set(event.data)


@pytest.mark.parametrize("caller", CALLERS)
async def test_operators_alone_see_who_has_applied(scene: Scene, caller: str) -> None:
    shown = {one.bic for one in (await scene.get(caller, "/participants", ParticipantPage)).items}
    assert (APPLIED in shown) is (caller == "operator")
    assert {ALPHA, BRAVO, CARLO, APPROVED} <= shown
    events = (await scene.get(caller, "/events", Events, limit=1000)).events
    assert any(event.data.get("bic") == APPLIED for event in events) is (caller == "operator")


async def test_limits_and_accounts_are_their_participant_s(scene: Scene) -> None:
    other = await scene.get("active", f"/participants/{BRAVO}", ParticipantView)
    assert (other.caps, other.settlement_account, other.last_seen_at) == ((), None, None)
    own = await scene.get("active", f"/participants/{ALPHA}", ParticipantView)
    assert own.caps
    assert own.settlement_account


async def test_a_suspended_participant_reads_what_it_settles_by(scene: Scene) -> None:
    types = {event.type for event in (await scene.get("suspended", "/events", Events, limit=1000)).events}
    assert {"trust_list.published", "cycle.matched"} <= types
    assert types.isdisjoint({"cycle.opened", "cycle.cut_off", "cycle.attesting", "cycle.netted", "cap.changed"})
    waiting = {event.type for event in (await scene.get("approved", "/events", Events, limit=1000)).events}
    assert waiting == {"trust_list.published", "participant.changed"}


async def test_each_sees_its_own_lines_with_their_way_up_to_one_root(scene: Scene) -> None:
    key = scene.coordinator.base.identity.sign.verifying_key
    result = commit(await scene.get("operator", "/cycles/{cycle}/result", Envelope))
    proofs = {caller: await scene.get(caller, "/cycles/{cycle}/proof", ResultProof) for caller in CALLERS[:4]}
    for proof in proofs.values():
        commitment = dsse.verify(proof.commitment, ResultCommitment, {key.kid: key})
        assert commitment == result.document
        assert all(is_proven(leaf, commitment) for leaf in proof.leaves)
    assert {bank for leaf in proofs["active"].leaves for bank in leaf.line.about} == {ALPHA, BRAVO}
    own = [leaf.line.position for leaf in proofs["active"].leaves if leaf.line.position is not None]
    assert {position.participant for position in own} == {ALPHA}
    assert proofs["suspended"].leaves == ()
    assert proofs["auditor"].leaves == result.shown_to(None)


async def test_a_pair_sees_what_both_its_banks_signed(scene: Scene) -> None:
    keys = [scene.coordinator.bank(bic).identity.sign for bic in (ALPHA, BRAVO)]
    path = "/cycles/{cycle}/positions/" + f"{ALPHA}/{BRAVO.lower()}/EUR"
    shown = await scene.get("active", path, AgreedPosition)
    assert shown == await scene.get("auditor", path, AgreedPosition)
    signed = [verify_proven(of, {key.kid: key.verifying_key}) for of, key in zip(shown.proven, keys, strict=True)]
    assert [attestation.participant for attestation, _ in signed] == [ALPHA, BRAVO]
    assert signed[0][1] == signed[1][1]


async def test_who_is_suspended_loses_sight_and_gets_it_back(scene: Scene) -> None:
    """At once: within the second for which a standing is taken to be the present one."""
    registry = scene.coordinator.registry
    for step, expected in ((Step.SUSPEND, 403), (Step.ACTIVATE, 200)):
        await registry.step(ALPHA, step, by="alice", reason="drill")
        async with asyncio.timeout(20):
            while await scene.status("active", "/cycles/{cycle}/breaks") != expected:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
