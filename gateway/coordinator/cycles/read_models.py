"""What members, operators and auditors see of a cycle. Reads only; the types are `gateway.federation.messages`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import FourEyesCause, four_eyes_causes
from compliance.cycle.checks import worst
from compliance.cycle.contests import standing
from compliance.cycle.states import State
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.book import Book, Counts
from gateway.coordinator.cycles.books import Books
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import attestations, pairs, results, settlements, stated, submissions
from gateway.coordinator.cycles.tables import cycles as store
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.pairs import Gross, Outcomes
from gateway.coordinator.registry import limits
from gateway.federation.messages.attestation import AgreedPosition, BreakNotice, Breaks, HandedIn
from gateway.federation.messages.cycles import (
    Certificates,
    Checks,
    CheckView,
    CurrencyTotal,
    CycleProgress,
    CycleSummary,
    PairCounts,
    ParticipantProgress,
    Positions,
    PositionView,
)
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction

CLOSED_KEPT_MAX = 256
"""Cycles of which it is kept how their pairs stand: as many as a list shows at once, several times over."""

BEFORE_CLOSING = (State.OPEN, State.CUT_OFF, State.ATTESTING)
"""The states of a cycle in which banks may still attest, or attest anew."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How the pairs of a cycle stand: of all participants and of each, and what each receives and pays by them.

    `gross` is None where nobody has asked for it yet: `ReadModels` reads it of a cycle whose attestation is closed.
    """

    total: PairCounts = field(default_factory=PairCounts)
    of_bank: Mapping[str, PairCounts] = field(default_factory=dict)
    gross: Gross | None = None

    def part(self, participant: str | None) -> PairCounts:
        """Return how one participant's pairs stand, or all."""
        return self.total if participant is None else self.of_bank.get(participant, PairCounts())


