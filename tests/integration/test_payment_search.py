"""Payments are found by whatever is asked for, each once and in order, while payments come in; refused orders too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, giving_back, payment
from support import uuid7

from compliance.recall_reasons import RecallReason
from gateway.federation.storage.database import asyncpg_pool, migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants.ledger import events
from participants.ledger.payment import Status
from participants.payments.batches import Batch, SubmitBatch
from participants.payments.cancellations import RequestCancellation
from participants.payments.disputes import Dispute
from participants.payments.holds import DecideHold
from participants.payments.orders import CheckedOrder, readable
from participants.payments.recalls import RequestRecall
from participants.search import search
from participants.search.criteria import Criteria
from participants.search.known import KnownPayment, read_known, read_refused
from participants.search.of_batches import FIRST, Line, find_of_batches
from participants.search.search import find
from participants.search.sources import START, Place
from participants.search.terms import Terms

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH, FILE = str(uuid4()), "salaries.csv"
GAMMA = "GAMMITMM"
QUEUED_FOR = """
SELECT payment_id::text FROM payment_open WHERE state = 'queued' AND counterparty = $1 ORDER BY event_sequence
"""


@dataclass
class Known:
    """A payment or refused order as it is looked for: by plain Python, over all there is."""

    key: tuple[int, int]
    id: str
    status: str
    direction: str
    account: str
    counterparty: str
    currency: str
    amount: int
    created_at: datetime
    updated_at: datetime
    changed: int
    said: Any


@dataclass
class Books:
    """A bank's ledger with some of everything in it."""

    pool: asyncpg.Pool
    alfa: Bank
    beta: Bank
    terms: Terms
    batched: list[str] = field(default_factory=list)

    async def everything(self) -> list[Known]:
        """Return all payments and refused orders, the newest first."""
        async with self.pool.acquire() as connection:
            rows = await connection.fetch("SELECT DISTINCT subject::text FROM event WHERE type LIKE 'payment.%'")
            payments = await read_known(connection, [row[0] for row in rows])
            numbers = await connection.fetch("SELECT id, head FROM refusal")
            refused = await read_refused(connection, [row[0] for row in numbers])
        heads = dict(numbers)
        found = [_known(one) for one in payments.values()]
        for one in refused.values():
            order = one.order
            assert order is not None
            found.append(
                Known(
                    (heads[one.id], one.id), order.id, "refused", "out", order.debtor_account, order.creditor_agent,
                    order.currency, int(order.amount_minor), one.at, one.at, heads[one.id], order,
                )
            )  # fmt: skip
        return sorted(found, key=lambda known: known.key, reverse=True)

    async def pages(self, criteria: Criteria, limit: int = 3) -> list[tuple[Place, str]]:
        """Return all hits, page by page."""
        hits: list[tuple[Place, str]] = []
        before: Place | None = START
        while before is not None:
            page = await find(self.pool, criteria, before=before, limit=limit)
            assert len(page.hits) <= limit
            hits += page.hits
            before = page.next
        return hits


def _known(one: KnownPayment) -> Known:
    payment, terms = one.payment, one.payment.terms
    return Known(
        (one.history[0].event.sequence, 0), payment.id, payment.status.value, payment.direction,
        terms.debtor_account if payment.direction == "out" else terms.creditor_account, payment.counterparty,
        terms.currency, payment.amount, one.created_at, one.updated_at, one.history[-1].event.sequence, terms,
    )  # fmt: skip


