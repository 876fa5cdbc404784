"""The settlement agent over real HTTP and a real PostgreSQL: settle, reject, replay, notify, keep others out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from agent_harness import AGENT, ALFA, BETA, COORDINATOR, GAMMA, NOBODY, Desk, Scheme, code, request, transfer
from support import private

from compliance.crypto import canonical
from compliance.crypto.keys import SigningKey
from compliance.statements import IncludedStatement
from gateway.agent.app import build_app
from gateway.agent.authority import AuthorityReason, Coordinator, Rules, judge, signed_request
from gateway.agent.fsck import fsck
from gateway.federation.iso20022 import Movement, read_notification
from gateway.federation.storage.postgres import dsn


@pytest.fixture
async def database_url(new_database: Any) -> str:
    url: str = await new_database("gateway.agent")
    return url


@pytest.fixture
async def desk(tmp_path: Path, database_url: str, live: Any) -> AsyncIterator[Desk]:
    scheme = Scheme(tmp_path)
    url = live(lambda url: build_app(scheme.settings(url, database_url), database_url))
    yield Desk(scheme, url)
    connection = await asyncpg.connect(dsn(database_url))
    contradictions = [check for check in await fsck(connection) if not check.passed]
    await connection.close()
    assert contradictions == [], "the books contradict themselves after the test"


async def test_a_cycle_settles_in_all_its_currencies_at_once(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    await desk.open(ALFA, "JPY")
    await desk.open(BETA, "JPY", amount=700)
    answer = await desk.coordinator.settle(
        request("1", *transfer(ALFA, BETA, 1_000), *transfer(BETA, ALFA, 700, "JPY"))
    )
    assert (answer.status, answer.original_message_id) == ("ACSC", "1")
    assert answer.reference
    assert answer.settled_at is not None
    assert (answer.sender, answer.receiver) == (AGENT, COORDINATOR)
    assert [await desk.staff.balance(bic) for bic in (ALFA, BETA)] == [0, 1_000]
    assert [await desk.staff.balance(bic, "JPY") for bic in (ALFA, BETA)] == [700, 0]


async def test_a_result_that_names_two_hundred_thousand_pairs_is_taken(desk: Desk) -> None:
    """As many as 300 banks have in five currencies: an order of more than 32 MiB, of which the movements are two."""
    await desk.open(ALFA, amount=400)
    await desk.open(BETA)
    message = request("1", *transfer(ALFA, BETA, 400))
    named = IncludedStatement(pair=(ALFA, BETA), currency="EUR", sha256="0" * 64)
    order = desk.scheme.order(message, statements=(named,) * 220_000)
    assert len(order.result.payload) > 32 * 1024 * 1024
    assert (await desk.coordinator.settle(order)).status == "ACSC"
    assert await desk.staff.balance(BETA) == 400


async def test_the_same_request_gets_the_same_bytes_and_is_posted_once(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    message = request("1", *transfer(ALFA, BETA, 400))
    again = request("1", *transfer(ALFA, BETA, 400), created_at=datetime(2026, 1, 3, tzinfo=UTC))
    answers = [await desk.coordinator.post(sent) for sent in (message, message, again)]
    assert len({answer.content for answer in answers}) == 1
    assert await desk.staff.balance(ALFA) == 600


async def test_an_id_that_was_used_for_something_else_is_refused(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    await desk.coordinator.settle(request("1", *transfer(ALFA, BETA, 400)))
    other_amount = await desk.coordinator.post(request("1", *transfer(ALFA, BETA, 401)))
    other_cycle = await desk.coordinator.post(request("1", *transfer(ALFA, BETA, 400), cycle="2026-01-02-02"))
    assert code(other_amount) == code(other_cycle) == (422, "idempotency_conflict")
    assert await desk.staff.balance(ALFA) == 600


async def test_a_shortfall_settles_nothing_and_says_who_is_short_of_how_much(desk: Desk) -> None:
    for bank in (ALFA, BETA):
        await desk.open(bank, amount=1_000)
    await desk.open(GAMMA, amount=5_000)
    await desk.open(ALFA, "KWD")
    await desk.open(GAMMA, "KWD")
    movements = (
        Movement(ALFA, "EUR", -1_001),
        Movement(BETA, "EUR", -3_500),
        Movement(GAMMA, "EUR", 4_501),
        *transfer(ALFA, GAMMA, 7, "KWD"),
    )
    message = request("1", *movements)
    answer = await desk.coordinator.settle(message)
    assert (answer.status, answer.reason_code, answer.reference) == ("RJCT", "AM04", None)
    assert answer.reason_text == "ALFADEFF EUR short by 0.01\nALFADEFF KWD short by 0.007\nBETADEFF EUR short by 25.00"
    assert [await desk.staff.balance(bank) for bank in (ALFA, BETA, GAMMA)] == [1_000, 1_000, 5_000]

    # Once answered it is final, whatever comes in; the coordinator asks again under a new id.
    for bank, currency in ((ALFA, "EUR"), (BETA, "EUR"), (ALFA, "KWD")):
        await desk.fund(bank, 10_000, currency)
    assert (await desk.coordinator.settle(message)).status == "RJCT"
    assert (await desk.coordinator.settle(request("2", *movements))).status == "ACSC"


async def test_money_that_comes_in_by_the_same_cycle_covers_nothing(desk: Desk) -> None:
    await desk.open(ALFA, amount=100)
    await desk.open(BETA)
    await desk.open(BETA, "JPY")
    await desk.open(ALFA, "JPY", amount=100)
    answer = await desk.coordinator.settle(request("1", *transfer(ALFA, BETA, 50), *transfer(BETA, ALFA, 1, "JPY")))
    assert (answer.status, answer.reason_text) == ("RJCT", "BETADEFF JPY short by 1")


async def test_an_overdraft_limit_is_cover_up_to_its_last_unit(desk: Desk) -> None:
    await desk.open(ALFA, amount=10, overdraft=90)
    await desk.open(BETA)
    assert (await desk.coordinator.settle(request("1", *transfer(ALFA, BETA, 101)))).status == "RJCT"
    assert (await desk.coordinator.settle(request("2", *transfer(ALFA, BETA, 100)))).status == "ACSC"
    assert await desk.staff.balance(ALFA) == -90


async def test_an_account_that_is_not_there_rejects_the_whole_request(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    answer = await desk.coordinator.settle(request("1", *transfer(ALFA, GAMMA, 400)))
    assert (answer.status, answer.reason_code, answer.reason_text) == ("RJCT", "AC01", "GAMMDEFF EUR: no account")
    # The agent's own central account is nobody's to pay from.
    answer = await desk.coordinator.settle(request("2", *transfer(AGENT, ALFA, 400)))
    assert (answer.status, answer.reason_code) == ("RJCT", "AC01")


async def test_of_two_settlements_at_once_the_cover_serves_one(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    await desk.open(GAMMA)
    answers = await asyncio.gather(
        desk.coordinator.settle(request("1", *transfer(ALFA, BETA, 600))),
        desk.coordinator.settle(request("2", *transfer(ALFA, GAMMA, 600))),
    )
    assert sorted(answer.status for answer in answers) == ["ACSC", "RJCT"]
    assert await desk.staff.balance(ALFA) == 400


async def test_settlements_against_each_other_never_deadlock(desk: Desk) -> None:
    for bank in (ALFA, BETA, GAMMA):
        await desk.open(bank, amount=10_000)
    rings = [(ALFA, BETA), (BETA, GAMMA), (GAMMA, ALFA), (BETA, ALFA), (GAMMA, BETA), (ALFA, GAMMA)]
    answers = await asyncio.gather(
        *(desk.coordinator.settle(request(str(n), *transfer(*rings[n % 6], 10 + n))) for n in range(24))
    )
    assert {answer.status for answer in answers} == {"ACSC"}
    assert sum([await desk.staff.balance(bank) for bank in (ALFA, BETA, GAMMA)]) == 30_000


async def test_the_same_request_eight_times_at_once_settles_once(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    message = request("1", *transfer(ALFA, BETA, 600))
    answers = await asyncio.gather(*(desk.coordinator.post(message) for _ in range(8)))
    assert len({answer.content for answer in answers}) == 1
    assert await desk.staff.balance(ALFA) == 400


async def test_participants_are_notified_of_every_entry_in_order(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(ALFA, "JPY", amount=5)
    await desk.open(BETA)
    for number in range(3):
        await desk.coordinator.settle(request(str(number), *transfer(ALFA, BETA, 100 + number)))
    alfa = desk.member(ALFA)
    page = await alfa.get("/notifications", limit=2)
    rest = await alfa.get("/notifications", after=page["next"])
    assert len(page["notifications"]) == 2
    assert all(one["id"] < two["id"] for one, two in pairwise(page["notifications"] + rest["notifications"]))
    told = [read_notification(n["document"].encode()) for n in page["notifications"] + rest["notifications"]]
    assert [(n.account, n.sequence, n.amount) for n in told] == [
        ("ALFADEFF-EUR", 1, 1_000),
        ("ALFADEFF-JPY", 1, 5),
        ("ALFADEFF-EUR", 2, -100),
        ("ALFADEFF-EUR", 3, -101),
        ("ALFADEFF-EUR", 4, -102),
    ]
    assert [(n.settlement, n.cycle) for n in told[2:]] == [(str(n), f"2026-01-02-{n + 10}") for n in range(3)]
    assert {n.participant for n in told} == {ALFA}
    assert (await alfa.get("/notifications", after=rest["next"])) == {"notifications": [], "next": rest["next"]}
    assert len((await desk.member(BETA).get("/notifications"))["notifications"]) == 3


async def test_a_funding_is_posted_once_and_never_takes_what_is_not_there(desk: Desk) -> None:
    await desk.open(ALFA)
    await desk.open(BETA)
    funding_id = str(uuid4())
    first, second = [await desk.fund(ALFA, 500, funding_id=funding_id) for _ in range(2)]
    assert first.content == second.content
    assert code(await desk.fund(ALFA, 501, funding_id=funding_id)) == (422, "idempotency_conflict")
    assert code(await desk.fund(BETA, 500, funding_id=funding_id)) == (422, "idempotency_conflict")
    assert code(await desk.fund(ALFA, -501)) == (409, "insufficient_funds")
    assert (await desk.fund(ALFA, -500)).json()["balance_minor"] == "0"
    assert code(await desk.fund(GAMMA, 1)) == (404, "account_unknown")
    assert code(await desk.fund(AGENT, 1)) == (404, "account_unknown")


async def test_an_account_is_opened_once_on_its_terms(desk: Desk) -> None:
    await desk.open(ALFA)
    await desk.open(ALFA)
    terms = {"participant": ALFA, "currency": "EUR", "overdraft_limit_minor": "1"}
    assert code(await desk.staff.http.post("/accounts", json=terms)) == (409, "account_exists")
    unknown = {"participant": ALFA, "currency": "XXX"}
    assert code(await desk.staff.http.post("/accounts", json=unknown)) == (422, "currency_unknown")
    assert code(await desk.staff.http.post("/accounts", json={**terms, "participant": AGENT})) == (
        409,
        "account_exists",
    )


async def test_everybody_does_only_what_is_theirs(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA, amount=1_000)
    message = request("1", *transfer(ALFA, BETA, 1))
    alfa = desk.member(ALFA)
    assert code(await alfa.post(message)) == (403, "role_not_allowed")
    assert code(await desk.staff.post(message)) == (403, "role_not_allowed")
    assert code(await alfa.http.get(f"/accounts/{BETA}")) == (403, "not_yours")
    assert code(await alfa.http.get("/accounts")) == (403, "role_not_allowed")
    assert code(await desk.coordinator.http.get(f"/accounts/{ALFA}")) == (403, "role_not_allowed")
    assert await alfa.balance(ALFA) == 1_000
    body = {"id": str(uuid4()), "currency": "EUR", "amount_minor": "1"}
    for caller in (alfa, desk.coordinator):
        assert code(await caller.http.post(f"/accounts/{ALFA}/funding", json=body)) == (403, "role_not_allowed")


async def test_who_vouches_for_whom(desk: Desk) -> None:
    """The coordinator can't make itself the agent's staff, nor the agent's staff a coordinator."""
    for caller in (
        desk.caller("mallory", "staff"),
        desk.caller(COORDINATOR, "coordinator", issuer=desk.url, key=desk.staff_key),
        desk.caller("dora", "staff", issuer=desk.url, key=SigningKey.generate()),
        desk.caller(COORDINATOR, "coordinator", audience=ALFA),
    ):
        answer = await caller.http.get("/accounts")
        assert answer.status_code == 401, answer.text


