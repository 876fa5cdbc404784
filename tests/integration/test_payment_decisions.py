"""What people decide about payments, over two banks' nodes: returns, holds under four eyes, disputes and breaks."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from running_banks import LISTED, SANCTIONS, WAIT_S, RunningBank, Town, order
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, Coordinator
from support import uuid7

from gateway.federation.http.client import FederationClient
from gateway.federation.messages.cycles import Cycle, CycleProgress, OpenCycle
from gateway.federation.messages.proposals import ProposalView

pytestmark = pytest.mark.asyncio(loop_scope="module")


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    return answer.status_code, answer.json()["code"]


async def paid(town: Town, amount: int = 100, **changes: Any) -> dict[str, Any]:
    """Pay from ALPHA to BRAVO and return the order once both have booked it."""
    one = order(amount, **changes)
    answer = await town.alpha.send("POST", "/payments", one)
    assert answer.status_code == 201, answer.text
    await town.alpha.until(one["id"], "posted")
    return one


# --- returns -------------------------------------------------------------------------------------------------


async def give_back(bank: RunningBank, payment_id: str, return_id: str, **options: Any) -> httpx.Response:
    return await bank.send("POST", f"/payments/{payment_id}/return", {"id": return_id}, **options)


async def test_a_payment_is_given_back_once(town: Town) -> None:
    """By a payment of its own, linked to the first; asking again replays it, a second return is refused."""
    await town.alpha.open("a-back", balance=300)
    await town.bravo.open("b-back", balance=0)
    one, number = await paid(town, 300, debtor_account="a-back", creditor_account="b-back"), uuid7()
    first = await give_back(town.bravo, one["id"], number)
    assert (first.status_code, first.json()) == (201, {"id": number, "status": "reserved"})
    assert (await give_back(town.bravo, one["id"], number)).json() == first.json()
    returned = await town.bravo.until(number, "posted")
    assert (returned["returns"], returned["amount_minor"]) == (one["id"], "300")
    await town.alpha.until(number, "accepted")
    for bank in (town.alpha, town.bravo):
        await bank.until(one["id"], "returned")
    assert refused(await give_back(town.bravo, one["id"], uuid7())) == (422, "return_of_unknown")
    assert [await town.alpha.balance("a-back"), await town.bravo.balance("b-back")] == [300, 0]


async def test_returns_at_once_give_back_once(town: Town) -> None:
    one = await paid(town)
    answers = await asyncio.gather(*(give_back(town.bravo, one["id"], uuid7()) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 5


async def test_what_can_not_be_given_back(town: Town) -> None:
    one, number = await paid(town), uuid7()
    nobody = "00000000-0000-4000-8000-000000000000"
    assert refused(await give_back(town.bravo, nobody, uuid7())) == (404, "payment_unknown")
    # Not by who sent it, and not the return itself.
    assert refused(await give_back(town.alpha, one["id"], uuid7()))[0] == 422
    assert (await give_back(town.bravo, one["id"], number)).status_code == 201
    await town.alpha.until(number, "accepted")
    assert refused(await give_back(town.alpha, number, uuid7())) == (422, "return_differs")
    assert refused(await give_back(town.bravo, one["id"], "no UUID")) == (400, "validation_failed")


@pytest.mark.parametrize(
    "change",
    [{"debtor_account": "b-2"}, {"creditor_account": "a-2"}, {"creditor_agent": CARLO}],
)
async def test_a_return_that_differs(town: Town, change: dict[str, str]) -> None:
    """An order that says it gives a payment back, and doesn't give it back to where it came from."""
    one = await paid(town)
    right = order(100, creditor_agent=ALPHA, debtor_account="b-1", creditor_account="a-1", returns=one["id"])
    wrong = {**right, **change}
    assert refused(await town.bravo.send("POST", "/payments", wrong)) == (422, "return_differs")


async def test_a_return_of_money_that_is_spent(town: Town) -> None:
    await town.bravo.open("b-spent", balance=0)
    one = await paid(town, 500, creditor_account="b-spent")
    spending = order(400, creditor_agent=ALPHA, debtor_account="b-spent", creditor_account="a-1")
    assert (await town.bravo.send("POST", "/payments", spending)).status_code == 201
    assert refused(await give_back(town.bravo, one["id"], uuid7())) == (422, "insufficient_funds")


