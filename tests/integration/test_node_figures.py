"""What a bank's node says of itself: readiness with its reasons, metrics of payments and queues, the log of orders."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from running_banks import LISTED, SANCTIONS, Town, order, running_town
from running_coordinator import ALPHA, BRAVO
from structlog.testing import capture_logs
from support import uuid7

from compliance.crypto.keys import SigningKey
from gateway.federation.build import build
from participants.api import orders_log
from participants.payments import backlog

pytestmark = pytest.mark.asyncio(loop_scope="module")
WAIT_S = 20


async def metrics(town: Town) -> dict[str, float]:
    text = (await town.alpha.send("GET", "/metrics", token=None)).text
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


async def readiness(town: Town) -> dict[str, str]:
    answer = await town.alpha.send("GET", "/health/ready", token=None)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def labelled(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in sorted(labels.items())) + "}"


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.05)


async def test_the_build_is_told(town: Town) -> None:
    assert (await readiness(town))["build"] == str(build())
    version, commit = build()
    assert (await metrics(town))[labelled("concordat_build_info", version=version, commit=commit)] == 1


async def test_the_short_way_counts_latency_and_exact_codes(town: Town) -> None:
    route = {"method": "POST", "route": "/payments"}
    names = [
        labelled("concordat_http_requests_total", **route, status="201"),
        labelled("concordat_http_requests_total", **route, status="422"),
        labelled("concordat_http_request_seconds_count", **route),
        labelled("concordat_http_request_seconds_count", method="POST", route="/payments/batch"),
        labelled("concordat_orders_refused_total", bank=ALPHA, reason="insufficient_funds"),
        labelled("concordat_ledger_events_total", bank=ALPHA, type="payment.reserved", reason=""),
    ]
    before = await metrics(town)
    assert (await town.alpha.send("POST", "/payments", order(1))).status_code == 201
    assert (await town.alpha.send("POST", "/payments", order(999_999_999_999_999))).status_code == 422
    batch = {"payments": [order(1), order(1)]}
    assert (await town.alpha.send("POST", "/payments/batch", batch)).status_code == 200
    after = await metrics(town)
    assert [after[name] - before.get(name, 0) for name in names] == [1, 1, 2, 1, 1, 3]
    assert not [name for name in after if "xx" in name]
    groups = labelled("concordat_ledger_group_events_count", bank=ALPHA)
    commits = labelled("concordat_ledger_commit_seconds_count", bank=ALPHA)
    assert after[groups] > before[groups]
    assert after[commits] > before[commits]


async def test_why_another_bank_refused_is_counted(town: Town) -> None:
    name = labelled(
        "concordat_ledger_events_total", bank=ALPHA, type="payment.refused", reason="creditor_account_unknown"
    )
    before = (await metrics(town)).get(name, 0)
    one = order(1, creditor_account="nobody")
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    await town.alpha.until(one["id"], "refused")
    assert (await metrics(town))[name] == before + 1


@pytest.mark.parametrize("plain", [False, True])
async def test_who_moved_money_is_in_the_log_without_names_or_amounts(town: Town, plain: bool) -> None:
    one, batch = order(4711), [order(4711), order(4711)]
    with capture_logs() as lines:
        for path, body in (("/payments", one), ("/payments/batch", {"payments": batch})):
            assert (await town.alpha.send("POST", path, body, subject="dora", plain=plain)).is_success
        await asyncio.sleep(orders_log.SAID_AFTER_SECONDS * 3)
    said = [line for line in lines if line["event"] == "orders taken" and line["subject"] == "dora"]
    assert {payment for line in said for payment in line["payments"]} == {one["id"], *(each["id"] for each in batch)}
    assert "4711" not in str(said)
    assert "Anna" not in str(said)


async def test_a_refused_order_is_in_the_log_too(town: Town) -> None:
    with capture_logs() as lines:
        one = order(999_999_999_999_999)
        await town.alpha.send("POST", "/payments", one, subject="dora")
        await asyncio.sleep(orders_log.SAID_AFTER_SECONDS)  # it is said when the answer is on its way
    (line,) = [line for line in lines if line["event"] == "orders refused"]
    assert (line["subject"], line["status"], line["reason"]) == ("dora", 422, "insufficient_funds")
    assert line["payments"] == [one["id"]]
    assert "999999999999999" not in str(line)


async def test_lanes_and_holds_are_measured(town: Town) -> None:
    for person in ("lena", "lars"):
        await town.alpha.node.screener.import_list("test", {"list.csv": SANCTIONS}, person)
    held = order(1, creditor_name=LISTED)
    assert (await town.alpha.send("POST", "/payments", held)).json()["status"] == "held"
    one = order(123)
    await town.alpha.send("POST", "/payments", one)
    await town.alpha.until(one["id"], "posted")
    await town.alpha.node.backlog.look()
    found = await metrics(town)
    assert found[labelled("concordat_holds_open", bank=ALPHA, direction="out")] == 1
    assert found[labelled("concordat_holds_open_since_timestamp_seconds", bank=ALPHA, direction="out")] > 0
    assert found[labelled("concordat_screening_list_imported_timestamp_seconds", bank=ALPHA, list="test")] > 0
    lanes = await town.alpha.get("/lanes")
    unsettled = {(lane["sender"], lane["receiver"], lane["currency"]): lane["unsettled_minor"] for lane in lanes}
    name = labelled("concordat_lane_unsettled_minor_units", sender=ALPHA, receiver=BRAVO, currency="EUR")
    assert found[name] == float(unsettled[ALPHA, BRAVO, "EUR"]) >= 123


async def test_degraded_says_why(postgres_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank alone, with a payment that waits for one that is away, and a key that the list doesn't name."""
    monkeypatch.setattr(backlog, "OLD_SECONDS", 0.0)
    async with running_town(postgres_url, tmp_path, bics=(ALPHA, BRAVO)) as town:
        node = town.alpha.node
        await until(lambda: _is(town, "status", "ready"))
        assert (await readiness(town))["reasons"] == "none"
        assert (await readiness(town))["keys"] == "known"
        await town.banks[BRAVO].serving.aclose()
        await town.alpha.send("POST", "/payments", order(1, id=uuid7()))
        await node.backlog.look()
        said = await readiness(town)
        assert (said["status"], said["reasons"]) == ("degraded", "queued")
        assert re.fullmatch(rf"1 wait, the oldest since \S+; {BRAVO} since \S+", said["queued"])
        found = await metrics(town)
        assert found[labelled("concordat_payments_queued", bank=ALPHA, counterparty=BRAVO)] == 1
        assert found[labelled("concordat_payments_queued_since_timestamp_seconds", bank=ALPHA, counterparty=BRAVO)] > 0
        node.identity.__dict__["auth"] = SigningKey.generate()
        said = await readiness(town)
        assert (said["keys"], said["reasons"]) == ("not on the trust list: auth", "keys, queued")


