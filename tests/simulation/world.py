"""A whole federation as real processes on real databases, and the people who work in it, for simulations.

Processes, keys, registration and desks are those of the demonstration (`gateway.demo`). People ask until they are
answered, so that whatever is killed only makes them wait.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from gates import Gate, build_gates, closed
from oracle import Oracle, PairKey

from compliance.crypto import dsse
from compliance.statements import NettingResult
from gateway.agent.fsck import fsck as agent_fsck
from gateway.coordinator.log import events
from gateway.demo.desks import RequestRefusedError
from gateway.demo.federation import Federation, Institution, Pace
from gateway.demo.plan import Plan
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.proposals import Decision, ProposalRequest, Proposals
from gateway.federation.storage.database import create_engine, transaction
from gateway.federation.storage.postgres import dsn
from participants.api.messages import PaymentPage, PaymentView
from participants.audit.fsck import fsck as bank_fsck
from participants.intake.rows import PaymentRow

WAIT_S = 90
POLL_S = 0.05
# Deadlines that no slow machine misses; a test that wants one to pass lets it pass.
PATIENT = Pace(cut_deadline_s=300, attestation_deadline_s=300, settlement_retry_s=1, settlement_attempts_max=100)
# A process is killed here, never the machine, so nothing has to reach the disk.
POSTGRES = {
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}
KEEP = "CONCORDAT_SIM_KEEP"

Condition = Callable[[], Awaitable[bool]]


class World:
    """A federation under test."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.oracle = Oracle(federation.plan)
        self._under_way = False

    # --- processes ---------------------------------------------------------------------------------------

    def institution(self, name: str) -> Institution:
        """Return the coordinator, the agent, or a bank by its BIC."""
        named = {"coordinator": self.federation.coordinator, "agent": self.federation.agent}
        return named.get(name) or self.federation.banks[name]

    def database(self, name: str) -> str:
        """Return where an institution's database is, as the owner of everything."""
        return dsn(self.federation.server.url(self.institution(name).database))

    async def kill(self, *names: str) -> None:
        """SIGKILL processes, all before any is waited for."""
        for name in names:
            process = self.institution(name).node.process
            assert process is not None
            process.kill()
        for name in names:
            await asyncio.to_thread(self.institution(name).node.kill)

    async def restart(self, *names: str) -> None:
        """Start processes again and return when they are ready."""
        nodes = [self.institution(name).node for name in names]
        for node in nodes:
            node.start()
        await asyncio.to_thread(self.federation.supervisor.wait_ready, *nodes)

    async def restart_all(self) -> None:
        """Start again what isn't running."""
        federation = self.federation
        names = ("coordinator", "agent", *federation.banks)
        await self.restart(*(name for name in names if not self.institution(name).node.running))

    def gate(self, place: str, name: str) -> AbstractAsyncContextManager[Gate]:
        """Close a gate (`gates.py`) in an institution's database."""
        return closed(self.database(place), name)

    async def let_deadline_pass(self) -> None:
        """Do as if the deadline that the present cycle waits for were over."""
        connection = await asyncpg.connect(self.database("coordinator"))
        try:
            await connection.execute(
                "UPDATE cycles SET deadline_at = now() - interval '1 second' WHERE state IN ('cut_off', 'attesting')"
            )
        finally:
            await connection.close()

    # --- people ------------------------------------------------------------------------------------------

    async def pay(self, rows: Sequence[PaymentRow]) -> None:
        """Order payments, each bank its own in one request, and wait until all have an answer."""
        orders: defaultdict[str, list[PaymentRow]] = defaultdict(list)
        for row in rows:
            orders[row.debtor_bank].append(row)
        desks = self.federation.desks
        await asyncio.gather(*(desks[bank].pay(batch, lambda _: None) for bank, batch in orders.items()))
        await self.all_answered()

    async def all_answered(self) -> None:
        """Wait until no bank has a payment under way."""
        for bank, desk in self.federation.desks.items():

            async def none_open(desk=desk) -> bool:  # type: ignore[no-untyped-def]
                return not any(int(account.balance_minor) for account in await desk.accounts("reserved"))

            await self.until(none_open, f"{bank} has payments without an answer")

    async def cycle(self, cycle: str) -> Cycle:
        return (await self.federation.alice.progress(cycle)).cycle

    async def until_state(self, cycle: str, *states: str) -> str:
        """Wait until the cycle is in one of the states, and return which."""
        state = "unknown"

        async def there() -> bool:
            nonlocal state
            state = (await self.cycle(cycle)).state
            assert state in states or state not in ("final", "abandoned"), f"{cycle} is {state}"
            return state in states

        await self.until(there, f"{cycle} doesn't become {' or '.join(states)}")
        return state

    async def approve(self, cycle: str) -> None:
        """Let one operator propose and the other confirm, until the cycle is approved."""
        alice, bob = self.federation.alice, self.federation.bob
        while (await self.until_state(cycle, *SINCE_NETTED)) == "netted":
            known = await alice.ask("GET", f"/cycles/{cycle}/proposals", Proposals)
            pending = next((one.id for one in known.proposals if one.status == "pending"), None)
            try:
                if pending is None:
                    request = ProposalRequest(action="approve", reason="positions and checks looked at")
                    pending = (await alice.propose(cycle, request)).id
                await bob.decide(pending, Decision(decision="confirm", reason="seen, too"))
            except RequestRefusedError as refused:
                # Whoever was killed may have done it before the answer got lost.
                if refused.status != 409:
                    raise

    async def result(self, cycle: str) -> bytes:
        """Return the bytes of the netting result, their signature verified."""
        envelope = await self.federation.alice.result(cycle)
        dsse.verify(envelope, NettingResult, self.federation.anchor_keys())
        return envelope.payload_bytes()

    async def run_cycle(
        self,
        number: int,
        carried: Mapping[PairKey, str] | None = None,
        *,
        away: str | None = None,
        later: Sequence[PaymentRow] = (),
    ) -> None:
        """Run a cycle of the plan from its first payment to the last settlement leg, and compare it with the oracle.

        `carried` are the pairs that must be carried over, and why; `away` is a bank that isn't there at the end.
        `later` are payments that are made while the cycle is under way, and too late for it.
        """
        carried, alice, rows = carried or {}, self.federation.alice, self.federation.plan.cycles[number]
        if self._under_way:
            pytest.skip("an earlier cycle of this federation didn't come to its end")
        self._under_way = True
        cycle = await alice.open_cycle()
        await self.pay(rows)
        self.oracle.pay(rows)
        await alice.cut_off(cycle)
        paying = asyncio.create_task(self._pay_later(cycle, later))
        await self.until_state(cycle, "netted")
        rulebook = (await self.cycle(cycle)).rulebook
        assert await self.result(cycle) == self.oracle.result(cycle, rulebook, carried), cycle
        await self.approve(cycle)
        await self.until_state(cycle, "final")
        await self.posted(cycle)
        self.oracle.settle(carried)
        await paying
        self.oracle.pay(later)
        await self.check_lanes(away=away)
        self._under_way = False

    async def _pay_later(self, cycle: str, rows: Sequence[PaymentRow]) -> None:
        """Make payments once no bank's cut can take them in any more."""
        if rows:
            await self.until_state(cycle, "attesting", "matched", *SINCE_NETTED)
            await self.pay(rows)

    async def posted(self, cycle: str) -> None:
        """Wait until every bank with a position has posted its settlement leg."""
        envelope = await self.federation.alice.result(cycle)
        result = dsse.verify(envelope, NettingResult, self.federation.anchor_keys())
        for bank, desk in self.federation.desks.items():
            currencies = {r.currency for r in result.results for p in r.positions if p.participant == bank}
            if not currencies:
                continue

            async def done(desk=desk, currencies=currencies) -> bool:  # type: ignore[no-untyped-def]
                return currencies <= set((await desk.cycle(cycle)).settled)

            await self.until(done, f"{bank} didn't post the settlement of {cycle}")

    async def until(self, reached: Condition, otherwise: str, *, timeout_s: float = WAIT_S) -> None:
        """Look until it is so."""
        give_up_at = time.monotonic() + timeout_s
        while not await reached():
            assert time.monotonic() < give_up_at, f"{otherwise}\n{self.logs()}"
            await asyncio.sleep(POLL_S)

    # --- proof -------------------------------------------------------------------------------------------

    async def prove(self) -> None:
        """Assert that nothing is lost or double anywhere, and that all books are sound."""
        await self.check_lanes()
        await self.check_money()
        await self.check_books()

    async def check_lanes(self, *, away: str | None = None) -> None:
        """Assert that both banks of every lane count as the oracle does: nothing lost, nothing double."""
        expected = {lane: (len(rows), self.oracle.settled[lane]) for lane, rows in self.oracle.lanes.items() if rows}
        for bank, desk in self.federation.desks.items():
            if bank == away:
                continue
            found = {
                (lane.sender, lane.receiver, lane.currency): (lane.last_sequence, lane.settled_sequence)
                for lane in await desk.lanes()
            }
            assert found == {lane: counts for lane, counts in expected.items() if bank in lane[:2]}, bank

    async def check_money(self) -> None:
        """Assert that every customer and every nostro holds what it must, and the agent agrees."""
        for bank, desk in self.federation.desks.items():
            held = {(a.code, a.currency): -int(a.balance_minor) for a in await desk.accounts("customer")}
            assert held == self.oracle.customers(bank), bank
            nostro = {a.currency: int(a.balance_minor) for a in await desk.accounts("nostro")}
            assert nostro == self.oracle.nostro(bank), bank
            assert await self.federation.agent_desk.balances(bank) == nostro, bank

    async def check_books(self) -> None:
        """Assert that every ledger follows from its journal, and the coordinator's event log is whole."""
        for bank in self.federation.banks:
            report = await bank_fsck(self.database(bank), bank)
            assert report.ok, (bank, [check for check in report.checks if not check.ok])
        connection = await asyncpg.connect(self.database("agent"))
        try:
            assert [check for check in await agent_fsck(connection) if not check.passed] == []
        finally:
            await connection.close()
        engine = create_engine(self.federation.server.url(self.federation.coordinator.database))
        try:
            async with transaction(engine) as conn:
                assert await events.verify_chain(conn) > 0
        finally:
            await engine.dispose()

    def logs(self) -> str:
        """Return the end of every process's log, for people who look into a failure."""
        return "\n".join(f"--- {node.name}\n{node.log_tail()}" for node in self.federation.supervisor.nodes)

    async def payments(self, bank: str) -> list[PaymentView]:
        """Return every payment that a bank knows."""
        desk, found, after = self.federation.desks[bank], list[PaymentView](), None
        while True:
            page = await desk.ask("GET", "/payments", PaymentPage, params={"limit": 1000, "cursor": after})
            found += page.items
            after = page.next
            if after is None:
                return found


SINCE_NETTED = ("netted", "approved", "instructed", "deferred", "settled", "final")


@asynccontextmanager
async def running(plan: Plan, kind: type[Federation] = Federation) -> AsyncIterator[World]:
    """Set a federation up, with gates in its databases, and take it down again."""
    # Not pytest's directory: the database server may run as another user, who has to pass through.
    directory = Path(tempfile.mkdtemp(prefix="concordat-simulation-"))
    federation = kind(directory, plan, pace=PATIENT, postgres=POSTGRES)
    world = World(federation)
    try:
        try:
            await federation.set_up(lambda _: None)
            for institution in federation.institutions:
                name = institution.bic if institution.command == "participant" else institution.command
                await build_gates(world.database(name), institution.command)
            yield world
        finally:
            codes = await federation.stop()
        assert not any(codes.values()), f"processes ended with {codes}\n{world.logs()}"
    finally:
        await asyncio.to_thread(federation.server.stop)
        if not os.environ.get(KEEP):
            shutil.rmtree(directory, ignore_errors=True)
