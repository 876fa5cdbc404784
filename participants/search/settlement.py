"""Whether a payment is settled, and why not: from its number, its lane and what this bank knows of cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import asyncpg
from msgspec import Struct

from compliance.cycle.result import instruction_id
from compliance.statements import EDITIONS_MAX
from participants.cycle import attestations, reads
from participants.feed.public import VALUE_DATE_CHARS
from participants.ledger import events, store
from participants.ledger.exposure import Limits
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Payment, Status
from participants.payments.answers import UNANSWERED
from participants.search.known import KnownPayment
from participants.search.terms import term

# The first settlement of a lane that goes as far as a number.
SETTLED = """
SELECT n.key, s.cycle, n.currency FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
    AS n (sender, receiver, currency, sequence, key)
JOIN lane l ON l.sender = n.sender AND l.receiver = n.receiver AND l.currency = n.currency
JOIN LATERAL (
    SELECT cycle FROM lane_settled WHERE lane_id = l.id AND sequence >= n.sequence ORDER BY sequence LIMIT 1
) s ON true
"""
SETTLED_AT = """
SELECT data->>'cycle', data->>'currency', coalesce(effective_at, recorded_at) FROM subject_event
WHERE subject = ANY($1::uuid[]) AND type = 'cycle.settled'
"""
NEWEST_CUT = """
SELECT data->'cut'->>'cycle' FROM event WHERE type = 'cycle.cut' AND schema_version > 1 ORDER BY sequence DESC LIMIT 1
"""
BREAKS = """
SELECT e.sequence, e.subject::text, e.version, e.type, e.schema_version, e.data
FROM event_term t JOIN event e ON e.sequence = t.event_sequence
WHERE t.term = $1 AND e.type = 'cycle.break' ORDER BY e.sequence
"""
CYCLES_LOOKED_AT = 2
"""So many cycles are looked through for one that took a payment in: the newest, and the one before."""


class SettlementState(StrEnum):
    """Whether a payment is settled or why not, in order of precedence."""

    SETTLED = "settled"
    """A cycle settled it."""
    NOT_ACCEPTED = "not_accepted"
    """It was refused or came to nothing: there is nothing to settle."""
    HELD = "held"
    """Screening holds it at this bank, until two people decide."""
    WAITING_FOR_ANSWER = "waiting_for_answer"
    """The other bank hasn't answered yet, or holds it."""
    DISPUTED = "disputed"
    """This bank contests it, and leaves it out of what it attests."""
    LANE_IN_BREAK = "lane_in_break"
    """In the cycle that took it in the two banks don't agree on what they owe each other."""
    IN_CYCLE = "in_cycle"
    """A cycle has taken it in, and isn't final yet."""
    CARRIED_OVER = "carried_over"
    """A cycle had taken it in and settled without it: the next one takes it in again."""
    CURRENCY_NOT_CLEARED = "currency_not_cleared"
    """The rulebook doesn't clear its currency, so no cycle takes it in. A return takes it back."""
    IN_NO_CYCLE = "in_no_cycle"
    """No cycle has taken it in yet: the next one does."""


_WORDS = {
    SettlementState.SETTLED: "settled",
    SettlementState.NOT_ACCEPTED: "it came to nothing, so there is nothing to settle",
    SettlementState.HELD: "screening holds it here until two people decide",
    SettlementState.WAITING_FOR_ANSWER: "the other bank hasn't answered yet, or holds it",
    SettlementState.DISPUTED: "this bank contests it and leaves it out of what it attests",
    SettlementState.LANE_IN_BREAK: "the two banks don't agree on what they owe each other",
    SettlementState.IN_CYCLE: "taken in, and not final yet",
    SettlementState.CARRIED_OVER: "taken in, and carried over: the next cycle takes it in again",
    SettlementState.CURRENCY_NOT_CLEARED: "the rulebook doesn't clear its currency; a return takes it back",
    SettlementState.IN_NO_CYCLE: "no cycle has taken it in yet; the next one does",
}


class Settled(Struct, frozen=True):
    """The cycle that settled a payment, and when it was final."""

    cycle: str
    at: datetime | None


