"""Batches of orders: all or nothing, tried, known by an id, in any JSON encoding, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import pytest
from earlier_databases import lay_down
from running_banks import LISTED, RunningBank, Town, order
from running_coordinator import ALPHA, BRAVO
from support import NewDatabase, uuid7

from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import dsn
from participants.ledger.events import PaymentOrder
from participants.node import SUBMITTED_ITEMS_MAX
from participants.payments.batches import paid_earlier
from participants.payments.row_identity import Content, row_ids

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def submitted(bank: RunningBank, *orders: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    answer = await bank.send("POST", "/payments/batch", {"payments": orders, **options})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def words(results: list[dict[str, Any]]) -> list[str]:
    return [
        result.get("reason") or ("replayed " if result.get("replayed") else "") + result["status"] for result in results
    ]


async def events_of(bank: RunningBank, *orders: dict[str, Any]) -> int:
    ids = [one["id"] for one in orders]
    count: int = await bank.node.pool.fetchval("SELECT count(*) FROM event WHERE subject = ANY($1::uuid[])", ids)
    return count


@asynccontextmanager
async def standing_still(bank: RunningBank) -> AsyncIterator[None]:
    """Keep the bank's writer waiting, so that what is asked meanwhile is decided together."""
    connection = await asyncpg.connect(dsn(bank.node.database_url))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            yield
    finally:
        await connection.close()


# --- each for itself ---------------------------------------------------------------------------------------


async def test_more_orders_than_are_decided_at_once_are_answered_in_their_order(town: Town) -> None:
    count = 2 * SUBMITTED_ITEMS_MAX
    await town.alpha.open("a-many", balance=count)
    orders = [order(1, debtor_account="a-many") for _ in range(count)]
    beyond = [orders[0], {**orders[1], "amount_minor": "2"}, order(1, debtor_account="a-many")]
    results = await submitted(town.alpha, *orders, *beyond)
    assert [result["id"] for result in results] == [asked["id"] for asked in [*orders, *beyond]]
    assert words(results) == ["reserved"] * count + ["replayed reserved", "id_reused", "insufficient_funds"]
    assert await town.alpha.balance("a-many") == 0
    assert await events_of(town.alpha, *orders) >= count


# --- all or nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
async def test_all_orders_of_an_atomic_batch_are_taken_or_none(town: Town, named: bool) -> None:
    account, options = f"a-atomic-{named}", {"atomic": True, **({"id": uuid7()} if named else {})}
    await town.alpha.open(account, balance=100)
    first, second, third = (order(40, debtor_account=account) for _ in range(3))
    assert words(await submitted(town.alpha, first, second, third, **options)) == [
        "batch_not_taken",
        "batch_not_taken",
        "insufficient_funds",
    ]
    assert await town.alpha.balance(account) == 100
    assert await events_of(town.alpha, first, second, third) == 0
    assert words(await submitted(town.alpha, first, second, first, **options)) == [
        "reserved",
        "reserved",
        "replayed reserved",
    ]
    assert await town.alpha.balance(account) == 20


async def test_what_was_taken_before_stays_taken_beside_an_atomic_batch_that_is_not(town: Town) -> None:
    before, new, poor = order(1), order(1), order(1, debtor_account="nobody")
    await submitted(town.alpha, before)
    results = await submitted(town.alpha, before, new, new, poor, atomic=True)
    assert words(results) == ["replayed reserved", "batch_not_taken", "batch_not_taken", "debtor_account_unknown"]
    assert await events_of(town.alpha, new) == 0


async def test_of_atomic_batches_at_once_each_is_whole(town: Town) -> None:
    """Ten of three orders each, decided in one group: the money serves four."""
    await town.alpha.open("a-whole", balance=130)
    batches = [[order(10, debtor_account="a-whole") for _ in range(3)] for _ in range(10)]
    async with standing_still(town.alpha):
        tasks = [asyncio.create_task(submitted(town.alpha, *batch, atomic=True)) for batch in batches]
        await asyncio.sleep(0.2)
    statuses = [{result["status"] for result in await task} for task in tasks]
    assert sorted(statuses, key=str) == [{"refused"}] * 6 + [{"reserved"}] * 4
    assert await town.alpha.balance("a-whole") == 10


# --- tried -------------------------------------------------------------------------------------------------


