"""A payment says when it settled or why not, through a whole cycle; and a cycle's payments are what was attested."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from importing import command
from running_banks import RunningBank, Town, order
from running_coordinator import ALPHA, BRAVO, on_demand
from running_desk import Desk, pay, running_desk, until
from support import Live, uuid7
from test_accounts import account_id

from compliance.crypto.keys import b64url
from compliance.cycle.positions import ProvenStatement, verify_proven
from compliance.statements import PositionStatement
from gateway.federation.messages.settlement import Funding
from participants.roles import Role
from tests.conftest import NewDatabase


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    agent_database = await new_database("gateway.agent")
    async with running_desk(postgres_url, agent_database, tmp_path, live, rulebook=on_demand()) as running:
        yield running


async def ordered(bank: RunningBank, amount: int, **changes: Any) -> str:
    body = order(amount, **changes)
    answer = await bank.send("POST", "/payments", body)
    assert answer.status_code in (201, 422), answer.text
    return str(body["id"])


async def state(bank: RunningBank, payment_id: str) -> str:
    return str((await bank.get(f"/payments/{payment_id}"))["settlement"]["state"])


async def attested(bank: RunningBank, cycle: str) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return what a bank signed for of each lane, count and amount, in the newest statement of each."""
    statements = msgspec.convert(await bank.get(f"/cycles/{cycle}/positions"), list[PositionStatement])
    return {
        (flow.sender, flow.receiver, statement.currency): (flow.count, int(flow.amount_minor))
        for statement in statements
        for flow in statement.flows
        if flow.count
    }


async def ran(bank: RunningBank, *arguments: object) -> str:
    """Return what a command on a bank's own machine prints."""
    settings = bank.settings
    environment = {
        **os.environ,
        "CONCORDAT_BIC": bank.bic,
        "CONCORDAT_DATA_DIR": str(settings.data_dir),
        "CONCORDAT_ANCHOR": str(settings.anchor),
        "CONCORDAT_COORDINATOR_URL": str(settings.coordinator_url),
        "DATABASE_URL": bank.node.database_url,
    }
    concordat = Path(sys.executable).with_name("concordat")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        concordat, *map(str, arguments), env=environment, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def shown_to_another_party(bank: RunningBank, cycle: str, file: Path) -> None:
    """A bank saves one pair with both banks' signatures, and whoever has the anchor checks it."""
    said = await ran(bank, "participant", "position", cycle, BRAVO, "EUR", "--out", file)
    assert f"signed by {ALPHA} and {BRAVO}" in said
    said = await ran(bank, "verify", file, "--trust", bank.settings.anchor)
    assert f"VERIFIED: {ALPHA} and {BRAVO} attested this in cycle {cycle}" in said


