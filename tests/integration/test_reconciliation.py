"""Two banks' nodes find out where their books differ, heal what heals by itself, and adopt nothing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from altered_lanes import altered
from running_banks import RunningBank, Town, order, terms
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from compliance.crypto import merkle
from gateway.federation.messages.events import Event
from participants.ledger.lanes import LaneKey
from participants.reconciliation import reads
from participants.reconciliation.lane_tree import Node, whole

TAKEN_DOWN = "SELECT c.through >= h.sequence FROM event_term_cursor c CROSS JOIN ledger_head h"
"""What payments are found by, beside their ids."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pay(town: Town, count: int, amount: int = 100, **changes: Any) -> list[str]:
    """Pay BRAVO so many times, and return the payments' ids once all are posted."""
    orders = [order(amount + n, **changes) for n in range(count)]
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": orders})
    assert answer.status_code == 200, answer.text
    for made in (orders[-1], *orders):
        await town.alpha.until(made["id"], "posted")
    return [made["id"] for made in orders]


async def reconciled(bank: RunningBank, counterparty: str, currency: str | None = "EUR") -> dict[str, Any]:
    """Have a bank compare its books with another's, and return what came of it."""
    body = {"counterparty": counterparty} | ({} if currency is None else {"currency": currency})
    answer = await bank.send("POST", "/reconciliations", body)
    assert answer.status_code == 202, answer.text
    return await ended(bank, answer.json()["id"])


