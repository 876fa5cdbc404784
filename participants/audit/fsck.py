"""Proof of a bank's books from its journal: everything that is kept for speed is computed again and compared.

Reads only, in one snapshot, so a node may go on serving meanwhile. Nothing is held in memory but one history, one
lane's tree, one number per counterparty and the returns; a million events take about a minute.
"""

from __future__ import annotations

from collections import defaultdict

import asyncpg
from msgspec import Struct

from compliance.crypto.merkle import Tree
from gateway.federation.messages.payments import leaf_of
from gateway.federation.storage.postgres import dsn
from gateway.federation.storage.sessions import APP_ROLE
from participants.audit import accounts, nostro, people, sql_checks
from participants.audit.exposure import first_beyond
from participants.audit.histories import LEGS_OF_EVENTS, PREFETCH_ROWS, Leg, histories
from participants.cycle import reads
from participants.cycle.attestations import contradiction
from participants.cycle.statements import lanes_of
from participants.ledger import events
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import CAME_TO_NOTHING, Payment, Status
from participants.payments.answers import UNANSWERED

SORTED_ENTRIES = "SELECT payment_id::text, lane_id, sequence, amount, leaf FROM lane_entry ORDER BY payment_id, lane_id"
SORTED_OPEN = "SELECT payment_id::text, direction, counterparty, state, event_sequence FROM payment_open ORDER BY 1"
SORTED_DISPUTES = "SELECT payment_id::text, lane_id, sequence, amount FROM dispute ORDER BY payment_id"
LANE_STEPS = """
SELECT lane_id, sequence, e.amount, e.leaf, h.total, h.peaks, s.total
FROM lane_entry e FULL JOIN lane_head h USING (lane_id, sequence) FULL JOIN lane_settled s USING (lane_id, sequence)
ORDER BY lane_id, sequence
"""
SETTLEMENTS = f"""
SELECT e.sequence, e.subject::text, e.version, e.type, e.schema_version, e.data, p.legs
FROM event e LEFT JOIN ({LEGS_OF_EVENTS}) p ON p.event_sequence = e.sequence
WHERE e.type = 'cycle.settled' ORDER BY e.sequence
"""  # noqa: S608 - a constant
ATTESTED = """
SELECT sequence, subject::text, version, type, schema_version, data FROM event
WHERE type = 'cycle.attested' ORDER BY sequence
"""
SETTLED_LANES = """
SELECT l.sender, l.receiver, l.currency, s.cycle, s.sequence FROM lane_settled s JOIN lane l ON l.id = s.lane_id
"""
CHART = """
SELECT a.kind, a.code, a.currency, b.balance FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE a.kind IN ('reserved', 'due_to', 'due_from')
"""

WAITING = {**UNANSWERED, Status.HELD: "held"}

ChartKey = tuple[str, str, str]


class Check(Struct):
    """One thing proved: how many were examined, and the first difference, if there is one."""

    name: str
    proves: str
    examined: int = 0
    difference: str | None = None

    @property
    def ok(self) -> bool:
        return self.difference is None

    def expect(self, actual: object, expected: object, place: str) -> None:
        """Note a difference, if it is the first."""
        self.examined += 1
        if actual != expected:
            self.fail(f"{place}: {actual}, expected {expected}")

    def fail(self, difference: str) -> None:
        if self.difference is None:
            self.difference = difference


