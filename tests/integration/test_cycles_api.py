"""Cycles over HTTP: the coordinator and the settlement agent on real sockets, each on its own database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.statements import Receipt, SettlementInstruction
from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.agent.app import build_app
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.messages.attestation import Breaks, SenderCuts
from gateway.federation.messages.cycles import (
    Checks,
    Cycle,
    CyclePage,
    CycleProgress,
    InstructionView,
    OpenCycle,
    Positions,
)
from gateway.federation.messages.events import Events
from gateway.federation.messages.proposals import ProposalView
from gateway.federation.messages.settlement import AccountOpening
from gateway.federation.settings import NodeSettings
from tests.conftest import NewDatabase
from tests.console.banks import take_part
from tests.integration.running_coordinator import (
    AGENT,
    ALPHA,
    BRAVO,
    COORDINATOR,
    Bank,
    Coordinator,
    on_demand,
    running_coordinator,
)


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=on_demand()) as one:
        yield one


@pytest.fixture
async def agent(coordinator: Coordinator, new_database: NewDatabase, tmp_path: Path, live: Any) -> str:
    """A settlement agent with accounts of both banks; returns its URL."""
    database_url = await new_database("gateway.agent")
    data_dir = tmp_path / AGENT
    anchor = Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key)
    anchor.write(tmp_path / "anchor.json")

    def build(url: str) -> Any:
        settings = NodeSettings(
            bic=AGENT,
            url=url,
            port=int(url.rpartition(":")[2]),
            data_dir=data_dir,
            anchor=tmp_path / "anchor.json",
            coordinator_url=coordinator.url,
        )
        return build_app(settings, database_url)

    identity = MemberIdentity.made(AGENT, data_dir / "keys")
    url: str = live(build)
    member = Bank(identity, url)
    await coordinator.registry.admit(
        member.application(account=None), kind="agent", caps_minor={}, by="test", reason="set up"
    )
    token = issue_access_token(
        key=member.identity.token, issuer=url, subject="dora", audience=AGENT, client_id="dora", role="staff"
    )
    async with FederationClient("dora", member.identity.auth, url) as staff:
        for bank in (ALPHA, BRAVO):
            opening = AccountOpening(participant=bank, currency="EUR", overdraft_limit_minor="1000000")
            await staff.request(
                "POST",
                f"{url}/accounts",
                audience=None,
                json=opening,
                headers={"Authorization": f"Bearer {token}"},
            )
    return url


async def test_a_cycle_over_http_from_opening_to_finality(coordinator: Coordinator, agent: str) -> None:
    banks = await coordinator.admit(ALPHA, BRAVO, caps_minor={"EUR": 10**6})
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(await coordinator.operator("alice"))
        bob = await stack.enter_async_context(await coordinator.operator("bob"))
        alpha = await stack.enter_async_context(coordinator.client(banks[0]))

        async def get(path: str, kind: Any, client: FederationClient = alice) -> Any:
            return await client.get(f"{coordinator.url}{path}", kind, audience=COORDINATOR)

        async def post(path: str, kind: Any, body: Any, client: FederationClient = alice) -> Any:
            return await client.post(f"{coordinator.url}{path}", kind, audience=COORDINATOR, json=body)

        opened = await post("/cycles", Cycle, OpenCycle())
        assert (opened.state, await get("/cycles/current", Cycle)) == ("open", opened)
        cycle = f"/cycles/{opened.id}"
        assert (await post(f"{cycle}/cut-off", Cycle, None)).state == "cut_off"
        await take_part(coordinator, banks, opened.id)
        assert (await get(f"{cycle}/cuts", SenderCuts, alpha)).lanes[0].receiver == BRAVO
        await happened(alice, coordinator, "cycle.netted")

        progress = await get(f"{cycle}/progress", CycleProgress)
        assert (progress.pairs.agreed, progress.totals[0].settlement_minor) == (1, "30000")
        own = await get(f"{cycle}/positions", Positions, alpha)
        assert [(p.participant, p.net_minor, p.headroom_minor) for p in own.positions] == [(ALPHA, "-30000", "970000")]
        assert len((await get(f"{cycle}/positions", Positions)).positions) == 2
        assert {check.verdict for check in (await get(f"{cycle}/checks", Checks)).checks} == {"pass"}
        assert (await get(f"{cycle}/breaks", Breaks, alpha)).breaks == ()

        result = (await get(cycle, Cycle)).result
        request = coordinator.deciding("alice").proposal("approve", opened.id, result=result, reason="as ever")
        made = await post(f"{cycle}/proposals", ProposalView, request)
        decision = coordinator.deciding("bob").decision(made, "confirm")
        with pytest.raises(RemoteProblem) as refused:
            await post(f"/proposals/{made.id}/decision", ProposalView, decision)
        assert (refused.value.status, refused.value.code) == (403, "maker_is_checker")
        await post(f"/proposals/{made.id}/decision", ProposalView, decision, bob)
        await happened(alice, coordinator, "cycle.final")

        (envelope,) = await get("/instructions", tuple[Envelope, ...], alpha)
        assert await get(f"{cycle}/instructions", tuple[Envelope, ...], alpha) == (envelope,)
        instruction = dsse.verify(envelope, SettlementInstruction, sign_keys(coordinator))
        assert (instruction.participant, instruction.net_minor) == (ALPHA, "-30000")
        receipt = Receipt(
            instruction=instruction.id, participant=ALPHA, sha256=canonical.digest(envelope.payload_bytes())
        )
        acknowledged = dsse.sign(receipt, banks[0].identity.sign)
        await alpha.request(
            "POST", f"{coordinator.url}/instructions/acknowledgements", audience=COORDINATOR, json=acknowledged
        )
        assert await get("/instructions", tuple[Envelope, ...], alpha) == ()
        deliveries = await get(f"{cycle}/deliveries", list[InstructionView])
        assert [one.participant for one in deliveries if one.acknowledged_at] == [ALPHA]

        newest, older = (await get("/cycles", CyclePage)).items
        assert (newest.cycle.state, older.cycle.state, older.pairs.agreed) == ("open", "final", 1)
        page = await alice.get(f"{coordinator.url}/cycles", CyclePage, audience=COORDINATOR, params={"limit": 1})
        rest = await alice.get(
            f"{coordinator.url}/cycles", CyclePage, audience=COORDINATOR, params={"limit": 1, "cursor": page.next}
        )
        assert (page.items, rest.items, rest.next) == ((newest,), (older,), None)

        export = await alice.request("GET", f"{coordinator.url}{cycle}/export", audience=COORDINATOR)
        assert export.headers["Content-Type"] == "application/zip"
        verify_bytes(export.content, Anchor.of(COORDINATOR, *sign_keys(coordinator).values()))


async def test_a_day_of_more_than_9999_cycles_is_read_page_by_page(coordinator: Coordinator) -> None:
    numbers = range(9_998, 10_003)
    async with coordinator.base.engine.begin() as conn:
        await conn.execute(text("SET LOCAL ROLE NONE"))
        await conn.execute(
            text(
                "INSERT INTO cycles"
                " (id, value_date, number, state, currencies, rulebook, trust_list_version, opened_at)"
                " SELECT '2026-01-05-' || n, '2026-01-05', n, 'abandoned', ARRAY['EUR'],"
                " (SELECT min(sha256) FROM rulebooks), 1, now() FROM unnest(CAST(:numbers AS integer[])) AS n"
            ),
            {"numbers": list(numbers)},
        )
    listed: list[int] = []
    params: dict[str, Any] = {"value_date": "2026-01-05", "limit": 1}
    async with await coordinator.operator() as alice:
        while True:
            page = await alice.get(f"{coordinator.url}/cycles", CyclePage, audience=COORDINATOR, params=params)
            listed += [int(item.cycle.id.removeprefix("2026-01-05-")) for item in page.items]
            if page.next is None:
                break
            params["cursor"] = page.next
    assert listed == sorted(numbers, reverse=True)


@pytest.mark.parametrize(
    ("method", "path", "role", "expected"),
    [
        ("GET", "/cycles/2026-01-05-01", "auditor", (404, "cycle_unknown")),
        ("GET", "/cycles/current", "auditor", (404, "cycle_unknown")),
        ("GET", "/cycles/today", "auditor", (400, None)),
        ("GET", "/cycles?cursor=WzFd", "auditor", (400, "cursor_malformed")),
        ("GET", "/cycles?limit=0", "auditor", (400, None)),
        ("POST", "/cycles", "auditor", (403, "role_not_allowed")),
        ("POST", "/cycles/2026-01-05-01/cut-off", "operator", (404, "cycle_unknown")),
        ("GET", "/cycles/2026-01-05-01/cuts", "operator", (403, "role_not_allowed")),
        ("GET", "/cycles/2026-01-05-01/result", "operator", (404, "cycle_unknown")),
        ("GET", "/cycles/2026-01-05-01/export", "operator", (404, "cycle_unknown")),
        ("GET", "/instructions", "operator", (403, "role_not_allowed")),
    ],
)
async def test_refusals_are_problem_documents(
    coordinator: Coordinator, method: str, path: str, role: str, expected: tuple[int, str | None]
) -> None:
    body = OpenCycle() if (method, path) == ("POST", "/cycles") else None
    async with await coordinator.operator("somebody", role) as client:
        with pytest.raises(RemoteProblem) as refused:
            await client.request(method, f"{coordinator.url}{path}", audience=COORDINATOR, json=body)
    assert refused.value.status == expected[0]
    assert expected[1] in (None, refused.value.code)


async def test_a_value_date_must_be_a_business_day_to_come(coordinator: Coordinator) -> None:
    async with await coordinator.operator() as alice:
        later = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
        for day in ("2020-01-06", later, "2099-12-26", "2099-02-30"):
            with pytest.raises(RemoteProblem) as refused:
                await alice.post(
                    f"{coordinator.url}/cycles", Cycle, audience=COORDINATOR, json=OpenCycle(value_date=day)
                )
            assert (refused.value.status, refused.value.code) == (422, "value_date_refused")


async def happened(client: FederationClient, coordinator: Coordinator, kind: str) -> None:
    """Wait for an event."""
    after = 0
    for _ in range(20):
        page = await client.get(
            f"{coordinator.url}/events",
            Events,
            audience=COORDINATOR,
            params={"after": after, "wait_s": 10},
            timeout_s=20,
        )
        if any(event.type == kind for event in page.events):
            return
        after = page.next
    raise AssertionError(f"{kind} didn't happen")


def sign_keys(coordinator: Coordinator) -> dict[str, Any]:
    key = coordinator.base.identity.sign.verifying_key
    return {key.kid: key}