async def listed(bank: RunningBank, cycle: str, **asked: Any) -> list[dict[str, Any]]:
    """Return what a cycle settled, page by page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await bank.get(f"/cycles/{cycle}/payments", limit=2, **asked, **cursor)
        assert len(page["items"]) <= 2
        items += page["items"]
        if "next" not in page:
            return items
        cursor = {"cursor": page["next"]}


async def test_through_a_cycle(desk: Desk, tmp_path: Path) -> None:
    alpha, bravo, carlo = desk.town.alpha, desk.town.bravo, desk.town.carlo
    await desk.at_agent(f"/accounts/{ALPHA}/funding", Funding(id=uuid7(), currency="EUR", amount_minor="1000000"))
    first = await ordered(alpha, 500, end_to_end_id="INV-1")
    for amount in (7, 8, 9):
        await pay(alpha, bravo, amount)
    await pay(bravo, carlo, 300)
    await pay(carlo, alpha, 100)
    await alpha.until(first, "posted")
    declined = await ordered(alpha, 6, creditor_account="nobody")
    await alpha.until(declined, "refused")
    assert [await state(one, first) for one in (alpha, bravo)] == ["in_no_cycle"] * 2
    assert await state(alpha, declined) == "not_accepted"

    cycle = await desk.netted()
    later = await ordered(alpha, 11)
    await alpha.until(later, "posted")
    for one in (alpha, bravo):
        shown = (await one.get(f"/payments/{first}"))["settlement"]
        assert (shown["state"], shown["cycle"]) == ("in_cycle", cycle)
        assert await state(one, later) == "in_no_cycle"
        assert (await one.get(f"/cycles/{cycle}/payments"))["settled"] == []
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "final")
    for one in (alpha, bravo):
        await until(lambda one=one: state(one, first), "settled")
        assert await state(one, later) == "in_no_cycle"
        shown = await one.get(f"/payments/{first}")
        settlement = shown["settlement"]
        assert (settlement["cycle"], settlement["value_date"]) == (cycle, cycle[:10])
        assert cycle in settlement["explanation"]
        types = [event["type"] for event in shown["history"]]
        own = ["payment.reserved", "payment.posted"] if one is alpha else ["payment.accepted"]
        assert types == [*own, "cycle.settled"]
        times = [event["at"] for event in shown["history"]]
        assert times == sorted(times)
        assert shown["created_at"] == times[0]
        assert shown["updated_at"] == times[-2]
        assert times[-1] == settlement["settled_at"]

    for one in (alpha, bravo, carlo):
        page = await one.get(f"/cycles/{cycle}/payments")
        sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for item in await listed(one, cycle):
            pair = (one.bic, item["counterparty"]) if item["direction"] == "out" else (item["counterparty"], one.bic)
            total = sums[(*pair, item["currency"])]
            total[0] += 1
            total[1] += int(item["amount_minor"])
            assert item["settlement"]["cycle"] == cycle
        assert {lane: tuple(total) for lane, total in sums.items()} == await attested(one, cycle)
        assert {(x["sender"], x["receiver"], x["currency"]): int(x["amount_minor"]) for x in page["lanes"]} == {
            lane: total[1] for lane, total in sums.items()
        }
    evidence = f"/cycles/{cycle}/positions/{BRAVO}"
    shown = msgspec.convert(await alpha.get(f"{evidence}/EUR"), ProvenStatement)
    attestation, statement = verify_proven(shown, {alpha.sign.kid: alpha.sign.verifying_key})
    assert (attestation.participant, statement.pair, statement.currency) == (ALPHA, (ALPHA, BRAVO), "EUR")
    nothing = await alpha.send("GET", f"{evidence}/CHF")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "position_unknown")
    assert await alpha.get(f"/cycles/{cycle}/positions/{BRAVO.lower()}XXX/EUR") == await alpha.get(f"{evidence}/EUR")
    itself = await alpha.send("GET", f"/cycles/{cycle}/positions/{ALPHA}/EUR")
    assert (itself.status_code, itself.json()["detail"]) == (404, f"{ALPHA} is this bank itself")
    for path in ("", f"/{BRAVO}/EUR"):
        unknown = await alpha.send("GET", f"/cycles/2020-01-01-01/positions{path}")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "cycle_unknown")
    await shown_to_another_party(alpha, cycle, tmp_path / "pair.json")
    out = await listed(alpha, cycle, direction="out", counterparty=BRAVO.lower(), currency="EUR")
    assert sorted(int(item["amount_minor"]) for item in out) == [7, 8, 9, 500]
    assert await listed(alpha, cycle, currency="JPY") == []
    assert (await alpha.get(f"/cycles/{cycle}/payments"))["settled"] == ["EUR"]
    nothing = await alpha.send("GET", "/cycles/2020-01-01-01/payments")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "cycle_unknown"), nothing.text

    # The next cycle leaves out what is contested at the receiver.
    assert (await bravo.send("PUT", f"/payments/{later}/dispute", {"reason": "no such invoice"})).is_success
    assert await state(bravo, later) == "disputed"


@pytest.mark.asyncio(loop_scope="module")
async def test_over_http(town: Town) -> None:
    alpha, bravo = town.alpha, town.bravo
    paid = await ordered(alpha, 31, end_to_end_id="INV-31", instruction_id="line 1")
    refused = await ordered(alpha, 32, debtor_account="nobody", end_to_end_id="INV-31")
    await bravo.until(paid, "accepted")

    async def ids(bank: RunningBank = alpha, **asked: Any) -> list[str]:
        return [item["id"] for item in (await bank.get("/payments", **asked))["items"]]

    assert await ids(end_to_end_id="INV-31") == [refused, paid]
    assert await ids(end_to_end_id="INV-31", status=["posted", "accepted"]) == [paid]
    assert await ids(bravo, instruction_id="line 1") == [paid]
    assert await ids(status="refused", account="nobody") == [refused]
    assert await ids(amount_from="31", amount_to="31") == [paid]
    assert await ids(counterparty=f"{BRAVO.lower()}xxx", amount_from="32") == [refused]
    assert await ids(bravo, counterparty=BRAVO) == []
    (shown,) = (await alpha.get("/payments", account="nobody"))["items"]
    assert (shown["status"], shown["version"], shown["reason"]) == ("refused", 0, "debtor_account_unknown")
    assert (shown["ordered_by"], shown["settlement"]["state"]) == ("sam", "not_accepted")
    nothing = await alpha.send("GET", f"/payments/{refused}")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "payment_unknown")
    assert "debtor_account_unknown, refused at 20" in nothing.json()["detail"]
    # Its id is free: what is taken under it then says that it was refused before.
    assert (await alpha.send("POST", "/payments", order(33, id=refused))).status_code == 201
    await alpha.until(refused, "posted")
    # Somebody else's order under the id is no part of the payment.
    assert (await alpha.send("POST", "/payments", order(34, id=refused), subject="tom")).status_code == 409
    shown = await alpha.get(f"/payments/{refused}")
    assert [event["type"] for event in shown["history"]] == ["payment.reserved", "payment.posted"]
    assert shown["history"][-1]["sequence"] == 2
    assert [(one["reason"], one["ordered_by"]) for one in shown["refused_orders"]] == [
        ("id_reused", "tom"),
        ("debtor_account_unknown", "sam"),
    ]

    postings = (await alpha.get(f"/accounts/{await account_id(alpha, 'a-1')}/postings"))["items"]
    assert {(one["account"], one["payment_id"]) for one in postings[:2]} == {("a-1", paid), ("a-1", refused)}
    for wrong in (
        {"status": "sttled"}, {"stats": "posted"}, {"amount_from": "1.5"}, {"created_from": "2026-11-28"},
        {"uetr": "x"}, {"batch": "x"}, {"file": ""}, {"cursor": "WzFd"}, {"file": "\x00"}, {"counterparty": "x"},
        {"created_to": "9999-12-31T23:59:59Z"}, {"updated_from": "9999-12-31T23:59:59Z"},
        {"cursor": b64url(b"[1,9223372036854775807]")}, {"cursor": b64url(b"[9223372036854775807,1]")},
        {"batch": uuid7(), "cursor": "WzFd"}, {"end_to_end_id": "x" * 36},
    ):  # fmt: skip
        answer = await alpha.send("GET", "/payments", params=wrong)
        assert answer.status_code == 400, (wrong, answer.text)
    token = alpha.staff_token("rita", Role.READ, scope="cycles")
    assert (await alpha.send("GET", "/cycles/2026-01-01-01/payments", token=token)).status_code == 403


@pytest.mark.asyncio(loop_scope="module")
async def test_at_a_terminal(town: Town) -> None:
    alpha = town.alpha
    await alpha.open("a-term")
    paid = await ordered(alpha, 123_456, debtor_account="a-term", end_to_end_id="INV 7\u00b7")
    refused = await ordered(alpha, 1, debtor_account="a-term", creditor_agent=alpha.bic)
    await alpha.until(paid, "posted")
    code, output = await command(alpha, "payments", "--account", "a-term")
    assert code == 0, output
    lines = output.splitlines()
    assert [line.split()[-1] for line in lines] == [refused, paid]
    assert " 1,234.56 EUR posted " in lines[1]
    assert "in_no_cycle" in lines[1]
    assert "refused" in lines[0]
    code, output = await command(alpha, "payments", "--account", "a-term", "--status", "posted", "--limit", "1")
    assert (code, output.split()[-1]) == (0, paid)
    code, output = await command(alpha, "payment", paid)
    assert code == 0, output
    assert "end to end: INV 7\u00b7" in output
    assert "settlement: no cycle has taken it in yet" in output
    assert "payment.posted (" in output
    for arguments in (("payments", "--status", "sttled"), ("payment", refused), ("payments", "--direction", "up")):
        code, output = await command(alpha, *arguments)
        assert code == 2, output
    code, output = await command(alpha, "payments", "--cycle", "2020-01-01-01", "--currency", "EUR")
    assert (code, "cycle_unknown" in output) == (2, True), output
    code, output = await command(alpha, "payments", "--cycle", "2020-01-01-01", "--account", "a-term")
    assert (code, "not together with --cycle" in output) == (2, True)
    code, output = await command(alpha, "payments", url="http://127.0.0.1:9")
    assert code == 1, output
