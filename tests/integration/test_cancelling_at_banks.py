"""Payments are cancelled at running banks: while the other one is away, or holds them, or knows of no such thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from importing import command, row, write
from litestar import Litestar, Request, Response, post
from litestar.datastructures import State
from msgspec import Meta
from running_banks import LISTED, SANCTIONS, WAIT_S, RunningBank, Town, order, running_bank, served, terms
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.statements import Bic, Document, Sha256
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentOutcome,
    PaymentTerms,
)
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Refusal, problem_of
from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def paid(bank: RunningBank, **changes: Any) -> str:
    """Order a payment and return its id."""
    body = order(100, **changes)
    answer = await bank.send("POST", "/payments", body)
    assert answer.status_code == 201, answer.text
    id_: str = body["id"]
    return id_


async def cancel(bank: RunningBank, id_: str) -> httpx.Response:
    return await bank.send("POST", f"/payments/{id_}/cancellation")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def restarted(town: Town) -> AsyncIterator[AsyncExitStack]:
    """Where banks run that were stopped and begun again."""
    async with AsyncExitStack() as banks:
        yield banks


@asynccontextmanager
async def away(town: Town, bic: str, restarted: AsyncExitStack) -> AsyncIterator[AsyncExitStack]:
    """Stop a bank until the block ends; whatever is entered into the stack is left before it is back."""
    bank = town.banks[bic]
    await bank.serving.aclose()
    try:
        async with AsyncExitStack() as meanwhile:
            yield meanwhile
    finally:
        again = running_bank(bank.settings, bank.node.database_url, bank.http)
        town.banks[bic] = await restarted.enter_async_context(again)


async def none_waits(bank: RunningBank) -> None:
    """Return when every payment of the bank has its answer."""
    async with asyncio.timeout(WAIT_S):
        while await bank.node.pool.fetchval("SELECT count(*) FROM payment_open"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def types_of(bank: RunningBank, id_: str) -> list[str]:
    """Return what the feed tells of a payment."""
    page = await bank.send("GET", "/events", token=bank.staff_token(role="events"), params={"limit": 1000})
    return [e["type"] for e in page.json()["events"] if e.get("payment", {}).get("id") == id_]


async def assert_sound(*banks: RunningBank) -> None:
    for bank in banks:
        report = await fsck(bank.node.database_url, bank.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


async def test_what_is_cancelled_while_the_other_bank_is_away_never_gets_in(
    town: Town, restarted: AsyncExitStack
) -> None:
    """Its sender has the signed batch at hand, and has tried to deliver it: that one isn't sent any more."""
    async with away(town, BRAVO, restarted):
        orders = [order(100), order(100)]
        assert (await town.alpha.send("POST", "/payments/batch", {"payments": orders})).status_code == 200
        goes, stays = (one["id"] for one in orders)
        async with asyncio.timeout(WAIT_S):
            while BRAVO not in town.alpha.node.outbound.undeliverable():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        answer = await cancel(town.alpha, goes)
        assert (answer.status_code, answer.json()["status"], answer.json()["cancelled_by"]) == (
            200,
            "cancelling",
            "sam",
        )
        assert (await cancel(town.alpha, goes)).json()["status"] == "cancelling"
        shown = await town.alpha.get(f"/payments/{goes}")
        assert (shown["settlement"]["state"], shown["settlement"]["since"]) == (
            "waiting_for_answer",
            shown["created_at"],
        )
    await town.alpha.until(goes, "cancelled")
    await town.alpha.until(stays, "posted")
    declined = await town.bravo.until(goes, "declined")
    assert declined["reason"] == "cancelled_by_sender"
    assert (await cancel(town.alpha, goes)).json()["status"] == "cancelled"
    assert (await cancel(town.alpha, stays)).json()["code"] == "payment_answered"
    assert await types_of(town.alpha, goes) == [
        "payment.reserved", "payment.cancellation_requested", "payment.cancelled",
    ]  # fmt: skip
    # The batch of before, which somebody kept, is told the same.
    late = town.acknowledged(await town.deliver(town.sealed(msgspec.structs.replace(terms(), id=goes))))
    assert late.outcomes[0].reason in ("id_reused", "cancelled_by_sender")
    await assert_sound(town.alpha, town.bravo)


async def test_many_are_cancelled_at_once_each_for_itself(town: Town, restarted: AsyncExitStack) -> None:
    nobody = uuid7()
    async with away(town, BRAVO, restarted):
        many = [await paid(town.alpha) for _ in range(5)]
        results = (await town.alpha.send("POST", "/payments/cancellations", {"payments": [*many, nobody]})).json()
    assert [r.get("status") for r in results["results"]] == ["cancelling"] * 5 + [None]
    assert results["results"][-1]["reason"] == "payment_unknown"
    for id_ in many:
        await town.alpha.until(id_, "cancelled")


async def test_a_file_is_cancelled(town: Town, restarted: AsyncExitStack, tmp_path: Path) -> None:
    path = write(tmp_path / "wrong.csv", row("a-1", "1.00", "one"), row("a-1", "2.00", "two"))
    code, output = await command(town.alpha, "file-cancel", str(path))
    assert (code, "has taken no payment of it" in output) == (3, True), output
    async with away(town, BRAVO, restarted):
        assert (await command(town.alpha, "import", str(path)))[0] == 0
        code, output = await command(town.alpha, "file-cancel", str(path))
        assert (code, "payments: 2 cancelling" in output) == (0, True), output
    await none_waits(town.alpha)
    assert "payments: 2 cancelled" in (await command(town.alpha, "file-status", str(path)))[1]
    late = write(tmp_path / "late.csv", row("a-1", "3.00", "three"))
    assert (await command(town.alpha, "import", str(late)))[0] == 0
    await none_waits(town.alpha)
    code, output = await command(town.alpha, "file-cancel", str(late))
    assert (code, "1 payment_answered" in output) == (3, True), output


