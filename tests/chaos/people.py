"""The people of a run: customers who order until they are answered, and operators who run cycle after cycle."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from compliance.crypto import dsse
from compliance.statements import NettingResult
from gateway.demo.desks import BankDesk, RequestRefusedError
from gateway.demo.plan import Plan
from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.messages.proposals import Decision, ProposalRequest, Proposals
from participants.api.messages import OrderBatch, OrderResults
from participants.intake.intake import order_of
from participants.intake.rows import PaymentRow
from tests.chaos.federation import CLIENT_TIMEOUT_S, ChaosFederation

BATCH_MAX = 5
PAUSE_S = (0.2, 0.9)
AGAIN_PER_CENT = 25
RETRY_S = 0.2
LOOK_EVERY_S = 0.1
OPEN_S = (3.0, 7.0)
PairKey = tuple[str, str, str]
"""(currency, lower BIC, higher BIC)"""


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so."""
    while True:
        if await reached():
            return
        await asyncio.sleep(LOOK_EVERY_S)


class Clock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began_at


class Customers:
    """Everybody who pays. What wasn't refused is `ordered`, and must be settled in the end."""

    def __init__(self, federation: ChaosFederation, plan: Plan, seed: int) -> None:
        self.federation = federation
        self.seed = seed
        self.ordered: list[PaymentRow] = []
        self.refused: Counter[str] = Counter()
        self.unclean: Counter[str] = Counter()
        """Answers that say neither yes, no nor later, by bank and status."""
        self.turns = {bank: asyncio.Lock() for bank in plan.banks}
        """Held by whoever orders at a bank, or keeps others from it."""
        self.closing = asyncio.Event()
        self._probes: set[asyncio.Task[None]] = set()
        self._rows: defaultdict[tuple[str, str], deque[PaymentRow]] = defaultdict(deque)
        for row in (row for cycle in plan.cycles for row in cycle):
            self._rows[row.debtor_bank, row.creditor_bank].append(row)
        # Apart from the load's, so that a request that hangs keeps no probe waiting.
        self.probes = {
            bic: BankDesk(bic, bank.url, bank.key("token"), "probe", timeout_s=CLIENT_TIMEOUT_S)
            for bic, bank in federation.banks.items()
        }

    async def close(self) -> None:
        for desk in self.probes.values():
            await desk.close()

    async def pay(self, bank: str) -> None:
        """Order small batches to all others until closing, now and then the same once more."""
        rng = random.Random(f"load {self.seed} {bank}")
        others = sorted(self.federation.banks.keys() - {bank})
        done: list[PaymentRow] = []
        while not self.closing.is_set():
            rows = [row for _ in range(rng.randint(1, BATCH_MAX)) if (row := self.next_row(bank, rng.choice(others)))]
            if not rows:
                return
            again = rng.sample(done, k=min(len(done), 4)) if rng.randrange(100) < AGAIN_PER_CENT else []
            async with self.turns[bank]:
                await self.order(self.federation.desks[bank], rows)
                if again:
                    await self.order(self.federation.desks[bank], again, repeated=True)
            done += rows
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), rng.uniform(*PAUSE_S))

    def next_row(self, sender: str, receiver: str) -> PaymentRow | None:
        rows = self._rows[sender, receiver]
        return rows.popleft() if rows else None

    async def order(self, desk: BankDesk, rows: Sequence[PaymentRow], *, repeated: bool = False) -> None:
        """Order until there is an answer: the same orders under the same ids, whatever was answered meanwhile."""
        while True:
            try:
                if len(rows) == 1:
                    await desk.ask_raw("POST", "/payments", json=order_of(rows[0]))
                    reasons: list[str | None] = [None]
                else:
                    batch = OrderBatch(payments=tuple(map(order_of, rows)))
                    answer = await desk.ask("POST", "/payments/batch", OrderResults, json=batch)
                    reasons = [outcome.reason if outcome.status == "refused" else None for outcome in answer.results]
                break
            except RequestRefusedError as refused:
                if refused.status < 500 and refused.status not in (401, 408, 425, 429):
                    cause = refused.__cause__
                    reasons = [cause.code if isinstance(cause, RemoteProblem) else str(refused.status)] * len(rows)
                    break
                self.unclean[f"{desk.bic} {refused.status}"] += 1
            except RemoteError as error:
                self.unclean[f"{desk.bic} {type(error).__name__}"] += 1
            await asyncio.sleep(RETRY_S)
        for row, reason in zip(rows, reasons, strict=True):
            if reason is not None:
                self.refused[f"{desk.bic} {reason}{' of a repeated order' if repeated else ''}"] += 1
            elif not repeated:
                self.ordered.append(row)

    def probe(self, sender: str, receiver: str) -> asyncio.Task[None]:
        """Begin a payment that is over when both banks have accepted it; whoever waits for it may stop waiting."""
        task = asyncio.create_task(self._delivered(sender, receiver))
        self._probes.add(task)
        return task

    async def probes_over(self) -> None:
        """Return when every probe is; raise what one raised."""
        await asyncio.gather(*self._probes)

    async def _delivered(self, sender: str, receiver: str) -> None:
        row = self.next_row(sender, receiver)
        if row is None:
            raise RuntimeError(f"the plan has too few payments from {sender} to {receiver}")
        desk = self.probes[sender]
        await self.order(desk, [row])
        while True:
            with suppress(RequestRefusedError, RemoteError):
                if (await desk.payment(row.id)).status == "posted":
                    return
            await asyncio.sleep(LOOK_EVERY_S)

    async def all_answered(self) -> bool:
        """Whether no bank has a payment under way."""
        for desk in self.federation.desks.values():
            if any(int(account.balance_minor) for account in await desk.accounts("reserved")):
                return False
        return True


