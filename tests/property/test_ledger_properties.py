"""What must hold of a bank's books after any sequence of commands: decided in memory, and written to PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict, namedtuple
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from bank_ledgers import AGENT, ALFA, BETA, HIT, Bank, bank, giving_back, payment, settle
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.federation.messages.payments import PaymentOutcome, leaf_of
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants.audit.fsck import fsck
from participants.ledger import store
from participants.ledger.account_events import AccountOpening
from participants.ledger.accounts import AccountKey
from participants.ledger.books import Books
from participants.ledger.ceilings import Ceiling, RecordLimits, SetCeiling
from participants.ledger.events import ExposureLimit, ExposureLimits, Hit, PaymentOrder
from participants.ledger.exposure import CEILINGS
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.payment import Payment, Status
from participants.ledger.rows import POSTING_COLUMNS, Evidence
from participants.payments.answers import ApplyAnswers, SentPayment
from participants.payments.disputes import Dispute, WithdrawDispute
from participants.payments.holds import DecideHold
from participants.payments.incoming import ReceivedPayment, ReceivePayments
from participants.payments.orders import CheckedOrder, SubmitOrders, readable

OPENING = 1_000
PEOPLE = ("dora", "egon", "fritz")
amounts = st.one_of(st.integers(1, 400), st.just(OPENING))
choices = st.integers(0, 10**6)
limits = st.one_of(st.none(), st.integers(0, 600))
hits = st.sampled_from([(), (), (), (HIT,)])
GONE = (Status.REFUSED, Status.DECLINED)
KEPT_OUT = (*GONE, Status.HELD)


Posting = namedtuple("Posting", POSTING_COLUMNS)


class PureBank:
    """Books in memory with nothing behind them: what the database would hold stays in the books themselves."""

    def __init__(self, bic: str, customers: Sequence[str]) -> None:
        self.books = Books(bic, AGENT)
        self.payments: dict[str, Payment] = {}
        self.postings: dict[int, list[Any]] = defaultdict(list)
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.open: dict[tuple[str, int], tuple[str, str]] = {}
        self.run(
            OpenAccounts(
                [
                    AskedOpening(
                        AccountOpening(code=c, currency="EUR", name=c, opening_balance_minor=str(OPENING)),
                        ("mona", "nora"),
                    )
                    for c in customers
                ]
            )
        )

    def run(self, command: Any) -> Any:
        books = self.books
        books.begin(datetime(2026, 10, 2, tzinfo=UTC))
        books.payments = dict(self.payments)
        before = self.owed()
        keys = set(command.account_keys(books))
        for known in self.payments.values():
            keys.update(store.accounts_of(known))
        for key in keys:
            books.accounts.setdefault(key, None)
        answer = command.decide(books)
        books.advance_lanes()
        self.payments = books.payments
        self._keep(books)
        for (counterparty, currency), owed in self.owed().items():
            # Under the limit of now, for no command both changes a limit and accepts a payment.
            assert owed <= max(before[counterparty, currency], books.limits.of(counterparty, currency).minor)
        return answer

    def owed(self) -> Counter[tuple[str, str]]:
        """Return what other banks owe, unsettled."""
        accounts = [a for a in self.books.accounts.values() if a is not None and a.key.kind == "due_from"]
        return Counter({(a.key.code, a.key.currency): a.balance for a in accounts})

    @property
    def queue(self) -> list[str]:
        return [id_ for id_, state in self.open.values() if state == "queued"]

    def _keep(self, books: Books) -> None:
        """Check what would be written, and keep it."""
        entries: Counter[int] = Counter()
        for posting in map(Posting._make, books.rows.postings):
            entries[posting.event_sequence] += posting.amount
            chain = self.postings[posting.account_id]
            last = chain[-1] if chain else None
            assert posting.version == len(chain) + 1
            assert posting.previous_balance == (last.balance if last else 0)
            assert posting.balance == posting.previous_balance + posting.amount
            chain.append(posting)
        assert set(entries.values()) <= {0}
        for event in books.rows.events:
            self.kinds[event[1], event[3]] += 1
        for place in books.rows.ended_waits:
            del self.open[place]
        for id_, _, counterparty, state, since in books.rows.open_payments.values():
            assert (counterparty, since) not in self.open
            self.open[counterparty, since] = (id_, state)


class TwoBanks(RuleBasedStateMachine):
    """Two banks paying each other over a wire that loses answers and repeats requests."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count(1)
        self.banks = {ALFA: PureBank(ALFA, ["a-1", "a-2"]), BETA: PureBank(BETA, ["b-1", "b-2"])}
        self.orders: dict[str, list[tuple[PaymentOrder, tuple[Hit, ...]]]] = {ALFA: [], BETA: []}

    def id(self) -> str:
        return str(UUID(int=next(self.numbers) | (7 << 76) | (2 << 62)))

    def submit(self, sender: str, order: PaymentOrder, found: tuple[Hit, ...]) -> Any:
        (outcome,) = self.banks[sender].run(SubmitOrders([CheckedOrder(readable([order], maker="mona")[0], found)]))
        return outcome

    @rule(sender=st.sampled_from([ALFA, BETA]), amount=amounts, pair=choices, found=hits)
    def pay(self, sender: str, amount: int, pair: int, found: tuple[Hit, ...]) -> None:
        mine, theirs = ("a", "b") if sender == ALFA else ("b", "a")
        order = payment(
            amount, debtor=f"{mine}-{1 + pair % 2}", creditor=f"{theirs}-{1 + pair % 3}",
            to=BETA if sender == ALFA else ALFA, id_=self.id(),
        )  # fmt: skip
        available = -self.banks[sender].books.accounts[AccountKey("customer", order.debtor_account, "EUR")].balance  # type: ignore[union-attr]
        outcome = self.submit(sender, order, found)
        assert outcome.status == ("refused" if amount > available else "held" if found else "reserved")
        if outcome.status != "refused":
            self.orders[sender].append((order, found))

    @precondition(lambda self: any(self.orders.values()))
    @rule(which=choices)
    def repeat(self, which: int) -> None:
        sender, order, found = self.some_order(which)
        before = self.banks[sender].books.head
        assert self.submit(sender, order, found).replayed
        other = payment(int(order.amount_minor) + 1, debtor=order.debtor_account, id_=order.id)
        assert self.submit(sender, other, ()).reason == "id_reused"
        assert self.banks[sender].books.head == before

    @precondition(lambda self: any(self.orders.values()))
    @rule(which=choices, found=hits)
    def give_back(self, which: int, found: tuple[Hit, ...]) -> None:
        sender, order, _ = self.some_order(which)
        receiver = BETA if sender == ALFA else ALFA
        back = giving_back(order, to=sender, id_=self.id())
        stands = self.banks[receiver].payments.get(order.id)
        outcome = self.submit(receiver, back, found)
        if outcome.status != "refused":
            assert stands is not None
            assert stands.status is Status.ACCEPTED
            assert order.returns is None
            self.orders[receiver].append((back, found))

    @rule(sender=st.sampled_from([ALFA, BETA]), found=hits, lost=st.booleans(), twice=st.booleans())
    def deliver(self, sender: str, found: tuple[Hit, ...], lost: bool, twice: bool) -> None:
        self.send(sender, found, lost=lost, twice=twice)

    def send(self, sender: str, found: tuple[Hit, ...] = (), *, lost: bool = False, twice: bool = False) -> None:
        mine, other = self.banks[sender], BETA if sender == ALFA else ALFA
        payments = [mine.payments[id_] for id_ in mine.queue]
        if not payments:
            return
        received = [ReceivedPayment(p.terms, leaf_of(p.terms), found) for p in payments]
        outcomes: list[PaymentOutcome] = []
        for _ in range(1 + twice):
            again = self.banks[other].run(ReceivePayments(Evidence("ab" * 32, "payment-batch", sender, b""), received))
            assert not outcomes or outcomes == again
            outcomes = again
        if not lost:
            sent = [
                SentPayment(p, r.leaf, o) for p, r, o in zip(payments, received, outcomes, strict=True)
            ]  # fmt: skip
            for repetition in range(1 + twice):
                command = ApplyAnswers(Evidence("cd" * 32, "acknowledgement", other, b""), sent)
                ended = mine.run(command)
                assert ended == (0 if repetition else sum(o.status != "held" for o in outcomes))
                assert command.conflicts == []

    @rule(at=st.sampled_from([ALFA, BETA]), which=choices, person=st.sampled_from(PEOPLE), release=st.booleans())
    def decide(self, at: str, which: int, person: str, release: bool) -> None:
        held = [p.id for p in self.banks[at].payments.values() if p.status is Status.HELD]
        if held:
            word = "release" if release else "reject"
            self.banks[at].run(DecideHold(held[which % len(held)], person, word, "because"))  # type: ignore[arg-type]

    @rule(at=st.sampled_from([ALFA, BETA]), which=choices, withdraw=st.booleans())
    def contest(self, at: str, which: int, withdraw: bool) -> None:
        incoming = [p.id for p in self.banks[at].payments.values() if p.direction == "in"]
        if incoming:
            kind = WithdrawDispute if withdraw else Dispute
            self.banks[at].run(kind(incoming[which % len(incoming)], "dora", "because"))

    @rule(at=st.sampled_from([ALFA, BETA]), granted=limits, own=limits, everybody=st.booleans())
    def limit(self, at: str, granted: int | None, own: int | None, everybody: bool) -> None:
        bank, other = self.banks[at], BETA if at == ALFA else ALFA
        terms = [ExposureLimit(currency="EUR", limit_minor=str(granted), counterparty=other)] if granted else []
        bank.run(RecordLimits(ExposureLimits(granted=tuple(terms))))
        who, minor = None if everybody else other, None if own is None else str(own)
        seen = bank.books.limits.version(CEILINGS)
        bank.run(SetCeiling(Ceiling(who, "EUR", minor), people=("dora", "egon"), reason="because", seen=seen))

    def some_order(self, which: int) -> tuple[str, PaymentOrder, tuple[Hit, ...]]:
        every = [(sender, *order) for sender, orders in self.orders.items() for order in orders]
        return every[which % len(every)]

    @invariant()
    def each_banks_books_sum_to_zero(self) -> None:
        for one in self.banks.values():
            assert sum(a.balance for a in one.books.accounts.values() if a is not None) == 0

    @invariant()
    def customers_have_what_their_payments_say(self) -> None:
        for one in self.banks.values():
            expected: Counter[str] = Counter()
            for p in one.payments.values():
                if p.direction == "out" and p.status not in GONE:
                    expected[p.terms.debtor_account] -= int(p.terms.amount_minor)
                elif p.direction == "in" and p.status not in KEPT_OUT:
                    expected[p.terms.creditor_account] += int(p.terms.amount_minor)
            for key, account in one.books.accounts.items():
                if account is not None and key.kind == "customer":
                    assert -account.balance == OPENING + expected[key.code] >= 0

    @invariant()
    def what_is_open_is_what_the_payments_say(self) -> None:
        for one in self.banks.values():
            states = {Status.RESERVED: "queued", Status.HELD: "held"}
            expected = {p.id: states[p.status] for p in one.payments.values() if p.status in states}
            assert dict(one.open.values()) == expected

    @invariant()
    def nothing_happens_twice(self) -> None:
        once = ("payment.reserved", "payment.posted", "payment.accepted", "payment.credited", "payment.refused")
        for one in self.banks.values():
            assert all(n == 1 for (_, kind), n in one.kinds.items() if kind in once)

    def teardown(self) -> None:
        """Once everything is delivered and decided, both banks say the same of each other."""
        for one in self.banks.values():
            for id_ in [p.id for p in one.payments.values() if p.status is Status.HELD]:
                for person in ("hugo", "inge"):
                    one.run(DecideHold(id_, person, "reject", "end of day"))
        for _ in range(2):
            for sender in (ALFA, BETA):
                self.send(sender)
        for sender, receiver in ((ALFA, BETA), (BETA, ALFA)):
            assert self.banks[sender].queue == []
            due_to = self.banks[sender].books.accounts.get(AccountKey("due_to", receiver, "EUR"))
            due_from = self.banks[receiver].books.accounts.get(AccountKey("due_from", sender, "EUR"))
            assert (due_to.balance if due_to else 0) == -(due_from.balance if due_from else 0)
            heads = [
                (lane.tree.size, lane.tree.root(), lane.total)
                for one in self.banks.values()
                for key, lane in one.books.lanes.items()
                if key.sender == sender and lane.tree.size
            ]
            assert len(set(heads)) <= 1
        self.each_banks_books_sum_to_zero()
        self.customers_have_what_their_payments_say()
        self.nothing_happens_twice()


