"""What must be true after a run, from the customers' orders and everybody's books."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg
import msgspec

from compliance.statements import CarryReason
from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.agent.fsck import fsck as agent_fsck
from gateway.coordinator.log import events
from gateway.demo.desks import BankDesk
from gateway.federation.storage.database import create_engine, transaction
from participants.api.messages import LaneView, PaymentPage, PaymentView
from participants.audit.fsck import fsck as bank_fsck
from tests.chaos.faults import FaultRecord
from tests.chaos.federation import ChaosFederation
from tests.chaos.people import Customers, CycleRecord
from tests.chaos.replicas import AGENT, COORDINATOR
from tests.chaos.schedule import Kind
from tests.simulation.oracle import Oracle

PAGE = 1000
AFTER_A_FAULT_S = 15.0
"""Queues are worked off for a while after the first payment got through again."""


@dataclass
class Proofs:
    """Claims, and what contradicts each."""

    claims: dict[str, list[str]] = field(default_factory=dict)

    def claim(self, text: str, against: Iterable[str]) -> None:
        self.claims[text] = list(against)

    @property
    def hold(self) -> bool:
        return not any(self.claims.values())


async def prove_payments(federation: ChaosFederation, customers: Customers, proofs: Proofs) -> None:
    """Every order that was accepted is at both banks, once, and settled; and nothing else is."""
    views = {bic: await _payments(desk) for bic, desk in federation.desks.items()}
    expected = {row.id: row for row in customers.ordered}
    proofs.claim(
        f"no order of {len(expected):,} was refused", [f"{what}: {count}" for what, count in customers.refused.items()]
    )
    lost, double, strange = [], [], []
    status: dict[tuple[str, str], str] = {}
    for bic, found in views.items():
        for view in found:
            if (bic, view.id) in status:
                double.append(f"{view.id} twice at {bic}")
            status[bic, view.id] = view.status
            if view.id not in expected:
                strange.append(f"{view.id} at {bic} ({view.status}) was never accepted")
    for row in expected.values():
        seen = status.get((row.debtor_bank, row.id)), status.get((row.creditor_bank, row.id))
        if seen != ("posted", "accepted"):
            lost.append(f"{row.id} from {row.debtor_bank} to {row.creditor_bank}: {seen[0]} and {seen[1]}")
    proofs.claim("nothing is lost: each accepted order is posted by its sender and accepted by its receiver", lost)
    proofs.claim("nothing is double, and nothing is there that nobody ordered", double + strange)
    await _prove_lanes(federation, len(expected), proofs)
    await _prove_money(federation, customers, proofs)


async def _prove_lanes(federation: ChaosFederation, payments: int, proofs: Proofs) -> None:
    sides: defaultdict[tuple[str, str, str], set[LaneView]] = defaultdict(set)
    for desk in federation.desks.values():
        for lane in await desk.lanes():
            # Whether its receiver can be reached is the sender's alone.
            counted_alike = msgspec.structs.replace(lane, undeliverable_since=None)
            sides[lane.sender, lane.receiver, lane.currency].add(counted_alike)
    differing = [f"{key}: {sorted(map(str, lanes))}" for key, lanes in sides.items() if len(lanes) != 1]
    proofs.claim("both banks count the same on every lane", differing)
    open_lanes = [
        f"{' '.join(key)}: {lane.last_sequence - lane.settled_sequence} of {lane.last_sequence} aren't settled"
        for key, lanes in sides.items()
        for lane in lanes
        if lane.last_sequence != lane.settled_sequence
    ]
    counted = sum(max(lane.last_sequence for lane in lanes) for lanes in sides.values())
    if counted != payments:
        open_lanes.append(f"the lanes have {counted} payments, {payments} were accepted")
    proofs.claim("every accepted payment is settled", open_lanes)


async def _prove_money(federation: ChaosFederation, customers: Customers, proofs: Proofs) -> None:
    oracle = Oracle(federation.plan)
    oracle.pay(customers.ordered)
    oracle.settle({})
    wrong = []
    for bic, desk in federation.desks.items():
        held = {(a.code, a.currency): -int(a.balance_minor) for a in await desk.accounts("customer")}
        wrong += [
            f"{bic} {account}: {held.get(account)} instead of {amount}"
            for account, amount in oracle.customers(bic).items()
            if held.get(account) != amount
        ]
        nostro = {account.currency: int(account.balance_minor) for account in await desk.accounts("nostro")}
        at_agent = await federation.agent_desk.balances(bic)
        if not nostro == oracle.nostro(bic) == at_agent:
            wrong.append(f"{bic}: nostro {nostro}, at the agent {at_agent}, must be {oracle.nostro(bic)}")
    proofs.claim("every customer and every nostro holds what follows from the orders, and the agent agrees", wrong)


async def _payments(desk: BankDesk) -> list[PaymentView]:
    found: list[PaymentView] = []
    after = None
    while True:
        page = await desk.ask("GET", "/payments", PaymentPage, params={"limit": PAGE, "cursor": after})
        found += page.items
        after = page.next
        if after is None:
            return found


async def prove_books(federation: ChaosFederation, proofs: Proofs) -> None:
    """Every ledger follows from its journal, and the coordinator's event log is whole."""
    wrong = []
    for bic in federation.banks:
        report = await bank_fsck(federation.databases[bic].url, bic)
        wrong += [f"{bic}: {check.name}: {check.difference}" for check in report.checks if not check.ok]
    connection = await asyncpg.connect(federation.databases[AGENT].url)
    try:
        wrong += [f"agent: {check}" for check in await agent_fsck(connection) if not check.passed]
    finally:
        await connection.close()
    engine = create_engine(federation.databases[COORDINATOR].url)
    try:
        async with transaction(engine) as conn:
            if not await events.verify_chain(conn):
                wrong.append("the coordinator's event log is empty")
    except ValueError as error:
        wrong.append(f"coordinator: {error}")
    finally:
        await engine.dispose()
    proofs.claim("every ledger is recomputed from its journal, and balanced", wrong)


