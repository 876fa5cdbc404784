"""A member in good standing tries to owe more than it may, before anything settles: over HTTP, at real nodes.

A town has three banks; each pair of tests uses a lane or a currency of its own, since what is owed stays owed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running_banks import WAIT_S, RunningBank, Town, order, running_bank, running_town, terms
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, on_demand
from support import free_port

from compliance.cycle.exposure import UNSTATED_MINOR
from gateway.coordinator.rulebook import ExposureRule
from gateway.federation.http.client import RemoteProblem
from gateway.federation.messages.limits import ExposureLimitsView
from gateway.federation.messages.participants import ParticipantView
from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def grant(town: Town, bank: RunningBank, counterparty: str, currency: str, limit: int | None) -> None:
    """Let a bank set a bilateral limit at the coordinator, and wait until its ledger has it."""
    path = f"/participants/{bank.bic}/bilateral-limits/{counterparty}/{currency}"
    body = {"limit_minor": None if limit is None else str(limit), "reason": "a test"}
    url = town.coordinator.url + path
    await bank.node.client.request("PUT", url, audience=COORDINATOR, json=body)
    await until(
        lambda: (bank.node.ledger.books.limits.of(counterparty, currency).source == "granted") == (limit is not None)
    )


async def exposure(bank: RunningBank, counterparty: str, currency: str = "EUR") -> dict[str, Any]:
    """Return what a bank shows of what another owes it."""
    found = await bank.get("/exposures")
    return next(e for e in found if (e["counterparty"], e["currency"]) == (counterparty, currency))


async def sent(town: Town, *amounts: int, **changes: Any) -> list[str]:
    """Deliver payments that ALPHA signed to BRAVO, and return what BRAVO signed of each."""
    payments = [terms(amount, **changes) for amount in amounts]
    answer = town.acknowledged(await town.deliver(town.sealed(*payments)))
    return [outcome.reason or outcome.status for outcome in answer.outcomes]


async def test_a_limit_granted_binds_and_the_sender_learns_it(town: Town) -> None:
    alpha, bravo = town.alpha, town.bravo
    await alpha.open("a-usd", currency="USD")
    await bravo.open("b-usd", currency="USD")
    await grant(town, bravo, ALPHA, "USD", 1_000)
    accounts = {"currency": "USD", "debtor_account": "a-usd", "creditor_account": "b-usd"}
    small, large = order(850, **accounts), order(151, **accounts)
    assert (await alpha.send("POST", "/payments", small)).status_code == 201
    await alpha.until(small["id"], "posted")
    assert (await alpha.send("POST", "/payments", large)).status_code == 201
    refused = await alpha.until(large["id"], "refused")
    assert refused["reason"] == "exposure_limit"
    assert (await bravo.until(large["id"], "declined"))["reason"] == "exposure_limit"
    assert await alpha.balance("a-usd", "USD") == 1_000_000 - 850
    assert await exposure(bravo, ALPHA, "USD") == {
        "counterparty": ALPHA,
        "currency": "USD",
        "unsettled_minor": "850",
        "limit_minor": "1000",
        "set_by": "granted",
        "room_minor": "150",
        "near": True,
    }


async def test_who_comes_near_its_limit_is_told_of(town: Town) -> None:
    """Readiness names it, and a gauge counts it; what was declined is counted too. It goes on serving."""
    bravo = town.bravo
    await bravo.open("b-gbp", currency="GBP")
    await grant(town, bravo, ALPHA, "GBP", 100)
    gbp = {"currency": "GBP", "creditor_account": "b-gbp"}
    assert await sent(town, 79, **gbp) == ["accepted"]
    assert not (await exposure(bravo, ALPHA, "GBP"))["near"]
    assert await sent(town, 1, 21, **gbp) == ["accepted", "exposure_limit"]
    async with asyncio.timeout(WAIT_S):
        while f"{ALPHA} GBP 80 %" not in (ready := await bravo.get("/health/ready"))["exposure"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (ready["exposure"].startswith("near the limit: "), ready["status"]) == (True, "ready")
    metrics = (await bravo.send("GET", "/metrics")).text
    assert float(metrics.partition(f'concordat_exposures_near_limit{{bank="{BRAVO}"}} ')[2].split()[0]) >= 1
    counted = metrics.partition(f'concordat_payments_beyond_exposure_limit_total{{bank="{BRAVO}"}} ')[2]
    assert float(counted.split()[0]) >= 1


async def test_a_flood_of_batches_at_two_nodes_stays_within_the_ceiling(town: Town) -> None:
    """ALPHA sends to both replicas of BRAVO at once, under different ids: together they accept what one would."""
    bravo = town.bravo
    await bravo.open("b-chf", currency="CHF")
    set_to = await bravo.send("PUT", f"/ceilings/CHF/{ALPHA}", {"limit_minor": "1000", "reason": "a rumour"})
    assert set_to.json() == [{"currency": "CHF", "limit_minor": "1000", "counterparty": ALPHA}]
    settings = replace(bravo.settings, port=free_port())
    async with running_bank(settings, bravo.node.database_url, bravo.http) as other:
        await other.node.continuity.agree_with(ALPHA)

        async def flood(bank: RunningBank) -> Counter[str]:
            outcomes: Counter[str] = Counter()
            for _ in range(12):
                body = town.sealed(*(terms(7, currency="CHF", creditor_account="b-chf") for _ in range(10)))
                answer = await bank.send(
                    "POST",
                    "/federation/payments",
                    {
                        "payload": body.payload,
                        "payloadType": body.payloadType,
                        "signatures": [{"keyid": s.keyid, "sig": s.sig} for s in body.signatures],
                    },
                    token=town.assertion(ALPHA, BRAVO),
                    plain=True,
                )
                outcomes.update(o.reason or o.status for o in town.acknowledged(answer).outcomes)
            return outcomes

        one, two = await asyncio.gather(flood(bravo), flood(other))
        assert one + two == {"accepted": 142, "exposure_limit": 98}
        assert (await exposure(other, ALPHA, "CHF"))["room_minor"] == "6"
    report = await fsck(bravo.node.database_url, BRAVO)
    assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def test_who_grants_no_limit_has_the_schemes(postgres_url: str, tmp_path: Path) -> None:
    """It is heard at the start, kept in the ledger, and kept to while the coordinator is away and after a restart."""
    limits = ExposureRule(default_minor=dict.fromkeys(("CHF", "EUR", "GBP", "JPY", "USD"), "500"))
    async with (
        AsyncExitStack() as house,
        running_town(postgres_url, tmp_path, (ALPHA, BRAVO), rulebook=on_demand(exposure=limits), house=house) as town,
    ):
        bravo = town.bravo
        await until(lambda: bravo.node.ledger.books.limits.of(ALPHA, "EUR") == (500, "scheme"))
        await house.aclose()
        assert await sent(town, 400, 101) == ["accepted", "exposure_limit"]
        settings = replace(bravo.settings, port=free_port())
        async with running_bank(settings, bravo.node.database_url, bravo.http) as started:
            assert started.node.ledger.books.limits.of(ALPHA, "EUR") == (500, "scheme")
            assert (await exposure(started, ALPHA))["room_minor"] == "100"


# --- whose word it is ------------------------------------------------------------------------------------------------


async def test_a_ceiling_is_the_banks_own_whatever_is_granted(town: Town) -> None:
    """An operator of the clearing house raises what CARLO granted; CARLO's own ceiling still binds."""
    carlo = town.carlo
    await carlo.send("PUT", "/ceilings/EUR", {"limit_minor": "700", "reason": "our policy"})
    await carlo.send("PUT", f"/ceilings/EUR/{BRAVO}", {"limit_minor": "0", "reason": "a rumour"})
    await town.coordinator.registry.set_bilateral_limit(CARLO, ALPHA, "EUR", 10**12, by="mallory", reason="trust me")
    await until(lambda: (ALPHA, "EUR") in carlo.node.ledger.books.limits.pairs)
    assert carlo.node.ledger.books.limits.of(ALPHA, "EUR") == (700, "bank")
    assert carlo.node.ledger.books.limits.of(BRAVO, "EUR") == (0, "bank")
    payments = [terms(701, creditor_account="c-1"), terms(700, creditor_account="c-1")]
    answer = town.acknowledged(
        await town.deliver(town.sealed(*payments, receiver=CARLO), receiver=CARLO), receiver=CARLO
    )
    assert [o.reason or o.status for o in answer.outcomes] == ["exposure_limit", "accepted"]
    for path in (f"/ceilings/EUR/{BRAVO}", "/ceilings/EUR"):
        for person in ("sam", "tom"):
            lifted = await carlo.send("PUT", path, {"limit_minor": None, "reason": "only a rumour"}, subject=person)
    assert lifted.json() == await carlo.get("/ceilings") == []
    assert carlo.node.ledger.books.limits.of(ALPHA, "EUR") == (10**12, "granted")
    assert carlo.node.ledger.books.limits.of(BRAVO, "EUR") == (UNSTATED_MINOR, "scheme")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/exposures"), ("GET", "/ceilings"), ("PUT", "/ceilings/EUR"), ("PUT", f"/ceilings/EUR/{ALPHA}")],
)
async def test_nobody_but_the_banks_own_people_sees_or_sets_them(town: Town, method: str, path: str) -> None:
    bravo, body = town.bravo, {"limit_minor": None, "reason": "because"} if method == "PUT" else None
    assert (await bravo.send(method, path, body, token=None)).status_code == 401
    for token in (
        town.assertion(ALPHA, BRAVO),
        town.member_token("alice", BRAVO, role="operator"),
        town.member_token("rita", BRAVO, role="auditor"),
    ):
        assert (await bravo.send(method, path, body, token=token)).status_code in (401, 403)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ceilings/EUR", {"limit_minor": "-1", "reason": "r"}),
        ("/ceilings/EUR", {"limit_minor": "1e9", "reason": "r"}),
        ("/ceilings/EUR", {"limit_minor": 5, "reason": "r"}),
        ("/ceilings/EUR", {"limit_minor": "5"}),
        ("/ceilings/EUR", {"limit_minor": "5", "reason": "r", "person": "nobody"}),
        ("/ceilings/eur", {"limit_minor": "5", "reason": "r"}),
        ("/ceilings/EUR/alpha", {"limit_minor": "5", "reason": "r"}),
    ],
)
async def test_what_is_no_ceiling(town: Town, path: str, body: dict[str, Any]) -> None:
    answer = await town.bravo.send("PUT", path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_the_coordinator_tells_each_bank_of_its_own_limits_only(town: Town) -> None:
    await grant(town, town.bravo, CARLO, "JPY", 77)
    url = f"{town.coordinator.url}/exposure-limits"
    seen = {
        bic: await bank.node.client.get(url, ExposureLimitsView, audience=COORDINATOR)
        for bic, bank in town.banks.items()
    }
    assert [(line.counterparty, line.limit_minor) for line in seen[BRAVO].granted if line.currency == "JPY"] == [
        (CARLO, "77")
    ]
    assert all(line.counterparty != BRAVO and line.currency != "JPY" for line in seen[CARLO].granted)
    assert seen[ALPHA].scheme == seen[BRAVO].scheme != ()
    operator = await town.coordinator.operator("oscar")
    with pytest.raises(RemoteProblem) as refused:
        await operator.get(url, ExposureLimitsView, audience=COORDINATOR)
    assert (refused.value.status, refused.value.code) == (403, "role_not_allowed")
    # What the registry shows to operators is what the bank's ledger was told.
    view = await operator.get(f"{town.coordinator.url}/participants/{BRAVO}", ParticipantView, audience=COORDINATOR)
    assert view.bilateral_limits == seen[BRAVO].granted
    await operator.close()