class TakenIn(Struct, frozen=True):
    """A cycle that this bank attested: how far each lane is in it, in which currencies it was settled, its breaks."""

    cycle: str
    lanes: Mapping[LaneKey, int]
    settled: frozenset[str]
    breaks: frozenset[tuple[str, str]]
    """Counterparty and currency."""
    newest: bool = True
    unattested_since: datetime | None = None
    """When this bank fixed its cut, where it has attested nothing: it knows what it receives of the cycle, only."""


class Standing(Struct, frozen=True, kw_only=True):
    """Whether a payment is settled or why not, in a stable word and in a sentence."""

    state: SettlementState
    explanation: str
    since: datetime | None = None
    cycle: str | None = None
    settled_at: datetime | None = None

    @property
    def value_date(self) -> str | None:
        """The value date of the cycle that settled it."""
        settled = self.state is SettlementState.SETTLED and self.cycle is not None
        return self.cycle[:VALUE_DATE_CHARS] if settled and self.cycle else None


def lane_of(payment: Payment, bank: str) -> LaneKey:
    """Return the lane that a payment is in once it is numbered."""
    pair = (bank, payment.counterparty) if payment.direction == "out" else (payment.counterparty, bank)
    return LaneKey(*pair, payment.terms.currency)


def explain(
    known: KnownPayment,
    *,
    bank: str,
    settled: Settled | None,
    taken_in: Sequence[TakenIn],
    limits: Limits,
    undeliverable_since: datetime | None = None,
) -> Standing:
    """Return whether a payment is settled, or why not. `taken_in` are the newest cycles, the newest first."""
    payment = known.payment
    if settled is not None:
        return _standing(SettlementState.SETTLED, cycle=settled.cycle, settled_at=settled.at, since=settled.at)
    if payment.status is Status.HELD:
        return _standing(SettlementState.HELD, since=known.waiting_since)
    if payment.status in UNANSWERED:
        more = "" if undeliverable_since is None else f"; it can't be reached since {undeliverable_since:%FT%TZ}"
        return _standing(SettlementState.WAITING_FOR_ANSWER, more, since=known.waiting_since)
    if payment.sequence is None:
        return _standing(SettlementState.NOT_ACCEPTED, f" ({payment.reason})" if payment.reason else "")
    if payment.status is Status.DISPUTED:
        return _standing(SettlementState.DISPUTED, since=known.updated_at)
    lane, currency = lane_of(payment, bank), payment.terms.currency
    for cycle in taken_in:
        if cycle.lanes.get(lane, 0) < payment.sequence:
            continue
        over = not cycle.newest or currency in cycle.settled
        broken = (payment.counterparty, currency) in cycle.breaks
        if over:
            more = "; the two banks didn't agree on their pair" if broken else ""
            return _standing(SettlementState.CARRIED_OVER, more, cycle=cycle.cycle)
        return _standing(SettlementState.LANE_IN_BREAK if broken else SettlementState.IN_CYCLE, cycle=cycle.cycle)
    if not limits.clears(currency):
        return _standing(SettlementState.CURRENCY_NOT_CLEARED)
    return _standing(SettlementState.IN_NO_CYCLE, _unless_taken_in(known, taken_in))


def _unless_taken_in(known: KnownPayment, taken_in: Sequence[TakenIn]) -> str:
    """Return what may have taken in a payment that this bank sent: its number counts as far as the receiver says."""
    newest = next(iter(taken_in), None)
    if known.payment.direction == "in" or newest is None or newest.unattested_since is None:
        return ""
    if known.created_at > newest.unattested_since:
        return ""
    return f", unless cycle {newest.cycle} has: it is cut off, and this bank hasn't heard what the others took in"


def not_taken(reason: str, at: datetime) -> Standing:
    """Return how an order stands that was refused."""
    return _standing(SettlementState.NOT_ACCEPTED, f" ({reason})", since=at)


def _standing(
    state: SettlementState,
    more: str = "",
    *,
    since: datetime | None = None,
    cycle: str | None = None,
    settled_at: datetime | None = None,
) -> Standing:
    begin = "" if cycle is None else f"cycle {cycle}: "
    return Standing(
        state=state, explanation=f"{begin}{_WORDS[state]}{more}", since=since, cycle=cycle, settled_at=settled_at
    )