TestTwoBanks = TwoBanks.TestCase
TestTwoBanks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# --- on PostgreSQL -------------------------------------------------------------------------------------------

_databases = count(1)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "pay",
                "pay",
                "pay",
                "repeat",
                "deliver",
                "deliver",
                "lose",
                "back",
                "decide",
                "decide",
                "contest",
                "settle",
                "limit",
            ]
        ),
        st.booleans(),
        choices,
    ),
    min_size=5,
    max_size=25,
)


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[str]:
    """The name of an empty ledger's database."""
    name = f"property_{os.getpid()}"

    async def make() -> None:
        await migrate(await create_database(postgres_url, name), "participants.ledger")

    asyncio.run(make())
    yield name
    asyncio.run(drop_database(postgres_url, name))


@given(steps=steps)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Making an example smaller would take minutes; the one found is printed.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_what_is_written_is_proved_after_every_run(
    postgres_url: str, template: str, steps: list[tuple[str, bool, int]]
) -> None:
    """Two writers at each bank take turns; after the run, fsck proves both ledgers and no payment happened twice."""
    asyncio.run(_run(postgres_url, template, steps))


async def _run(postgres_url: str, template: str, steps: Sequence[tuple[str, bool, int]]) -> None:
    run = next(_databases)
    names = [f"{template}_{run}_{bic.lower()}" for bic in (ALFA, BETA)]
    urls = [await create_database(postgres_url, name, template=template) for name in names]
    try:
        async with (
            bank(urls[0]) as alfa, bank(urls[0]) as alfa_2, bank(urls[1], BETA) as beta, bank(urls[1], BETA) as beta_2
        ):  # fmt: skip
            alfa_2.key, beta_2.key = alfa.key, beta.key
            await alfa.open("a-1", balance=OPENING)
            await beta.open("b-1", balance=OPENING)
            writers = ((alfa, alfa_2), (beta, beta_2))
            orders: list[tuple[int, PaymentOrder]] = []
            for number, (action, flag, choice) in enumerate(steps):
                side = int(flag)
                mine, other = writers[side][choice % 2], writers[1 - side][choice // 2 % 2]
                await _step(action, choice, number, side, mine, other, orders)
            for url, bic in zip(urls, (ALFA, BETA), strict=True):
                report = await fsck(url, bic)
                assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]
            for one in (alfa, beta):
                repeated = await one.connection.fetch(
                    "SELECT subject FROM event WHERE type IN ('payment.reserved', 'payment.posted', 'payment.accepted',"
                    " 'payment.credited', 'payment.refused') GROUP BY subject, type HAVING count(*) > 1"
                )
                assert repeated == []
    finally:
        for name in names:
            await drop_database(postgres_url, name)


