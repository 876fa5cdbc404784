"""A bank that answers recalls with what isn't an answer, or by a return that came to nothing: others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, Response, post
from litestar.datastructures import State
from running_banks import Town, order, served
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from gateway.federation.messages.recalls import RECALL_ANSWER_TYPE, RecallAnswer

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def paid(town: Town, **changes: Any) -> str:
    body = order(100, **changes)
    assert (await town.alpha.send("POST", "/payments", body)).status_code == 201
    id_: str = body["id"]
    await town.alpha.until(id_, "posted")
    return id_


async def recalled(town: Town, payment: str) -> str:
    answer = await town.alpha.send("POST", f"/payments/{payment}/recalls", {"id": uuid7(), "reason": "FRAD"})
    assert answer.status_code == 201, answer.text
    id_: str = answer.json()["recalls"][0]["id"]
    return id_


async def test_a_return_that_failed_answers_no_recall(town: Town) -> None:
    """Nothing would move: the recall stays open until people give back by another return."""
    id_ = await paid(town)
    (account,) = (await town.alpha.get("/accounts", kind="customer", code="a-1", currency="EUR"))["items"]
    path = f"/accounts/{account['id']}/state"
    assert (await town.alpha.send("PUT", path, {"state": "blocked", "reason": "x"})).is_success
    back = {"id": uuid7(), "amount_minor": "60", "reason": "FOCR"}
    assert (await town.bravo.send("POST", f"/payments/{id_}/return", back)).status_code == 201
    await town.bravo.until(back["id"], "refused")
    for person in ("sam", "tom"):
        await town.alpha.send("PUT", path, {"state": "open", "reason": "y"}, subject=person)
    recall = await recalled(town, id_)
    async with asyncio.timeout(20):
        while not (await town.bravo.get(f"/payments/{id_}")).get("recalls"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    path = f"/payments/{id_}/recalls/{recall}/return"
    refused = await town.bravo.send("POST", path, back)
    assert (refused.status_code, refused.json()["code"]) == (409, "id_reused"), refused.text
    assert [one["state"] for one in (await town.bravo.get(f"/payments/{id_}"))["recalls"]] == ["open"]
    anew = {**back, "id": uuid7()}
    for _ in range(2):
        assert (await town.bravo.send("POST", path, anew)).status_code == 201
    async with asyncio.timeout(20):
        while (shown := await town.alpha.get(f"/payments/{id_}"))["recalls"][0]["state"] == "open":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await town.alpha.until(anew["id"], "accepted")
    assert (shown["recalls"][0]["state"], shown["recalls"][0]["returned_by"]) == ("returned", anew["id"])


async def test_what_is_no_answer_to_one_recall_keeps_no_younger_one_waiting(town: Town) -> None:
    """As many as a bank may answer wrongly in one go, and more."""
    ids = [await paid(town, creditor_agent=CARLO, creditor_account="c-1") for _ in range(12)]
    youngest = ids[-1]
    seen: list[str] = []
    lies: tuple[dict[str, Any] | int, ...] = ({"recall": "0" * 64}, {"sender": BRAVO}, 500, 503)

    @post("/federation/recalls", status_code=200)
    async def answer(request: Request[Any, Any, Any]) -> Response[Any]:
        envelope = msgspec.json.decode(await request.body(), type=Envelope)
        payment = msgspec.json.decode(envelope.payload_bytes())["payment"]
        seen.append(payment)
        said: dict[str, Any] = {
            "sender": ALPHA,
            "receiver": CARLO,
            "recall": canonical.digest(envelope.payload_bytes()),
        }
        if payment != youngest:
            lie = lies[ids.index(payment) % len(lies)]
            if isinstance(lie, int):
                return Response(b"x", status_code=lie)
            said |= lie
        said |= {"status": "refused", "reason": "CUST"}
        return Response(dsse.sign(RecallAnswer(**said), town.carlo.sign, payload_type=RECALL_ANSWER_TYPE))

    edge = {name: town.carlo.app.state[name] for name in ("limits", "private")}
    await town.carlo.serving.aclose()
    app = Litestar([answer], state=State({**edge, "stopping": asyncio.Event()}))
    async with served(app, town.carlo.settings.port):
        for id_ in ids:
            await recalled(town, id_)
        async with asyncio.timeout(30):
            while (await town.alpha.get(f"/payments/{youngest}"))["recalls"][0]["state"] == "open":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    for id_ in ids[:-1]:
        assert (await town.alpha.get(f"/payments/{id_}"))["recalls"][0]["state"] == "open"
