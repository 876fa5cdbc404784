"""A chaos run from beginning to end: set up, break and pay and clear, heal, prove, report."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.desks import DayFailedError
from gateway.federation.http.client import RemoteError
from tests.chaos import proof
from tests.chaos.faults import Breaker
from tests.chaos.federation import ChaosFederation
from tests.chaos.people import Clearing, Clock, Customers, CycleRecord, until
from tests.chaos.replicas import COORDINATOR
from tests.chaos.report import Report
from tests.chaos.schedule import Cast, Kind, draw
from tests.simulation.invented import plan_of

BANKS = ("ALDRXXA0", "BRCHXXB0", "CEDRXXC0", "DOGWXXD0", "ELMSXXE0", "FIRRXXF0")
CALM_LIMIT_S = 180
FINAL_CYCLES_MAX = 4
PAYMENTS_PER_LANE_AND_MINUTE = 50


@dataclass(frozen=True)
class Options:
    """What to run. `every_s` is the time between two faults, about; `lasting` makes them longer or shorter.

    An honest bank that misses `deadline_s`, for its cut or its statements, fails the run: a busy machine needs more.
    """

    seed: int
    seconds: float
    every_s: float = 7
    lasting: float = 1
    deadline_s: int = 15
    banks: int = 5
    liars: int = 2
    doubles: tuple[str, ...] = (BANKS[0], COORDINATOR)
    kinds: tuple[Kind, ...] = tuple(Kind)
    again: str = ""
    report: Path | None = None
    keep: bool = False


async def run(options: Options, tell: Callable[[str], None]) -> Report:
    """Run it and return the report; the files of a run that fails are kept in any case, and the report says where."""
    directory = Path(tempfile.mkdtemp(prefix="concordat-chaos-"))
    banks = BANKS[: options.banks]
    per_lane = max(20, int(PAYMENTS_PER_LANE_AND_MINUTE * (options.seconds / 60 + 1)))
    plan = plan_of(banks, cycles=1, per_lane=per_lane, seed=options.seed)
    liars = banks[len(banks) - options.liars :]
    federation = ChaosFederation(directory, plan, deadline_s=options.deadline_s, liars=liars, doubles=options.doubles)
    report = Report(options.seed, options.again)
    try:
        try:
            await federation.set_up(tell)
            await Run(options, federation, Cast(banks, liars), report, tell).go()
        finally:
            codes = await federation.stop()
        report.failures += [f"{name} ended with code {code}" for name, code in codes.items() if code]
        await proof.prove_books(federation, report.proofs)
    finally:
        await federation.stop_databases()
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report.document(), indent=1))
    if report.passed and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        report.remarks.append(f"logs, keys and databases are in {directory}")
    return report


class Run:
    """The part of a run between setting up and taking down."""

    def __init__(
        self, options: Options, federation: ChaosFederation, cast: Cast, report: Report, tell: Callable[[str], None]
    ) -> None:
        self.options = options
        self.federation = federation
        self.report = report
        self._tell = tell
        self.clock = Clock()
        self.customers = Customers(federation, federation.plan, options.seed)
        self.clearing = Clearing(federation, self.clock, options.seed)
        self.breaker = Breaker(federation, self.customers, self.clearing, self.clock)
        self.schedule = draw(
            options.seed,
            cast,
            seconds=options.seconds,
            every_s=options.every_s,
            kinds=options.kinds,
            lasting=options.lasting,
        )

    def tell(self, text: str) -> None:
        self._tell(f"{self.clock():6.1f} s  {text}")

    async def go(self) -> None:
        """Do it, and note in the report what came of it, also where it doesn't come to its end."""
        report, customers = self.report, self.customers
        report.faults, report.cycles = self.breaker.records, self.clearing.records
        try:
            await self._days_work()
            await self._calm_down()
            await self._prove()
        except (DayFailedError, RemoteError) as error:
            report.failures.append(f"the run didn't come to its end: {type(error).__name__}: {error}")
        finally:
            report.seconds = self.clock()
            report.payments = len(customers.ordered)
            report.failures += self.breaker.failures
            report.remarks += [*self.clearing.remarks, *self.federation.ended_by_itself]
            report.unclean.update(customers.unclean)
            await customers.close()

    async def _prove(self) -> None:
        report = self.report
        proof.prove_cycles(report.cycles, report.faults, report.proofs)
        await proof.prove_payments(self.federation, self.customers, report.proofs)
        finals = [cycle for cycle in report.cycles if cycle.state == "final"]
        await proof.prove_exports(self.federation, finals, report.proofs)

    async def _days_work(self) -> None:
        """Pay, clear and break until the time is over and everything broken serves again."""
        over = self.customers.closing
        clearing = asyncio.create_task(self.clearing.run(over))
        payers = [asyncio.create_task(self.customers.pay(bank)) for bank in self.federation.banks]
        breaking = asyncio.create_task(self.breaker.run(self.schedule, self.tell, until_s=self.options.seconds))
        everybody = (clearing, breaking, *payers)
        try:
            self.report.not_reached = await self._unless_failed(breaking, (clearing, *payers))
            over.set()
            self.tell("nobody orders any more")
            await self._within(asyncio.gather(*payers), "orders have no answer")
            await self._within(self.customers.probes_over(), "probes haven't got through")
            await self._within(clearing, "a cycle hasn't come to its end")
        finally:
            for task in everybody:
                task.cancel()
            await asyncio.gather(*everybody, return_exceptions=True)

    async def _within(self, work: Awaitable[object], otherwise: str) -> bool:
        """Wait for work that calm must bring to its end; say whether it did, and fail the run if it didn't."""
        try:
            await asyncio.wait_for(work, CALM_LIMIT_S)
        except TimeoutError:
            self.report.failures.append(f"after {CALM_LIMIT_S} s of calm {otherwise}")
            return False
        return True

    async def _unless_failed(self, work: asyncio.Task[int], others: Sequence[asyncio.Task[None]]) -> int:
        """Return what the work comes to, or raise what anybody else raised meanwhile."""
        waiting = set(others)
        while not work.done():
            await asyncio.wait({work, *waiting}, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in waiting if task.done()]:
                task.result()
                waiting.discard(task)
        return work.result()

    async def _calm_down(self) -> None:
        """Wait until every payment has its answer, and clear until nothing is left to settle."""
        await self._within(until(self.customers.all_answered), "banks have payments under way")
        for _ in range(FINAL_CYCLES_MAX):
            if not await self._within(self._final_cycle(), "a final cycle hasn't come to its end"):
                return
            if not await self._unsettled():
                return

    async def _final_cycle(self) -> None:
        cycle = await self.clearing.cycle()
        self.tell(f"final cycle {cycle.id}: {len(cycle.settled)} pairs settled, {len(cycle.carried)} carried over")
        await until(lambda: self._posted(cycle))

    async def _posted(self, cycle: CycleRecord) -> bool:
        """Whether every bank has posted its settlement of a cycle, which its lanes are settled by."""
        for bank, desk in self.federation.desks.items():
            wanted = {currency for currency, *pair in cycle.settled if bank in pair}
            if wanted and not wanted <= set((await desk.cycle(cycle.id)).settled):
                return False
        return True

    async def _unsettled(self) -> bool:
        for desk in self.federation.desks.values():
            if any(lane.last_sequence != lane.settled_sequence for lane in await desk.lanes()):
                return True
        return False