class ReadModels:
    """Answers questions about cycles. Every method is one transaction; all raise Refusal `cycle_unknown`."""

    def __init__(self, engine: AsyncEngine, *, books: Books) -> None:
        self._engine = engine
        self._books = books
        self._closed: dict[tuple[str, int], Tally] = {}

    async def cycle(self, cycle_id: str) -> Cycle:
        """Return one cycle."""
        async with transaction(self._engine) as conn:
            return await store.find(conn, cycle_id)

    async def current(self) -> Cycle:
        """Return the open cycle; raises Refusal `cycle_unknown` when there is none."""
        async with transaction(self._engine) as conn:
            cycle = await store.current(conn)
        if cycle is None:
            raise Refusal(CycleReason.CYCLE_UNKNOWN, "no cycle is open")
        return cycle

    async def summaries(
        self, participant: str | None, *, limit: int, before: tuple[date, int] | None, value_date: date | None
    ) -> tuple[CycleSummary, ...]:
        """Return cycles, newest first, older than `before` (value date, number).

        For a participant they count its own pairs, and say nothing of totals: where few take part, those tell of each.
        """
        async with transaction(self._engine) as conn:
            cycles = await store.page(conn, limit=limit, before=before, value_date=value_date)
            totals = {} if participant is not None else await results.totals(conn, [cycle.id for cycle in cycles])
        summaries: list[CycleSummary] = []
        for listed in cycles:
            cycle, tally = await self._tally(listed)
            total = totals.get(cycle.id) or (_totals(tally.gross or {}) if participant is None else ())
            summaries.append(CycleSummary(cycle=cycle.message(), pairs=tally.part(participant), totals=total))
        return tuple(summaries)

    async def progress(self, cycle_id: str) -> CycleProgress:
        """Return how far a cycle and each of its participants are."""
        cycle, tally = await self._tally(await self.cycle(cycle_id))
        contests = await self._contests(cycle)
        async with transaction(self._engine) as conn:
            participations = await store.participations(conn, cycle_id)
            totals = (await results.totals(conn, [cycle_id])).get(cycle_id)
            if totals is None:
                totals = _totals(await _gross(conn, cycle, tally))
            statements = await attestations.statement_counts(conn, cycle_id)
            breaks = [*await submissions.breaks(conn, cycle_id), *contests]
            instructions = await settlements.instruction_views(conn, cycle=cycle_id, acknowledged=None)
            attempts = await settlements.attempts(conn, cycle_id)
            unsettled = cycle.state in (State.HELD, State.DEFERRED)
            asked = await settlements.last_attempt(conn, cycle_id) if unsettled else None
            causes = await _four_eyes(conn, cycle, totals)
        issued = Counter(instruction.participant for instruction in instructions)
        acknowledged = Counter(order.participant for order in instructions if order.acknowledged_at is not None)
        return CycleProgress(
            cycle=cycle.message(),
            participants=tuple(
                ParticipantProgress(
                    participant=part.participant,
                    status=part.status,
                    cut_at=None if part.cut_at is None else timestamp(part.cut_at),
                    attested_at=None if part.attested_at is None else timestamp(part.attested_at),
                    statements=statements.get(part.participant, 0),
                    pairs=tally.part(part.participant),
                    instructions=issued[part.participant],
                    acknowledged=acknowledged[part.participant],
                )
                for part in participations
            ),
            pairs=tally.total,
            totals=totals,
            breaks=tuple(breaks),
            instructions=len(instructions),
            acknowledged=acknowledged.total(),
            settlement_attempts=attempts,
            four_eyes=causes,
            stuck_detail=cycle.failure_detail if cycle.stuck else None,
            agent_says=None if asked is None else asked.detail,
        )

    async def positions(self, cycle_id: str, participant: str | None) -> Positions:
        """Return all positions of a cycle, or one participant's: provisional until the cycle is netted."""
        cycle, tally = await self._tally(await self.cycle(cycle_id))
        async with transaction(self._engine) as conn:
            result = await results.find(conn, cycle_id)
            if result is None:
                gross = await _gross(conn, cycle, tally)
                keeping = await limits.in_force(conn)
            else:
                gross = {
                    (of_currency.currency, position.participant): (
                        int(position.receives_minor),
                        int(position.pays_minor),
                    )
                    for of_currency in result.currencies
                    for position in of_currency.positions
                }
                keeping = await results.kept_limits(conn, result.sha256)
        caps = {(cap.participant, cap.currency): cap.cap_minor for cap in keeping.caps}
        may_owe = keeping.debits()
        return Positions(
            cycle=cycle_id,
            provisional=result is None,
            positions=tuple(
                _position(bic, currency, receives, pays, caps.get((bic, currency)), may_owe.get((bic, currency)))
                for (currency, bic), (receives, pays) in sorted(gross.items())
                if participant in (None, bic)
            ),
        )

    async def checks(self, cycle_id: str) -> Checks:
        """Return what the checks before settlement said."""
        async with transaction(self._engine) as conn:
            await store.find(conn, cycle_id)
            checks = await results.checks(conn, cycle_id)
        return Checks(
            cycle=cycle_id,
            checks=tuple(
                CheckView(name=check.name, verdict=check.verdict, detail=check.detail, evidence=check.evidence)
                for check in checks
            ),
        )

    async def certificates(self, cycle_id: str) -> Certificates:
        """Return what proves the bounds of a cycle's result; raises Refusal `result_unknown` before there is one."""
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            if cycle.result is None:
                raise Refusal(CycleReason.RESULT_UNKNOWN, f"cycle {cycle_id} is {cycle.state} and has no result")
            certificates = await results.certificates(conn, cycle.result)
        return Certificates(cycle=cycle_id, certificates=certificates)

    async def breaks(self, cycle_id: str, participant: str | None) -> Breaks:
        """Return the breaks of a cycle and its contested cuts, or those of one participant's pairs."""
        contests = await self._contests(await self.cycle(cycle_id), participant)
        async with transaction(self._engine) as conn:
            notices = await submissions.breaks(conn, cycle_id, participant)
        return Breaks(cycle=cycle_id, breaks=(*notices, *contests))

    async def agreed_position(
        self, cycle_id: str, banks: tuple[str, str], currency: str, participant: str | None
    ) -> AgreedPosition:
        """Return what both banks of a pair signed, as each proves it.

        Raises Refusal `cycle_unknown`, `attestation_open`, `position_unknown`.
        """
        low, high = sorted(banks)
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            if cycle.state in BEFORE_CLOSING:
                until = "" if cycle.deadline_at is None else f" until {timestamp(cycle.deadline_at)} at the latest"
                detail = f"cycle {cycle_id} is {cycle.state}{until}: ask again once its attestation is closed"
                raise Refusal(CycleReason.ATTESTATION_OPEN, detail)
            seen = participant in (None, low, high)
            proven = await stated.agreed(conn, cycle_id, (currency, low, high)) if seen else None
        if proven is None:
            detail = f"nothing of {low}/{high} in {currency} is attested alike by both in cycle {cycle_id}"
            raise Refusal(CycleReason.POSITION_UNKNOWN, detail)
        return AgreedPosition(cycle=cycle_id, proven=proven)

    async def handed_in(self, participant: str) -> HandedIn:
        """Return what a participant handed in for the newest cycle that it has a cut in."""
        async with transaction(self._engine) as conn:
            newest = await submissions.newest_cut(conn, participant)
            if newest is None:
                return HandedIn()
            cycle, cut = newest
            return HandedIn(
                cycle=cycle,
                cut=submissions.envelope_of(cut),
                attestations=await attestations.envelopes(conn, cycle, participant),
                statements=await submissions.statement_envelopes(conn, cycle, participant),
            )

    async def result(self, cycle_id: str) -> Envelope:
        """Return the signed result; raises Refusal `result_unknown` before there is one."""
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            if cycle.result is None:
                raise Refusal(CycleReason.RESULT_UNKNOWN, f"cycle {cycle_id} is {cycle.state} and has no result")
            return await results.signed(conn, cycle.result)

    async def finality(self, cycle_id: str) -> Envelope:
        """Return the signed finality; raises Refusal `result_unknown` before the cycle is final."""
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            finality = await settlements.finality(conn, cycle_id)
        if finality is None:
            raise Refusal(CycleReason.RESULT_UNKNOWN, f"cycle {cycle_id} is {cycle.state}, not final")
        return finality

    # --- how pairs stand

    async def _tally(self, cycle: Cycle) -> tuple[Cycle, Tally]:
        """Return how a cycle's pairs stand, with the cycle as it was then."""
        if cycle.state is State.ATTESTING:
            async with self._books.transaction(self._engine) as conn:
                cycle = await store.find(conn, cycle.id)
                if cycle.state is State.ATTESTING:
                    return cycle, _tally_of(await self._books.of(conn, cycle))
        if cycle.state in (State.OPEN, State.CUT_OFF):
            return cycle, Tally(gross={})
        # What has been closed changes by the cycle's steps only.
        kept = self._closed.pop((cycle.id, cycle.version), None)
        if kept is None:
            async with transaction(self._engine) as conn:
                closed = (await pairs.outcomes(conn, [cycle.id])).get(cycle.id, Outcomes())
            kept = Tally(
                total=_closed_counts(closed.total),
                of_bank={bank: _closed_counts(counts) for bank, counts in closed.of_bank.items()},
            )
        self._closed[cycle.id, cycle.version] = kept
        while len(self._closed) > CLOSED_KEPT_MAX:
            del self._closed[next(iter(self._closed))]
        return cycle, kept

    async def _contests(self, cycle: Cycle, participant: str | None = None) -> list[BreakNotice]:
        """Return the contested cuts of a cycle, or of one bank's pairs, as breaks."""
        if cycle.state is State.ATTESTING:
            async with self._books.transaction(self._engine) as conn:
                stands = (await self._books.of(conn, cycle)).contests_standing()
        else:
            async with transaction(self._engine) as conn:
                contests = [contest for _, contest in await submissions.contests_since(conn, cycle.id, 0)]
                if not contests:
                    return []
                cuts = await submissions.cuts_by(conn, cycle.id, {contest.receiver for contest in contests})
                attested = await attestations.attested(conn, cycle.id, {contest.key for contest in contests})
            stands = standing(contests, cuts=cuts, attested=attested)
        mine = {contest: still for contest, still in stands.items() if participant in (None, *contest.lane[:2])}
        return submissions.contest_notices(mine)