@dataclass
class CycleRecord:
    """One cycle as its operators saw it, in seconds since the run began."""

    id: str
    opened_at: float
    cut_off_at: float = 0.0
    netted_at: float = 0.0
    ended_at: float = 0.0
    state: str = "open"
    settled: list[PairKey] = field(default_factory=list)
    carried: dict[str, str] = field(default_factory=dict)
    """"currency low high" -> reason."""
    contested: list[PairKey] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Banks whose cut didn't come in time."""

    def carried_pairs(self) -> dict[PairKey, str]:
        return {tuple(key.split()): reason for key, reason in self.carried.items()}  # type: ignore[misc]


class Clearing:
    """Two operators who run cycles."""

    def __init__(self, federation: ChaosFederation, clock: Clock, seed: int) -> None:
        self.federation = federation
        self.clock = clock
        self.records: list[CycleRecord] = []
        self.remarks: list[str] = []
        self._rng = random.Random(f"cycles {seed}")

    async def run(self, closing: asyncio.Event) -> None:
        while not closing.is_set():
            await self.cycle(self._rng.uniform(*OPEN_S), closing)

    async def cycle(self, open_s: float = 0, closing: asyncio.Event | None = None) -> CycleRecord:
        """Open a cycle, let banks pay for a while, and bring it to its end."""
        alice = self.federation.alice
        record = CycleRecord(await self._until_answered(alice.open_cycle), self.clock())
        self.records.append(record)
        if closing is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), open_s)
        record.state = "cut_off"
        record.cut_off_at = self.clock()
        while True:
            try:
                state = (await alice.progress(record.id)).cycle.state
                if state != record.state:
                    record.state = state
                    if state in ("netted", "held") and not record.netted_at:
                        record.netted_at = self.clock()
                if state == "open":
                    await alice.cut_off(record.id)
                elif state in ("netted", "held"):
                    await self._decide(record, "approve" if state == "netted" else "release")
                elif state in ("final", "abandoned"):
                    break
            except RequestRefusedError as refused:
                if refused.status not in (404, 409):
                    self.remarks.append(f"{record.id}: {refused}")
            except RemoteError:
                pass
            await asyncio.sleep(LOOK_EVERY_S)
        record.ended_at = self.clock()
        if record.state == "final":
            await self._until_answered(lambda: self._read(record))
        return record

    async def _decide(self, record: CycleRecord, action: str) -> None:
        alice, bob = self.federation.alice, self.federation.bob
        if action == "release":
            checks = await alice.ask_raw("GET", f"/cycles/{record.id}/checks")
            self.remarks.append(f"{record.id} was held: {checks.decode(errors='replace')[:600]}")
        known = await alice.ask("GET", f"/cycles/{record.id}/proposals", Proposals)
        pending = next((proposal.id for proposal in known.proposals if proposal.status == "pending"), None)
        if pending is None:
            request = ProposalRequest(action=action, reason="positions and checks looked at")  # type: ignore[arg-type]
            pending = (await alice.propose(record.id, request)).id
        await bob.decide(pending, Decision(decision="confirm", reason="seen, too"))

    async def _read(self, record: CycleRecord) -> None:
        alice = self.federation.alice
        envelope = await alice.result(record.id)
        dsse.verify(envelope, NettingResult, self.federation.anchor_keys())
        result = msgspec.json.decode(envelope.payload_bytes(), type=NettingResult)
        record.settled = sorted((ref.currency, *sorted(ref.pair)) for ref in result.statements)
        record.carried = {" ".join((one.currency, *sorted(one.pair))): str(one.reason) for one in result.carried_over}
        progress = await alice.progress(record.id)
        record.absent = [one.participant for one in progress.participants if one.cut_at is None]
        record.contested = [
            (one.currency, *sorted(one.pair))  # type: ignore[misc]
            for one in progress.breaks
            if one.kind == "contested"
        ]

    async def _until_answered(self, ask):  # type: ignore[no-untyped-def]
        while True:
            try:
                return await ask()
            except RequestRefusedError as refused:
                self.remarks.append(str(refused))
            except RemoteError:
                pass
            await asyncio.sleep(RETRY_S)
