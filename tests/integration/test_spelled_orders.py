"""Orders and accounts as people spell them, and in currencies that the scheme doesn't clear, at a running bank."""

from __future__ import annotations

import pytest
from running_banks import Town, order
from running_coordinator import BRAVO
from support import uuid7

pytestmark = pytest.mark.asyncio(loop_scope="module")

IBAN, GROUPED, WRONG = "DE89370400440532013000", "de89 3704 0044 0532 0130 00", "DE00370400440532013000"


async def test_an_order_however_it_is_spelled(town: Town) -> None:
    said = order(7, creditor_agent=f"{BRAVO.lower()}xxx", creditor_name="Zoe\u0308")
    first = await town.alpha.send("POST", "/payments", said)
    assert (first.status_code, first.json()["status"]) == (201, "reserved"), first.text
    again = await town.alpha.send("POST", "/payments", said | {"creditor_agent": BRAVO, "creditor_name": "Zoë"})
    assert (again.status_code, again.headers.get("idempotency-hit")) == (201, "true"), again.text
    await town.bravo.until(said["id"], "accepted")
    (shown,) = [p for p in (await town.alpha.get("/payments"))["items"] if p["id"] == said["id"]]
    assert (shown["counterparty"], shown["creditor_name"]) == (BRAVO, "Zoë")


async def test_an_iban_is_opened_and_paid_in_one_form(town: Town) -> None:
    account = {"code": GROUPED, "currency": "EUR", "name": "Ida"}
    opened = await town.bravo.send("POST", "/accounts", {"accounts": [account, account | {"code": WRONG}]})
    assert [(o["code"], o["status"], o.get("reason")) for o in opened.json()] == [
        (IBAN, "opened", None),
        (WRONG, "refused", "iban_check_digits_wrong"),
    ]
    orders = [order(5, creditor_account=GROUPED), order(5, creditor_account=WRONG), order(5, creditor_account=IBAN)]
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": orders})
    assert [(o["status"], o.get("reason")) for o in answer.json()["results"]] == [
        ("reserved", None),
        ("refused", "iban_check_digits_wrong"),
        ("reserved", None),
    ]
    for paid in (orders[0], orders[2]):
        await town.bravo.until(paid["id"], "accepted")
    assert await town.bravo.balance(IBAN) == 10
    alone = await town.alpha.send("POST", "/payments", order(5, creditor_account=f"{IBAN}1"))
    assert (alone.status_code, alone.json()["code"]) == (422, "iban_length_wrong"), alone.text


@pytest.mark.parametrize("name", ["Ber\u202eta", "Ber\x85ta", "Ber\u2028ta", "   "], ids=ascii)
async def test_a_name_that_can_not_be_read(town: Town, name: str) -> None:
    for body in (order(creditor_name=name), order(debtor_name=name)):
        assert (await town.alpha.send("POST", "/payments", body)).status_code == 400
    batch = {"payments": [order(), order(creditor_name=name)]}
    assert (await town.alpha.send("POST", "/payments/batch", batch)).status_code == 400
    account = {"code": f"x-{uuid7()}", "currency": "EUR", "name": name}
    assert (await town.alpha.send("POST", "/accounts", {"accounts": [account]})).status_code == 400


@pytest.mark.parametrize("currency", ["ZZZ", "XAU", "HRK", "THB"])
async def test_no_account_in_what_the_scheme_does_not_clear(town: Town, currency: str) -> None:
    account = {"code": f"x-{uuid7()}", "currency": currency, "name": "Ida"}
    (outcome,) = (await town.alpha.send("POST", "/accounts", {"accounts": [account]})).json()
    assert (outcome["status"], outcome["reason"]) == ("refused", "currency_not_cleared")