async def test_a_message_is_from_who_sends_it_and_to_the_agent(desk: Desk) -> None:
    movements = transfer(ALFA, BETA, 1)
    refused = [
        await desk.coordinator.post(request("1", *movements, sender="CNCDXXC1")),
        await desk.coordinator.post(request("1", *movements, receiver="AGNTXXS1")),
    ]
    assert [code(answer) for answer in refused] == [(422, "not_for_us")] * 2


async def test_what_is_no_message_gets_a_problem_document(desk: Desk) -> None:
    message = request("1", *transfer(ALFA, BETA, 1))
    post = desk.coordinator.post
    assert code(await post(b"<!DOCTYPE x>" + message)) == (422, "doctype_refused")
    assert code(await post(b"")) == (422, "xml_malformed")
    assert code(await post(message.replace(b">1</NbOfSttlmReqs>", b">2</NbOfSttlmReqs>"))) == (
        422,
        "movement_count_wrong",
    )
    assert code(await post(message + b" " * 5_000_000)) == (413, "message_too_large")


async def test_the_agent_tells_its_health_and_its_interface(desk: Desk) -> None:
    assert await desk.staff.get("/health/ready") == {"status": "ready"}
    ready = await desk.staff.get(f"{private(desk.url)}/health/ready")
    assert ready["database"] == "revision 0003"
    assert ready["trust_list"].startswith("version 1, confirmed ")
    assert (ready["clocks"], ready["clock-watch"]) == ("nobody heard", "running")
    assert ready["trust-list-refresh"] == "running"
    document = await desk.staff.get("/schema/openapi.json")
    asked = document["paths"]["/settlements"]["post"]["requestBody"]["content"]
    assert list(asked) == ["application/json"]


