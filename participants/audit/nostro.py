"""The check of `fsck` that the nostro is the account at the settlement agent, by the entries that the agent signed.

Cycles must have moved the same on both, what moved there outside of them must be booked here, and nothing else may
move the nostro. What is in flight by evidence is named and is no difference: an entry that isn't booked yet though none
after it is, a cycle that is final on one side so far, and openings of earlier releases that the node is yet to take
off. Signatures were verified when the entries came; what is kept of one must be what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from compliance.crypto.dsse import Envelope, EvidenceError
from gateway.federation.iso20022 import MessageRefused, read_notification
from participants.cycle.movements import (
    LATE_SECONDS,
    UNCONFIRMED_SECONDS_MAX,
    Movement,
    MovementFault,
    Settlement,
    Settlements,
    findings,
    to_book,
)
from participants.cycle.settlement_account import EXPLAINED, read_settlements
from participants.ledger import events
from participants.ledger.account_events import NostroMoved, OpeningsMoved

LONG = timedelta(seconds=UNCONFIRMED_SECONDS_MAX)

AGENTS = "SELECT agent FROM settlement_movement UNION SELECT code FROM account WHERE kind = 'nostro' ORDER BY 1"
MOVEMENTS = """
SELECT id, currency, sequence, amount, cycle, seen_at, reference, signed FROM settlement_movement
WHERE agent = $1 ORDER BY id
"""
BALANCES = """
SELECT a.currency, sum(p.amount)::numeric, coalesce(sum(p.amount) FILTER (WHERE e.type = 'accounts.opened'), 0)::numeric
FROM account a JOIN posting p ON p.account_id = a.id JOIN event e ON e.sequence = p.event_sequence
WHERE a.kind = 'nostro' AND a.code = $1 GROUP BY a.currency
"""
BOOKED = """
SELECT sequence, subject::text, version, type, schema_version, data FROM event
WHERE type IN ('nostro.moved', 'nostro.openings_moved') ORDER BY sequence
"""
# Since when a program has been at work that books, and until when anything was.
AT_WORK = """
SELECT min(recorded_at) FILTER (WHERE type IN ('nostro.moved', 'nostro.openings_moved')), max(recorded_at) FROM event
"""


class NostroFindings(msgspec.Struct):
    """How many of the agent's entries were examined, what is in flight, and the first difference, if there is one."""

    entries: int = 0
    standing: str = ""
    difference: str | None = None

    def differs(self, difference: str | None) -> None:
        self.difference = self.difference or difference


async def compare(connection: asyncpg.Connection, bank: str, *, late_s: float = LATE_SECONDS) -> NostroFindings:
    """Compare the nostro with what the agent signed. Needs a transaction."""
    result = NostroFindings()
    booked = [events.read(events.EventRow(*tuple(row))).data for row in await connection.fetch(BOOKED)]
    since, until = await connection.fetchrow(AT_WORK)
    for (agent,) in await connection.fetch(AGENTS):
        movements: list[Movement] = []
        for row in await connection.fetch(MOVEMENTS, agent):
            result.entries += 1
            movements.append(Movement(*tuple(row)[:6]))
            result.differs(_kept_otherwise(row, agent, bank))
        settlements: dict[tuple[str, str], Settlement] = {}
        await read_settlements(connection, agent, settlements)
        result.differs(await _first_finding(connection, agent, movements, settlements, late_s))
        explained = {row[0] for row in await connection.fetch(EXPLAINED, agent)}
        moved = [event for event in booked if event.agent == agent]
        waiting = _Waiting(agent)
        due = to_book(movements, settlements, explained=explained)
        # Explained before this bank was instructed, and booked then.
        instructed = {
            (movement.currency, movement.sequence)
            for movement in movements
            if movement.id in explained and (movement.cycle, movement.currency) in settlements
        }
        result.differs(waiting.bookings(due, moved, instructed, since, until))
        waiting.cycles(movements, settlements, explained)
        balances = {row[0]: (int(row[1]), int(row[2])) for row in await connection.fetch(BALANCES, agent)}
        for currency in sorted(balances.keys() | {movement.currency for movement in movements}):
            here, openings = balances.get(currency, (0, 0))
            there = sum(movement.amount for movement in movements if movement.currency == currency)
            waiting.openings(currency, openings, moved)
            amount, named = waiting.in_flight(currency)
            standing = f"{currency}: {here} in the books, {there} at {agent}"
            if here != there + amount:
                reason = f", {', '.join(named)}" if named else ""
                result.differs(f"{standing}: {here - there - amount} more here than anything explains{reason}")
            elif named:
                result.standing += f"; {standing}: {', '.join(named)}"
    return result


