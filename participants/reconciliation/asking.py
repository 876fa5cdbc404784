"""Looking for differences with another bank: down the lanes' trees, or by sets where the numbers don't mean the same.

| step | asked of the other bank | shows |
|---|---|---|
| 1 | how far each lane goes, its root there, its cycles, what is contested | that all is the same; what only one has at the end; other cycles |
| 2 | digests of subtrees, where the roots differ | the numbers of the payments that differ |
| 3 | if those are too many: a secret, the set of the lane's payments, its symbols | the payments that only one has |
| 4 | the payments that differ | what kind of break each is |

Nothing that it answers is adopted. What it says of its trees and sets must follow from the roots that it named first.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import islice

import asyncpg
import msgspec

from gateway.federation.http.client import FederationClient, RemoteUnavailable
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.reconciliation import (
    RECORDS_MAX,
    SETTLED_MAX,
    LaneAnswer,
    LaneRange,
    RecordQuestion,
    SharedRecord,
)
from participants.ledger.lanes import LaneKey
from participants.reconciliation import breaks, reads
from participants.reconciliation.agreement import Secrets
from participants.reconciliation.answering import Sets
from participants.reconciliation.breaks import Break, BreakKind, Healing
from participants.reconciliation.faults import ComparisonFault, Fault
from participants.reconciliation.lane_tree import Descent, Node, questions, whole
from participants.reconciliation.peer import Peer, summary_of
from participants.reconciliation.report import LaneCompared, Report, Way

RUN_SECONDS_MAX = 300.0
LANES_MAX = 64
BREAKS_MAX = 1000
"""In one report: healing these comes first."""

Pair = tuple[dict[str, SharedRecord], dict[str, SharedRecord]]
"""Payments as this bank and as the other has them, by their ids."""


class Asking:
    """One bank's questions to others. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        secrets: Secrets,
        sets: Sets,
    ) -> None:
        self._bank = bank
        self._pool = pool
        self._trust = trust
        self._client = client
        self._secrets = secrets
        self._sets = sets

    async def compare(self, counterparty: str, currency: str | None = None) -> Report:
        """Compare what both banks hold of the payments between them. Raises RemoteError and a database's errors."""
        peer = Peer(self._bank, counterparty, trust=self._trust, client=self._client, secrets=self._secrets)
        comparison = _PairComparison(self._bank, counterparty, self._pool, peer, self._sets)
        began, cpu = time.monotonic(), time.process_time()
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                report = await comparison.compare(currency)
        except TimeoutError as error:
            raise RemoteUnavailable(f"{counterparty} doesn't answer all within {RUN_SECONDS_MAX:g} s") from error
        except ComparisonFault as fault:
            report = Report(lanes=tuple(comparison.lanes), fault=str(fault)[:200], is_whole=False)
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
        cost = msgspec.structs.replace(peer.cost, seconds=round(seconds, 3), cpu_seconds=round(cpu_seconds, 3))
        return msgspec.structs.replace(report, cost=cost)