# --- holds ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def screening(town: Town) -> AsyncIterator[None]:
    """ALPHA screens against a list that names somebody."""
    await _screen(town.alpha)
    yield


async def _screen(bank: RunningBank) -> None:
    files = {"list.csv": b64encode(SANCTIONS).decode()}
    answer = await bank.send("POST", "/screening/lists", {"name": "test", "files": files})
    assert answer.status_code == 201, answer.text
    assert answer.json()["entries"] == 1


async def word(bank: RunningBank, payment_id: str, subject: str, decision: str) -> httpx.Response:
    body = {"decision": decision, "reason": f"{subject} looked at it"}
    return await bank.send("POST", f"/holds/{payment_id}/decisions", body, subject=subject)


async def held_ids(bank: RunningBank) -> list[str]:
    return [payment["id"] for payment in await bank.get("/holds")]


@pytest.mark.usefixtures("screening")
async def test_two_people_release_what_the_sender_holds(town: Town) -> None:
    await town.alpha.open("a-hit", balance=100)
    one = order(60, debtor_account="a-hit", creditor_name=LISTED)
    answer = await town.alpha.send("POST", "/payments", one)
    assert (answer.status_code, answer.json()["status"]) == (201, "held")
    again = await town.alpha.send("POST", "/payments", one)
    assert (again.json(), again.headers["Idempotency-Hit"]) == (answer.json(), "true")
    assert one["id"] in await held_ids(town.alpha)
    # The money is reserved, and nothing is sent.
    assert await town.alpha.balance("a-hit") == 40
    assert refused(await town.bravo.send("GET", f"/payments/{one['id']}")) == (404, "payment_unknown")

    first = await word(town.alpha, one["id"], "ann", "release")
    assert (first.status_code, first.json()["status"]) == (201, "held")
    assert (await word(town.alpha, one["id"], "ann", "release")).json()["status"] == "held"
    body = {"decision": "release", "reason": "once more"}
    second = await town.alpha.send("POST", f"/holds/{one['id']}/decisions", body, subject="ann")
    assert refused(second) == (409, "hold_same_person")
    assert (await word(town.alpha, one["id"], "ben", "release")).json()["status"] in ("reserved", "posted")
    await town.alpha.until(one["id"], "posted")
    assert one["id"] not in await held_ids(town.alpha)
    assert refused(await word(town.alpha, one["id"], "cora", "reject")) == (409, "hold_already_decided")


@pytest.mark.usefixtures("screening")
async def test_holds_say_why_and_are_decided_together(town: Town) -> None:
    await town.alpha.open("a-many", balance=100)
    many = [order(1, debtor_account="a-many", creditor_name=LISTED, debtor_name=LISTED) for _ in range(3)]
    for one in many:
        assert (await town.alpha.send("POST", "/payments", one)).json()["status"] == "held"
    ids = [one["id"] for one in many]
    reason = {"decision": "release", "reason": "namesakes"}
    body = {**reason, "payments": [*ids[:2], uuid7()]}
    first = await town.alpha.send("POST", "/holds/decisions", body, subject="ann")
    assert [(one.get("state"), one.get("reason")) for one in first.json()["results"]] == [
        *[("first_release", None)] * 2, (None, "payment_unknown"),
    ]  # fmt: skip
    assert (await town.alpha.send("POST", "/holds/decisions", body, subject="ann")).json() == first.json()

    # One by one, each page says where the next one begins.
    path, listed = "/holds?limit=1", []
    while path:
        page = await town.alpha.send("GET", path)
        listed += page.json()
        path = page.headers["Link"].split(">")[0].removeprefix("<") if "Link" in page.headers else ""
    held = [one for one in listed if one["id"] in ids]
    assert [one["id"] for one in held] == ids
    assert [one["state"] for one in held] == ["first_release", "first_release", "open"]
    assert held[0]["opinions"] == [{"person": "ann", **reason}]
    assert [(hit["party"], hit["list"], hit["score"]) for hit in held[0]["hits"]] == [
        ("debtor", "test", 100), ("creditor", "test", 100),
    ]  # fmt: skip
    assert {"entry", "listed_name", "method"} <= held[0]["hits"][0].keys()
    assert held[0]["held_at"] <= held[1]["held_at"] <= held[2]["held_at"]

    second = {"decision": "release", "reason": "seen", "payments": ids}
    answer = await town.alpha.send("POST", "/holds/decisions", second, subject="ben")
    assert [one["state"] for one in answer.json()["results"]] == ["released", "released", "first_release"]
    assert await held_ids(town.alpha) == ids[2:]
    assert (await word(town.alpha, ids[2], "cora", "reject")).json()["status"] == "held"
    for person in ("dave", "erik"):
        await word(town.alpha, ids[2], person, "reject")


