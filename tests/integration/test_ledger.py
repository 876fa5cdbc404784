"""A bank's ledger on PostgreSQL: at most once, all or nothing, append-only, whatever is lost or retried."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from bank_ledgers import ALFA, BETA, Bank, bank, connect, giving_back, payment
from support import uuid7

from compliance.crypto import canonical, dsse
from compliance.statements import CycleCut
from gateway.federation.messages.payments import PaymentOutcome
from participants.audit.fsck import fsck
from participants.cycle import reads
from participants.cycle.commands import FixCut, RecordSignedCut
from participants.ledger import store
from participants.ledger.command import Command, RecordedAlreadyError
from participants.ledger.payment import Status
from participants.ledger.rows import Evidence
from participants.payments.orders import readable


@pytest.fixture
async def alfa(new_database: Any) -> AsyncIterator[Bank]:
    async with bank(await new_database("participants.ledger")) as opened:
        await opened.open("a-1", balance=1_000)
        await opened.open("a-2")
        yield opened


@pytest.fixture
async def beta(new_database: Any) -> AsyncIterator[Bank]:
    async with bank(await new_database("participants.ledger"), BETA) as opened:
        await opened.open("b-1")
        yield opened


async def assert_sound(*banks: Bank) -> None:
    for one in banks:
        report = await fsck(one.url, one.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


# --- at most once ------------------------------------------------------------------------------------------


async def test_the_same_order_again_gets_the_first_answer(alfa: Bank) -> None:
    order = payment(600)
    first, again = await alfa.order(order, order)
    assert (first.status, first.replayed, again.status, again.replayed) == ("reserved", False, "reserved", True)
    (later,) = await alfa.order(order)
    assert (later.status, later.replayed) == ("reserved", True)
    assert await alfa.balance("customer", "a-1") == 400
    await assert_sound(alfa)


async def test_another_body_under_a_known_id_is_refused(alfa: Bank) -> None:
    order = payment(100)
    await alfa.order(order)
    (other,) = await alfa.order(payment(101, id_=order.id))
    assert (other.status, other.reason) == ("refused", "id_reused")
    assert await alfa.balance("customer", "a-1") == 900


async def test_an_order_is_replayed_though_a_new_one_would_be_refused(alfa: Bank) -> None:
    """The first answer stands when the money has gone since, the writer being the same or another."""
    order = payment(1_000)
    await alfa.order(order)
    (again,) = await alfa.order(order)
    assert (again.status, again.replayed) == ("reserved", True)
    async with bank(alfa.url) as other:
        (again,) = await other.order(order)
        assert (again.status, again.replayed) == ("reserved", True)
    assert await alfa.connection.fetchval("SELECT count(*) FROM refusal") == 0


async def test_a_refused_id_stays_free(alfa: Bank) -> None:
    order = payment(1_001)
    (refused,) = await alfa.order(order)
    assert (refused.status, refused.reason) == ("refused", "insufficient_funds")
    (taken,) = await alfa.order(payment(1_000, id_=order.id))
    assert taken.status == "reserved"


async def test_funds_suffice_exactly_to_the_last_unit(alfa: Bank) -> None:
    outcomes = await alfa.order(payment(999), payment(2), payment(1), payment(1))
    assert [o.reason for o in outcomes] == [None, "insufficient_funds", None, "insufficient_funds"]
    assert await alfa.balance("customer", "a-1") == 0
    await assert_sound(alfa)


async def test_concurrent_requests_for_one_id_reserve_once(alfa: Bank) -> None:
    order = payment(10)
    outcomes = await asyncio.gather(*(alfa.order(order) for _ in range(50)))
    assert Counter(o.replayed for (o,) in outcomes) == {False: 1, True: 49}
    assert await alfa.balance("customer", "a-1") == 990


async def test_writers_on_one_ledger_never_post_twice(alfa: Bank) -> None:
    """Three writers get the same orders at the same time, in different order, among orders of their own."""
    await alfa.open("rich", balance=10**9)
    shared = [payment(7, debtor="rich") for _ in range(60)]
    async with bank(alfa.url) as second, bank(alfa.url) as third:

        async def load(one: Bank, orders: list[Any]) -> list[Any]:
            own = [payment(1, debtor="rich") for _ in range(40)]
            mixed = [order for pair in zip(orders, own, strict=False) for order in pair] + orders[len(own) :]
            answers = await asyncio.gather(*(one.order(order) for order in mixed))
            return [answer for (answer,) in answers]

        answers = await asyncio.gather(
            load(alfa, shared), load(second, shared[::-1]), load(third, shared[30:] + shared[:30])
        )
    taken = Counter(o.id for group in answers for o in group if o.status == "reserved" and not o.replayed)
    assert set(taken.values()) == {1}
    assert len(taken) == 60 + 3 * 40
    assert all(o.status == "reserved" for group in answers for o in group)
    assert await alfa.balance("customer", "rich") == 10**9 - 60 * 7 - 120
    await assert_sound(alfa)


async def test_a_busy_writer_does_not_starve_another(alfa: Bank) -> None:
    """A writer that was overtaken keeps the other one waiting, so it is overtaken once and no more."""
    await alfa.open("rich", balance=10**9)
    done = asyncio.Event()

    async def keep_busy() -> int:
        rounds = 0
        while not done.is_set():
            await alfa.order(payment(1, debtor="rich"))
            rounds += 1
        return rounds

    busy = asyncio.gather(*(keep_busy() for _ in range(4)))
    async with bank(alfa.url) as slow:
        outcomes = await slow.order(*(payment(1, debtor="rich") for _ in range(2_000)))
    done.set()
    rounds = sum(await busy)
    assert {o.status for o in outcomes} == {"reserved"}
    assert await alfa.balance("customer", "rich") == 10**9 - 2_000 - rounds
    await assert_sound(alfa)


async def test_nothing_acknowledged_is_lost_when_connections_are_killed(alfa: Bank) -> None:
    await alfa.open("rich", balance=10**9)
    killer = await connect(alfa.url, role=None)
    acknowledged: list[str] = []
    done = False

    async def client() -> None:
        while not done:
            orders = [payment(1, debtor="rich") for _ in range(3)]
            for outcome in await alfa.order(*orders):
                assert outcome.status == "reserved"
                acknowledged.append(outcome.id)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    written = asyncio.Event()
    alfa.ledger.listeners.append(lambda rows: written.set())
    kills = 0
    while kills < 12:
        written.clear()
        await written.wait()
        kills += await killer.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'test' AND pid <> pg_backend_pid() AND pid <> $1",
            alfa.connection.get_server_pid(),
        )
    done = True
    await asyncio.gather(*clients)
    await killer.close()
    stored = await alfa.connection.fetch("SELECT subject::text, count(*) FROM event WHERE version = 1 GROUP BY 1")
    counts = {row[0]: row[1] for row in stored}
    assert all(counts.get(id_) == 1 for id_ in acknowledged)
    assert await alfa.balance("customer", "rich") == 10**9 - len(acknowledged)
    await assert_sound(alfa)


async def test_an_impossible_command_fails_alone(alfa: Bank) -> None:
    """Whoever shares a transaction with a command that breaks isn't harmed by it."""

    class Broken(Command[None]):
        def decide(self, books: Any) -> None:
            books.record(uuid7(), 1, "payment.reserved", readable([payment()], maker="mona")[0])
            raise ZeroDivisionError

    results = await asyncio.gather(
        alfa.order(payment(1)), alfa.ledger.submit(Broken()), alfa.order(payment(2)), return_exceptions=True
    )
    assert isinstance(results[1], ZeroDivisionError)
    assert await alfa.balance("customer", "a-1") == 997
    await assert_sound(alfa)


