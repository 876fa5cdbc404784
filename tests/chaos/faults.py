"""How each fault is done and undone, and how long it takes until its victim serves again."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from gateway.demo.desks import AgentDesk, Operator, RequestRefusedError
from gateway.demo.processes import Node
from gateway.federation.http.client import RemoteError
from tests.chaos.federation import ChaosFederation
from tests.chaos.people import Clearing, Clock, Customers, until
from tests.chaos.replicas import AGENT, COORDINATOR
from tests.chaos.schedule import Fault, Kind

AT_ONCE = 2
HEAL_LIMIT_S = 120
DO_LIMIT_S = 240
"""A restored backup waits twice until its bank serves, a lie for a cycle."""
MEANWHILE_LIMIT_S = 10
NOTICED_LIMIT_S = 20
LOOK_EVERY_S = 0.1
LATENCY_S = 0.25
"""On a slow link, each way; half as much more or less by the fault's draw."""
REFUSED_SHARE = 0.3
"""Of the partitions: those that reset instead of dropping."""
DIRECTORY_SHARE = 0.5
"""Of the restored backups: those that took the node's own notes with them, so that only others can tell."""
WATERMARK = "ledger-seen.json"


@dataclass(eq=False)
class FaultRecord:
    """What came of a fault, in seconds since the run began: `over_at` is when its cause was gone."""

    fault: Fault
    began_at: float
    over_at: float = 0.0
    healed_at: float | None = None
    served_meanwhile: bool | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def healed_after_s(self) -> float | None:
        return None if self.healed_at is None else self.healed_at - self.over_at

    def touches(self, since: float, until: float) -> bool:
        """Whether it may have kept its victim from something in this time."""
        end = until if self.healed_at is None else self.healed_at
        return self.began_at <= until and end >= since