async def ended(bank: RunningBank, id_: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (kept := await bank.get(f"/reconciliations/{id_}"))["state"] in ("asked", "running"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return kept


def kinds(kept: dict[str, Any]) -> dict[str, str]:
    assert kept["state"] == "done", kept
    return {item["payment"]: item["kind"] for item in kept["report"].get("breaks", ())}


def ways(kept: dict[str, Any]) -> dict[str, str]:
    return {lane["sender"]: lane["way"] for lane in kept["report"]["lanes"]}


async def head(bank: RunningBank) -> int:
    return int(await bank.node.pool.fetchval("SELECT sequence FROM ledger_head"))


async def test_books_that_are_the_same(town: Town) -> None:
    await pay(town, 40)
    before = await head(town.alpha), await head(town.bravo)
    kept = await reconciled(town.alpha, BRAVO)
    assert kinds(kept) == {}
    assert ways(kept) == {ALPHA: "tree"}
    cost = kept["report"]["cost"]
    assert cost["questions"] <= 4
    assert (await head(town.alpha), await head(town.bravo)) == before
    listed = await town.alpha.get("/reconciliations")
    assert listed["items"][0]["id"] == kept["id"]
    assert "report" not in listed["items"][0]


async def test_another_amount_is_found_under_its_number(town: Town) -> None:
    ids = await pay(town, 70)
    async with altered(town.bravo.node.database_url, ALPHA, BRAVO) as lane:
        await lane.execute(
            "UPDATE lane_entry SET amount = amount + 1, leaf = sha256('other') WHERE lane_id = $1 AND payment_id = $2",
            ids[33],
        )
    kept = await reconciled(town.alpha, BRAVO)
    assert kinds(kept) == {ids[33]: "amount"}
    (found_break,) = kept["report"]["breaks"]
    assert int(found_break["there"]["amount_minor"]) == int(found_break["here"]["amount_minor"]) + 1
    # The other bank finds the same from its side.
    assert kinds(await reconciled(town.bravo, ALPHA)) == {ids[33]: "amount"}
    async with altered(town.bravo.node.database_url, ALPHA, BRAVO) as lane:
        await lane.execute(
            "UPDATE lane_entry SET amount = amount - 1, leaf = (SELECT decode($3, 'hex'))"
            " WHERE lane_id = $1 AND payment_id = $2",
            ids[33],
            found_break["here"]["leaf"],
        )
    assert kinds(await reconciled(town.alpha, BRAVO)) == {}


async def test_a_contested_payment_is_named_by_both(town: Town) -> None:
    (id_,) = await pay(town, 1)
    assert (await town.bravo.send("PUT", f"/payments/{id_}/dispute", {"reason": "no invoice"})).status_code == 200
    for bank, other in ((town.alpha, BRAVO), (town.bravo, ALPHA)):
        kept = await reconciled(bank, other)
        assert kinds(kept) == {id_: "status"}
        assert kept["report"]["breaks"][0]["contested_by"] == BRAVO
    assert (await town.bravo.send("DELETE", f"/payments/{id_}/dispute")).status_code == 200
    assert kinds(await reconciled(town.alpha, BRAVO)) == {}


async def test_a_lost_answer_is_asked_for_and_posts_the_payment(town: Town) -> None:
    """BRAVO has accepted it; what it signed about that never came to ALPHA."""
    worker = town.alpha.node.outbound._workers[BRAVO]
    await worker.stop()
    body = order(500, end_to_end_id="LOST-1")
    assert (await town.alpha.send("POST", "/payments", body)).status_code == 201
    fields = {name: value for name, value in body.items() if name not in ("creditor_agent", "amount_minor")}
    town.acknowledged(await town.deliver(town.sealed(terms(500, **fields))))
    kept = await reconciled(town.alpha, BRAVO)
    assert kinds(kept) == {body["id"]: "status"}
    assert kept["report"]["breaks"][0]["healing"] == "asked"
    worker.start()
    await town.alpha.until(body["id"], "posted")
    assert kinds(await reconciled(town.alpha, BRAVO)) == {}


async def test_what_the_other_bank_alone_has_is_shown_and_not_adopted(town: Town) -> None:
    """A payment that ALPHA signed and doesn't know, in a currency of its own so that nothing else waits for it."""
    for bank in (town.alpha, town.bravo):
        await bank.open(f"{bank.bic[0].lower()}-1", currency="USD")
    unknown = terms(900, currency="USD")
    town.acknowledged(await town.deliver(town.sealed(unknown)))
    before = await head(town.alpha)
    kept = await reconciled(town.alpha, BRAVO, "USD")
    assert kinds(kept) == {unknown.id: "missing_here"}
    assert await head(town.alpha) == before
    assert kinds(await reconciled(town.bravo, ALPHA, "USD")) == {unknown.id: "missing_there"}
    # What ALPHA signed of it is there for it to be proved.
    evidence = await town.bravo.send(
        "GET", f"/federation/payments/{unknown.id}/evidence", token=town.assertion(ALPHA, BRAVO)
    )
    assert evidence.status_code == 200


async def test_a_second_payment_with_the_same_reference_is_a_duplicate(town: Town) -> None:
    for bank in (town.alpha, town.bravo):
        await bank.open(f"{bank.bic[0].lower()}-1", currency="CHF")
    first = order(700, currency="CHF", end_to_end_id="INV-7")
    assert (await town.alpha.send("POST", "/payments", first)).status_code == 201
    await town.alpha.until(first["id"], "posted")
    again = terms(700, currency="CHF", end_to_end_id="INV-7")
    town.acknowledged(await town.deliver(town.sealed(again)))
    async with asyncio.timeout(20):
        while not await town.alpha.node.pool.fetchval(TAKEN_DOWN):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    kept = await reconciled(town.alpha, BRAVO, "CHF")
    assert kinds(kept) == {again.id: "duplicate"}
    assert kept["report"]["breaks"][0]["twin"] == first["id"]


async def test_numbers_that_are_shifted_are_compared_as_sets(town: Town) -> None:
    """BRAVO has one payment more before 300 others, so every number after it means another payment; and one other."""
    for bank in (town.alpha, town.bravo):
        await bank.open(f"{bank.bic[0].lower()}-1", currency="JPY")
    ids = await pay(town, 300, currency="JPY")
    async with altered(town.bravo.node.database_url, ALPHA, BRAVO, "JPY") as lane:
        await lane.execute("UPDATE lane_entry SET sequence = sequence + 100001 WHERE lane_id = $1")
        await lane.execute("UPDATE lane_entry SET sequence = sequence - 100000 WHERE lane_id = $1")
        await lane.execute(
            "INSERT INTO lane_entry (lane_id, sequence, payment_id, amount, leaf) VALUES ($1, 1, $2, 5, sha256('x'))",
            (stray := uuid7()),
        )
        await lane.execute(
            "UPDATE lane_entry SET payment_id = $2, leaf = sha256('y') WHERE lane_id = $1 AND sequence = 200",
            (second := uuid7()),
        )
    kept = await reconciled(town.alpha, BRAVO, "JPY")
    assert ways(kept) == {ALPHA: "set"}
    shown = kinds(kept)
    assert shown.pop(stray) == "missing_here"
    assert shown.pop(second) == "missing_here"
    # BRAVO's events know it, and its lane doesn't.
    assert shown.pop(ids[198]) == "status"
    # The first number that means another payment is named, and what stands last is compared by itself.
    assert set(shown) <= {ids[0], ids[-1]}
    assert set(shown.values()) <= {"number", "status"}
    assert 0 < kept["report"]["cost"]["symbols"] < 64
    again = await reconciled(town.alpha, BRAVO, "JPY")
    assert again["report"]["cost"]["questions"] == kept["report"]["cost"]["questions"] - 1  # the secret is agreed


async def test_a_bank_that_forgot_the_set_is_asked_anew(town: Town) -> None:
    """BRAVO's node is started again just as its symbols are asked for: nothing is lost but time."""
    answering = town.bravo.node.reconciliations.answering
    answering._opened._buckets.clear()
    opened = answering.open
    times = 0

    async def forget(*args: Any) -> Any:
        nonlocal times
        answer = await opened(*args)
        times += 1
        if times == 1:
            answering._sessions.clear()
            answering._secrets._kept.clear()
        return answer

    answering.open = forget  # type: ignore[method-assign]
    try:
        kept = await reconciled(town.alpha, BRAVO, "JPY")
    finally:
        answering.open = opened  # type: ignore[method-assign]
    assert ways(kept) == {ALPHA: "set"}
    assert "missing_here" in kinds(kept).values()
    assert times >= 2


async def test_digests_of_every_subtree_are_those_of_its_payments(town: Town) -> None:
    """Whatever the stored heads are: after each payment, or after batches of them."""
    key = LaneKey(ALPHA, BRAVO, "EUR")
    async with town.bravo.node.pool.acquire() as connection:
        lane = await reads.lane(connection, key)
        assert lane is not None
        rows = await connection.fetch("SELECT leaf FROM lane_entry WHERE lane_id = $1 ORDER BY sequence", lane.id)
        leaves = [row[0] for row in rows][: lane.size]
        for size in {lane.size, lane.size - 1, 64, 33, 1}:
            nodes = [
                Node(level, at)
                for level in range(whole(size).level + 1)
                for at in range((size + (1 << level) - 1) >> level)
            ]
            digests = await reads.digests(connection, lane, size, nodes)
            for node, digest in zip(nodes, digests, strict=True):
                after, through = node.range(size)
                assert digest == merkle.root(leaves[after:through]), (size, node)


async def test_at_a_terminal(town: Town) -> None:
    alpha = town.alpha.settings
    options = ["--url", alpha.url, "--bank", ALPHA, "--data-dir", str(alpha.data_dir), "--subject", "sam"]
    (id_,) = await pay(town, 1)
    assert (await town.bravo.send("PUT", f"/payments/{id_}/dispute", {"reason": "no invoice"})).status_code == 200
    for code, line in ((1, f"status: {id_}, here posted"), (0, "0 differ by number (tree)")):
        command = [
            sys.executable,
            "-m",
            "gateway.cli",
            "participant",
            "reconcile",
            BRAVO,
            "--currency",
            "EUR",
            *options,
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert line in out.decode()
        assert process.returncode == code, out
        assert (await town.bravo.send("DELETE", f"/payments/{id_}/dispute")).status_code in (200, 409)


async def test_a_break_is_looked_into_once_by_itself(town: Town) -> None:
    data = {"pair": [ALPHA, BRAVO], "currency": "EUR", "revision": 1, "kind": "different", "missing_from": None}
    broken = {"id": 900_001, "type": "cycle.break", "cycle": "2026-03-02-01", "at": "2026-03-02T10:00:00Z"}
    for number in (0, 1, 1):
        event = Event(**{**broken, "id": broken["id"] + number, "data": data})  # type: ignore[operator]
        await town.alpha.node.follower._handle(event)
    listed = (await town.alpha.get("/reconciliations"))["items"]
    (kept,) = [item for item in listed if item.get("cycle") == "2026-03-02-01"]
    assert kept["counterparty"] == BRAVO
    assert (await ended(town.alpha, kept["id"]))["state"] == "done"


async def test_one_that_was_interrupted_is_taken_up_again(town: Town) -> None:
    """The node that worked on it was killed: nobody has it any more after its time."""
    id_ = uuid7()
    await town.alpha.node.pool.execute(
        "INSERT INTO reconciliation (id, counterparty, currency, asked_by, state, attempts, claimed_until)"
        " VALUES ($1, $2, 'EUR', 'sam', 'running', 1, now() - interval '1 s')",
        id_,
        BRAVO,
    )
    kept = await ended(town.alpha, id_)
    assert (kept["state"], kept["report"]["lanes"][0]["sender"]) == ("done", ALPHA)


async def test_a_bank_that_is_away_is_tried_again_and_then_given_up(town: Town) -> None:
    answer = await town.alpha.send("POST", "/reconciliations", {"counterparty": "NOTHXXA0"})
    assert (answer.status_code, answer.json()["code"]) == (422, "counterparty_unknown")
    answer = await town.alpha.send("POST", "/reconciliations", {"counterparty": ALPHA})
    assert (answer.status_code, answer.json()["code"]) == (422, "counterparty_unknown")
    await town.banks[CARLO].serving.aclose()
    answer = await town.alpha.send("POST", "/reconciliations", {"counterparty": CARLO})
    async with asyncio.timeout(30):
        while True:
            kept = await town.alpha.get(f"/reconciliations/{answer.json()['id']}")
            if kept.get("reason"):
                break
            await asyncio.sleep(0.05)
    assert kept["state"] == "asked"
    # Others aren't kept waiting by it.
    assert (await reconciled(town.alpha, BRAVO))["state"] == "done"