async def _step(
    action: str, choice: int, number: int, side: int, mine: Bank, other: Bank, orders: list[tuple[int, PaymentOrder]]
) -> None:
    found = (HIT,) if choice % 5 == 0 else ()
    if action == "pay":
        names = ("a-1", "b-1") if side == 0 else ("b-1", "a-1")
        order = payment(1 + choice % 600, debtor=names[0], creditor=names[1], to=other.bic)
        if (await mine.order(order, hits=found))[0].status != "refused":
            orders.append((side, order))
    elif action == "repeat" and orders:
        at, order = orders[choice % len(orders)]
        if at == side:
            outcomes = await asyncio.gather(mine.order(order), mine.order(order))
            assert all(outcome.replayed for (outcome,) in outcomes)
    elif action == "deliver":
        await mine.deliver(other, hits=found)
    elif action == "lose":
        ids = await mine.queued()
        known = await store.read_payments(mine.connection, ids)
        terms = [p.terms.terms() for p in known.values() if isinstance(p.terms, PaymentOrder)]
        if terms:
            await other.receive(mine, *terms, hits=found)
    elif action == "back" and orders:
        at, order = orders[choice % len(orders)]
        if at != side and order.returns is None:
            back = giving_back(order, to=other.bic)
            if (await mine.order(back, hits=found))[0].status != "refused":
                orders.append((side, back))
    elif action == "decide":
        held = await mine.connection.fetch("SELECT payment_id::text FROM payment_open WHERE state = 'held'")
        if held:
            word: Any = "release" if choice % 4 else "reject"
            await mine.ledger.submit(DecideHold(held[choice % len(held)][0], PEOPLE[choice % 3], word, "because"))
    elif action == "contest" and orders:
        at, order = orders[choice % len(orders)]
        if at != side:
            await mine.ledger.submit(Dispute(order.id, "dora", "because"))
            await mine.ledger.submit(WithdrawDispute(order.id, "dora", "because"))
    elif action == "limit":
        minor = str(choice % 1_500)
        seen = mine.ledger.books.limits.version(CEILINGS)
        ceiling = SetCeiling(Ceiling(None, "EUR", minor), people=("dora", "egon"), reason="because", seen=seen)
        await mine.ledger.submit(ceiling)
    elif action == "settle":
        await mine.deliver(other)
        await other.deliver(mine)
        alfa, beta = (mine, other) if side == 0 else (other, mine)
        await settle(f"2026-10-02-{number:02d}", alfa, beta)