def _tally_of(book: Book) -> Tally:
    return Tally(
        total=_counts(book.total),
        of_bank={bank: _counts(counts) for bank, counts in book.counts.items()},
        gross=dict(book.gross),
    )


def _counts(counts: Counts) -> PairCounts:
    return PairCounts(agreed=counts.agreed, differing=counts.differing, missing=counts.missing)


def _closed_counts(counts: tuple[int, int]) -> PairCounts:
    agreed, carried = counts
    return PairCounts(agreed=agreed, carried_over=carried)


async def _four_eyes(
    conn: AsyncConnection, cycle: Cycle, totals: Iterable[CurrencyTotal]
) -> tuple[FourEyesCause, ...] | None:
    """Return why two persons must approve a cycle's result, while that is to be decided."""
    if cycle.state not in (State.NETTED, State.HELD):
        return None
    rulebook = await store.rulebook_of(conn, cycle)
    passed = worst(await results.checks(conn, cycle.id)) == "pass"
    settling = {total.currency: int(total.settlement_minor or 0) for total in totals}
    return four_eyes_causes(rulebook.approval, settling, checks_passed=passed)


async def _gross(conn: AsyncConnection, cycle: Cycle, tally: Tally) -> Gross:
    """Return what each participant receives and pays by the pairs that agree, while there is no result yet."""
    return await pairs.agreed_gross(conn, cycle.id) if tally.gross is None else tally.gross


def _totals(gross: Gross) -> tuple[CurrencyTotal, ...]:
    totals: Counter[str] = Counter()
    for (currency, _), (receives, _) in gross.items():
        totals[currency] += receives
    return tuple(CurrencyTotal(currency=code, gross_minor=str(total)) for code, total in sorted(totals.items()))


def _position(
    bic: str, currency: str, receives: int, pays: int, cap_minor: str | None, limit: int | None
) -> PositionView:
    net = receives - pays
    return PositionView(
        participant=bic,
        currency=currency,
        receives_minor=str(receives),
        pays_minor=str(pays),
        net_minor=str(net),
        cap_minor=cap_minor,
        limit_minor=None if limit is None else str(limit),
        headroom_minor=None if limit is None else str(limit + net),
    )