class _PairComparison:
    """What two banks hold of each other, compared once."""

    def __init__(self, bank: str, counterparty: str, pool: asyncpg.Pool, peer: Peer, sets: Sets) -> None:
        self._bank = bank
        self._counterparty = counterparty
        self._pool = pool
        self._peer = peer
        self._sets = sets
        self.lanes: list[LaneCompared] = []
        self._breaks: list[Break] = []
        """That are known to be ones already: contested, or settled with another cycle."""
        self._here: dict[str, SharedRecord] = {}
        self._there: dict[str, SharedRecord] = {}
        """Payments that may be breaks, as each bank has them."""
        self._is_whole = True

    async def compare(self, currency: str | None) -> Report:
        """Compare lane by lane, and as sets those whose numbers don't mean the same."""
        async with self._pool.acquire() as connection:
            here = await reads.lanes(connection, self._counterparty)
        for key in sorted(await self._keys(here, currency)):
            lane = here.get(key) or reads.LaneHere(0, key, 0)
            if await self._lane(lane):
                await self._set(lane)
        every = [*await self._judged(), *self._breaks]
        listed = {(item.currency, item.sender, item.payment, item.kind): item for item in every}
        found_all = self._is_whole and len(listed) <= BREAKS_MAX
        return Report(
            lanes=tuple(self.lanes),
            breaks=tuple(listed[key] for key in islice(sorted(listed), BREAKS_MAX)),
            is_whole=found_all,
        )

    async def _keys(self, here: Iterable[LaneKey], currency: str | None) -> set[LaneKey]:
        """Return the lanes of a currency; or all that either bank has, which the other one is asked for."""
        bank, other = self._bank, self._counterparty
        if currency is not None:
            return {LaneKey(bank, other, currency), LaneKey(other, bank, currency)}
        shared = islice(await self._peer.lanes(), LANES_MAX)
        return {*here, *(key for key in shared if {key.sender, key.receiver} == {bank, other})}

    # --- down the tree ----------------------------------------------------------------------------------------

    async def _lane(self, lane: reads.LaneHere) -> bool:
        """Compare a lane down its tree; True if its numbers don't mean the same."""
        answer, root = await self._peer.lane(lane.key, lane.size)
        size = min(lane.size, answer.size)
        (ours,) = await self._digests(lane, size, [whole(size)])
        descent = Descent(size, ours=ours, theirs=root)
        await self._descend(lane, size, descent)
        is_shifted, count = descent.is_shifted, len(descent.differing)
        if is_shifted:
            # Where it begins is a break in itself.
            descent.keep_first()
            await self._descend(lane, size, descent)
        if lane.size or answer.size:
            self.lanes.append(
                LaneCompared(
                    sender=lane.key.sender,
                    receiver=lane.key.receiver,
                    currency=lane.key.currency,
                    way=Way.SET if is_shifted else Way.TREE,
                    here=lane.size,
                    there=answer.size,
                    differences=count,
                )
            )
        last = max(lane.size, answer.size)
        self._is_whole &= last - size <= RECORDS_MAX
        await self._see([*descent.numbers(), *range(size + 1, min(last, size + RECORDS_MAX) + 1)], lane.key)
        await self._contested(lane, answer)
        await self._settled(lane, answer)
        return is_shifted

    async def _descend(self, lane: reads.LaneHere, size: int, descent: Descent) -> None:
        while nodes := descent.next():
            theirs: dict[Node, bytes] = {}
            for question in questions(nodes):
                theirs |= zip(question, await self._peer.digests(lane.key, size, question), strict=True)
            ours = dict(zip(nodes, await self._digests(lane, size, nodes), strict=True))
            descent.take(ours=ours, theirs=theirs)

    async def _digests(self, lane: reads.LaneHere, size: int, nodes: Sequence[Node]) -> list[bytes]:
        made: list[bytes] = []
        for question in questions(nodes):
            async with self._pool.acquire() as connection:
                made += await reads.digests(connection, lane, size, question)
        return made

    async def _see(self, numbers: Sequence[int], key: LaneKey) -> None:
        """Look at the payments under numbers of a lane, here and there."""
        for start in range(0, len(numbers), RECORDS_MAX):
            here, there = await self._numbered(key, numbers[start : start + RECORDS_MAX])
            self._here |= here
            self._there |= there

    async def _numbered(self, key: LaneKey, numbers: Sequence[int]) -> Pair:
        question = RecordQuestion(sender=key.sender, currency=key.currency, numbers=tuple(numbers))
        there = await self._peer.records(question)
        async with self._pool.acquire() as connection:
            entries = await reads.numbered(connection, key, numbers)
            here = await reads.records(connection, self._bank, self._counterparty, (), entries=entries)
        return {record.payment: record for record in here}, there

    async def _contested(self, lane: reads.LaneHere, answer: LaneAnswer) -> None:
        """Note the payments that the receiver of a lane contests."""
        key, numbers = lane.key, answer.disputed[:RECORDS_MAX]
        if key.receiver == self._bank:
            async with self._pool.acquire() as connection:
                numbers = await reads.disputed(connection, lane)
        if not numbers:
            return
        here, there = await self._numbered(key, numbers)
        for payment in {**here, **there}:
            contested = breaks.between(BreakKind.STATUS, here.get(payment), there.get(payment))
            self._breaks.append(msgspec.structs.replace(contested, contested_by=key.receiver))

    async def _settled(self, lane: reads.LaneHere, answer: LaneAnswer) -> None:
        """Note the payments of a lane that the two settled with different cycles."""
        async with self._pool.acquire() as connection:
            settled = await reads.settled(connection, lane)
        left = RECORDS_MAX
        for apart in breaks.settled_apart(settled, answer.settled[:SETTLED_MAX]):
            numbers = range(apart.first, min(apart.last, lane.size, apart.first + left - 1) + 1)
            left -= len(numbers)
            self._is_whole &= len(numbers) == apart.last + 1 - apart.first
            if numbers:
                here, there = await self._numbered(lane.key, numbers)
                self._breaks += [breaks.late(apart, here[payment], there.get(payment)) for payment in here]

    # --- sets -------------------------------------------------------------------------------------------------

    async def _set(self, lane: reads.LaneHere) -> None:
        """Compare the payments of a lane as a set, whatever their numbers."""
        from participants.reconciliation.difference import Comparison
        from participants.reconciliation.sets import IDS_MAX

        key = lane.key
        after = max(0, lane.size - IDS_MAX)
        self._is_whole &= after == 0
        asked = LaneRange(sender=key.sender, after=after, through=lane.size)
        answer, agreement = await self._peer.open(key.currency, asked)
        # The other bank has named its set; only now is ours made, as far as both have the lane.
        compared = answer.lane
        if compared.sender != key.sender or not compared.after <= compared.through <= lane.size:
            raise ComparisonFault(Fault.SYMBOLS_MALFORMED, f"other payments than those of {key.sender}")
        made = await self._sets.read(lane, compared.after, compared.through, agreement.secret)
        comparison = Comparison(made.ids, summary_of(answer))
        while (needed := comparison.next()) is not None:
            symbols = await self._peer.symbols(answer.session, *needed)
            await asyncio.to_thread(comparison.take, symbols)
        difference = comparison.result
        assert difference is not None, "there is nothing more to ask for"
        self._is_whole &= max(len(difference.here), len(difference.there)) <= RECORDS_MAX
        numbers = [int(number) for number in made.numbers[difference.here[:RECORDS_MAX]]]
        async with self._pool.acquire() as connection:
            entries = await reads.numbered(connection, key, numbers)
            ours = await reads.records(connection, self._bank, self._counterparty, (), entries=entries)
        self._here |= {record.payment: record for record in ours}
        if len(difference.there):
            ids_there = tuple(bytes(row).hex() for row in difference.there[:RECORDS_MAX])
            self._there |= await self._peer.records(RecordQuestion(session=answer.session, ids=ids_there))

    # --- what they are ----------------------------------------------------------------------------------------

    async def _judged(self) -> list[Break]:
        """Look up at each bank what only the other one named, and say what kind of break each payment is."""
        here, there = self._here, self._there
        async with self._pool.acquire() as connection:
            missing = [payment for payment in there if payment not in here]
            found_here = await reads.records(connection, self._bank, self._counterparty, missing, entries={})
        here |= {record.payment: record for record in found_here}
        missing = [payment for payment in here if payment not in there]
        for start in range(0, len(missing), RECORDS_MAX):
            there |= await self._peer.records(RecordQuestion(payments=tuple(missing[start : start + RECORDS_MAX])))
        made = []
        for payment in {**here, **there}:
            ours, theirs = here.get(payment), there.get(payment)
            twin = await self._twin(ours or theirs) if ours is None or theirs is None else None
            judged = breaks.judge(ours, theirs, bank=self._bank, twin=twin)
            if judged is not None:
                made.append(judged)
        return made

    async def _twin(self, record: SharedRecord | None) -> str | None:
        if record is None:
            return None
        async with self._pool.acquire() as connection:
            return await reads.same_reference(connection, self._bank, record)


def unanswered(breaks_found: Iterable[Break]) -> list[str]:
    """Return the payments whose signed answer is to be asked for."""
    return [item.payment for item in breaks_found if item.healing == Healing.ASKED]
