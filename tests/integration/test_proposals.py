"""Whoever is to confirm something sees exactly what it is, before he asks for the same."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from running_banks import LISTED, RunningBank, Town
from support import uuid7

from participants.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def proposed(bank: RunningBank, **params: Any) -> dict[str, dict[str, str]]:
    """Return what is proposed, by kind; the newest of each."""
    return {one["kind"]: one.get("content", {}) for one in reversed(await bank.get("/proposals", **params))}


async def ask(
    bank: RunningBank, method: str, path: str, body: Any, reason: str, subject: str = "sam", *, status: int = 409
) -> None:
    answer = await bank.send(method, path, body, subject=subject)
    assert (answer.status_code, answer.json()["code"]) == (status, reason), answer.text


def sanctions(*names: str) -> dict[str, Any]:
    rows = "".join(f"{number},{name},individual,TEST,\n" for number, name in enumerate(names, 1))
    content = f"uid,name,type,programs,alternate_names\n{rows}".encode()
    return {"name": "seen", "files": {"list.csv": b64encode(content).decode()}}


async def test_each_kind_says_what_is_to_be_confirmed(town: Town) -> None:
    bank = town.alpha
    opening = {"code": "a-seen", "currency": "EUR", "name": "Ada Alder", "opening_balance_minor": "123450"}
    (outcome,) = (await bank.send("POST", "/accounts", {"accounts": [opening]})).json()
    assert outcome["status"] == "proposed"
    assert (await proposed(bank))["opening"] == opening

    await bank.send("POST", "/accounts", {"accounts": [{**opening, "opening_balance_minor": "0"}]})
    till = {"code": "till", "currency": "EUR", "name": "The till", "kind": "internal"}
    await bank.send("POST", "/accounts", {"accounts": [till]})
    entry = {
        "id": uuid7(), "kind": "deposit", "account": "a-seen", "currency": "EUR", "amount_minor": "777",
        "against": "till", "reference": "slip 1", "text": "for Zoë",
    }  # fmt: skip
    await ask(bank, "POST", "/entries", entry, "entry_needs_second_person")
    assert (await proposed(bank))["entry"] == entry
    # The second person confirms just that.
    await ask(bank, "POST", "/entries", {**entry, "amount_minor": "778"}, "entry_needs_second_person", "tom")
    assert (await bank.send("POST", "/entries", entry, subject="tom")).status_code == 201
    assert "entry" not in await proposed(bank)

    (account,) = (await bank.get("/accounts", code="a-seen", kind="customer"))["items"]
    path = f"/accounts/{account['id']}/state"
    assert (await bank.send("PUT", path, {"state": "blocked", "reason": "why"})).status_code == 200
    await ask(bank, "PUT", path, {"state": "debits_blocked", "reason": "why"}, "unblocking_needs_second_person")
    assert (await proposed(bank))["unblocking"] == {
        "kind": "customer", "code": "a-seen", "currency": "EUR", "from": "blocked", "state": "debits_blocked",
    }  # fmt: skip

    assert (await bank.send("PUT", "/ceilings/EUR", {"limit_minor": "500", "reason": "why"})).status_code == 200
    await ask(
        bank, "PUT", "/ceilings/EUR", {"limit_minor": "900", "reason": "why"}, "ceiling_needs_second_person"
    )  # fmt: skip
    assert (await proposed(bank))["ceiling"] == {"currency": "EUR", "from": "500", "limit_minor": "900"}

    first = sanctions(LISTED, "Somebody Else")
    assert (await bank.send("POST", "/screening/lists", first)).status_code == 201
    await ask(bank, "POST", "/screening/lists", sanctions("Somebody Else"), "list_needs_second_person")
    content = (await proposed(bank))["list"]
    assert (content["name"], content["entries"], content["names_lost"]) == ("seen", "1", "1")

    # Who keeps lists is told of lists only.
    answer = await bank.send("GET", "/proposals", token=bank.staff_token(role=Role.LISTS))
    assert {one["kind"] for one in answer.json() if "content" in one} == {"list"}


@pytest.mark.parametrize("path", ["ZZZ", "XAU", "HRK", "ZZZ/BRAVFRP0"])
async def test_nobody_is_asked_to_confirm_what_cannot_be(town: Town, path: str) -> None:
    """A ceiling in a currency that nothing is owed in: refused at once, and not proposed."""
    before = await town.carlo.get("/proposals")
    body = {"limit_minor": "5", "reason": "why"}
    await ask(town.carlo, "PUT", f"/ceilings/{path}", body, "currency_not_cleared", status=422)
    assert await town.carlo.get("/proposals") == before
    assert [one for one in await town.carlo.get("/ceilings") if one["currency"] == path[:3]] == []


async def test_page_by_page(town: Town) -> None:
    bank = town.bravo
    openings = [
        {"code": f"b-page-{number}", "currency": "EUR", "name": "Bo", "opening_balance_minor": str(number)}
        for number in range(1, 8)
    ]
    await bank.send("POST", "/accounts", {"accounts": openings})
    everything = await bank.get("/proposals")
    pages, path = [], "/proposals?limit=3"
    while path:
        answer = await bank.send("GET", path)
        assert len(answer.json()) <= 3
        pages += answer.json()
        path = answer.links.get("next", {}).get("url", "")
    assert pages == everything
    assert [one["content"]["opening_balance_minor"] for one in everything] == list("7654321")