class Breaker:
    """Does the faults of a schedule, at most two at a time and never two to one institution."""

    def __init__(self, federation: ChaosFederation, customers: Customers, clearing: Clearing, clock: Clock) -> None:
        self.federation = federation
        self.customers = customers
        self.clearing = clearing
        self.clock = clock
        self.records: list[FaultRecord] = []
        self.failures: list[str] = []
        self._busy: set[str] = set()
        self._under_way = 0

    async def run(self, schedule: Sequence[Fault], tell: Callable[[str], None], *, until_s: float) -> int:
        """Do the faults, each as soon as its victim and a place are free; return how many there was no time for."""
        pending, tasks = list(schedule), set[asyncio.Task[None]]()
        try:
            while pending and self.clock() < until_s:
                for task in [task for task in tasks if task.done()]:
                    tasks.discard(task)
                    task.result()
                due = [fault for fault in pending if fault.at_s <= self.clock() and self._can_begin(fault)]
                if due:
                    pending.remove(due[0])
                    self._busy.update(due[0].whom)
                    self._under_way += not due[0].kind.is_lie
                    tasks.add(asyncio.create_task(self._one(due[0], tell)))
                else:
                    await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.gather(*tasks)
            return len(pending)
        finally:
            for task in tasks:
                task.cancel()

    def _can_begin(self, fault: Fault) -> bool:
        return not self._busy & set(fault.whom) and (fault.kind.is_lie or self._under_way < AT_ONCE)

    async def _one(self, fault: Fault, tell: Callable[[str], None]) -> None:
        """Do one fault, and wait until its victim serves again."""
        record = FaultRecord(fault, self.clock())
        self.records.append(record)
        tell(f"{fault}" + (f" for {fault.lasting_s} s" if fault.lasting_s else ""))
        try:
            async with asyncio.timeout(DO_LIMIT_S):
                await _DO[fault.kind](self, fault, record)
            record.over_at = self.clock()
            async with asyncio.timeout(HEAL_LIMIT_S):
                await self._healed(fault)
            record.healed_at = self.clock()
            tell(f"{fault}: serves again {record.healed_at - record.over_at:.1f} s after its cause was gone")
        except TimeoutError:
            record.over_at = record.over_at or self.clock()
            ready = [f"{name}: {await self._readiness(node)}" for name in fault.whom for node in self._nodes(name)]
            self.failures.append(
                f"fault {fault.number}, {fault}: doesn't serve {HEAL_LIMIT_S} s after its cause was gone; "
                + "; ".join(ready)
            )
            tell(f"{fault}: doesn't serve after {HEAL_LIMIT_S} s, its processes are started again")
            await self._start_again(fault)
        finally:
            self._busy.difference_update(fault.whom)
            self._under_way -= not fault.kind.is_lie

    # --- serving again -----------------------------------------------------------------------------------

    async def _healed(self, fault: Fault) -> None:
        """Return when what was broken works again."""
        if fault.kind.is_lie:
            await self._cleared_again(fault.whom[0])
        elif fault.kind is Kind.PARTED and COORDINATOR not in fault.whom:
            one, other = fault.whom
            probes = (self.customers.probe(one, other), self.customers.probe(other, one))
            await asyncio.shield(asyncio.gather(*probes))
        else:
            await asyncio.gather(*(self.serving(name) for name in fault.whom))

    async def serving(self, name: str) -> None:
        """Return when an institution does its work for somebody new."""
        if name == COORDINATOR:
            await self._coordinator_answers()
        elif name == AGENT:
            await self._agent_answers()
        else:
            await asyncio.gather(self._pays_somebody(name, outward=True), self._pays_somebody(name, outward=False))
        await until(lambda: self._all_ready(name))

    async def _pays_somebody(self, bank: str, *, outward: bool) -> None:
        """Return when the bank pays, or is paid by, any bank that is undisturbed itself."""
        others = [bic for bic in self.federation.banks if bic != bank and bic not in self._busy]
        others = others or [bic for bic in self.federation.banks if bic != bank]
        lanes = [(bank, other) if outward else (other, bank) for other in others]
        # A probe that was ordered is a payment like any other: it isn't given up with the waiting for it.
        probes = [self.customers.probe(*lane) for lane in lanes]
        done, _ = await asyncio.wait(probes, return_when=asyncio.FIRST_COMPLETED)
        for probe in done:
            probe.result()

    async def _coordinator_answers(self) -> None:
        """Return when the coordinator gives a new token, and answers who has it."""
        alice = self.federation.alice
        key = self.federation.operator_key(alice.name)

        async def answers() -> bool:
            somebody = Operator(alice.bic, alice.url, alice.name, key)
            try:
                await asyncio.wait_for(somebody.ask_raw("GET", "/cycles"), 5)
                return True
            except (RequestRefusedError, RemoteError, TimeoutError):
                return False
            finally:
                await somebody.close()

        await until(answers)

    async def _agent_answers(self) -> None:
        agent = self.federation.agent
        desk = AgentDesk(agent.bic, agent.url, agent.key("token"), "probe", timeout_s=5)

        async def answers() -> bool:
            try:
                await asyncio.wait_for(desk.balances(next(iter(self.federation.banks))), 5)
                return True
            except (RequestRefusedError, RemoteError, TimeoutError):
                return False

        try:
            await until(answers)
        finally:
            await desk.close()

    async def _cleared_again(self, bank: str) -> None:
        """Return when a cycle that was opened later has settled without carrying over a pair of this bank."""
        since = self.clock()

        async def cleared() -> bool:
            return any(
                cycle.opened_at >= since
                and cycle.state == "final"
                and cycle.ended_at
                and not any(bank in key for key in cycle.carried_pairs())
                for cycle in self.clearing.records
            )

        await until(cleared)

    def _nodes(self, name: str) -> list[Node]:
        return self.federation.nodes[name]

    async def _all_ready(self, name: str) -> bool:
        return all([(await self._readiness(node)).startswith("200") for node in self._nodes(name)])

    async def _readiness(self, node: Node) -> str:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            try:
                answer = await client.get(f"{node.private_url}/health/ready")
                return f"{answer.status_code} {answer.text[:500]}"
            except httpx.HTTPError as error:
                return type(error).__name__

    async def _start_again(self, fault: Fault) -> None:
        for name in fault.whom:
            for node in self._nodes(name):
                await asyncio.to_thread(node.kill)
                await self.federation.start_nodes(node)

    # --- what is done ------------------------------------------------------------------------------------

    def _node(self, fault: Fault) -> Node:
        nodes = self._nodes(fault.whom[0])
        return nodes[int(fault.choice * len(nodes))]

    async def killed(self, fault: Fault, record: FaultRecord) -> None:
        node = self._node(fault)
        await asyncio.to_thread(node.kill)
        await self.federation.start_nodes(node)

    async def stopped(self, fault: Fault, record: FaultRecord) -> None:
        process = self._node(fault).process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasting_s)
        finally:
            process.send_signal(signal.SIGCONT)

    async def database_restarted(self, fault: Fault, record: FaultRecord) -> None:
        await self.federation.databases[fault.whom[0]].restart()

    async def database_killed(self, fault: Fault, record: FaultRecord) -> None:
        await self.federation.databases[fault.whom[0]].kill()

    async def database_failed_over(self, fault: Fault, record: FaultRecord) -> None:
        self.federation.database_doors[fault.whom[0]].fail_over()

    async def database_read_only(self, fault: Fault, record: FaultRecord) -> None:
        database = self.federation.databases[fault.whom[0]]
        async with _undone(lambda: database.read_only(False)):
            await database.read_only(True)
            await asyncio.sleep(fault.lasting_s)

    async def database_full(self, fault: Fault, record: FaultRecord) -> None:
        database = self.federation.databases[fault.whom[0]]
        async with _undone(lambda: database.full(False)):
            await database.full(True)
            await asyncio.sleep(fault.lasting_s)

    async def parted(self, fault: Fault, record: FaultRecord) -> None:
        network = self.federation.network
        network.part(*fault.whom, refused=fault.choice < REFUSED_SHARE)
        try:
            meanwhile = None
            if COORDINATOR in fault.whom:
                bank = next(name for name in fault.whom if name != COORDINATOR)
                meanwhile = asyncio.create_task(self._serves_meanwhile(bank, record))
            await asyncio.sleep(fault.lasting_s)
            if meanwhile is not None:
                await meanwhile
        finally:
            network.join(*fault.whom)

    async def cut_off(self, fault: Fault, record: FaultRecord) -> None:
        """Part a bank from all others."""
        bank, network = fault.whom[0], self.federation.network
        others = [name for name in self.federation.named if name != bank]
        for other in others:
            network.part(bank, other, refused=fault.choice < REFUSED_SHARE)
        try:
            await asyncio.sleep(fault.lasting_s)
        finally:
            for other in others:
                network.join(bank, other)

    async def slow(self, fault: Fault, record: FaultRecord) -> None:
        name = fault.whom[0]
        doors = (self.federation.doors[name], self.federation.database_doors[name])
        door = doors[int(fault.choice * 2)]
        # A database takes several round trips for each request.
        door.latency_s = LATENCY_S * (0.5 + fault.choice) / (1 if door is doors[0] else 10)
        try:
            await asyncio.sleep(fault.lasting_s)
        finally:
            door.latency_s = 0

    async def log_unwritable(self, fault: Fault, record: FaultRecord) -> None:
        """Let no file of the process grow beyond what its log has now."""
        nodes = self._nodes(fault.whom[0])
        for node in nodes:
            if node.process is not None:
                limits = (node.log.stat().st_size, resource.RLIM_INFINITY)
                resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, limits)
        try:
            meanwhile = asyncio.create_task(self._serves_meanwhile(fault.whom[0], record))
            await asyncio.sleep(fault.lasting_s)
            await meanwhile
        finally:
            for node in nodes:
                if node.process is not None and node.running:
                    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, unlimited)

    async def _serves_meanwhile(self, name: str, record: FaultRecord) -> None:
        """Note whether an institution serves while the fault lasts."""
        work = {COORDINATOR: self._coordinator_answers, AGENT: self._agent_answers}.get(name)
        try:
            async with asyncio.timeout(MEANWHILE_LIMIT_S):
                if work is not None:
                    await work()
                else:
                    await self._pays_somebody(name, outward=True)
                    await self._pays_somebody(name, outward=False)
            record.served_meanwhile = True
        except TimeoutError:
            record.served_meanwhile = False

    async def lied(self, fault: Fault, record: FaultRecord) -> None:
        """Lie for a time, and in one cut at least."""
        bank = fault.whom[0]
        self.federation.lie(bank, "overstated" if fault.kind is Kind.OVERSTATED else "invented")
        since = self.clock()

        async def lied_once() -> bool:
            return any(cycle.opened_at >= since and cycle.netted_at for cycle in self.clearing.records)

        try:
            await asyncio.sleep(fault.lasting_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(until(lied_once), HEAL_LIMIT_S)
        finally:
            self.federation.lie(bank, "")

    async def junk(self, fault: Fault, record: FaultRecord) -> None:
        door = self.federation.doors[fault.whom[0]]
        door.junk = True
        for passage in list(door.passages):
            if passage.caller is not None:
                passage.reset()
        try:
            await asyncio.sleep(fault.lasting_s)
        finally:
            door.junk = False

    async def silent(self, fault: Fault, record: FaultRecord) -> None:
        door = self.federation.doors[fault.whom[0]]
        door.shut()
        try:
            await asyncio.sleep(fault.lasting_s)
        finally:
            door.open()

    async def restored(self, fault: Fault, record: FaultRecord) -> None:
        """Put an old backup in the database's place, see what the node makes of it, and put back what was there."""
        bank = fault.whom[0]
        database, nodes = self.federation.databases[bank], self._nodes(bank)
        await database.back_up()
        await self.serving(bank)
        await asyncio.sleep(fault.lasting_s)
        await self.serving(bank)
        async with self.customers.turns[bank]:
            await self._exchange(bank, database.restore, with_directory=fault.choice < DIRECTORY_SHARE)
            try:
                record.remarks.append(await self._noticed(bank, nodes))
            finally:
                await self._exchange(bank, database.undo_restore)

    async def _exchange(
        self, bank: str, exchange: Callable[[], Awaitable[None]], *, with_directory: bool = False
    ) -> None:
        """Exchange a bank's database; `with_directory`: and let its nodes forget how far they had seen it."""
        database = self.federation.databases[bank]
        for node in self._nodes(bank):
            await asyncio.to_thread(node.kill)
        await database.stop()
        await exchange()
        if with_directory:
            for node in self._nodes(bank):
                (Path(node.environment["CONCORDAT_DATA_DIR"]) / WATERMARK).unlink(missing_ok=True)
        await database.start()
        await self.federation.start_nodes(*self._nodes(bank))

    async def _noticed(self, bank: str, nodes: Sequence[Node]) -> str:
        """Say how the restored node answers; one that is ready for longer than it may take fails the run."""
        answers, began_at = await self._answers(nodes), self.clock()
        while self.clock() - began_at < NOTICED_LIMIT_S:
            if all(answer.startswith("503") for answer in answers):
                return f"noticed: {'; '.join(answers)}"
            await asyncio.sleep(LOOK_EVERY_S)
            answers = await self._answers(nodes)
        self.failures.append(f"{bank} was restored to an old backup, and says {'; '.join(answers)}")
        return "not noticed"

    async def _answers(self, nodes: Sequence[Node]) -> list[str]:
        """Return what nodes say of their readiness, once they say anything."""
        while True:
            answers = [await self._readiness(node) for node in nodes]
            if all(answer[:3].isdigit() for answer in answers):
                return answers
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def _undone(undo: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await undo()


_DO: dict[Kind, Callable[[Breaker, Fault, FaultRecord], Awaitable[None]]] = {
    Kind.KILLED: Breaker.killed,
    Kind.STOPPED: Breaker.stopped,
    Kind.DATABASE_RESTARTED: Breaker.database_restarted,
    Kind.DATABASE_KILLED: Breaker.database_killed,
    Kind.DATABASE_FAILED_OVER: Breaker.database_failed_over,
    Kind.DATABASE_READ_ONLY: Breaker.database_read_only,
    Kind.DATABASE_FULL: Breaker.database_full,
    Kind.PARTED: Breaker.parted,
    Kind.CUT_OFF: Breaker.cut_off,
    Kind.SLOW: Breaker.slow,
    Kind.LOG_UNWRITABLE: Breaker.log_unwritable,
    Kind.RESTORED: Breaker.restored,
    Kind.OVERSTATED: Breaker.lied,
    Kind.INVENTED: Breaker.lied,
    Kind.JUNK: Breaker.junk,
    Kind.SILENT: Breaker.silent,
}