async def fill(alfa: Bank, beta: Bank) -> list[str]:
    """Pay both ways, and let some be refused, held, declined, contested and given back; return the ids of a batch."""
    for one in (alfa, beta):
        await one.open(*(f"{one.bic[0].lower()}-{number}" for number in range(1, 4)), balance=10_000)
        await one.open("b-1" if one is beta else "a-1", balance=5_000, currency="JPY")
    for turn in range(3):
        said = {"end_to_end_id": f"E2E-{turn}", "instruction_id": "same", "uetr": str(uuid4())}
        orders = [
            payment(10 + turn, debtor="a-1", creditor="b-1"),
            msgspec.structs.replace(payment(20 + turn, debtor="a-2", creditor="b-2"), **said),
            payment(30, debtor="a-1", creditor="b-1", currency="JPY"),
            payment(999_999, debtor="a-1", creditor="b-1"),
            msgspec.structs.replace(payment(1, debtor="nobody"), end_to_end_id="E2E-1"),
            payment(7, debtor="a-3", creditor="nobody"),
            payment(8, debtor="a-3", creditor="b-1", to=GAMMA),
        ]
        await alfa.order(*orders)
        # Payments to a third bank stay queued.
        await deliver(alfa, beta)
        await beta.order(*(payment(40 + n, debtor="b-2", creditor=f"a-{n}", to=ALFA) for n in range(1, 4)))
        await deliver(beta, alfa)
    held, rejected = (payment(50 + n, debtor="b-1", creditor="a-1", to=ALFA) for n in range(2))
    await beta.order(held, rejected, payment(60, debtor="b-1", creditor="a-2", to=ALFA))
    await deliver(beta, alfa, hits=[HIT])
    for person in ("dora", "egon"):
        await alfa.ledger.submit(DecideHold(held.id, person, "release", "looked"))
        await alfa.ledger.submit(DecideHold(rejected.id, person, "reject", "looked"))
    back = payment(2, debtor="b-3", creditor="a-3", to=ALFA)
    await beta.order(back, payment(9, debtor="b-3", creditor="nobody", to=ALFA))
    await deliver(beta, alfa)
    await alfa.order(giving_back(back, to=BETA))
    contested = payment(3, debtor="b-3", creditor="a-3", to=ALFA)
    await beta.order(contested)
    await deliver(beta, alfa)
    await alfa.ledger.submit(Dispute(contested.id, "dora", "no such invoice"))
    rows = [payment(n, debtor="a-1") for n in range(1, 6)] + [payment(5, debtor="nobody")]
    checked = [CheckedOrder(order) for order in readable(rows, maker="mona")]
    await alfa.ledger.submit(SubmitBatch(checked, batch=Batch(BATCH, FILE, "mona", range(2, 8))))
    in_part = payment(6, debtor="b-3", creditor="a-3", to=ALFA)
    await beta.order(in_part)
    await deliver(beta, alfa)
    await alfa.order(msgspec.structs.replace(giving_back(in_part, to=BETA), amount_minor="2"))
    recalled, cancelled, cancelling = (payment(70 + n, debtor="a-2", creditor="b-2") for n in range(3))
    await alfa.order(recalled)
    await deliver(alfa, beta)
    asked_back = events.RecallRequested(id=uuid7(), reason=RecallReason.DUPL, person="dora")
    await alfa.ledger.submit(RequestRecall(recalled.id, asked_back))
    for one in (cancelled, cancelling):
        await alfa.order(one)
        await alfa.ledger.submit(RequestCancellation([one.id], "dora"))
        if one is cancelled:
            await alfa.deliver_withdrawn(beta)
    await alfa.order(payment(77, debtor="a-2"))
    return [order.id for order in rows]


async def deliver(sender: Bank, receiver: Bank, **options: Any) -> None:
    ids = await sender.connection.fetch(QUEUED_FOR, receiver.bic)
    known = await read_known(sender.connection, [row[0] for row in ids])
    payments = [known[row[0]].payment for row in ids]
    outcomes = await receiver.receive(sender, *(p.terms for p in payments), **options)
    await sender.ledger.submit(sender.answers(receiver, payments, outcomes))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["followed", "half followed", "not followed"])