async def read_standings(
    connection: asyncpg.Connection,
    bank: str,
    payments: Iterable[KnownPayment],
    undeliverable: Mapping[str, datetime],
) -> dict[str, Standing]:
    """Return by their ids whether payments are settled or why not."""
    payments = list(payments)
    settled = await _settled(connection, bank, [known.payment for known in payments])
    open_ = [known for known in payments if known.payment.id not in settled and known.payment.sequence is not None]
    taken_in = await _taken_in(connection, bank) if open_ else []
    limits = await store.read_limits(connection) if open_ else Limits()
    return {
        known.payment.id: explain(
            known,
            bank=bank,
            settled=settled.get(known.payment.id),
            taken_in=taken_in,
            limits=limits,
            undeliverable_since=undeliverable.get(known.payment.counterparty),
        )
        for known in payments
    }


async def _settled(connection: asyncpg.Connection, bank: str, payments: Sequence[Payment]) -> dict[str, Settled]:
    numbered = [(*lane_of(p, bank), p.sequence, p.id) for p in payments if p.sequence is not None]
    if not numbered:
        return {}
    rows = await connection.fetch(SETTLED, *map(list, zip(*numbered, strict=True)))
    at = await settled_at(connection, bank, {(row[1], row[2]) for row in rows})
    return {row[0]: Settled(row[1], at.get((row[1], row[2]))) for row in rows}


async def settled_at(
    connection: asyncpg.Connection, bank: str, cycles: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], datetime]:
    """Return when cycles were final, by cycle and currency."""
    at: dict[tuple[str, str], datetime] = {}
    # Nearly every cycle is settled by its first edition.
    for editions in (range(1, 2), range(2, EDITIONS_MAX + 1)):
        names = [
            events.settled_subject(instruction_id(cycle, bank, currency, edition))
            for cycle, currency in cycles
            for edition in editions
            if (cycle, currency) not in at
        ]
        if names:
            rows = await connection.fetch(SETTLED_AT, [*names, *map(events.earlier_subject, names)])
            at |= {(row[0], row[1]): row[2] for row in rows}
    return at


async def _taken_in(connection: asyncpg.Connection, bank: str) -> list[TakenIn]:
    """Return the newest cycles that this bank took part in, the newest first."""
    cut = await connection.fetchval(NEWEST_CUT)
    attested = await reads.newest_attested(connection, CYCLES_LOOKED_AT)
    cycles = [*([cut] if cut is not None and cut not in attested else []), *attested]
    return [await _one_taken_in(connection, bank, cycle, newest=cycle == cycles[0]) for cycle in cycles]


async def _one_taken_in(connection: asyncpg.Connection, bank: str, cycle: str, *, newest: bool) -> TakenIn:
    lanes: dict[LaneKey, int] = {}
    stated = [p for said in await reads.attested(connection, cycle) for p in attestations.positions_in(said)]
    for position in stated:
        forth = LaneKey(position.low, position.high, position.currency)
        back = LaneKey(position.high, position.low, position.currency)
        lanes[forth] = max(lanes.get(forth, 0), position.forth_last)
        lanes[back] = max(lanes.get(back, 0), position.back_last)
    # Before it attests, or where it can't, a bank knows how far it is in of what it receives.
    cut, _ = await reads.cut(connection, cycle)
    for lane in () if cut is None else cut.lanes:
        lanes.setdefault(LaneKey(lane.sender, bank, lane.currency), lane.last_sequence)
    settled = await settled_at(connection, bank, {(cycle, key.currency) for key in lanes})
    breaks: dict[tuple[str, str], bool] = {}
    for row in await connection.fetch(BREAKS, term("break", cycle)):
        heard: events.BreakHeard = events.read(events.EventRow(*row)).data
        breaks[heard.counterparty, heard.currency] = not heard.resolved
    return TakenIn(
        cycle=cycle,
        lanes=lanes,
        settled=frozenset(currency for _, currency in settled),
        breaks=frozenset(pair for pair, unresolved in breaks.items() if unresolved),
        newest=newest,
        unattested_since=None if stated else await reads.cut_at(connection, cycle),
    )