async def prove_exports(federation: ChaosFederation, cycles: Sequence[CycleRecord], proofs: Proofs) -> None:
    """Every cycle's export verifies offline."""
    anchor = Anchor.read(federation.anchor)
    wrong = []
    for cycle in cycles:
        try:
            await asyncio.to_thread(verify_bytes, await federation.carol.export(cycle.id), anchor)
        except Exception as error:
            wrong.append(f"{cycle.id}: {error}")
    proofs.claim(f"{len(cycles)} audit exports verify offline, from signatures to netting", wrong)


def prove_cycles(cycles: Sequence[CycleRecord], faults: Sequence[FaultRecord], proofs: Proofs) -> None:
    """Every cycle came to its end, and carried over only pairs that something real had happened to."""
    proofs.claim(
        "every cycle came to its end", [f"{cycle.id} ended {cycle.state}" for cycle in cycles if cycle.state != "final"]
    )
    unexcused = [
        f"{cycle.id}: {' '.join(key)} was carried over ({reason}), and nothing had happened to it"
        for cycle in cycles
        for key, reason in cycle.carried_pairs().items()
        if not excuse(cycle, key[1:], reason, faults)
    ]
    proofs.claim("every honest pair that nothing had happened to settled in every cycle", unexcused)
    absent = [
        f"{cycle.id}: {bank} delivered no cut, and nothing had happened to it"
        for cycle in cycles
        for bank in cycle.absent
        if not excuse(cycle, (bank,), CarryReason.CUT_MISSING, faults)
    ]
    proofs.claim("every bank that nothing had happened to was in every cycle", absent)
    blamed = [
        f"{cycle.id}: {' '.join(key)} was contested, and nothing had happened to it"
        for cycle in cycles
        for key in cycle.contested
        if not excuse(cycle, key[1:], CarryReason.CUT_CONTESTED, faults)
    ]
    proofs.claim("whose cut was contested lied, or something had happened to the pair", blamed)


def excuse(cycle: CycleRecord, pair: tuple[str, ...], reason: str, faults: Sequence[FaultRecord]) -> FaultRecord | None:
    """Return a fault that explains why a pair was carried over for a reason, None if there is none.

    A lie in a cut costs the pair that it is about and no other.
    """
    since, until = cycle.opened_at - AFTER_A_FAULT_S, cycle.netted_at or cycle.ended_at
    # Where a lie may be the cause, it is named before others that are possible.
    for record in sorted(faults, key=lambda record: not record.fault.kind.is_lie):
        whom = record.fault.whom
        if not record.touches(since, until):
            continue
        if record.fault.kind.is_lie and reason != CarryReason.CUT_CONTESTED:
            continue
        if record.fault.kind is Kind.PARTED and COORDINATOR not in whom:
            if set(whom) == set(pair):
                return record
        elif (COORDINATOR in whom and record.fault.kind is not Kind.PARTED) or set(whom) & set(pair):
            return record
    return None
