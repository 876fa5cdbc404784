"""Balances and statements of an account over HTTP, as JSON, CSV and camt.053, while payments go on."""

from __future__ import annotations

import asyncio
import csv
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree
from running_banks import RunningBank, Town, order
from test_accounts import account_id, ask, entry, internal, set_state

XSD = Path(os.environ.get("CONCORDAT_DATA", "")) / "iso20022" / "xsd" / "camt.053.001.08.xsd"

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def busy(one: Town, code: str) -> tuple[RunningBank, int]:
    """Let an account have a deposit, a fee, a payment out, one that came back, and one in."""
    alpha, bravo = one.alpha, one.bravo
    await internal(alpha, "cash")
    await internal(alpha, "fees")
    await alpha.open(code, balance=10_000)
    assert (await ask(alpha, entry("deposit", code, 500, text="=SUM(A1)"), "sam", "tom"))[0] == 201
    assert (await ask(alpha, entry("fee", code, 15, against="fees"), "sam"))[0] == 201
    out, back = order(1_000, debtor_account=code, remittance="rent"), order(7, debtor_account=code)
    back["creditor_account"] = "nobody"
    into = order(33, debtor_account="b-1", creditor_agent=alpha.bic, creditor_account=code)
    for at, body in ((alpha, out), (alpha, back), (bravo, into)):
        assert (await at.send("POST", "/payments", body)).status_code == 201
    await alpha.until(out["id"], "posted")
    await alpha.until(back["id"], "refused")
    await bravo.until(into["id"], "posted")
    return alpha, await account_id(alpha, code)


async def test_a_statement_in_three_forms(town: Town) -> None:
    alpha, number = await busy(town, "a-three")
    today = datetime.now(UTC).date()
    path = f"/accounts/{number}/statement"
    shown = await alpha.get(path, date=str(today))
    assert (shown["opening_balance_minor"], shown["closing_balance_minor"]) == ("0", "-9518")
    assert int(shown["debited_minor"]) - int(shown["credited_minor"]) == -9518
    assert len(shown["entries"]) == shown["debits"] + shown["credits"] == 7
    assert not shown["final"]
    by_type = {one["event_type"]: one for one in shown["entries"]}
    deposit, fee, paid = by_type["account.deposited"], by_type["account.charged"], by_type["payment.accepted"]
    assert (deposit["counterparty_account"], deposit["amount_minor"]) == ("cash", "-500")
    assert deposit["external_reference"].startswith("slip ")
    assert fee["amount_minor"] == "15"
    assert (paid["counterparty"], paid["counterparty_account"]) == (town.bravo.bic, "b-1")

    # Paged by a cursor, it is the same.
    paged, cursor = [], {}
    for _ in range(4):
        page = await alpha.get(path, date=str(today), limit=2, **cursor)
        paged += page["entries"]
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert paged == shown["entries"]

    answer = await alpha.send("GET", f"{path}/csv", params={"date": str(today)})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [row["event_type"] for row in rows] == [
        "opening balance", *(one["event_type"] for one in shown["entries"]), "balance so far",
    ]  # fmt: skip
    assert int(rows[0]["balance_minor"]) + sum(int(row["amount_minor"] or 0) for row in rows) == -9518
    assert rows[-1]["balance_minor"] == "-9518"
    assert "'=SUM(A1)" in {row["text"] for row in rows}
    exact = await alpha.send("GET", f"{path}/csv", params={"date": str(today), "exact": "true"})
    assert "=SUM(A1)" in {row["text"] for row in csv.DictReader(exact.text.splitlines())}
    assert exact.text.replace("=SUM(A1)", "'=SUM(A1)") == answer.text

    answer = await alpha.send("GET", f"{path}/camt053", params={"date": str(today)})
    assert answer.headers["Content-Type"].partition(";")[0] == "application/xml"
    document = etree.fromstring(answer.content)
    assert document.findtext(".//{*}Acct/{*}Id/{*}Othr/{*}Id") == "a-three"
    balances = [(b.findtext(".//{*}Cd"), b.findtext("{*}Amt")) for b in document.iter("{*}Bal")]
    assert balances == [("OPBD", "0.00"), ("ITBD", "95.18")]
    signs = {"CRDT": 1, "DBIT": -1}
    amounts = [
        signs[e.findtext("{*}CdtDbtInd")] * int(e.findtext("{*}Amt").replace(".", "")) for e in document.iter("{*}Ntry")
    ]
    assert amounts == [-int(one["amount_minor"]) for one in shown["entries"]]
    if XSD.exists():
        etree.XMLSchema(etree.parse(XSD)).assertValid(document)


