"""What a bank's own systems hear: every event once, in order, whichever node wrote it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from bank_ledgers import ALFA, BETA, HIT, bank, giving_back, payment, settle
from running_banks import WAIT_S, RunningBank, Town, order

from gateway.federation.problems import Refusal
from gateway.federation.storage.database import asyncpg_pool
from participants.feed import feed as feed_module
from participants.feed.feed import Feed, FeedReason, Selection
from participants.feed.messages import EventType, LedgerEvent
from participants.feed.public import PRIVATE, PUBLIC
from participants.ledger.events import TYPES, VERSIONS
from participants.payments.disputes import Dispute, WithdrawDispute
from participants.payments.holds import DecideHold
from participants.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = Selection(frozenset(EventType))
T = EventType


@asynccontextmanager
async def feed_of(url: str) -> AsyncIterator[Feed]:
    pool = await asyncpg_pool(url, max_size=2)
    feed = Feed(pool, asyncio.Event())
    feed.start()
    try:
        yield feed
    finally:
        await feed.stop()
        await pool.close()


async def heard(feed: Feed, selection: Selection = ALL, *, limit: int = 7) -> list[LedgerEvent]:
    """Read the feed to its end, page by page."""
    events: list[LedgerEvent] = []
    after = 0
    while True:
        page = await feed.read(after=after, limit=limit, selection=selection)
        assert after <= page.next <= page.head
        assert len(page.events) <= limit
        assert all(after < event.sequence <= page.next for event in page.events)
        events += page.events
        after = page.next
        if after == page.head:
            return events


async def test_every_event_of_the_journal_is_public_or_says_why_not() -> None:
    assert PUBLIC.keys() | PRIVATE.keys() == TYPES.keys()
    assert not PUBLIC.keys() & PRIVATE.keys()
    assert set(PUBLIC.values()) == set(EventType)


async def test_a_life_of_payments_is_told(new_database: Any) -> None:
    """Held both ways, released, credited, declined, refused, contested, returned, settled: each once."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta, feed_of(urls[0]) as out, feed_of(urls[1]) as into:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1")
        plain, held, stranger = payment(100), payment(50), payment(7, creditor="nobody")
        await alfa.order(plain, stranger)
        await alfa.deliver(beta)
        await alfa.order(held, hits=[HIT])
        for person in ("dora", "egon"):
            await alfa.ledger.submit(DecideHold(held.id, person, "release", "looked"))
        await alfa.deliver(beta, hits=[HIT])
        for person in ("fred", "gina"):
            await beta.ledger.submit(DecideHold(held.id, person, "release", "looked"))
        await alfa.deliver(beta)
        await beta.ledger.submit(Dispute(plain.id, "fred", "not ours"))
        await beta.ledger.submit(WithdrawDispute(plain.id, "fred", "ours"))
        await settle("2026-10-02-01", alfa, beta)
        back = giving_back(plain)
        await beta.order(back)
        await beta.deliver(alfa)

        sent = [(e.type, e.payment.id, e.payment.status) for e in await heard(out) if e.payment]
        assert sent == [
            (T.PAYMENT_RESERVED, plain.id, "reserved"),
            (T.PAYMENT_RESERVED, stranger.id, "reserved"),
            (T.PAYMENT_POSTED, plain.id, "posted"),
            (T.PAYMENT_REFUSED, stranger.id, "refused"),
            (T.PAYMENT_HELD, held.id, "held"),
            (T.PAYMENT_RELEASED, held.id, "reserved"),
            (T.PAYMENT_POSTED, held.id, "posted"),
            (T.PAYMENT_ACCEPTED, back.id, "accepted"),
            (T.PAYMENT_RETURNED, plain.id, "returned"),
        ]
        events = await heard(into)
        received = [(e.type, e.payment.id, e.payment.sequence) for e in events if e.payment]
        assert received == [
            (T.PAYMENT_ACCEPTED, plain.id, 1),
            (T.PAYMENT_DECLINED, stranger.id, None),
            (T.PAYMENT_HELD, held.id, None),
            (T.PAYMENT_ACCEPTED, held.id, 2),
            (T.PAYMENT_DISPUTED, plain.id, None),
            (T.PAYMENT_DISPUTE_WITHDRAWN, plain.id, None),
            (T.PAYMENT_RESERVED, back.id, None),
            (T.PAYMENT_RETURNED, plain.id, None),
            (T.PAYMENT_POSTED, back.id, 1),
        ]
        credited = next(e.payment for e in events if e.payment and e.payment.sequence == 2)
        assert (credited.account, credited.amount_minor, credited.currency) == ("b-1", "50", "EUR")
        assert (credited.counterparty, credited.direction) == (ALFA, "in")
        assert [a.code for e in events for a in e.accounts] == ["b-1"]
        (settled,) = [e.settlement for e in events if e.settlement]
        assert (settled.cycle, settled.value_date, settled.currency) == ("2026-10-02-01", "2026-10-02", "EUR")
        assert settled.settled_at == "2026-10-02T12:00:00.000000Z"
        (lane,) = settled.lanes
        assert (lane.sender, lane.receiver, lane.first_sequence, lane.last_sequence) == (ALFA, BETA, 1, 2)
        assert lane.amount_minor == "150"
        assert not any(HIT.listed_name in str(event) for event in events)

        # Filters leave the cursor right, and the facts the same.
        accepted = Selection(frozenset({T.PAYMENT_ACCEPTED}))
        assert await heard(into, accepted, limit=1) == [e for e in events if e.type == T.PAYMENT_ACCEPTED]
        of_account = Selection(ALL.types, "b-1")
        about = [e for e in events if e.accounts or (e.payment and e.payment.account == "b-1")]
        assert await heard(into, of_account, limit=2) == about
        assert await heard(into, Selection(ALL.types, "b-2")) == []
        with pytest.raises(Refusal) as refused:
            await into.read(after=10_000, limit=1, selection=ALL)
        assert refused.value.reason == FeedReason.CURSOR_AHEAD