async def test_what_the_other_bank_holds_is_asked_about_until_its_people_decide(town: Town) -> None:
    import base64

    body = {"name": "TEST", "files": {"sdn.csv": base64.b64encode(SANCTIONS).decode()}}
    assert (await town.bravo.send("POST", "/screening/lists", body)).status_code == 201
    id_ = await paid(town.alpha, debtor_name=LISTED)
    await town.bravo.until(id_, "held")
    assert (await cancel(town.alpha, id_)).json()["status"] == "cancelling"
    for person in ("dora", "egon"):
        word = {"decision": "reject", "reason": "on the list"}
        assert (await town.bravo.send("POST", f"/holds/{id_}/decisions", word, subject=person)).status_code == 201
    assert (await town.alpha.until(id_, "refused"))["reason"] == "screening_rejected"
    await assert_sound(town.alpha, town.bravo)


class EarlierBatch(Document, frozen=True, kw_only=True):
    """A batch as the release before knew it."""

    sender: Bic
    receiver: Bic
    root: Sha256
    payments: Annotated[tuple[PaymentTerms, ...], Meta(min_length=1)]


async def test_a_bank_of_an_earlier_release_takes_it_the_ordinary_way(town: Town, restarted: AsyncExitStack) -> None:
    """It refuses what it doesn't understand, so nothing is lost, and the node says why nothing is cancelled there."""
    keys = town.carlo.node.trust.signing_keys(ALPHA)
    withdrawals: list[str] = []

    @post("/federation/payments", status_code=200)
    async def earlier(request: Request[Any, Any, Any]) -> Response[Any]:
        envelope = msgspec.json.decode(await request.body(), type=Envelope)
        try:
            batch = dsse.verify(envelope, EarlierBatch, keys, payload_type=PAYMENT_BATCH_TYPE)
        except EvidenceError as error:
            withdrawals.append(str(error))
            problem = problem_of(Refusal(error.reason, str(error), status=400), instance=uuid7())
            return Response(problem, status_code=400, media_type=PROBLEM_MEDIA_TYPE)
        outcomes = tuple(
            PaymentOutcome(id=one.id, status="accepted", sequence=number)
            for number, one in enumerate(batch.payments, start=1)
        )
        digest = canonical.digest(envelope.payload_bytes())
        answer = Acknowledgement(sender=ALPHA, receiver=CARLO, batch=digest, outcomes=outcomes)
        return Response(dsse.sign(answer, town.carlo.sign, payload_type=ACKNOWLEDGEMENT_TYPE))

    async with away(town, CARLO, restarted) as meanwhile:
        id_ = await paid(town.alpha, creditor_agent=CARLO, creditor_account="c-1")
        assert (await cancel(town.alpha, id_)).json()["status"] == "cancelling"
        edge = {name: town.carlo.app.state[name] for name in ("limits", "private")}
        app = Litestar([earlier], state=State({**edge, "stopping": asyncio.Event()}))
        await meanwhile.enter_async_context(served(app, town.carlo.settings.port))
        posted = await town.alpha.until(id_, "posted")
        assert (posted["sequence"], posted["cancelled_by"], len(withdrawals)) == (1, "sam", 1)
        assert "CARLITM0 takes no cancellations" in (await town.alpha.get("/health/ready"))["outbound"]


async def test_a_recall_waits_for_a_bank_that_is_away(town: Town, restarted: AsyncExitStack) -> None:
    """Both of them begin anew meanwhile, and no other bank's recall waits with it."""
    id_ = await paid(town.alpha)
    await town.alpha.until(id_, "posted")
    number = uuid7()
    async with away(town, BRAVO, restarted):
        asked = await town.alpha.send("POST", f"/payments/{id_}/recalls", {"id": number, "reason": "TECH"})
        assert asked.json()["recalls"][0]["state"] == "open"
        async with away(town, ALPHA, restarted):
            pass
        assert [item["id"] for item in (await town.alpha.get("/recalls", direction="out"))["items"]] == [id_]
    async with asyncio.timeout(WAIT_S):
        while not (await town.bravo.get("/recalls", direction="in"))["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    path = f"/payments/{id_}/recalls/{number}/refusal"
    assert (await town.bravo.send("POST", path, {"reason": "NOAS"})).status_code == 201
    async with asyncio.timeout(WAIT_S):
        while (await town.alpha.get(f"/payments/{id_}"))["recalls"][0]["state"] == "open":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await town.alpha.get("/recalls"))["items"] == []
    await assert_sound(town.alpha, town.bravo)


async def test_another_node_of_the_bank_withdraws_what_one_took_in(town: Town, restarted: AsyncExitStack) -> None:
    """The node that was asked isn't there any more once the other bank is back."""
    async with away(town, BRAVO, restarted):
        id_ = await paid(town.alpha)
        async with away(town, ALPHA, restarted):
            pass
        assert (await cancel(town.alpha, id_)).json()["status"] == "cancelling"
        async with away(town, ALPHA, restarted):
            pass
    async with asyncio.timeout(WAIT_S):
        await town.alpha.until(id_, "cancelled")
    await assert_sound(town.alpha, town.bravo)
