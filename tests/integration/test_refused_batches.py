"""What a bank refuses for what it is keeps no other payment from it: withdrawn or not, few or many."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from running_banks import Town, order
from running_coordinator import BRAVO
from test_payment_references import EarlierBatch

from compliance.crypto import dsse
from compliance.crypto.dsse import EvidenceError
from gateway.federation.messages.payments import PAYMENT_BATCH_TYPE
from gateway.federation.problems import Refusal
from participants.payments.inbound import Inbound

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOON_S = 10.0


async def ordered(town: Town, *orders: dict[str, Any]) -> list[str]:
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": orders})
    assert [one["status"] for one in answer.json()["results"]] == ["reserved"] * len(orders), answer.text
    return [one["id"] for one in orders]


@pytest.mark.parametrize(("withdrawn", "many"), [(True, 40), (False, 200)])
async def test_others_get_through_meanwhile(
    town: Town, monkeypatch: pytest.MonkeyPatch, withdrawn: bool, many: int
) -> None:
    """The receiver knows no references and no withdrawing at first; once it knows them, nothing is left waiting."""
    read = Inbound._read
    refused: list[str] = []

    def read_as_before(self: Inbound, caller: str, envelope: Any, keys: Any) -> Any:
        try:
            dsse.verify_submitted(envelope, EarlierBatch, keys, payload_type=PAYMENT_BATCH_TYPE)
        except EvidenceError as error:
            refused.append(str(error))
            raise Refusal(error.reason, str(error), status=400) from error
        return read(self, caller, envelope, keys)

    monkeypatch.setattr(Inbound, "_read", read_as_before)
    *unknown, plain = await ordered(town, *(order(1, end_to_end_id=f"INV-{n}") for n in range(many)), order(1))
    if withdrawn:
        answer = await town.alpha.send("POST", "/payments/cancellations", {"payments": unknown})
        assert answer.status_code == 200, answer.text
    started = time.monotonic()
    await town.alpha.until(plain, "posted")
    async with asyncio.timeout(SOON_S):
        while len(refused) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for _ in range(3):
        (later,) = await ordered(town, order(1))
        await town.alpha.until(later, "posted")
    seconds = time.monotonic() - started
    assert seconds < SOON_S
    # The bank lives: it isn't one that can't be paid. Nor is it asked without a pause.
    assert BRAVO not in town.alpha.node.outbound.undeliverable()
    assert len(refused) < 10 + seconds * 10
    for id_ in unknown:
        assert (await town.bravo.send("GET", f"/payments/{id_}")).status_code == 404
    monkeypatch.undo()
    for id_ in unknown:
        await town.alpha.until(id_, "posted")


async def test_one_that_is_refused_alone_keeps_none_of_the_like_from_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stricter receiver refuses the whole batch for one payment, which looks like all others."""
    read = Inbound._read
    bodies = [order(1) for _ in range(64)]
    odd = bodies[23]["id"]

    def read_strictly(self: Inbound, caller: str, envelope: Any, keys: Any) -> Any:
        if odd.encode() in envelope.payload_bytes():
            raise Refusal("text_not_plain", "a payment of it says what isn't taken here", status=422)
        return read(self, caller, envelope, keys)

    monkeypatch.setattr(Inbound, "_read", read_strictly)
    ids = await ordered(town, *bodies)
    for id_ in ids:
        if id_ != odd:
            await town.alpha.until(id_, "posted")
    async with asyncio.timeout(SOON_S):
        while town.alpha.node.outbound.set_aside.get(BRAVO) != {odd}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "1 payments" in (await town.alpha.get("/health/ready"))["set_aside"]
    monkeypatch.undo()
    town.alpha.node.outbound.wake(BRAVO, payments=[odd])
    await town.alpha.until(odd, "posted")
    assert town.alpha.node.outbound.set_aside.get(BRAVO) == set()
