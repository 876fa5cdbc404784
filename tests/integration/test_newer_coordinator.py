"""Members of this release at a coordinator of a later one, which says more than they know, through a whole cycle."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.types import Scope
from rewritten_answers import RewrittenAnswers
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR
from running_desk import Desk, pay, running_desk, settled
from structlog.testing import capture_logs
from support import Live

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import unb64url
from compliance.statements import DATED_TRUST_LIST_TYPE, CycleCut, TrustList
from gateway.federation.http import answers
from gateway.federation.http.client import RemoteProblem
from gateway.federation.membership.trust import TrustError, TrustReason, TrustStore
from gateway.federation.messages.settlement import Funding
from tests.conftest import NewDatabase
from tui import tables
from tui.api import ConsoleApi
from tui.feed import read
from tui.progress import steps

ADDED = {"added_later": {"since": "2.0"}}


class NewerCoordinator(RewrittenAnswers):
    """Adds members to every object of every answer, events to the feed, and words where nothing depends on them."""

    def rewrite(self, scope: Scope, start: Any, body: bytes) -> bytes:
        return newer(scope, body) if is_json(start) else body


def is_json(start: Any) -> bool:
    return any(name.lower() == b"content-type" and b"json" in value for name, value in start["headers"])


def newer(scope: Any, body: bytes) -> bytes:
    """Return an answer as a later release would give it."""
    document, path = json.loads(body), scope["path"]
    if path == "/events" and "events" in document:
        later = [{**event, "type": "cycle.reconciled", "data": {"books": "equal"}} for event in document["events"]]
        document["events"] = [event for pair in zip(document["events"], later, strict=True) for event in pair]
    if role(scope) == "participant" and "state" in document:
        document["state"] = "reconciling"
    if path.endswith("/checks") and "checks" in document:
        document["checks"] = [{**check, "verdict": "excellent"} for check in document["checks"]]
    return json.dumps(grown(document)).encode()


def role(scope: Any) -> str | None:
    """Return the role in the caller's token."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            claims = json.loads(unb64url(value.decode().split(".")[1]))
            return str(claims["role"])
    return None


def grown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: grown(inner) for name, inner in value.items()} | ADDED
    return [grown(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    agent_database = await new_database("gateway.agent")
    async with running_desk(postgres_url, agent_database, tmp_path, live, wrap=NewerCoordinator) as running:
        yield running


async def test_a_cycle_to_finality_and_posting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    town = desk.town
    alpha, bravo, carlo = town.alpha, town.bravo, town.carlo
    before = {bank.bic: await bank.balance(AGENT, kind="nostro") for bank in (alpha, bravo, carlo)}
    funding = Funding(id="f" * 8 + "-0000-4000-8000-000000000000", currency="EUR", amount_minor="1000")
    await desk.at_agent(f"/accounts/{ALPHA}/funding", funding)
    with capture_logs() as lines:
        monkeypatch.setattr(answers, "_logged", defaultdict(set))
        await pay(alpha, bravo, 500)
        await pay(bravo, carlo, 300)
        await pay(carlo, alpha, 100)
        cycle = await desk.netted()
        await desk.decide(cycle, "approve")
        await desk.until(cycle, "final")
        await settled(alpha, before[ALPHA] + 1_000 - 400)
        await settled(bravo, before[BRAVO] + 200)
        await settled(carlo, before[CARLO] + 200)

        # The console shows what it knows, and words that it doesn't know as they are.
        api = ConsoleApi(desk.alice, coordinator_url=town.coordinator.url, coordinator_bic=COORDINATOR)
        snapshot = await read(api, cycle, (await api.events(0, wait_s=0)).events)
        assert snapshot.state == "final"
        assert snapshot.checks is not None
        assert {row.cells[1].text for row in tables.checks(snapshot.checks).rows if "/" not in row.key} == {"excellent"}
        assert "cycle.reconciled" in {event.type for event in snapshot.events}

    told = Counter(
        (line["type"], line["member"], line.get("word")) for line in lines if line["event"] == "unknown in an answer"
    )
    assert set(told.values()) == {1}
    assert {
        ("Events", "added_later", None),
        ("Event", "added_later", None),
        ("Event", "type", "cycle.reconciled"),
        ("Cycle", "state", "reconciling"),
        ("SenderCuts", "added_later", None),
        ("Envelope", "added_later", None),
        ("Signature", "added_later", None),
        ("CheckView", "verdict", "excellent"),
        ("AccessToken", "added_later", None),
    } <= told.keys()
    assert {line["peer"] for line in lines if line["event"] == "unknown in an answer"} <= {
        COORDINATOR,
        town.coordinator.url.removeprefix("http://"),
    }


async def test_requests_and_documents_stay_closed(desk: Desk) -> None:
    town = desk.town
    url, key = town.coordinator.url, town.alpha.sign
    cycle = (await desk.get("/cycles/current", msgspec.defstruct("Current", [("id", str)]))).id

    async def refused(method: str, path: str, body: Any) -> RemoteProblem:
        with pytest.raises(RemoteProblem) as problem:
            await town.alpha.node.client.request(method, url + path, audience=COORDINATOR, json=body)
        return problem.value

    cut = msgspec.to_builtins(CycleCut(cycle=cycle, receiver=ALPHA, lanes=()))
    good = dsse.sign(CycleCut(cycle=cycle, receiver=ALPHA, lanes=()), key)
    more = dsse.seal(canonical.encode(cut | ADDED), good.document_type, key)
    answer = await refused("PUT", f"/cycles/{cycle}/cuts", msgspec.to_builtins(good) | ADDED)
    assert (answer.status, answer.code) == (400, "validation_failed")
    for path, body in (
        (f"/cycles/{cycle}/attestations", {"attestation": msgspec.to_builtins(good), **ADDED}),
        ("/instructions/acknowledgements", msgspec.to_builtins(good) | ADDED),
    ):
        answer = await refused("POST", path, body)
        assert (answer.status, answer.code) == (400, "validation_failed"), path
    with pytest.raises(RemoteProblem, match="validation_failed"):
        await desk.alice.request("POST", f"{url}/cycles", audience=COORDINATOR, json=ADDED)

    await desk.alice.request("POST", f"{url}/cycles/{cycle}/cut-off", audience=COORDINATOR)
    answer = await refused("PUT", f"/cycles/{cycle}/cuts", more)
    assert (answer.status, answer.code) == (422, "schema_violation")
    assert (await town.alpha.send("POST", "/accounts", {"accounts": [], **ADDED})).status_code == 400
    assert (await town.deliver(json.dumps(ADDED).encode())).status_code == 400


async def test_a_signed_document_in_an_answer_stays_closed(desk: Desk) -> None:
    """More in what is signed would be more that somebody stands for, and nobody has understood."""
    house = desk.town.coordinator.base.identity.sign
    envelope = await desk.alice.get(f"{desk.town.coordinator.url}/v2/trust-list", dsse.Envelope, audience=None)
    trust = TrustStore(desk.town.alpha.node.trust.anchor)
    assert trust.update(envelope)
    keys = {house.kid: house.verifying_key}
    current = msgspec.to_builtins(dsse.verify(envelope, TrustList, keys, payload_type=DATED_TRUST_LIST_TYPE))
    later = canonical.encode({**current, "version": current["version"] + 1, **ADDED})
    with pytest.raises(TrustError, match="schema_violation") as refused:
        trust.update(dsse.seal(later, envelope.document_type, house))
    assert refused.value.reason is TrustReason.UNVERIFIED
    assert b64encode(later).decode() != envelope.payload
    assert steps("reconciling") == (("▶reconciling", "warn"),)