async def books(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Books]:
    """One ledger for all searches; what is searched by is taken down, or half of it, or nothing."""
    names = [f"search_{uuid4().hex}" for _ in range(2)]
    urls = [await create_database(postgres_url, name) for name in names]
    for url in urls:
        await migrate(url, "participants.ledger")
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        pool = await asyncpg_pool(urls[0], max_size=3)
        terms = Terms(pool)
        batched = await fill(alfa, beta)
        if request.param != "not followed":
            while await terms.advance():
                pass
        if request.param == "half followed":
            half = await pool.fetchval("SELECT sequence / 2 FROM ledger_head")
            await pool.execute("DELETE FROM event_term WHERE event_sequence > $1", half)
            await pool.execute("UPDATE event_term_cursor SET through = $1", half)
        yield Books(pool, alfa, beta, terms, batched)
        await pool.close()
    for name in names:
        await drop_database(postgres_url, name)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look through few rows at once, so that each search takes many stretches."""
    monkeypatch.setattr(search, "SIZE_MIN", 2)
    monkeypatch.setattr(search, "SIZE_MAX", 11)


SEARCHES: Sequence[tuple[dict[str, Any], Callable[[Known], bool]]] = (
    ({}, lambda _: True),
    *(({"statuses": frozenset({s})}, lambda k, s=s: k.status == s) for s in Status),
    ({"statuses": frozenset({Status.HELD, Status.RESERVED})}, lambda k: k.status in ("held", "reserved")),
    ({"statuses": frozenset({Status.HELD, Status.CANCELLING})}, lambda k: k.status in ("held", "cancelling")),
    ({"statuses": frozenset({Status.CANCELLED, Status.REFUSED})}, lambda k: k.status in ("cancelled", "refused")),
    ({"statuses": frozenset({Status.POSTED, Status.REFUSED})}, lambda k: k.status in ("posted", "refused")),
    ({"direction": "in"}, lambda k: k.direction == "in"),
    ({"direction": "out"}, lambda k: k.direction == "out"),
    *(({"account": a}, lambda k, a=a: k.account == a) for a in ("a-1", "a-2", "a-3", "nobody", "never")),
    ({"account": "a-1", "direction": "in"}, lambda k: (k.account, k.direction) == ("a-1", "in")),
    ({"account": "a-1", "currency": "JPY"}, lambda k: (k.account, k.currency) == ("a-1", "JPY")),
    ({"account": "a-1", "counterparty": GAMMA}, lambda k: (k.account, k.counterparty) == ("a-1", GAMMA)),
    *(({"counterparty": c}, lambda k, c=c: k.counterparty == c) for c in (BETA, GAMMA, "NOBODEFF")),
    ({"counterparty": BETA, "direction": "in"}, lambda k: (k.counterparty, k.direction) == (BETA, "in")),
    ({"counterparty": BETA, "statuses": frozenset({Status.DECLINED})}, lambda k: k.status == "declined"),
    ({"currency": "JPY"}, lambda k: k.currency == "JPY"),
    ({"amount_from": 12, "amount_to": 30}, lambda k: 12 <= k.amount <= 30),
    ({"amount_from": 30, "amount_to": 30, "account": "a-1"}, lambda k: k.amount == 30 and k.account == "a-1"),
    ({"end_to_end_id": "E2E-1"}, lambda k: k.said.end_to_end_id == "E2E-1"),
    ({"instruction_id": "same"}, lambda k: k.said.instruction_id == "same"),
    ({"instruction_id": "same", "end_to_end_id": "E2E-2"}, lambda k: k.said.end_to_end_id == "E2E-2"),
    ({"end_to_end_id": "never"}, lambda _: False),
    ({"uetr": "5f0c2ad4-8a86-4b1e-9d4e-0c3c2a6f7b11"}, lambda _: False),
)


@pytest.mark.parametrize(("asked", "matches"), SEARCHES, ids=[*map(str, range(len(SEARCHES)))])
async def test_each_that_matches_once_and_in_order(
    books: Books, asked: dict[str, Any], matches: Callable[[Known], bool]
) -> None:
    expected = [known.key for known in await books.everything() if matches(known)]
    assert [place for place, _ in await books.pages(Criteria(**asked))] == expected


async def test_there_is_some_of_everything(books: Books) -> None:
    everything = await books.everything()
    assert {known.status for known in everything} == {*Status}
    assert {known.direction for known in everything if known.status == "refused"} == {"in", "out"}


@pytest.mark.parametrize("limit", [1, 4, 1_000])
async def test_by_time(books: Books, limit: int) -> None:
    everything = await books.everything()
    middle = everything[len(everything) // 2].created_at
    for asked, matches in (
        ({"created_from": middle}, lambda k: k.created_at >= middle),
        ({"created_to": middle}, lambda k: k.created_at < middle),
        ({"created_to": middle, "account": "a-1"}, lambda k: k.created_at < middle and k.account == "a-1"),
        ({"created_from": middle, "counterparty": BETA}, lambda k: k.created_at >= middle and k.counterparty == BETA),
        ({"created_from": middle, "statuses": frozenset({Status.DECLINED})},
         lambda k: k.created_at >= middle and k.status == "declined"),
        ({"created_from": datetime.now(UTC) + timedelta(days=1)}, lambda _: False),
    ):  # fmt: skip
        expected = [known.key for known in everything if matches(known)]
        assert [place for place, _ in await books.pages(Criteria(**asked), limit)] == expected, asked
    for asked, matches in (
        ({"updated_from": middle}, lambda k: k.updated_at >= middle),
        ({"updated_to": middle}, lambda k: k.updated_at < middle),
        ({"updated_from": middle, "account": "a-1"}, lambda k: k.updated_at >= middle and k.account == "a-1"),
    ):
        changed = sorted(((k.changed, k.key[1]), k.id) for k in everything if matches(k))[::-1]
        assert await books.pages(Criteria(**asked), limit) == changed, asked


async def test_of_a_batch_or_file_in_the_order_of_its_lines(books: Books) -> None:
    async def pages(**asked: Any) -> list[tuple[str, bool]]:
        found, after = [], FIRST
        while True:
            page, following = await find_of_batches(books.pool, Criteria(**asked), after=after, limit=2)
            found += [(order.payment_id, order.refusal > 0) for order in page]
            if following is None:
                return found
            after = following

    expected = [(id_, number == 5) for number, id_ in enumerate(books.batched)]
    assert await pages(batch=BATCH) == await pages(file=FILE) == await pages(batch=BATCH, file=FILE) == expected
    assert await pages(batch=BATCH, statuses=frozenset({Status.REFUSED})) == expected[5:]
    assert await pages(file=FILE, amount_from=2, amount_to=3) == expected[1:3]
    assert await pages(file="other.csv") == await pages(batch=str(uuid4())) == []


async def test_pages_stay_while_payments_come_in(books: Books) -> None:
    """What is newer than the page doesn't move what follows, and what was asked for is neither missed nor repeated."""
    for asked in ({}, {"account": "a-1"}, {"counterparty": BETA}, {"direction": "out"}):
        before = [known.key for known in await books.everything()]
        first = await find(books.pool, Criteria(**asked), before=START, limit=4)
        seen = [hit.place for hit in first.hits]
        following = first.next
        while following is not None:
            await books.alfa.order(payment(1, debtor="a-1"), payment(1, debtor="nobody"))
            page = await find(books.pool, Criteria(**asked), before=following, limit=4)
            seen += [hit.place for hit in page.hits]
            following = page.next
        matching = [place for place, _ in await books.pages(Criteria(**asked))]
        assert seen == [place for place in matching if place in before]