@pytest.mark.usefixtures("screening")
async def test_two_people_reject_what_the_sender_holds(town: Town) -> None:
    """People who disagree leave it to two others; rejected, the money is the customer's again."""
    await town.alpha.open("a-reject", balance=100)
    one = order(60, debtor_account="a-reject", creditor_name="Vantongeren Skarsholt, Otoline")
    assert (await town.alpha.send("POST", "/payments", one)).json()["status"] == "held"
    for subject, decision, status in (
        ("ann", "release", "held"),
        ("ben", "reject", "held"),
        ("cora", "reject", "refused"),
    ):
        assert (await word(town.alpha, one["id"], subject, decision)).json()["status"] == status
    assert await town.alpha.balance("a-reject") == 100
    assert (await town.alpha.until(one["id"], "refused"))["reason"] == "screening_rejected"
    # The sender's own bank refused it: under the same id it stays refused, and nothing is sent.
    assert refused(await town.bravo.send("GET", f"/payments/{one['id']}")) == (404, "payment_unknown")


@pytest.mark.parametrize("decision", ["release", "reject"])
async def test_two_people_decide_what_the_receiver_holds(town: Town, decision: str) -> None:
    """The sender's money stays reserved meanwhile; it hears the outcome without being told to ask."""
    await _screen(town.carlo)
    account = f"a-in-{decision}"
    await town.alpha.open(account, balance=100)
    one = order(
        70, creditor_agent=town.carlo.bic, debtor_account=account, creditor_account="c-1", remittance="held there"
    )
    # ALPHA may have a list by now: then it is released here first.
    one["creditor_name"] = LISTED
    if (await town.alpha.send("POST", "/payments", one)).json()["status"] == "held":
        for subject in ("ann", "ben"):
            await word(town.alpha, one["id"], subject, "release")
    await town.carlo.until(one["id"], "held")
    assert "sequence" not in await town.alpha.until(one["id"], "reserved")
    assert await town.alpha.balance(account) == 30
    for subject in ("dora", "emil"):
        assert (await word(town.carlo, one["id"], subject, decision)).status_code == 201
    if decision == "release":
        there = await town.carlo.until(one["id"], "accepted")
        assert (await town.alpha.until(one["id"], "posted"))["sequence"] == there["sequence"]
        assert await town.alpha.balance(account) == 30
    else:
        await town.carlo.until(one["id"], "refused")
        assert (await town.alpha.until(one["id"], "refused"))["reason"] == "screening_rejected"
        assert await town.alpha.balance(account) == 100


async def test_decisions_that_mean_nothing(town: Town) -> None:
    one = await paid(town)
    nobody = "00000000-0000-4000-8000-000000000000"
    assert refused(await word(town.alpha, nobody, "ann", "release")) == (404, "payment_unknown")
    assert refused(await word(town.alpha, one["id"], "ann", "release")) == (409, "payment_not_held")
    path = f"/holds/{one['id']}/decisions"
    for body in ({"decision": "burn", "reason": "x"}, {"decision": "release"}, {"decision": "release", "reason": ""}):
        assert refused(await town.alpha.send("POST", path, body)) == (400, "validation_failed")


# --- disputes ------------------------------------------------------------------------------------------------


async def dispute(bank: RunningBank, payment_id: str) -> httpx.Response:
    return await bank.send("PUT", f"/payments/{payment_id}/dispute", {"reason": "beneficiary contests the amount"})


async def withdraw(bank: RunningBank, payment_id: str) -> httpx.Response:
    return await bank.send("DELETE", f"/payments/{payment_id}/dispute")


async def test_a_dispute_and_its_withdrawal(town: Town) -> None:
    one = await paid(town)
    for _ in range(2):
        assert (await dispute(town.bravo, one["id"])).json()["status"] == "disputed"
    # It stays accepted to the sender, and can't be given back meanwhile.
    assert refused(await give_back(town.bravo, one["id"], uuid7())) == (422, "return_of_unknown")
    for _ in range(2):
        assert (await withdraw(town.bravo, one["id"])).json()["status"] == "accepted"


