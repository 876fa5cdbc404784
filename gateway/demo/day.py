"""A business day of several cycles, with what can go wrong going wrong in it.

One cycle has a break between two banks, one a bank that is killed and comes back, one a shortfall at the settlement
agent; the others are quiet. Everything is done over the institutions' HTTP APIs, by people with names.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from compliance.crypto import dsse
from compliance.statements import NettingResult
from gateway.demo.comparison import Comparison
from gateway.demo.desks import DayFailedError
from gateway.demo.federation import Federation
from gateway.demo.plan import Plan
from gateway.demo.report import BreakReport, CurrencyLine, CycleReport, DayReport, saved_per_mille
from gateway.federation.messages.cycles import CycleProgress
from gateway.federation.messages.proposals import Decision, ProposalRequest
from gateway.federation.money import format_minor
from participants.cycle.movements import MovementFault
from participants.intake.rows import PaymentRow

STEP_TIMEOUT_S = 120
POLL_S = 0.15
# The killed bank stays away this long after the cut-off.
ABSENCE_S = 1.5
NETTED = frozenset({"netted", "held"})
ENDED = frozenset({"final", "abandoned"})


@dataclass(frozen=True, slots=True)
class Incidents:
    """In which cycle (1, 2, …) what goes wrong."""

    broken: int
    killed: int
    short: int


def incidents(cycles: int) -> Incidents:
    """Place the incidents, each in a cycle of its own if there are enough; after a break comes another cycle."""
    if cycles < 2:
        raise ValueError("a day has at least two cycles: what one carries over, the next one settles")
    if cycles == 2:
        return Incidents(broken=1, killed=1, short=2)
    if cycles == 3:
        return Incidents(broken=1, killed=2, short=3)
    return Incidents(broken=2, killed=3, short=4)


class Day:
    """The people's part of the day: who pays, disputes, approves and tops up, and when."""

    def __init__(self, federation: Federation, plan: Plan, console: Console) -> None:
        self.federation = federation
        self.plan = plan
        self.console = console
        self.report = DayReport()
        self.incidents = incidents(len(plan.cycles))
        self.victim = _middle_bank(plan)
        self.returned: Counter[str] = Counter()
        self._disputed: PaymentRow | None = None
        self._started_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Say what happens, with the seconds since the start."""
        self.console.print(f"[dim]{time.monotonic() - self._started_at:6.1f} s[/]  {text}", highlight=False)

    async def run(self) -> None:
        """Run every cycle of the plan. Raises DayFailedError when something doesn't come about."""
        for number, payments in enumerate(self.plan.cycles, start=1):
            await self._cycle(number, payments)

    async def _cycle(self, number: int, payments: Sequence[PaymentRow]) -> None:
        cycle = await self.federation.alice.open_cycle()
        self.tell(f"[bold]Cycle {cycle}[/] is open; the banks pay each other {len(payments):,} times")
        victim = self.victim if number == self.incidents.killed else None
        unsent = await self._pay(payments, victim)
        await self._give_back(payments, victim)
        if number == self.incidents.broken:
            await self._dispute(payments, victim)
        await self.federation.alice.cut_off(cycle)
        self.tell("cut off: each bank fixes its numbers, states its positions and signs them")
        if victim is not None:
            await self._bring_back(cycle, victim, unsent)
        if number == self.incidents.broken:
            await self._watch_break(cycle)
        await self._until(cycle, NETTED)
        result = await self._result(cycle)
        for line in result.results:
            gross, settlement = int(line.gross_minor), int(line.settlement_minor)
            saved = saved_per_mille(gross, settlement)
            self.tell(
                f"netted: {format_minor(gross, line.currency)} {line.currency} gross become "
                f"{format_minor(settlement, line.currency)} to settle, {saved // 10} % saved"
            )
        withdrawal = await self._move_liquidity(result) if number == self.incidents.short else None
        await self._approve(cycle)
        if withdrawal is not None:
            await self._top_up(cycle, *withdrawal)
        progress = await self._until(cycle, ENDED)
        await self._record(progress, result)
        if withdrawal is not None:
            await self._explain(*withdrawal)
        if number == self.incidents.broken:
            await self._withdraw_dispute()

    # --- paying ----------------------------------------------------------------------------------------

    async def _pay(self, payments: Sequence[PaymentRow], victim: str | None) -> asyncio.Task[None] | None:
        """Order payments through each bank's own API; return the killed bank's task, which has more to order."""
        began_at = time.monotonic()
        orders: defaultdict[str, list[PaymentRow]] = defaultdict(list)
        for payment in payments:
            orders[payment.debtor_bank].append(payment)
        columns = (TextColumn("          payments ordered"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task("", total=len(payments))
            half = asyncio.Event()

            def count(more: int) -> None:
                progress.update(bar, advance=more)
                if progress.tasks[0].completed * 2 >= len(payments):
                    half.set()

            jobs = {
                bank: asyncio.create_task(self.federation.desks[bank].pay(batch, count))
                for bank, batch in orders.items()
            }
            try:
                if victim is not None:
                    await _either(half, jobs.values())
                    await self.federation.kill(victim)
                    self.tell(f"[yellow]{victim} is killed (SIGKILL) with payments under way[/]")
                await asyncio.gather(*(job for bank, job in jobs.items() if bank != victim))
            except BaseException:
                for job in jobs.values():
                    job.cancel()
                raise
        await self._answered(except_bank=victim)
        took_s = time.monotonic() - began_at
        if victim is None:
            rate = len(payments) / took_s
            self.tell(f"all are answered after {took_s:.1f} s: {rate:,.0f} payments a second, each posted at two banks")
        return None if victim is None else jobs.get(victim)

    async def _answered(self, *, except_bank: str | None = None) -> None:
        """Wait until the other bank has answered every payment, but for a bank that is away."""

        async def open_at(bank: str) -> bool:
            accounts = await self.federation.desks[bank].accounts("reserved")
            return any(int(a.balance_minor) for a in accounts if a.code != except_bank)

        waiting = [bank for bank in self.federation.banks if bank != except_bank]

        async def everybody() -> bool:
            nonlocal waiting
            waiting = [bank for bank in waiting if await open_at(bank)]
            return not waiting

        await self._wait(everybody, lambda: f"payments of {', '.join(waiting)} have no answer")

    async def _give_back(self, payments: Sequence[PaymentRow], victim: str | None) -> None:
        """Return what creditors don't want."""
        unwanted = [
            p for p in payments if p.id in self.plan.returned and victim not in (p.debtor_bank, p.creditor_bank)
        ]
        for payment in unwanted:
            await self.federation.desks[payment.creditor_bank].give_back(payment)
            self.returned[payment.creditor_bank] += 1
        if unwanted:
            await self._answered(except_bank=victim)
            self.tell(f"{len(unwanted)} payments are returned to where they came from")

    # --- a bank is killed and comes back -----------------------------------------------------------------

    async def _bring_back(self, cycle: str, victim: str, unsent: asyncio.Task[None] | None) -> None:
        await asyncio.sleep(ABSENCE_S)
        progress = await self.federation.alice.progress(cycle)
        missing = [p.participant for p in progress.participants if p.cut_at is None]
        self.tell(f"the cycle is {progress.cycle.state}: no numbers yet from {', '.join(missing) or 'nobody'}")
        await self.federation.restart(victim)
        self.tell(f"[green]{victim} is back[/]: it takes up its payments and the cycle where it stopped")
        if unsent is not None:
            await unsent

    # --- a break -----------------------------------------------------------------------------------------

    async def _dispute(self, payments: Sequence[PaymentRow], victim: str | None) -> None:
        """Let a bank contest a payment that it accepted, one of middling size."""
        possible = sorted(
            (p for p in payments if p.id not in self.plan.returned and victim not in (p.debtor_bank, p.creditor_bank)),
            key=lambda p: p.amount_minor,
        )
        if not possible:
            self.tell("[yellow]no payment is there to dispute[/], so this day has no break")
            return
        payment = self._disputed = possible[len(possible) // 2]
        await self.federation.desks[payment.creditor_bank].dispute(payment.id, "beneficiary contests the amount")
        self.tell(
            f"[yellow]{payment.creditor_bank} disputes a payment from {payment.debtor_bank} over "
            f"{format_minor(payment.amount_minor, payment.currency)} {payment.currency}[/] and leaves it out"
        )

    async def _watch_break(self, cycle: str) -> None:
        payment = self._disputed
        if payment is None:
            return
        pair = _pair(payment)

        async def is_broken() -> bool:
            breaks = (await self.federation.alice.breaks(cycle)).breaks
            return any((b.pair, b.currency, b.kind) == (pair, payment.currency, "different") for b in breaks)

        await self._wait(is_broken, lambda: f"the coordinator sees no break between {' and '.join(pair)}")
        self.tell(
            f"[yellow]break[/] between {' and '.join(pair)} in {payment.currency}: they state different positions"
        )
        comparison = Comparison(self.federation.desks[payment.debtor_bank], cycle, payment)
        await self._wait(comparison.is_done, comparison.undone)
        self.tell(comparison.result())

    async def _withdraw_dispute(self) -> None:
        payment = self._disputed
        if payment is None:
            return
        await self.federation.desks[payment.creditor_bank].withdraw_dispute(payment.id)
        self.tell(f"[green]{payment.creditor_bank} withdraws its dispute[/]; the next cycle takes the pair in again")

    # --- approval and settlement -------------------------------------------------------------------------

    async def _approve(self, cycle: str) -> None:
        """Let one operator propose and another confirm."""
        alice, bob = self.federation.alice, self.federation.bob
        proposal = await alice.propose(
            cycle, ProposalRequest(action="approve", reason="positions and checks looked at")
        )
        await bob.decide(proposal.id, Decision(decision="confirm", reason="seen, too"))
        self.tell(f"{alice.name} proposes settlement, {bob.name} confirms; instructions go to the banks and the agent")

    async def _move_liquidity(self, result: NettingResult) -> tuple[str, str, int] | None:
        """Let the bank that owes most take half of what it will need from its account at the agent."""
        owing = [(int(p.net_minor), p.participant, r.currency) for r in result.results for p in r.positions]
        net, bank, currency = min(owing, default=(0, "", ""))
        if net >= 0:
            return None
        held = (await self.federation.agent_desk.balances(bank))[currency]
        amount = held - -net // 2
        await self.federation.agent_desk.fund(bank, currency, -amount)
        self.tell(
            f"[yellow]{bank} has moved {format_minor(amount, currency)} {currency} elsewhere[/]; it owes "
            f"{format_minor(-net, currency)} and has {format_minor(held - amount, currency)}"
        )
        return bank, currency, amount

    async def _top_up(self, cycle: str, bank: str, currency: str, amount: int) -> None:
        await self._until(cycle, {"deferred"})
        self.tell("[yellow]shortfall[/]: the agent settles nothing at all, the cycle is deferred and tried again")
        await self.federation.agent_desk.fund(bank, currency, amount)
        self.tell(f"[green]{bank} brings the {format_minor(amount, currency)} {currency} back[/]")

    async def _explain(self, bank: str, currency: str, amount: int) -> None:
        """Let the bank's people say why money left its settlement account outside of a cycle."""
        desk = self.federation.desks[bank]
        unasked: list[int] = []

        async def is_noticed() -> bool:
            unasked[:] = [
                finding.movement
                for finding in await desk.settlement_findings()
                if finding.movement is not None and finding.fault == MovementFault.DEBIT_UNASKED
            ]
            return bool(unasked)

        await self._wait(is_noticed, lambda: f"{bank} notices nothing on its settlement account")
        for movement in unasked:
            await desk.explain(movement, "our treasury took it and brought it back")
        self.tell(
            f"{bank} noticed that {format_minor(amount, currency)} {currency} left its settlement account without an "
            "instruction; its treasury explains it"
        )

    # --- what came of it ---------------------------------------------------------------------------------

    async def _record(self, progress: CycleProgress, result: NettingResult) -> None:
        cycle, state = progress.cycle.id, progress.cycle.state
        if state == "final":
            await self._posted(cycle, result)
            self.tell(f"[bold green]{cycle} is final[/]: settled at the agent, posted by every bank")
        carried = tuple(f"{'/'.join(c.pair)} {c.currency} ({c.reason})" for c in result.carried_over)
        lines = tuple(
            CurrencyLine(
                r.currency,
                int(r.gross_minor),
                int(r.settlement_minor),
                int(r.settlement_minor) if state == "final" else 0,
            )
            for r in result.results
        )
        attempts = progress.settlement_attempts
        self.report.cycles.append(CycleReport(cycle, state, lines, len(result.statements), carried, attempts))
        self._record_break(cycle, result)

    def _record_break(self, cycle: str, result: NettingResult) -> None:
        """Note in which cycle the disputed pair was carried over, and in which it was settled after all."""
        payment = self._disputed
        if payment is None:
            return
        pair = _pair(payment)
        if any((c.pair, c.currency) == (pair, payment.currency) for c in result.carried_over):
            cause = f"{payment.creditor_bank} disputed a payment"
            self.report.breaks.append(BreakReport(cycle, pair, payment.currency, cause, "carried over"))
        elif any((s.pair, s.currency) == (pair, payment.currency) for s in result.statements):
            for item in self.report.breaks:
                if item.ended_in is None:
                    item.ended, item.ended_in = f"dispute withdrawn, settled in {cycle}", cycle

    async def _result(self, cycle: str) -> NettingResult:
        """Return the netting result, its signature verified with the trust anchor."""
        envelope = await self.federation.alice.result(cycle)
        return dsse.verify(envelope, NettingResult, self.federation.anchor_keys())

    async def _posted(self, cycle: str, result: NettingResult) -> None:
        """Wait until every bank has posted its settlement leg."""
        expected: defaultdict[str, set[str]] = defaultdict(set)
        for line in result.results:
            for position in line.positions:
                expected[position.participant].add(line.currency)

        async def everybody() -> bool:
            for bank in list(expected):
                posted = set((await self.federation.desks[bank].cycle(cycle)).settled)
                if not expected[bank] <= posted:
                    return False
                del expected[bank]
            return True

        await self._wait(everybody, lambda: f"{', '.join(expected)} didn't post the settlement of {cycle}")

    async def _until(self, cycle: str, states: Collection[str]) -> CycleProgress:
        """Wait until the cycle is in one of the states."""
        progress: CycleProgress | None = None

        async def reached() -> bool:
            nonlocal progress
            progress = await self.federation.alice.progress(cycle)
            if progress.cycle.state in ENDED and not ENDED & set(states):
                raise DayFailedError(f"cycle {cycle} is {progress.cycle.state}")
            return progress.cycle.state in states

        await self._wait(
            reached, lambda: f"cycle {cycle} stays {progress and progress.cycle.state}, not {' or '.join(states)}"
        )
        if progress is None:
            raise DayFailedError(f"cycle {cycle} has no progress")
        return progress

    async def _wait(self, reached: Callable[[], Awaitable[bool]], otherwise: Callable[[], str]) -> None:
        """Look until it is so. Raises DayFailedError when it takes too long, ProcessError when a process ended."""
        give_up_at = time.monotonic() + STEP_TIMEOUT_S
        while not await reached():
            self.federation.require_running()
            if time.monotonic() > give_up_at:
                raise DayFailedError(f"{otherwise()} after {STEP_TIMEOUT_S} s")
            await asyncio.sleep(POLL_S)


async def _either(event: asyncio.Event, jobs: Iterable[asyncio.Task[None]]) -> None:
    """Wait for the event, or until all jobs are done. Raises what a job raises."""
    waiter = asyncio.create_task(event.wait())
    waiting: set[asyncio.Task[Any]] = {waiter, *jobs}
    try:
        while waiter in waiting and len(waiting) > 1:
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
    finally:
        waiter.cancel()


def _middle_bank(plan: Plan) -> str:
    """Return the bank with the middle number of payments: big enough to be missed, not the biggest."""
    counts: Counter[str] = Counter(dict.fromkeys(plan.banks, 0))
    for payments in plan.cycles:
        counts.update(payment.debtor_bank for payment in payments)
    return sorted(plan.banks, key=lambda bank: (-counts[bank], bank))[len(plan.banks) // 2]


def _pair(payment: PaymentRow) -> tuple[str, str]:
    first, second = sorted((payment.debtor_bank, payment.creditor_bank))
    return first, second