async def test_what_another_bank_holds_degrades_nobody(
    postgres_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for people there, however long; here it is named apart."""
    monkeypatch.setattr(backlog, "OLD_SECONDS", 0.0)
    async with running_town(postgres_url, tmp_path, bics=(ALPHA, BRAVO)) as town:
        files = {"list.csv": base64.b64encode(SANCTIONS).decode()}
        answer = await town.banks[BRAVO].send("POST", "/screening/lists", {"name": "test", "files": files})
        assert answer.status_code == 201, answer.text
        held = order(1, id=uuid7(), creditor_name=LISTED)
        assert (await town.alpha.send("POST", "/payments", held)).status_code == 201
        watch = town.alpha.node.backlog

        async def looked() -> bool:
            await watch.look()
            return bool(watch.elsewhere)

        await until(looked)
        await until(lambda: _is(town, "status", "ready"))
        said = await readiness(town)
        assert (said["reasons"], said["queued"]) == ("none", "none waits")
        assert re.fullmatch(rf"1 at {BRAVO}, the oldest since \S+", said["held_elsewhere"])
        found = await metrics(town)
        assert found[labelled("concordat_payments_held_elsewhere", bank=ALPHA, counterparty=BRAVO)] == 1
        assert (
            labelled("concordat_payments_queued", bank=ALPHA, counterparty=BRAVO) not in found
            or not found[labelled("concordat_payments_queued", bank=ALPHA, counterparty=BRAVO)]
        )
        for person in ("gina", "hugo"):
            word = {"decision": "release", "reason": "another person"}
            await town.banks[BRAVO].send("POST", f"/holds/{held['id']}/decisions", word, subject=person)
        await town.alpha.until(held["id"], "posted")
        await watch.look()
        assert watch.elsewhere_condition() == "none"


async def _is(town: Town, name: str, value: str) -> bool:
    return (await readiness(town))[name] == value