async def test_what_can_not_be_disputed(town: Town) -> None:
    one = await paid(town)
    nobody = "00000000-0000-4000-8000-000000000000"
    declined = order(10, creditor_account="nobody")
    assert (await town.alpha.send("POST", "/payments", declined)).status_code == 201
    await town.alpha.until(declined["id"], "refused")
    assert refused(await dispute(town.bravo, nobody)) == (404, "payment_unknown")
    assert refused(await dispute(town.alpha, one["id"])) == (409, "payment_not_incoming")
    assert refused(await dispute(town.bravo, declined["id"])) == (409, "payment_not_accepted")
    assert refused(await withdraw(town.bravo, nobody)) == (404, "payment_unknown")
    answer = await town.bravo.send("PUT", f"/payments/{one['id']}/dispute", {"reason": ""})
    assert refused(answer) == (400, "validation_failed")


async def test_a_break_is_mended_during_attestation(town: Town) -> None:
    """A payment under dispute makes the pair differ; withdrawn, both banks sign revision 2 and agree."""
    one = await paid(town, 12_345)
    await paid(town)
    assert (await dispute(town.bravo, one["id"])).status_code == 200
    url = town.coordinator.url
    async with await town.coordinator.operator("alice") as alice, await town.coordinator.operator("bob") as bob:
        cycle = await alice.post(f"{url}/cycles", Cycle, audience=COORDINATOR, json=OpenCycle())
        await alice.post(f"{url}/cycles/{cycle.id}/cut-off", Cycle, audience=COORDINATOR)

        async def progress() -> CycleProgress:
            return await alice.get(f"{url}/cycles/{cycle.id}/progress", CycleProgress, audience=COORDINATOR)

        async def until(reached: Callable[[CycleProgress], object]) -> CycleProgress:
            for _ in range(400):
                now = await progress()
                if reached(now):
                    return now
                await asyncio.sleep(0.05)
            raise AssertionError(now)

        (found,) = (await until(lambda now: now.breaks)).breaks
        assert (found.pair, found.currency, found.kind, found.resolved) == ((ALPHA, BRAVO), "EUR", "different", False)
        assert (await progress()).cycle.state == "attesting"

        assert (await withdraw(town.bravo, one["id"])).json()["status"] == "accepted"
        after = await until(lambda now: now.cycle.state != "attesting")
        assert all(notice.resolved for notice in after.breaks)
        assert after.pairs.carried_over == 0
        for bank in (town.alpha, town.bravo):
            signed = await bank.get(f"/cycles/{cycle.id}/attestations")
            assert len([e for e in signed if "attestation" in e["payloadType"]]) >= 2
            stated = {
                (*s["pair"], s["currency"]): s["revision"] for s in await bank.get(f"/cycles/{cycle.id}/positions")
            }
            assert stated[ALPHA, BRAVO, "EUR"] == 2
            # The bank's own systems hear of it: that the pair differed, and that it agrees again.
            breaks: list[Any] = []
            async with asyncio.timeout(WAIT_S):
                while not (breaks and breaks[-1].get("resolved")):
                    await asyncio.sleep(0.05)
                    page = await bank.get("/events", type="cycle.break")
                    breaks = [event["break"] for event in page["events"]]
            other = BRAVO if bank is town.alpha else ALPHA
            assert {(e["cycle"], e["counterparty"], e["currency"]) for e in breaks} == {(cycle.id, other, "EUR")}
            assert (breaks[0]["kind"], "resolved" in breaks[0]) == ("different", False)
        await _abandon(alice, bob, town.coordinator, cycle.id)


async def _abandon(alice: FederationClient, bob: FederationClient, coordinator: Coordinator, cycle: str) -> None:
    """End a cycle for which nobody settles."""
    first, second = (coordinator.deciding(name) for name in ("alice", "bob"))
    result = (await alice.get(f"{coordinator.url}/cycles/{cycle}", Cycle, audience=COORDINATOR)).result
    request = first.proposal("abandon", cycle, result=result, reason="no settlement agent here")
    url = f"{coordinator.url}/cycles/{cycle}/proposals"
    made = await alice.post(url, ProposalView, audience=COORDINATOR, json=request)
    path = f"{coordinator.url}/proposals/{made.id}/decision"
    await bob.post(path, ProposalView, audience=COORDINATOR, json=second.decision(made, "confirm", reason="seen"))