# --- between two banks -------------------------------------------------------------------------------------


async def test_a_payment_moves_from_customer_to_customer(alfa: Bank, beta: Bank) -> None:
    await alfa.order(payment(250))
    assert await alfa.balance("reserved", BETA) == 250
    assert await alfa.deliver(beta) == 1
    assert (await alfa.balance("reserved", BETA), await alfa.balance("due_to", BETA)) == (0, 250)
    assert (await beta.balance("due_from", ALFA), await beta.balance("customer", "b-1")) == (250, 250)
    await assert_sound(alfa, beta)


async def test_a_batch_sent_again_is_answered_the_same(alfa: Bank, beta: Bank) -> None:
    orders = [payment(10), payment(20, creditor="nobody"), payment(30)]
    first = await beta.receive(alfa, *(o.terms() for o in orders))
    again = await beta.receive(alfa, *(o.terms() for o in orders))
    assert first == again
    assert [(o.status, o.sequence, o.reason) for o in first] == [
        ("accepted", 1, None), ("refused", None, "creditor_account_unknown"), ("accepted", 2, None),
    ]  # fmt: skip
    (other,) = await beta.receive(alfa, payment(11, id_=orders[0].id).terms())
    assert (other.status, other.reason) == ("refused", "id_reused")
    assert await beta.balance("customer", "b-1") == 40
    await assert_sound(beta)