class Report(Struct, frozen=True):
    """The outcome of every check."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)


async def fsck(url: str, bank: str) -> Report:
    """Check the ledger of a bank (its BIC). Raises asyncpg.PostgresError if the database holds no ledger."""
    session = {
        "role": APP_ROLE,
        "application_name": "concordat fsck",
        "default_transaction_read_only": "on",
        "statement_timeout": "0",
        "work_mem": "64MB",
        "jit": "off",
    }
    connection = await asyncpg.connect(dsn(url), timeout=10, server_settings=session)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            checks = [
                Check(
                    check.name,
                    check.proves,
                    await connection.fetchval(check.examined),
                    await connection.fetchval(check.query, *check.arguments),
                )
                for check in sql_checks.CHECKS
            ]
            walked = await _Walk(connection, bank).run()
            exposure = Check("exposure", "no payment was accepted beyond what its sender might owe then")
            exposure.examined, exposure.difference = await first_beyond(connection)
            of_accounts = await _account_checks(connection)
            attested = await _attestation_check(connection, bank)
            at_agent = await _nostro_check(connection, bank)
            return Report((*checks, *walked, attested, *of_accounts, at_agent, exposure))
    finally:
        await connection.close()


async def _account_checks(connection: asyncpg.Connection) -> list[Check]:
    result = await accounts.findings(connection)
    states = Check("account_states", "each account's state and name are what its events say")
    states.examined, states.difference = result.changes, result.changed_otherwise
    entries = Check("own_entries", "entries of the bank's own are known by id and reference as their events say")
    entries.examined, entries.difference = result.entries, result.entered_otherwise
    return [states, entries]


async def _attestation_check(connection: asyncpg.Connection, bank: str) -> Check:
    check = Check("attestations", "each attestation is over the positions and the screening that are kept beside it")
    async for row in connection.cursor(ATTESTED, prefetch=1):
        event = events.read(events.EventRow(*row))
        check.examined += 1
        if (wrong := contradiction(event.data, bank)) is not None:
            check.fail(f"event {event.sequence}: {wrong}")
    return check


async def _nostro_check(connection: asyncpg.Connection, bank: str) -> Check:
    result = await nostro.compare(connection, bank)
    proves = f"the nostro is the account at the settlement agent{result.standing}"
    return Check("nostro", proves, result.entries, result.difference)


class _Sorted:
    """Rows sorted by payment, taken as the walk through the payments reaches them."""

    def __init__(self, connection: asyncpg.Connection, query: str, check: Check) -> None:
        self._rows = connection.cursor(query, prefetch=PREFETCH_ROWS).__aiter__()
        self._next: asyncpg.Record | None = None
        self._check = check

    async def take(self, payment_id: str | None) -> list[tuple[object, ...]]:
        """Return a payment's rows without its id; rows passed over belong to no payment. None passes over all."""
        rows: list[tuple[object, ...]] = []
        while True:
            if self._next is None:
                self._next = await anext(self._rows, None)
            row = self._next
            if row is None or (payment_id is not None and row[0] > payment_id):
                return rows
            if row[0] == payment_id:
                rows.append(tuple(row)[1:])
            else:
                self._check.fail(f"{tuple(row)[:4]} belongs to no payment")
            self._next = None