async def test_a_dry_run_says_what_would_be_and_takes_nothing(town: Town) -> None:
    await town.alpha.open("a-dry", balance=100)
    known = order(10, debtor_account="a-dry")
    batch = uuid7()
    await submitted(town.alpha, known, id=batch)
    asked = [
        known,
        order(60, debtor_account="a-dry"),
        order(60, debtor_account="a-dry"),
        order(1, debtor_account="a-dry", creditor_name=LISTED),
        {**known, "amount_minor": "11"},
    ]
    dry = await submitted(town.alpha, *asked, dry_run=True, id=uuid7())
    assert words(dry)[:3] == ["replayed reserved", "reserved", "insufficient_funds"]
    assert words(dry)[4] == "id_reused"
    assert dry[0]["batch"] == batch
    assert await events_of(town.alpha, *asked[1:4]) == 0
    assert await town.alpha.balance("a-dry") == 90
    assert words(await submitted(town.alpha, *asked[:3], dry_run=True, atomic=True)) == [
        "replayed reserved",
        "batch_not_taken",
        "insufficient_funds",
    ]
    assert words(await submitted(town.alpha, *asked)) == words(dry)


# --- a batch that has an id --------------------------------------------------------------------------------


async def test_a_batch_sums_up_what_became_of_its_payments(town: Town) -> None:
    good, poor = order(1), order(1, debtor_account="nobody")
    lost = order(1, creditor_account="nobody-there")
    earlier = order(1)
    other, batch = uuid7(), uuid7()
    await submitted(town.alpha, earlier, id=other, name="first.csv")
    for _ in range(2):
        results = await submitted(
            town.alpha, good, poor, lost, earlier, id=batch, name="second.csv", lines=[2, 3, 5, 9]
        )
    assert [result.get("batch") for result in results] == [batch, None, batch, other]
    for one in (good, lost, earlier):
        await town.alpha.until(one["id"], "posted", "refused")
    summed = await town.alpha.get(f"/batches/{batch}")
    assert {name: summed[name] for name in ("id", "name", "made_by", "outcomes", "payments")} == {
        "id": batch,
        "name": "second.csv",
        "made_by": "sam",
        "outcomes": {"taken": 2, "known": 1, "refused": 1},
        "payments": {"posted": 2, "refused": 1},
    }
    everything = await town.alpha.get(f"/batches/{batch}/orders")
    assert everything["items"] == [
        {"line": 2, "id": good["id"], "outcome": "taken", "status": "posted"},
        {"line": 3, "id": poor["id"], "outcome": "refused", "reason": "debtor_account_unknown"},
        {
            "line": 5,
            "id": lost["id"],
            "outcome": "taken",
            "status": "refused",
            "reason": "creditor_account_unknown",
        },
        {"line": 9, "id": earlier["id"], "outcome": "known", "status": "posted"},
    ]
    page = await town.alpha.get(f"/batches/{batch}/orders", limit=3)
    following = await town.alpha.get(f"/batches/{batch}/orders", limit=3, cursor=page["next"])
    assert page["items"] + following["items"] == everything["items"]
    refused = await town.alpha.get(f"/batches/{batch}/orders", outcome="refused")
    assert refused["items"] == everything["items"][1:2]


async def test_an_order_refused_once_may_be_taken_by_the_same_batch_later(town: Town) -> None:
    batch = uuid7()
    late = order(1, debtor_account="a-late")
    assert words(await submitted(town.alpha, late, id=batch)) == ["debtor_account_unknown"]
    await town.alpha.open("a-late")
    assert words(await submitted(town.alpha, late, id=batch)) == ["reserved"]
    assert (await town.alpha.get(f"/batches/{batch}"))["outcomes"] == {"taken": 1}


async def test_the_same_batch_twice_at_once_is_one(town: Town) -> None:
    batch = uuid7()
    orders = [order(1) for _ in range(20)]
    async with standing_still(town.alpha):
        tasks = [asyncio.create_task(submitted(town.alpha, *orders, id=batch)) for _ in range(3)]
        await asyncio.sleep(0.2)
    answers = [{result["status"] for result in await task} for task in tasks]
    assert answers == [{"reserved"}] * 3
    assert (await town.alpha.get(f"/batches/{batch}"))["outcomes"] == {"taken": 20}


