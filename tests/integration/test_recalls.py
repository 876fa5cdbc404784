"""A payment is asked for back: people at the other bank give it back, or refuse, and both banks have it signed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from running_banks import RunningBank, Town, order
from support import uuid7

from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVIDENCE = "SELECT kind FROM evidence WHERE kind LIKE 'recall%'"


async def accepted(town: Town, amount: int = 100) -> str:
    """Pay BRAVO, and return the payment's id once it is posted."""
    body = order(amount)
    assert (await town.alpha.send("POST", "/payments", body)).status_code == 201
    id_: str = body["id"]
    await town.alpha.until(id_, "posted")
    return id_


async def recall(bank: RunningBank, id_: str, **changes: Any) -> httpx.Response:
    body = {"id": uuid7(), "reason": "DUPL", "text": "paid twice", **changes}
    return await bank.send("POST", f"/payments/{id_}/recalls", body)


async def until_recall(bank: RunningBank, id_: str, *states: str) -> dict[str, Any]:
    """Wait until a payment's last recall is in one of the states, and return it."""
    import asyncio

    async with asyncio.timeout(20):
        while True:
            recalls = (await bank.get(f"/payments/{id_}")).get("recalls", [])
            if recalls and recalls[-1]["state"] in states:
                last: dict[str, Any] = recalls[-1]
                return last
            await asyncio.sleep(0.02)


async def events_of(bank: RunningBank, id_: str) -> list[dict[str, Any]]:
    page = await bank.send("GET", "/events", token=bank.staff_token(role="events"), params={"limit": 1000})
    return [e for e in page.json()["events"] if e.get("payment", {}).get("id") == id_]


async def assert_sound(*banks: RunningBank) -> None:
    for bank in banks:
        report = await fsck(bank.node.database_url, bank.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def test_people_give_back_a_part(town: Town) -> None:
    id_ = await accepted(town)
    answer = await recall(town.alpha, id_)
    assert answer.status_code == 201, answer.text
    (asked,) = answer.json()["recalls"]
    assert (asked["state"], asked["reason"], asked["text"]) == ("open", "DUPL", "paid twice")
    await until_recall(town.bravo, id_, "open")
    waiting = (await town.bravo.get("/recalls", direction="in"))["items"]
    assert [item["id"] for item in waiting] == [id_]
    assert [item["id"] for item in (await town.alpha.get("/recalls", direction="out"))["items"]] == [id_]
    back = {"id": uuid7(), "amount_minor": "60"}
    path = f"/payments/{id_}/recalls/{asked['id']}/return"
    for _ in range(2):  # asked twice, it is given back once
        given = await town.bravo.send("POST", path, back)
        assert given.status_code == 201, given.text
    assert given.json()["recalls"][0]["answered_by"] == "sam"
    answered = await until_recall(town.alpha, id_, "returned")
    assert answered["returned_by"] == back["id"]
    returned = await town.alpha.until(back["id"], "accepted")
    assert (returned["returns"], returned["return_reason"]) == (id_, "FOCR")
    shown = await town.alpha.get(f"/payments/{id_}")
    assert (shown["status"], shown["returned_minor"]) == ("posted", "60")
    for bank, begins in ((town.alpha, "recall_requested"), (town.bravo, "recall_received")):
        recalls = [e for e in await events_of(bank, id_) if "recall" in e["type"]]
        assert [e["type"] for e in recalls] == [f"payment.{begins}", "payment.recall_answered"]
        assert recalls[1]["payment"]["recall"]["returned_by"] == back["id"]
        assert (await bank.get("/recalls"))["items"] == []
        async with bank.node.pool.acquire() as connection:
            assert len(await connection.fetch(EVIDENCE)) == 1
    other = await town.bravo.send("POST", path, {"id": uuid7(), "amount_minor": "10"})
    assert (other.status_code, other.json()["code"]) == (409, "recall_answered")
    await assert_sound(town.alpha, town.bravo)


async def test_people_refuse_and_say_why(town: Town) -> None:
    id_ = await accepted(town)
    (asked,) = (await recall(town.alpha, id_, reason="FRAD")).json()["recalls"]
    await until_recall(town.bravo, id_, "open")
    path = f"/payments/{id_}/recalls/{asked['id']}/refusal"
    for _ in range(2):
        refused = await town.bravo.send("POST", path, {"reason": "LEGL", "text": "the account is frozen"})
        assert refused.status_code == 201, refused.text
    differs = await town.bravo.send("POST", path, {"reason": "CUST"})
    assert (differs.status_code, differs.json()["code"]) == (409, "recall_answered")
    answered = await until_recall(town.alpha, id_, "refused")
    assert (answered["refusal"], answered["refusal_text"]) == ("LEGL", "the account is frozen")
    assert (await town.bravo.get(f"/payments/{id_}"))["status"] == "accepted"
    # It may be asked for again, for another reason.
    assert (await recall(town.alpha, id_)).status_code == 201
    await until_recall(town.bravo, id_, "open")
    await assert_sound(town.alpha, town.bravo)


async def test_a_return_that_can_not_be_ordered_leaves_the_recall_open(town: Town) -> None:
    id_ = await accepted(town)
    (asked,) = (await recall(town.alpha, id_)).json()["recalls"]
    await until_recall(town.bravo, id_, "open")
    path = f"/payments/{id_}/recalls/{asked['id']}/return"
    refused = await town.bravo.send("POST", path, {"id": uuid7(), "amount_minor": "101"})
    assert (refused.status_code, refused.json()["code"]) == (422, "return_exceeds")
    narrative = await town.bravo.send("POST", path, {"id": uuid7(), "reason": "NARR"})
    assert (narrative.status_code, narrative.json()["code"]) == (400, "validation_failed")
    nothing = await town.bravo.send("POST", f"/payments/{id_}/recalls/{uuid7()}/return", {"id": uuid7()})
    assert (nothing.status_code, nothing.json()["code"]) == (404, "recall_unknown")
    assert (await until_recall(town.bravo, id_, "open"))["id"] == asked["id"]


async def test_what_was_given_back_meanwhile_is_said_to_be(town: Town) -> None:
    id_ = await accepted(town)
    back = uuid7()
    assert (await town.bravo.send("POST", f"/payments/{id_}/return", {"id": back})).status_code == 201
    await town.alpha.until(back, "accepted")
    late = await recall(town.alpha, id_)
    assert (late.status_code, late.json()["code"]) == (409, "payment_not_posted")


async def test_who_may_not_recall_is_told_why(town: Town) -> None:
    id_, number = await accepted(town), uuid7()
    assert (await recall(town.alpha, id_, id=number)).status_code == 201
    assert (await recall(town.alpha, id_, id=number)).status_code == 201  # the same again
    differing = {"reason": "TECH"}
    for bank, payment, changes, code in (
        (town.alpha, id_, {"id": number, **differing}, "recall_id_reused"),
        (town.alpha, id_, {}, "recall_open"),
        (town.bravo, id_, {}, "payment_not_outgoing"),
        (town.alpha, uuid7(), {}, "payment_unknown"),
    ):
        answer = await recall(bank, payment, **changes)
        assert answer.json()["code"] == code
    assert (await recall(town.alpha, id_, reason="NARR", text="")).status_code == 400