async def test_a_period_and_an_instant(town: Town) -> None:
    alpha, number = await busy(town, "a-period")
    now = datetime.now(UTC)
    begins, ends = f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}", f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%S+00:00}"
    shown = await alpha.get(f"/accounts/{number}/statement", **{"from": begins, "to": ends})
    assert shown["closing_balance_minor"] == "-9518"
    balance = await alpha.get(f"/accounts/{number}/balance")
    assert (balance["balance_minor"], balance["code"]) == ("-9518", "a-period")
    for listed in shown["entries"]:
        at = await alpha.get(f"/accounts/{number}/balance", at=listed["booked_at"])
        assert (at["balance_minor"], at["version"]) == (listed["balance_minor"], listed["version"])
    assert (await alpha.get(f"/accounts/{number}/balance", at=begins))["balance_minor"] == "0"
    answer = await alpha.send("GET", f"/accounts/{number}/statement/camt053", params={"from": begins, "to": ends})
    if XSD.exists():
        etree.XMLSchema(etree.parse(XSD)).assertValid(etree.fromstring(answer.content))


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 400, "period_malformed"),
        ({"date": "2026-03-28", "from": "2026-03-28T00:00:00Z"}, 400, "period_malformed"),
        ({"from": "2026-03-28T00:00:00Z"}, 400, "period_malformed"),
        ({"from": "2026-03-28T00:00:00Z", "to": "2026-03-28T00:00:00Z"}, 400, "period_malformed"),
        ({"date": "9999-12-31"}, 400, "period_malformed"),
        ({"date": "2026-W13-6"}, 400, "validation_failed"),
        ({"date": "1774656000"}, 400, "validation_failed"),
        ({"date": "1899-12-31"}, 400, "period_malformed"),
        ({"date": "0001-01-01"}, 400, "period_malformed"),
        ({"from": "1899-12-31T00:00:00Z", "to": "2026-03-29T00:00:00Z"}, 400, "instant_malformed"),
        ({"from": "2026-03-28", "to": "2026-03-29T00:00:00Z"}, 400, "instant_malformed"),
        ({"from": "2026-03-28T00:00:00", "to": "2026-03-29T00:00:00Z"}, 400, "instant_malformed"),
    ],
)
@pytest.mark.parametrize("form", ["", "/csv", "/camt053"])
async def test_what_is_no_period(town: Town, params: dict[str, str], status: int, code: str, form: str) -> None:
    answer = await town.alpha.send("GET", f"/accounts/1/statement{form}", params=params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_what_is_no_instant_or_no_account(town: Town) -> None:
    for at in (
        "2026-11-27", "2026-11-27T15:30:00", "2026-W48-5", "1774656000", "2026-13-01T00:00:00Z", "1899-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z", "1900-01-01T00:00:00+01:00",
    ):  # fmt: skip
        for path in ("/accounts/1/balance", "/balances"):
            answer = await town.alpha.send("GET", path, params={"at": at})
            assert (answer.status_code, answer.json()["code"]) == (400, "instant_malformed")
    for path in ("/balance", "/statement?date=2026-03-28", "/statement/csv?date=2026-03-28"):
        answer = await town.alpha.send("GET", f"/accounts/987654{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "account_unknown")


async def test_a_statement_stays_what_it_is_while_payments_go_on(town: Town) -> None:
    alpha = town.alpha
    await alpha.open("a-stream", balance=100_000)
    number = await account_id(alpha, "a-stream")

    async def pay() -> None:
        for _ in range(15):
            await alpha.send("POST", "/payments", order(3, debtor_account="a-stream"))

    async def look() -> None:
        for _ in range(15):
            begins, ends = datetime.now(UTC) - timedelta(seconds=2), datetime.now(UTC) + timedelta(seconds=2)
            period = {"from": f"{begins:%Y-%m-%dT%H:%M:%S.%fZ}", "to": f"{ends:%Y-%m-%dT%H:%M:%S.%fZ}"}
            shown = await alpha.get(f"/accounts/{number}/statement", **period)
            entries = sum(int(one["amount_minor"]) for one in shown["entries"])
            assert int(shown["opening_balance_minor"]) + entries == int(shown["closing_balance_minor"])

    await asyncio.gather(*(pay() for _ in range(4)), *(look() for _ in range(3)))


async def test_a_blocked_account_and_names_that_xml_can_not_write_have_statements(town: Town) -> None:
    alpha, number = await busy(town, "a-odd")
    # As releases before let it in.
    async with alpha.node.pool.acquire() as connection:
        await connection.execute(
            "UPDATE account_balance SET name = $2 WHERE account_id = $1", number, "<Ada & \ufffe\x85>" + "x" * 130
        )
    assert (await set_state(alpha, "a-odd", "blocked"))[0] == 200
    answer = await alpha.send("GET", f"/accounts/{number}/statement/camt053?date={datetime.now(UTC).date()}")
    assert answer.status_code == 200
    assert etree.fromstring(answer.content).findtext(".//{*}Ownr/{*}Nm").startswith("<Ada & ?")
    if XSD.exists():
        etree.XMLSchema(etree.parse(XSD)).assertValid(etree.fromstring(answer.content))