async def test_two_nodes_write_and_a_hearer_misses_nothing(new_database: Any) -> None:
    """Whoever follows while two writers take turns hears what the journal has, number by number."""
    url = await new_database("participants.ledger")
    async with bank(url) as one, bank(url) as other, feed_of(url) as feed:
        await one.open("a-1", balance=100_000)
        done = asyncio.Event()
        events: list[LedgerEvent] = []

        async def follow() -> None:
            after = 0
            while True:
                finished = done.is_set()
                page = await feed.read(after=after, limit=1_000, selection=ALL, wait_s=0.2)
                events.extend(page.events)
                after = page.next
                if finished and after == page.head:
                    return

        following = asyncio.create_task(follow())
        for _ in range(60):
            await asyncio.gather(one.order(payment(1), payment(1)), other.order(payment(1)))
        done.set()
        await following
        journal = await one.connection.fetch("SELECT sequence FROM event WHERE type = 'payment.reserved' ORDER BY 1")
        assert [e.sequence for e in events if e.type == T.PAYMENT_RESERVED] == [row[0] for row in journal]
        assert len(journal) == 180


async def test_nobody_is_led_past_what_a_later_release_wrote(new_database: Any) -> None:
    url = await new_database("participants.ledger")
    async with bank(url) as alfa, feed_of(url) as feed:
        await alfa.open("a-1")
        head = await alfa.connection.fetchval("UPDATE ledger_head SET sequence = sequence + 1 RETURNING sequence")
        await alfa.connection.execute(
            "INSERT INTO event (sequence, subject, version, type, schema_version, data)"
            " VALUES ($1, gen_random_uuid(), 1, 'account.teleported', 1, '{}')",
            head,
        )
        before = await feed.read(after=0, limit=1, selection=ALL)
        assert before.next == head - 1
        with pytest.raises(Refusal) as refused:
            await feed.read(after=before.next, limit=100, selection=ALL)
        assert refused.value.reason == FeedReason.EVENT_UNKNOWN
    assert "account.teleported" not in VERSIONS


# --- over HTTP -----------------------------------------------------------------------------------------------


async def ask(one: RunningBank, role: str = Role.EVENTS, *, scope: str = "", **params: Any) -> httpx.Response:
    token = one.staff_token("core", role, scope=scope)
    return await one.send("GET", "/events", token=token, params=params)


async def test_a_core_waits_and_is_told_at_once(town: Town) -> None:
    head = (await ask(town.bravo)).json()["head"]
    waiting = asyncio.create_task(ask(town.bravo, after=head, wait_s=20, type="payment.accepted"))
    one = order(321, remittance="invoice 17")
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    async with asyncio.timeout(WAIT_S):
        page = (await waiting).json()
    (event,) = page["events"]
    assert event["type"] == "payment.accepted"
    assert event["payment"]["id"] == one["id"]
    assert (event["payment"]["account"], event["payment"]["remittance"]) == ("b-1", "invoice 17")
    assert event["sequence"] <= page["next"] <= page["head"]


