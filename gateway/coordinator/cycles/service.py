"""Clearing cycles as one service: opening and cutting off here, the rest in its parts.

`cuts` and `attestation` take in what banks sign, `approvals` what operators decide, `delivery` hands out instructions,
`steps` moves a cycle on, `read_models` shows it, `proofs` proves its result to each bank, `default` shows what a
participant's default would mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime, timedelta

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.keys import Signer
from compliance.cycle.states import ENDED, TRANSITIONS, State, Trigger
from compliance.export.manifest import build_export
from gateway.coordinator import clock, timetable
from gateway.coordinator.cycles.approvals import Approvals
from gateway.coordinator.cycles.attestation import Attestation
from gateway.coordinator.cycles.books import Books
from gateway.coordinator.cycles.cut_intake import Cuts
from gateway.coordinator.cycles.default import Defaults
from gateway.coordinator.cycles.delivery import Delivery
from gateway.coordinator.cycles.kernels import Kernels
from gateway.coordinator.cycles.proofs import Proofs
from gateway.coordinator.cycles.read_models import ReadModels
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.settlement import SettlementClient
from gateway.coordinator.cycles.steps import Steps
from gateway.coordinator.cycles.tables import cycles, export, failures
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.log import events
from gateway.coordinator.registry import closed_days, operators, rulebooks, trust_list
from gateway.coordinator.registry.acts import RegistryActs
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.problems import Refusal
from gateway.federation.settings import ORDER_BYTES_MAX
from gateway.federation.storage.database import transaction
from gateway.federation.telemetry import REGISTRY

STUCK = Gauge(
    "concordat_cycle_stuck", "1 while a cycle can't go on, by the reason why not.", ("reason",), registry=REGISTRY
)

VALUE_DATE_AHEAD_DAYS = 31
"""So far ahead a business day is looked for."""


class CycleService:
    """The clearing house's cycles. Belongs to one event loop; any number of replicas may share a database.

    New cycles open under `rulebook`; a cycle that is under way keeps the one it was opened under. `news` is set
    whenever a cycle may have a step to take.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        bic: str,
        signer: Signer,
        rulebook: Rulebook,
        agent: SettlementClient,
        registry: Registry,
        now: Callable[[], datetime] = clock.now,
        order_bytes_max: int = ORDER_BYTES_MAX,
    ) -> None:
        self.news = asyncio.Event()
        self._engine = engine
        self._signer = signer
        self._rulebook = rulebook
        self._now = now
        self.kernels = Kernels()
        books = Books()
        self.steps = Steps(
            engine,
            bic=bic,
            signer=signer,
            agent=agent,
            now=now,
            kernels=self.kernels,
            books=books,
            order_bytes_max=order_bytes_max,
        )
        self.cuts = Cuts(engine, books=books, scheme=signer.scheme, now=now, wake=self.news.set)
        self.attestation = Attestation(engine, books=books, scheme=signer.scheme, now=now, wake=self.news.set)
        acts = RegistryActs(registry)
        self.approvals = Approvals(engine, coordinator=bic, acts=acts, now=now, wake=self.news.set)
        self.delivery = Delivery(engine, scheme=signer.scheme, now=now)
        self.views = ReadModels(engine, books=books)
        self.proofs = Proofs(engine, signer=signer)
        self.defaults = Defaults(engine)

    # --- opening

    async def open_slot(self, value_date: date, number: int) -> Cycle | None:
        """Open the cycle of a scheduled slot, once however often it is asked for; return it.

        Raises Refusal `cycle_open_already` while another cycle is open.
        """
        slot = timetable.find(self._rulebook, value_date, number)
        cut_off_at = None if slot is None else slot.cut_off_at
        async with transaction(self._engine) as conn:
            opened = await self._open(conn, value_date, number, cut_off_at)
            if opened is not None:
                return opened
            # Not `find`, which refuses: nobody else's cycle is this slot's.
            claimed = await cycles.page(conn, limit=1, before=(value_date, number + 1), value_date=value_date)
            if claimed and claimed[0].number == number:
                return claimed[0]
            return await self._refuse_second_open(conn)

    async def open_on_demand(self, value_date: date | None, *, by: str) -> Cycle:
        """Open a cycle by hand; without a value date, the next business day's. Raises Refusal.

        One operator alone opens it, and nothing settles before its value date, nor does any later cycle: so that is
        today, or the next day on which one of the currencies settles.
        """
        today = self._rulebook.days.today(self._now())
        day = value_date or self._rulebook.business_day(today)
        async with transaction(self._engine) as conn:
            if value_date is not None and value_date not in (days := await self._days_to_open(conn, today)):
                named = " or ".join(day.isoformat() for day in days)
                detail = f"{value_date.isoformat()} isn't {named}: today, if it is a business day, or the next one"
                raise Refusal(CycleReason.VALUE_DATE_REFUSED, detail, pointer="/value_date")
            opened = await self._open(conn, day, await self._free_number(conn, day), None)
            if opened is None:
                return await self._refuse_second_open(conn)
            await events.acted(conn, by, "open", opened.id, "opened by hand")
            return opened

    async def _days_to_open(self, conn: AsyncConnection, today: date) -> list[date]:
        """Return the value dates that a cycle may be opened for by hand: today, and the next day that settles."""
        rules = await rulebooks.in_force(conn) or self._rulebook
        days = [today] if rules.is_business_day(today) else []
        for ahead in range(1, VALUE_DATE_AHEAD_DAYS + 1):
            day = today + timedelta(days=ahead)
            closed = await closed_days.closed(conn, rules, day, now=self._now())
            if rules.is_business_day(day) and len(closed) < len(rules.currencies):
                return [*days, day]
        return days

    async def _open(
        self, conn: AsyncConnection, value_date: date, number: int, cut_off_at: datetime | None
    ) -> Cycle | None:
        # Under the log's lock nothing else comes into force before the event that names what is.
        await events.lock(conn)
        # What another process was started with may have been adopted since this one was.
        rules = await rulebooks.in_force(conn) or self._rulebook
        cycle = await cycles.insert(
            conn,
            value_date=value_date,
            number=number,
            rulebook=rules,
            closed=await closed_days.closed(conn, rules, value_date, now=self._now()),
            trust_list_version=await trust_list.version(conn),
            opened_at=self._now(),
            cut_off_at=cut_off_at,
        )
        if cycle is not None:
            in_force = {**await trust_list.named(conn), **await operators.named(conn)}
            await cycles.tell_opened(conn, cycle, in_force)
        return cycle

    async def _free_number(self, conn: AsyncConnection, value_date: date) -> int:
        """Return the next number of a value date; the numbers of slots are kept for them."""
        return max(await cycles.last_number(conn, value_date), len(self._rulebook.slots)) + 1

    async def _refuse_second_open(self, conn: AsyncConnection) -> Cycle:
        existing = await cycles.current(conn)
        name = "another cycle" if existing is None else f"cycle {existing.id}"
        raise Refusal(CycleReason.CYCLE_OPEN_ALREADY, f"{name} is open")

    # --- cutting off

    async def cut_off(self, cycle_id: str, *, cause: str = "schedule", by: str | None = None) -> Cycle:
        """Cut an open cycle off and open the next one; a cycle that was cut off before is returned as it is.

        Who is active now takes part, in the currencies that settle on the value date. Raises Refusal `cycle_unknown`,
        and `cycle_in_progress` while an earlier cycle hasn't ended. By schedule an earlier one that is stuck is
        overtaken: it is abandoned, and this one takes its payments in. `by` is the operator, if one asked.
        """
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            if cycle.state is not State.OPEN:
                return cycle
            if (earlier := await cycles.in_progress(conn)) is not None:
                await _overtake(conn, earlier.id, cycle_id, allowed=cause == "schedule")
            now = self._now()
            rulebook = await cycles.rulebook_of(conn, cycle)
            participants = await cycles.enrol_active(conn, cycle_id)
            version = await trust_list.version(conn)
            cycle = await cycles.leave_out(
                conn, cycle, rulebook, await closed_days.closed(conn, rulebook, cycle.value_date, now=now)
            )
            data = {"cause": cause, "participants": participants, "trust_list_version": version}
            moved = await cycles.move(
                conn,
                cycle,
                Trigger.CUT_OFF_REACHED,
                data=data | ({"closed": cycle.closed} if cycle.closed else {}),
                cut_off_at=now,
                trust_list_version=version,
                deadline_at=now + timedelta(seconds=rulebook.cut_deadline_s),
            )
            await self._open_next(conn, moved)
            if by is not None:
                await events.acted(conn, by, "cut_off", cycle_id, "cut off by hand")
        self.news.set()
        return moved

    async def _open_next(self, conn: AsyncConnection, cycle: Cycle) -> None:
        """Open the cycle after one that was just cut off, so that there always is one: the next slot, or on demand."""
        now = self._now()
        # A slot that was cut off early has had its cycle.
        for slot in timetable.around(self._rulebook, now):
            if slot.cut_off_at > now and await self._open(conn, slot.value_date, slot.number, slot.cut_off_at):
                return
        day = self._rulebook.business_day(max(cycle.value_date, self._rulebook.days.today(now)))
        await self._open(conn, day, await self._free_number(conn, day), None)

    # --- moving on

    async def advance(self, cycle_id: str) -> State:
        """Take every step of a cycle that is due and return the state reached. Idempotent."""
        return await self.steps.advance(cycle_id)

    async def advance_current(self) -> State | None:
        """Do the same for the cycle between its cut-off and its end; None if there is none."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.in_progress(conn)
        STUCK.clear()
        if cycle is None:
            return None
        if cycle.stuck:
            STUCK.labels(cycle.failure_reason).set(1)
        return await self.steps.advance(cycle.id)

    async def retry(self, cycle_id: str, reason: str, *, by: str) -> Cycle:
        """Take a stuck cycle's next step at once. Raises Refusal `action_impossible` for one that isn't stuck."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            if not cycle.stuck:
                raise Refusal(CycleReason.ACTION_IMPOSSIBLE, f"cycle {cycle_id} is {cycle.state} and isn't stuck")
            await failures.retry_now(conn, cycle_id)
            await events.acted(conn, by, "retry", cycle_id, reason)
            retried = await cycles.find(conn, cycle_id)
        self.news.set()
        return retried

    # --- evidence

    async def export(self, cycle_id: str) -> bytes:
        """Return the signed audit export of a cycle as it stands. Raises Refusal `cycle_unknown`."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as conn:
            record = await export.record(conn, cycle_id)
        # A large cycle takes its time, and others are served meanwhile.
        return await asyncio.to_thread(build_export, record, self._signer)


async def _overtake(conn: AsyncConnection, earlier: str, later: str, *, allowed: bool) -> None:
    """Abandon a cycle that is stuck, for the sake of the one after it. Raises Refusal `cycle_in_progress`."""
    cycle = await cycles.find(conn, earlier, lock=True)
    if cycle.state in ENDED:
        return
    if not (allowed and cycle.stuck and (cycle.state, Trigger.OVERTAKEN) in TRANSITIONS):
        ways = "retry or abandon it" if (cycle.state, Trigger.ABANDONED) in TRANSITIONS else "retry it"
        stuck = f" and stuck ({cycle.failure_reason}): {ways}" if cycle.stuck else ""
        raise Refusal(CycleReason.CYCLE_IN_PROGRESS, f"cycle {earlier} is {cycle.state}{stuck}")
    await cycles.move(conn, cycle, Trigger.OVERTAKEN, data={"reason": cycle.failure_reason, "overtaken_by": later})