async def test_the_same_refused_order_is_taken_down_once(books: Books) -> None:
    async def refusals() -> int:
        return await books.pool.fetchval("SELECT count(*) FROM refusal")

    before = await refusals()
    one = payment(1, debtor="nobody")
    for _ in range(5):
        (outcome,) = await books.alfa.order(one)
        assert outcome.reason == "debtor_account_unknown"
    assert await refusals() == before + 1
    await books.alfa.order(msgspec.structs.replace(one, amount_minor="2"))
    assert await refusals() == before + 2


async def test_terms_are_taken_down_once_by_many_nodes(books: Books) -> None:
    async def terms() -> list[Any]:
        return [tuple(row) for row in await books.pool.fetch("SELECT * FROM event_term ORDER BY 1, 2")]

    while await books.terms.advance():
        pass
    first = await terms()
    assert first
    await books.pool.execute("DELETE FROM event_term")
    await books.pool.execute("UPDATE event_term_cursor SET through = 0")
    others = [Terms(books.pool) for _ in range(3)]
    while await books.pool.fetchval("SELECT c.through < h.sequence FROM event_term_cursor c, ledger_head h"):
        await asyncio.gather(*(one.advance() for one in others))
    assert await terms() == first


async def test_a_payment_of_several_batches_of_a_name_is_found_once(books: Books) -> None:
    """Where the first of them has it; an order that was refused is there only as long as none of them paid it."""
    twice, late, new, poor = (payment(1, debtor="late" if n == 1 else "a-1") for n in range(4))
    poor = msgspec.structs.replace(poor, debtor_account="nobody")
    ids = [str(uuid4()) for _ in range(3)]

    async def submit(id_: str, *rows: Any) -> None:
        checked = [CheckedOrder(order) for order in readable(rows, maker="mona")]
        await books.alfa.ledger.submit(
            SubmitBatch(checked, batch=Batch(id_, "twice.csv", "mona", range(2, 2 + len(rows))))
        )

    async def pages(limit: int, **asked: Any) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        after: Line | None = FIRST
        while after is not None:
            page, after = await find_of_batches(books.pool, Criteria(**asked), after=after, limit=limit)
            found += [(order.payment_id, order.refusal > 0) for order in page]
        return found

    await submit(ids[0], twice, late, poor)
    await submit(ids[1], new, poor, twice)
    refused = [(late.id, True), (poor.id, True)]
    for limit in (1, 2, 100):
        assert await pages(limit, file="twice.csv") == [(twice.id, False), *refused, (new.id, False)]
    await books.alfa.open("late", balance=10)
    await submit(ids[2], twice, new, late)
    expected = [(twice.id, False), (poor.id, True), (new.id, False), (late.id, False)]
    for limit in (1, 2, 3, 100):
        assert await pages(limit, file="twice.csv") == expected
        assert await pages(limit, batch=ids[2]) == [(one.id, False) for one in (twice, new, late)]
    assert await pages(1, file="twice.csv", statuses=frozenset({Status.REFUSED})) == [(poor.id, True)]