@pytest.mark.parametrize(
    ("options", "code"),
    [({"name": "x"}, "batch_id_missing"), ({"lines": [1]}, "batch_id_missing"),
     ({"id": uuid7(), "lines": [1, 2]}, "batch_lines_differ"), ({"id": "x"}, "validation_failed"),
     ({"id": uuid7(), "lines": [0]}, "validation_failed"), ({"atomically": True}, "validation_failed")],
)  # fmt: skip
async def test_what_is_no_batch_is_refused(town: Town, options: dict[str, Any], code: str) -> None:
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": [order(1)], **options})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_a_batch_that_is_not_known_and_a_cursor_that_is_none(town: Town) -> None:
    for path, params, told in (
        (f"/batches/{uuid7()}", {}, (404, "batch_unknown")),
        (f"/batches/{uuid7()}/orders", {"cursor": "WzFd"}, (400, "cursor_malformed")),
        (f"/batches/{uuid7()}/orders", {"outcome": "lost"}, (400, "validation_failed")),
    ):
        answer = await town.alpha.send("GET", path, params=params)
        assert (answer.status_code, answer.json()["code"]) == told


# --- any JSON encoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
async def test_the_largest_batch_of_the_longest_orders_is_read_in_any_encoding(town: Town, plain: bool) -> None:
    def escaped(text: str) -> str:
        units = text.encode("utf-16-be")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    account, long = "x" * 64, "\U0001d11e" * 140
    whole = order(10**15 - 1, debtor_account=account, debtor_name=long, creditor_account=account, creditor_name=long)
    whole |= {"remittance": long, "returns": uuid7(), "creditor_agent": BRAVO + "XXX"}
    del whole["id"]
    body = ",".join(f'\n  "{escaped(name)}" : "{escaped(value)}"' for name, value in whole.items())
    orders = ",".join(f'{{"{escaped("id")}": "{escaped(uuid7())}",{body}\n}}' for _ in range(BATCH_ITEMS_MAX))
    answer = await town.alpha.send(
        "POST", "/payments/batch", f'{{"{escaped("payments")}": [{orders}]}}'.encode(), plain=plain, timeout=60
    )
    assert answer.status_code == 200, answer.text[:500]
    assert words(answer.json()["results"]) == ["debtor_account_unknown"] * BATCH_ITEMS_MAX


# --- orders of files of earlier releases -------------------------------------------------------------------


async def test_rows_that_an_earlier_release_paid_are_known_by_what_they_say(new_database: NewDatabase) -> None:
    """Two equal ones, one held and one with its letters apart; not one whose id the client made."""
    before = uuid5(UUID(int=1), "before")
    texts = {"debtor_account": "a-1", "debtor_name": "Zoe\u0308 Alder", "creditor_account": "b-1",
             "creditor_name": "Bert", "amount_minor": "1100", "currency": "EUR"}  # fmt: skip
    rows = [
        (str(uuid5(before, "1")), "payment.reserved", {**texts, "creditor_agent": BRAVO}),
        (str(uuid5(before, "2")), "payment.held_out", {"order": {**texts, "creditor_agent": BRAVO}}),
        (uuid7(), "payment.reserved", {**texts, "creditor_agent": BRAVO}),
    ]
    events = [
        {"sequence": number, "subject": id_, "version": 1, "type": type_, "schema_version": 2,
         "recorded_at": "2026-11-01T10:00:00Z", "data": {"id": id_, **data}}
        for number, (id_, type_, data) in enumerate(rows, start=1)
    ]  # fmt: skip
    url = await new_database()
    await lay_down(url, "participants.ledger", "0006", {"event": events})
    await migrate(url, "participants.ledger")
    content = Content(ALPHA, "a-1", "Zo\u00eb Alder", BRAVO, "b-1", "Bert", "1100", "EUR", "")
    ids = list(row_ids(content, 3))
    connection = await asyncpg.connect(dsn(url))
    try:
        found = await paid_earlier(connection, ALPHA, [payment(content, id_) for id_ in ids])
    finally:
        await connection.close()
    assert found == {ids[0]: rows[0][0], ids[1]: rows[1][0]}


def payment(content: Content, id_: str) -> PaymentOrder:
    return PaymentOrder(
        id=id_,
        creditor_agent=content.creditor_bank,
        amount_minor=content.amount_minor,
        currency=content.currency,
        debtor_account=content.debtor_account,
        debtor_name=content.debtor_name,
        creditor_account=content.creditor_account,
        creditor_name=content.creditor_name,
        remittance=content.remittance,
    )