async def test_an_answer_applied_twice_posts_once(alfa: Bank, beta: Bank) -> None:
    orders = [payment(10), payment(20, creditor="nobody")]
    await alfa.order(*orders)
    known = await store.read_payments(alfa.connection, [o.id for o in orders])
    outcomes = await beta.receive(alfa, *(o.terms() for o in orders))
    commands = [alfa.answers(beta, [known[o.id] for o in orders], outcomes) for _ in range(3)]
    assert sorted(await asyncio.gather(*(alfa.ledger.submit(c) for c in commands[:2]))) == [0, 2]
    assert await alfa.ledger.submit(commands[2]) == 0
    assert [c.conflicts for c in commands] == [[], [], []]
    assert (await alfa.balance("due_to", BETA), await alfa.balance("customer", "a-1")) == (10, 990)
    assert await alfa.queued() == []
    await assert_sound(alfa)


@pytest.mark.parametrize("sequence", [None, 0, 1])
async def test_a_number_that_is_none_or_taken_leaves_the_payment_queued(
    alfa: Bank, beta: Bank, sequence: int | None
) -> None:
    await alfa.order(payment(10))
    if sequence == 1:
        await alfa.deliver(beta)
        await alfa.order(payment(20))
    (id_,) = await alfa.queued()
    known = await store.read_payments(alfa.connection, [id_])
    command = alfa.answers(beta, [known[id_]], [PaymentOutcome(id=id_, status="accepted", sequence=sequence)])
    assert await alfa.ledger.submit(command) == 0
    assert command.conflicts == [id_]
    assert await alfa.queued() == [id_]
    await alfa.deliver(beta)
    assert await alfa.queued() == []
    await assert_sound(alfa, beta)


async def test_answers_may_arrive_out_of_the_order_of_numbers(alfa: Bank, beta: Bank) -> None:
    orders = [payment(n) for n in (1, 2, 3)]
    await alfa.order(*orders)
    outcomes = await beta.receive(alfa, *(o.terms() for o in orders))
    known = await store.read_payments(alfa.connection, [o.id for o in orders])
    for index in (2, 0):
        await alfa.ledger.submit(alfa.answers(beta, [known[orders[index].id]], [outcomes[index]]))
    await assert_sound(alfa)
    async with bank(alfa.url) as other:
        await other.ledger.submit(alfa.answers(beta, [known[orders[1].id]], [outcomes[1]]))
    heads = [
        await one.connection.fetchrow("SELECT sequence, total, peaks FROM lane_head ORDER BY sequence DESC LIMIT 1")
        for one in (alfa, beta)
    ]
    assert heads[0] == heads[1]
    await assert_sound(alfa, beta)


async def test_a_return_gives_the_whole_payment_back_once(alfa: Bank, beta: Bank) -> None:
    original = payment(300)
    await alfa.order(original)
    await alfa.deliver(beta)
    back = giving_back(original)
    differing = payment(301, debtor="b-1", creditor="a-1", to=ALFA, returns=original.id)
    assert (await beta.order(differing))[0].reason == "return_exceeds"
    assert (await beta.order(back))[0].status == "reserved"
    assert (await beta.order(giving_back(original)))[0].reason == "return_of_unknown"
    (again,) = await beta.order(back)
    assert (again.status, again.replayed) == ("reserved", True)
    await beta.deliver(alfa)
    assert await alfa.balance("customer", "a-1") == 1_000
    assert (await alfa.balance("due_to", BETA), await alfa.balance("due_from", BETA)) == (300, 300)
    for one in (alfa, beta):
        returned = (await store.read_payments(one.connection, [original.id]))[original.id]
        assert returned.status is Status.RETURNED
    await assert_sound(alfa, beta)


async def test_a_refused_return_leaves_the_payment_as_it_was(alfa: Bank, beta: Bank) -> None:
    original = payment(300)
    await alfa.order(original)
    await alfa.deliver(beta)
    back = giving_back(original)
    await beta.order(back)
    known = await store.read_payments(beta.connection, [back.id])
    refusal = PaymentOutcome(id=back.id, status="refused", reason="creditor_account_unknown")
    assert await beta.ledger.submit(beta.answers(alfa, [known[back.id]], [refusal])) == 1
    stands = (await store.read_payments(beta.connection, [original.id]))[original.id]
    assert stands.status is Status.ACCEPTED
    assert await beta.balance("customer", "b-1") == 300
    assert (await beta.order(giving_back(original)))[0].status == "reserved"
    await beta.deliver(alfa)
    await assert_sound(alfa, beta)


# --- a cycle's cut -----------------------------------------------------------------------------------------