class _Walk:
    """The checks that need the payments, the trees and the documents themselves."""

    def __init__(self, connection: asyncpg.Connection, bank: str) -> None:
        self._connection = connection
        self._bank = bank
        self.histories = Check("histories", "every event is readable and every subject's history is possible")
        self.postings = Check("postings_follow_events", "each event has the postings that its data imply, and no other")
        self.entries = Check("lane_entries", "each numbered payment has its lane entry and leaf, and no other exists")
        self.trees = Check("lane_trees", "numbers are without gaps up to the heads; totals and Merkle trees recomputed")
        self.open = Check("open_payments", "the queue and the holds are what the events say")
        self.disputes = Check("disputes", "the disputed payments are what the events say")
        self.returns = Check("returns", "what is given back of each payment is what its returns come to, and no more")
        self.settlements = Check("settlements", "settlement legs and settled lanes follow from the signed documents")
        self.reserved = Check("reserved_accounts", "reserved money is the sum of the outgoing payments not yet ended")
        self.four_eyes = Check(
            "four_eyes",
            "two people opened what opens with money, made deposits, lifted blocks, raised ceilings, weakened lists "
            "and released holds",
        )
        self.due = Check("due_accounts", "what is due between banks is the sum of the lanes, less what was settled")
        self._lane_ids: dict[int, LaneKey] = {}
        self._expected: defaultdict[ChartKey, int] = defaultdict(int)
        # By the payment that gives back: which one, and how much of it.
        self._given_back: dict[str, tuple[str, int]] = {}
        self._giving_back: dict[str, tuple[str, int]] = {}

    async def run(self) -> list[Check]:
        await self._read_lanes()
        await self._walk_payments()
        await self._walk_lanes()
        await self._walk_settlements()
        await self._compare_chart()
        async for fault in people.faults(self._connection):
            self._note_people(fault)
        return [
            self.histories, self.postings, self.entries, self.trees, self.open, self.disputes, self.returns,
            self.settlements, self.reserved, self.due, self.four_eyes,
        ]  # fmt: skip

    async def _read_lanes(self) -> None:
        rows = await self._connection.fetch("SELECT id, sender, receiver, currency FROM lane")
        self._lane_ids = {row[0]: LaneKey(row[1], row[2], row[3]) for row in rows}
        for lane in self._lane_ids.values():
            if self._bank not in (lane.sender, lane.receiver):
                self.trees.fail(f"lane {lane} isn't one of {self._bank}")

    # --- payments ----------------------------------------------------------------------------------------

    async def _walk_payments(self) -> None:
        entries = _Sorted(self._connection, SORTED_ENTRIES, self.entries)
        waiting = _Sorted(self._connection, SORTED_OPEN, self.open)
        disputed = _Sorted(self._connection, SORTED_DISPUTES, self.disputes)
        async for history in histories(self._connection):
            self.histories.examined += history.events
            if history.impossible is not None:
                self.histories.fail(history.impossible)
            self.postings.examined += history.events
            if history.misposted is not None:
                self.postings.fail(history.misposted)
            payment = history.payment
            if payment is None:
                continue
            lane, place = self._lane_of(payment), f"payment {payment.id}"
            amount = payment.amount
            stored = [(self._lane_ids.get(_integer(row[0])), *row[1:]) for row in await entries.take(payment.id)]
            numbered = payment.sequence is not None
            self.entries.expect(
                stored, [(lane, payment.sequence, amount, leaf_of(payment.terms))] if numbered else [], place
            )
            state = "recalled" if payment.open_recall is not None else WAITING.get(payment.status)
            row = (payment.direction, payment.counterparty, state, payment.waiting_since)
            self.open.expect(await waiting.take(payment.id), [row] if state else [], place)
            stored = [(self._lane_ids.get(_integer(row[0])), *row[1:]) for row in await disputed.take(payment.id)]
            contested = payment.status is Status.DISPUTED
            self.disputes.expect(stored, [(lane, payment.sequence, amount)] if contested else [], place)
            if payment.was_held:
                self._note_people(people.hold_fault(payment))
            if payment.direction == "out" and payment.status in WAITING:
                self._expected["reserved", payment.counterparty, payment.terms.currency] -= amount
            self._note_returns(payment)
        for rows in (entries, waiting, disputed):
            await rows.take(None)
        for return_id in sorted(self._given_back.keys() | self._giving_back.keys()):
            given = self._given_back.get(return_id)
            self.returns.expect(given, self._giving_back.get(return_id), f"return {return_id}")

    def _note_returns(self, payment: Payment) -> None:
        for part in payment.given_back:
            self._given_back[part.by] = (payment.id, part.amount)
        original = payment.terms.returns
        # One that was received and is held gives nothing back yet.
        waits = payment.direction == "in" and payment.sequence is None
        if original is not None and payment.status not in CAME_TO_NOTHING and not waits:
            self._giving_back[payment.id] = (original, payment.amount)

    def _note_people(self, fault: str | None) -> None:
        self.four_eyes.examined += 1
        if fault is not None:
            self.four_eyes.fail(fault)

    def _lane_of(self, payment: Payment) -> LaneKey:
        ends = (self._bank, payment.counterparty)
        sender, receiver = ends if payment.direction == "out" else reversed(ends)
        return LaneKey(sender, receiver, payment.terms.currency)

    # --- lanes -------------------------------------------------------------------------------------------

    async def _walk_lanes(self) -> None:
        """Grow each lane's tree again and compare it wherever a head or a settlement was written down."""
        lane_id, tree, total, gap = 0, Tree(), 0, False
        leaves: list[bytes] = []
        async for row in self._connection.cursor(LANE_STEPS, prefetch=PREFETCH_ROWS):
            sequence, amount, leaf, head_total, peaks, settled_total = tuple(row)[1:]
            if row[0] != lane_id:
                self._end_lane(lane_id, leaves)
                lane_id, tree, total, leaves, gap = row[0], Tree(), 0, [], False
            lane = self._lane_ids.get(lane_id)
            place = f"lane {lane} at {sequence}"
            self.trees.examined += 1
            if amount is None or lane is None:
                self.trees.fail(f"{place}: no payment has this number" if lane else f"there is no lane {lane_id}")
                continue
            self._add_to_due(lane, amount)
            gap = gap or sequence != tree.size + len(leaves) + 1
            if gap:
                if peaks is not None or settled_total is not None or lane.receiver == self._bank:
                    self.trees.fail(f"{place}: the numbers before it aren't complete")
                continue
            leaves.append(leaf)
            total += amount
            if peaks is not None:
                tree, leaves = tree.append(leaves), []
                if (head_total, peaks) != (total, tree.to_bytes()):
                    self.trees.fail(f"{place}: head has total {head_total}, the payments say {total}, or other peaks")
            if settled_total is not None and settled_total != total:
                self.trees.fail(f"{place}: settled total {settled_total}, the payments say {total}")
        self._end_lane(lane_id, leaves)

    def _end_lane(self, lane_id: int, leaves: list[bytes]) -> None:
        if leaves:
            self.trees.fail(f"lane {self._lane_ids.get(lane_id)}: {len(leaves)} payments after the last head")

    def _add_to_due(self, lane: LaneKey, amount: int) -> None:
        if lane.sender == self._bank:
            self._expected["due_to", lane.receiver, lane.currency] -= amount
        else:
            self._expected["due_from", lane.sender, lane.currency] += amount

    # --- settlements -------------------------------------------------------------------------------------

    async def _walk_settlements(self) -> None:
        """Follow each settlement from the instruction and the statements that this bank signed."""
        settled_lanes: set[tuple[str, str, str, str, int]] = set()
        cycle, own = "", {}
        for row in await self._connection.fetch(SETTLEMENTS):
            settlement: events.CycleSettled = events.read(events.EventRow(*tuple(row)[:6])).data
            instruction = await reads.instruction(self._connection, settlement.instruction)
            if settlement.cycle != cycle:
                # A cycle's settlements, one a currency, follow each other.
                cycle, own = settlement.cycle, await reads.signed_positions(self._connection, settlement.cycle)
            if instruction is None or any(line.statement not in own for line in instruction.lines):
                self.settlements.fail(f"event {row[0]} settles {settlement.instruction}, which nothing signed supports")
                continue
            legs = [Leg("nostro", "", instruction.currency, int(instruction.net_minor))]
            for line in instruction.lines:
                legs.append(Leg("due_to", line.counterparty, instruction.currency, int(line.pays_minor)))
                legs.append(Leg("due_from", line.counterparty, instruction.currency, -int(line.receives_minor)))
                settled_lanes |= {
                    (*lane, settlement.cycle, number) for lane, number in lanes_of(own[line.statement]).items()
                }
            for leg in legs[1:]:
                self._expected[leg.kind, leg.code, leg.currency] += leg.amount
            implied = sorted(str(leg) for leg in legs if leg.amount)
            self.settlements.expect(sorted(row[6] or []), implied, f"event {row[0]}")
        stored = {tuple(row) for row in await self._connection.fetch(SETTLED_LANES)}
        if different := stored ^ settled_lanes:
            self.settlements.fail(f"settled lanes differ from the statements: {min(different)}")

    async def _compare_chart(self) -> None:
        balances = {(row[0], row[1], row[2]): row[3] for row in await self._connection.fetch(CHART)}
        for key in sorted(balances.keys() | self._expected.keys()):
            check = self.reserved if key[0] == "reserved" else self.due
            check.expect(balances.get(key, 0), self._expected.get(key, 0), "/".join(key))


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