@pytest.mark.parametrize("day", ["1999-01-01", "2099-01-01", "yesterday", "tomorrow"])
async def test_a_value_date_that_isnt_todays_is_refused_for_good(desk: Desk, day: str) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    today = datetime.now(UTC).date()
    near = {"yesterday": today - timedelta(days=1), "tomorrow": today + timedelta(days=1)}
    asked = request("1", *transfer(ALFA, BETA, 400), value_date=near.get(day) or date.fromisoformat(day))
    refused = await desk.coordinator.settle(asked)
    assert (refused.status, refused.reason_code) == ("RJCT", "DT01")
    assert "value_date_refused" in str(refused.reason_text)
    assert await desk.coordinator.settle(asked) == refused
    assert await desk.staff.balance(ALFA) == 1_000


@pytest.mark.parametrize(
    ("day", "currency"),
    [("2026-11-29", "EUR"), ("2026-12-25", "EUR"), ("2026-11-26", "USD"), ("2026-11-24", "EUR"), ("2026-11-26", "EUR")],
)
def test_a_currency_settles_on_the_days_of_its_system(tmp_path: Path, day: str, currency: str) -> None:
    scheme = Scheme(tmp_path)
    rules = {
        "approval": msgspec.to_builtins(NOBODY),
        "calendar": "XECB",
        "settlement_systems": {"EUR": "TARGET", "USD": "FEDWIRE"},
        "time_zone": "America/New_York",
    }
    asked = request("1", *transfer(ALFA, BETA, 400, currency), value_date=date.fromisoformat(day))
    order = scheme.order(asked, rulebook=canonical.encode(rules))
    key = scheme.sign.verifying_key
    whom = Coordinator(bic=COORDINATOR, active={key.kid: key}, known={key.kid: key})
    signed = signed_request(order.request, coordinator=whom, agent=AGENT)
    # 04:59 UTC is the evening before in New York.
    noon = datetime.fromisoformat(f"{day}T17:00:00+00:00")
    for at in (noon, noon.replace(hour=4)):
        ruling = judge(order, signed, coordinator=whom, own=Rules(NOBODY), at=at)
        good = at is noon and (day, currency) in {("2026-11-24", "EUR"), ("2026-11-26", "EUR")}
        refused = None if ruling.rejected is None else ruling.rejected.reason
        assert refused == (None if good else AuthorityReason.VALUE_DATE_REFUSED)
    # The agent's own calendar counts as well.
    strict = Rules(NOBODY, calendar="XECB", settlement_systems={"EUR": "TARGET", "USD": "FEDWIRE"})
    open_to_all = scheme.order(asked, rulebook=canonical.encode({**rules, "calendar": "every_day"}))
    ruling = judge(open_to_all, signed, coordinator=whom, own=strict, at=noon)
    assert (ruling.rejected is None) is (currency == "EUR" and day in {"2026-11-24", "2026-11-26"})