async def test_a_cut_is_fixed_before_it_is_signed_and_stays_what_it_is(alfa: Bank, beta: Bank) -> None:
    """A bank killed in between signs the same cut when it is back, though more was accepted meanwhile."""
    cycle = "2026-10-02-01"
    await alfa.order(payment(10))
    await alfa.deliver(beta)
    assert await reads.cut(beta.connection, cycle) == (None, None)
    receiving = await reads.receiving_lanes(beta.connection, BETA)
    cut = await beta.ledger.submit(FixCut(cycle, ["EUR"], receiving))
    await alfa.order(payment(20))
    await alfa.deliver(beta)
    async with bank(beta.url, BETA) as back:
        assert await reads.cut(back.connection, cycle) == (cut, None)
        with pytest.raises(RecordedAlreadyError):
            await back.ledger.submit(FixCut(cycle, ["EUR"], receiving))
        envelope = dsse.sign(cut, beta.key)
        await back.ledger.submit(RecordSignedCut(cycle, envelope))
        assert await reads.cut(back.connection, cycle) == (cut, envelope)
    assert [lane.last_sequence for lane in cut.lanes] == [1]
    assert canonical.decode(envelope.payload_bytes(), CycleCut) == cut
    await assert_sound(alfa, beta)


async def test_evidence_can_be_read_again(alfa: Bank, beta: Bank) -> None:
    await alfa.order(payment(10))
    await alfa.deliver(beta)
    for one, kind, other in ((alfa, "acknowledgement", BETA), (beta, "payment-batch", ALFA)):
        (row,) = await one.connection.fetch("SELECT sha256, kind, counterparty, envelope FROM evidence")
        envelope = msgspec.json.decode(row[3], type=dsse.Envelope)
        assert (canonical.digest(envelope.payload_bytes()), kind, other) == (row[0].hex(), row[1], row[2])
    with pytest.raises(msgspec.ValidationError):
        Evidence.of("payment-batch", ALFA, dsse.Envelope(payload="e30=", payloadType="x", signatures=None))  # type: ignore[arg-type]


# --- what the database itself refuses ----------------------------------------------------------------------

APPEND_ONLY = (
    "event", "account", "posting", "lane", "lane_entry", "lane_head", "lane_settled", "evidence", "refusal",
    "screening_list", "proposal",
)  # fmt: skip


@pytest.mark.parametrize("role", ["concordat_app", None])
async def test_history_is_neither_changed_nor_deleted(alfa: Bank, role: str | None) -> None:
    connection = await connect(alfa.url, role=role)
    for table in APPEND_ONLY:
        column = await connection.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND attidentity = ''", table
        )
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    await connection.close()


async def test_the_application_can_not_remove_the_guards(alfa: Bank) -> None:
    for statement in (
        "ALTER TABLE posting DISABLE TRIGGER ALL",
        "DROP TRIGGER posting_balanced ON posting",
        "SET session_replication_role = replica",
        "DROP TABLE posting",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await alfa.connection.execute(statement)


@pytest.mark.parametrize(
    ("second_account", "second_amount"),
    [("customer", -99), ("foreign", -100), ("none", -100)],
    ids=["sum", "currency", "unknown account"],
)
@pytest.mark.parametrize("accounts", [0, 100])
async def test_an_unbalanced_entry_is_refused(
    alfa: Bank, second_account: str, second_amount: int, accounts: int
) -> None:
    await alfa.open("a-usd", currency="USD")
    # By how many there are it is decided how they are read.
    owner = await connect(alfa.url, role=None)
    await owner.execute(
        "INSERT INTO account (id, kind, code, currency, name, opened_by)"
        " SELECT 10000 + n, 'suspense', n::text, 'EUR', '', 1 FROM generate_series(1, $1::integer) n",
        accounts,
    )
    await owner.execute("ANALYZE account")
    await owner.close()
    ids = {"customer": 3, "foreign": 4, "none": 999}
    last = await alfa.connection.fetchval("SELECT max(sequence) FROM event")
    version = 1 + await alfa.connection.fetchval("SELECT max(version) FROM posting WHERE account_id = 1")
    rows = [
        (1, version, last, 100, 0, 100),
        (ids[second_account], 1, last, second_amount, 0, second_amount),
    ]
    columns = ["account_id", "version", "event_sequence", "amount", "previous_balance", "balance"]
    with pytest.raises(asyncpg.CheckViolationError, match="out of balance"):
        await alfa.connection.copy_records_to_table("posting", records=rows, columns=columns)
    if not accounts:
        await assert_sound(alfa)
