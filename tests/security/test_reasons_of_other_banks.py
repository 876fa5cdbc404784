"""A bank refuses payments with reasons that are no codes: they end, and nothing of what it wrote is in the books."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, Response, post
from litestar.datastructures import State
from running_banks import Town, order, served
from running_coordinator import ALPHA, CARLO
from support import uuid7

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from gateway.federation.messages.payments import ACKNOWLEDGEMENT_TYPE, Acknowledgement, PaymentOutcome
from participants.audit.fsck import fsck
from participants.ledger.events import EventData, EventUnreadableError, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_CODES = ("a\x00b", "\u202edesufer", "Not Today", "x" * 65, "")


def refusing(town: Town, reasons: Sequence[str]) -> Litestar:
    """Return a bank that refuses the payments of a batch for these reasons, by turns, and signs that."""

    @post("/federation/payments", status_code=200)
    async def refuse(request: Request[Any, Any, Any]) -> Response[Any]:
        """Refuses whatever comes."""
        payload = msgspec.json.decode(await request.body(), type=Envelope).payload_bytes()
        outcomes = tuple(
            PaymentOutcome(id=payment["id"], status="refused", reason=reasons[int(payment["amount_minor"])])
            for payment in msgspec.json.decode(payload)["payments"]
        )
        answer = Acknowledgement(sender=ALPHA, receiver=CARLO, batch=canonical.digest(payload), outcomes=outcomes)
        return Response(dsse.sign(answer, town.carlo.sign, payload_type=ACKNOWLEDGEMENT_TYPE))

    edge = {name: town.carlo.app.state[name] for name in ("limits", "private")}
    return Litestar([refuse], state=State({**edge, "stopping": asyncio.Event()}))


async def test_a_reason_that_is_no_code(town: Town) -> None:
    reasons = ("", *NO_CODES, "of_a_later_release")
    await town.carlo.serving.aclose()
    async with served(refusing(town, reasons), town.carlo.settings.port):
        batch = uuid7()
        orders = [order(n, creditor_agent=CARLO, creditor_account="c-1") for n in range(1, len(reasons))]
        answer = await town.alpha.send("POST", "/payments/batch", {"payments": orders, "id": batch})
        assert answer.status_code == 200, answer.text
        ended = [await town.alpha.until(one["id"], "refused") for one in orders]
    assert [payment["reason"] for payment in ended] == ["unspecified"] * len(NO_CODES) + ["of_a_later_release"]
    listed = (await town.alpha.get(f"/batches/{batch}/orders"))["items"]
    assert [one["reason"] for one in listed] == [payment["reason"] for payment in ended]
    while await town.alpha.node.terms.advance():
        pass
    listed = (await town.alpha.get("/payments", status="refused"))["items"]
    assert {one["id"] for one in listed} >= {one["id"] for one in orders}
    report = await fsck(town.alpha.node.database_url, ALPHA)
    assert [check.name for check in report.checks if not check.ok] == []


async def test_no_event_holds_what_the_database_can_not_read() -> None:
    with pytest.raises(EventUnreadableError, match="NUL"):
        EventData.of("payment.refused", Refused(reason="a\x00b"))
    for said in ("a\\u0000b", "a\\\\u0000", "\u0001"):
        EventData.of("payment.refused", Refused(reason=said))
