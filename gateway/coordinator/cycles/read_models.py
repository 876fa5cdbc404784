"""What members, operators and auditors see of a cycle. Reads only; the types are `gateway.federation.messages`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import FourEyesCause, four_eyes_causes
from compliance.cycle.checks import worst
from compliance.cycle.matching import PairKey, match
from compliance.cycle.states import State
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import cycles as store
from gateway.coordinator.cycles.tables import pairs, results, settlements, submissions
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.pairs import AgreedPair
from gateway.coordinator.registry import limits
from gateway.federation.messages.attestation import Breaks, HandedIn
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

Standing = str
"""Where a pair stands: a field of PairCounts."""


class ReadModels:
    """Answers questions about cycles. Every method is one transaction; all raise Refusal `cycle_unknown`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

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
            ids = [cycle.id for cycle in cycles]
            counts = await pairs.outcome_counts(conn, ids, participant)
            totals = {} if participant is not None else await results.totals(conn, ids)
            summaries: list[CycleSummary] = []
            for cycle in cycles:
                if cycle.state is State.ATTESTING:
                    standing = await _standing(conn, cycle)
                    counted = _counts(stands for key, stands in standing.items() if participant in (None, *key[1:]))
                    total = () if participant is not None else _totals(await pairs.agreed_so_far(conn, cycle.id))
                else:
                    agreed, carried = counts.get(cycle.id, (0, 0))
                    counted, total = PairCounts(agreed=agreed, carried_over=carried), totals.get(cycle.id, ())
                summaries.append(CycleSummary(cycle=cycle.message(), pairs=counted, totals=total))
        return tuple(summaries)

    async def progress(self, cycle_id: str) -> CycleProgress:
        """Return how far a cycle and each of its participants are."""
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            participations = await store.participations(conn, cycle_id)
            standing = await _standing(conn, cycle)
            totals = (await results.totals(conn, [cycle_id])).get(cycle_id)
            if totals is None:
                totals = _totals(await pairs.agreed_so_far(conn, cycle_id))
            statements = await submissions.statement_counts(conn, cycle_id)
            breaks = [noticed.notice for noticed in await submissions.breaks(conn, cycle_id)]
            breaks += await submissions.contest_notices(conn, cycle_id)
            instructions = await settlements.instruction_views(conn, cycle=cycle_id, acknowledged=None)
            attempts = await settlements.attempts(conn, cycle_id)
            unsettled = cycle.state in (State.HELD, State.DEFERRED)
            asked = await settlements.last_attempt(conn, cycle_id) if unsettled else None
            causes = await _four_eyes(conn, cycle, totals)
        of_bank: defaultdict[str, list[Standing]] = defaultdict(list)
        for (_, low, high), stands in standing.items():
            of_bank[low].append(stands)
            of_bank[high].append(stands)
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
                    pairs=_counts(of_bank[part.participant]),
                    instructions=issued[part.participant],
                    acknowledged=acknowledged[part.participant],
                )
                for part in participations
            ),
            pairs=_counts(standing.values()),
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
        async with transaction(self._engine) as conn:
            await store.find(conn, cycle_id)
            result = await results.find(conn, cycle_id)
            if result is None:
                gross = _gross(await pairs.agreed_so_far(conn, cycle_id))
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
        async with transaction(self._engine) as conn:
            await store.find(conn, cycle_id)
            notices = [noticed.notice for noticed in await submissions.breaks(conn, cycle_id, participant)]
            notices += await submissions.contest_notices(conn, cycle_id, participant)
        return Breaks(cycle=cycle_id, breaks=tuple(notices))

    async def handed_in(self, participant: str) -> HandedIn:
        """Return what a participant handed in for the newest cycle that it has a cut in."""
        async with transaction(self._engine) as conn:
            newest = await submissions.newest_cut(conn, participant)
            if newest is None:
                return HandedIn()
            cycle, cut = newest
            statements = await submissions.statement_envelopes(conn, cycle, participant)
        return HandedIn(cycle=cycle, cut=submissions.envelope_of(cut), statements=tuple(statements))

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


async def _standing(conn: AsyncConnection, cycle: Cycle) -> dict[PairKey, Standing]:
    """Return where each pair stands."""
    if cycle.state is State.ATTESTING:
        names = {"agreed": "agreed", "different": "differing", "missing": "missing"}
        matches = match(await submissions.attested(conn, cycle.id))
        return {key: names[broken.status] for key, broken in matches.items()}
    outcomes = await pairs.pair_outcomes(conn, cycle.id)
    return {key: "agreed" if reason is None else "carried_over" for key, reason in outcomes.items()}


def _counts(standing: Iterable[Standing]) -> PairCounts:
    return PairCounts(**Counter(standing))


def _totals(agreed: Iterable[AgreedPair]) -> tuple[CurrencyTotal, ...]:
    gross: Counter[str] = Counter()
    for pair in agreed:
        gross[pair.key[0]] += pair.forth + pair.back
    return tuple(CurrencyTotal(currency=code, gross_minor=str(total)) for code, total in sorted(gross.items()))


def _gross(agreed: Iterable[AgreedPair]) -> Mapping[tuple[str, str], tuple[int, int]]:
    """Return what each participant receives and pays, by (currency, participant)."""
    gross: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pair in agreed:
        currency, low, high = pair.key
        for bic, receives, pays in ((low, pair.back, pair.forth), (high, pair.forth, pair.back)):
            received, paid = gross[currency, bic]
            gross[currency, bic] = (received + receives, paid + pays)
    return gross


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