class _Waiting:
    """What one side has and the other hasn't yet, by currency: positive is what the books have more."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._listed: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def in_flight(self, currency: str) -> tuple[int, list[str]]:
        """Return by how much the books may stand above the agent, and why."""
        listed = self._listed[currency]
        return sum(amount for amount, _ in listed), [f"{abs(amount)} {what}" for amount, what in listed]

    def bookings(
        self,
        due: Sequence[tuple[Movement, int]],
        moved: Sequence[NostroMoved | OpeningsMoved],
        instructed: Collection[tuple[str, int]],
        since: datetime | None,
        until: datetime | None,
    ) -> str | None:
        """Compare what is to be booked with what is; return the first difference.

        Entries are booked in their order, and at once: one is in flight only if none after it is booked, and if no
        program that books was at work long after it came.
        """
        booked: defaultdict[tuple[str, int], int] = defaultdict(int)
        for of in moved:
            if isinstance(of, NostroMoved):
                booked[of.currency, of.entry] += int(of.amount_minor)
        elsewhere = booked.keys() - {(movement.currency, movement.sequence) for movement, _ in due}
        for currency, entry in sorted(key for key in elsewhere if booked[key]):
            if (currency, entry) in instructed:
                what = f"of entry {entry} are yet to be taken back, for its cycle books them"
                self._listed[currency].append((booked[currency, entry], what))
                continue
            return f"entry {entry} in {currency} is booked, and {self._agent} signed nothing of it"
        waiting: list[tuple[Movement, int]] = []
        for movement, amount in due:
            entered = booked.get((movement.currency, movement.sequence)) or None
            place = f"entry {movement.sequence} in {movement.currency} at {self._agent}"
            if entered is None:
                waiting.append((movement, amount))
            elif entered != amount and (movement.currency, movement.sequence) in instructed:
                what = f"of entry {movement.sequence} are yet to be taken back, for its cycle books them"
                self._listed[movement.currency].append((entered - amount, what))
            elif entered != amount:
                return f"{place}: {entered} is booked, {amount} moved"
            elif waiting and movement.cycle is None:
                first, unbooked = waiting[0]
                if first.cycle is None:
                    place = f"entry {first.sequence} in {first.currency} at {self._agent}"
                    return f"{place}: {unbooked} isn't booked, and entry {movement.sequence} after it is"
        for movement, amount in waiting:
            came = movement.seen_at
            if since is not None and until is not None and until - max(came, since) > LONG:
                place = f"entry {movement.sequence} in {movement.currency} at {self._agent}"
                return f"{place}: {amount} isn't booked, and came at {came:%Y-%m-%dT%H:%M:%SZ}"
            self._listed[movement.currency].append((-amount, f"of entry {movement.sequence} are yet to be booked"))
        return None

    def cycles(self, movements: Sequence[Movement], settlements: Settlements, explained: Collection[int]) -> None:
        """Add what cycles moved on one side so far; whether that may be is for others to say."""
        moved: set[tuple[str, str]] = set()
        for movement in movements:
            if movement.cycle is None:
                continue
            key = (movement.cycle, movement.currency)
            settlement = settlements.get(key)
            first = key not in moved
            moved.add(key)
            if first and settlement is not None and settlement.net is None:
                self._listed[movement.currency].append((-movement.amount, f"of {movement.cycle}, not final here"))
            elif settlement is None and movement.id not in explained:
                self._listed[movement.currency].append((-movement.amount, f"of {movement.cycle}, not instructed here"))
        for (cycle, currency), settlement in settlements.items():
            if settlement.net and (cycle, currency) not in moved:
                self._listed[currency].append((settlement.net, f"of {cycle}, not read from {self._agent}"))

    def openings(self, currency: str, taken: int, moved: Sequence[NostroMoved | OpeningsMoved]) -> None:
        """Add what accounts opened with that is still on the nostro."""
        away = sum(int(of.amount_minor) for of in moved if isinstance(of, OpeningsMoved) and of.currency == currency)
        if taken > away:
            self._listed[currency].append((taken - away, "of opening balances, which the node takes off at its start"))


async def _first_finding(
    connection: asyncpg.Connection,
    agent: str,
    movements: list[Movement],
    settlements: dict[tuple[str, str], Settlement],
    late_s: float,
) -> str | None:
    """Return what is wrong between what cycles moved here and there, None if nothing is but what may still come."""
    explained = {row[0] for row in await connection.fetch(EXPLAINED, agent)}
    # Entries are read in the agent's order: what settled after all that was read may stand among those still to come.
    read = {movement.cycle for movement in movements}
    now = datetime.now(UTC)
    for finding in findings(movements, settlements, now=now, complete=False, explained=explained, late_s=late_s):
        if finding.fault is MovementFault.DEBIT_UNASKED:
            continue  # Outside of cycles: an alarm while the node runs, and booked.
        if finding.fault is MovementFault.MISSING:
            final_at = settlements[finding.cycle or "", finding.currency].final_at
            later = (of.final_at for (cycle, _), of in settlements.items() if cycle in read and cycle != finding.cycle)
            if final_at is not None and not any(at is not None and at > final_at for at in later):
                continue
        place = f"entry {finding.movement} at {agent}" if finding.movement else f"cycle {finding.cycle}"
        return f"{place} ({finding.currency}): {finding.fault}, {finding.detail}"
    return None


def _kept_otherwise(row: asyncpg.Record, agent: str, bank: str) -> str | None:
    """Return how what is kept of an entry differs from what the agent signed."""
    place = f"entry {row['id']} at {agent}"
    try:
        signed = read_notification(msgspec.json.decode(row["signed"], type=Envelope).payload_bytes())
    except (msgspec.MsgspecError, EvidenceError, MessageRefused) as error:
        return f"{place}: what was signed can't be read: {error}"
    kept = (agent, bank, row["currency"], row["sequence"], row["amount"], row["cycle"], row["reference"])
    said = (
        signed.sender,
        signed.participant,
        signed.currency,
        signed.sequence,
        signed.amount,
        signed.cycle,
        signed.reference,
    )
    return None if kept == said else f"{place}: {kept} is kept, {said} was signed"