async def test_each_role_hears_of_its_own_books(town: Town) -> None:
    def kinds(answer: httpx.Response) -> set[str]:
        assert answer.status_code == 200, answer.text
        return {event["type"].partition(".")[0] for event in answer.json()["events"]}

    one = order(1)
    await town.alpha.send("POST", "/payments", one)
    await town.alpha.until(one["id"], "posted")
    assert kinds(await ask(town.alpha, limit=1_000)) == {"payment", "accounts"}
    assert kinds(await ask(town.alpha, Role.ORDERS, limit=1_000)) == {"payment"}
    assert kinds(await ask(town.alpha, Role.ACCOUNTS, limit=1_000)) == {"accounts"}
    assert kinds(await ask(town.alpha, Role.READ, scope="accounts", limit=1_000)) == {"accounts"}
    for answer, code in (
        (await ask(town.alpha, Role.ACCOUNTS, type="payment.posted"), "role_not_allowed"),
        (await ask(town.alpha, Role.READ, scope="cycles", type="payment.posted"), "scope_not_allowed"),
        (await ask(town.alpha, Role.READ, scope="lists"), "scope_not_allowed"),
        (await ask(town.alpha, Role.LISTS), "role_not_allowed"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, code)
    for params in ({"type": "payment.unheard"}, {"after": -1}, {"limit": 0}, {"wait_s": 60}, {"account": "a b"}):
        assert (await ask(town.alpha, **params)).status_code == 400, params
    ahead = await ask(town.alpha, after=2**53 - 1)
    assert (ahead.status_code, ahead.json()["code"]) == (409, "cursor_ahead")


@asynccontextmanager
async def streamed(one: RunningBank, after: int, **claims: Any) -> AsyncIterator[AsyncIterator[str]]:
    headers = {
        "Accept": "text/event-stream",
        "Authorization": f"Bearer {one.staff_token('core', Role.EVENTS, **claims)}",
        "Last-Event-ID": str(after),
    }
    async with one.http.stream("GET", f"{one.settings.url}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield answer.aiter_lines()


async def next_event(lines: AsyncIterator[str]) -> tuple[int, dict[str, Any]]:
    """Return the next event of a stream and its id."""
    id_ = 0
    async with asyncio.timeout(WAIT_S):
        async for line in lines:
            if line.startswith("id: "):
                id_ = int(line[4:])
            elif line.startswith("data: "):
                return id_, json.loads(line[6:])
    raise AssertionError("the stream ended")


async def test_a_stream_goes_on_where_it_broke_off(town: Town) -> None:
    orders = [order(10 + number) for number in range(4)]
    start = (await ask(town.bravo)).json()["head"]
    after, told = start, []
    for half in (orders[:2], orders[2:]):
        async with streamed(town.bravo, after) as lines:
            for one in half:
                await town.alpha.send("POST", "/payments", one)
            for _ in half:
                after, event = await next_event(lines)
                assert event["sequence"] == after
                told.append(event)
    assert {event["payment"]["id"] for event in told} == {one["id"] for one in orders}
    assert told == (await ask(town.bravo, after=start)).json()["events"]


async def test_so_many_wait_and_no_more(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is one too many is told so at once, by either way; who doesn't wait is answered."""
    monkeypatch.setattr(feed_module, "WAITING_MAX", 1)
    head = (await ask(town.carlo)).json()["head"]
    async with streamed(town.carlo, head) as lines:
        assert await anext(lines) == "retry: 1000"
        async with asyncio.timeout(WAIT_S):
            while not town.carlo.node.feed.waiting:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        refused = await ask(town.carlo, after=head, wait_s=1)
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("too_many_readers", "5")
        token = town.carlo.staff_token("core", Role.EVENTS)
        headers = {"Accept": "text/event-stream"}
        stream = await town.carlo.send("GET", "/events", token=token, headers=headers)
        assert (stream.status_code, stream.json()["code"]) == (503, "too_many_readers")
        assert (await ask(town.carlo, after=head)).status_code == 200


async def test_a_stream_ends_with_its_token_and_with_the_node(town: Town) -> None:
    """Who comes back brings a new token; a node that stops keeps nobody waiting."""
    head = (await ask(town.carlo)).json()["head"]
    async with streamed(town.carlo, head, lifetime_s=2) as lines, asyncio.timeout(WAIT_S):
        assert [line async for line in lines if line.startswith("data:")] == []
    async with streamed(town.carlo, head) as lines, asyncio.timeout(WAIT_S):
        assert await anext(lines) == "retry: 1000"
        waiting = asyncio.create_task(ask(town.carlo, after=head, wait_s=25))
        stopping = asyncio.create_task(town.carlo.serving.aclose())
        assert [line async for line in lines if line.startswith("data:")] == []
        assert (await waiting).json()["events"] == []
        await stopping
