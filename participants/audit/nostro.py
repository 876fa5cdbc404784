"""The check of `fsck` that the nostro is the account at the settlement agent, by the entries that the agent signed.

Cycles must have moved the same on both. What moved outside of them is named: openings that were taken from the nostro
here, fundings there. Signatures were verified when the entries came; what is kept of one must be what it says.
"""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import msgspec

from compliance.crypto.dsse import Envelope, EvidenceError
from gateway.federation.iso20022 import MessageRefused, read_notification
from participants.cycle.movements import (
    LATE_SECONDS,
    Movement,
    MovementFault,
    Settlement,
    findings,
)
from participants.cycle.settlement_account import EXPLAINED, read_settlements

AGENTS = "SELECT DISTINCT agent FROM settlement_movement ORDER BY agent"
MOVEMENTS = """
SELECT id, currency, sequence, amount, cycle, seen_at, reference, signed FROM settlement_movement
WHERE agent = $1 ORDER BY id
"""
# What the nostro stands at, what of that no cycle moved, and the same of what the agent signed.
BALANCES = """
SELECT currency, coalesce(n.balance, 0), coalesce(n.outside, 0), coalesce(m.balance, 0), coalesce(m.outside, 0)
FROM (
    SELECT a.currency, sum(p.amount) AS balance,
        coalesce(sum(p.amount) FILTER (WHERE e.type <> 'cycle.settled'), 0) AS outside
    FROM account a JOIN posting p ON p.account_id = a.id JOIN event e ON e.sequence = p.event_sequence
    WHERE a.kind = 'nostro' AND a.code = $1 GROUP BY a.currency
) n FULL JOIN (
    SELECT currency, sum(amount) AS balance, coalesce(sum(amount) FILTER (WHERE cycle IS NULL), 0) AS outside
    FROM settlement_movement WHERE agent = $1 GROUP BY currency
) m USING (currency) ORDER BY currency
"""


class NostroFindings(msgspec.Struct):
    """How many of the agent's entries were examined, where both stand, and the first difference, if there is one."""

    entries: int = 0
    standing: str = ""
    difference: str | None = None


async def compare(connection: asyncpg.Connection, bank: str, *, late_s: float = LATE_SECONDS) -> NostroFindings:
    """Compare the nostro with what the agent signed. Needs a transaction."""
    result = NostroFindings()
    for (agent,) in await connection.fetch(AGENTS):
        movements: list[Movement] = []
        for row in await connection.fetch(MOVEMENTS, agent):
            result.entries += 1
            movements.append(Movement(*tuple(row)[:6]))
            if (fault := _kept_otherwise(row, agent, bank)) is not None:
                result.difference = result.difference or fault
        settlements: dict[tuple[str, str], Settlement] = {}
        await read_settlements(connection, agent, settlements)
        result.difference = result.difference or await _first_finding(connection, agent, movements, settlements, late_s)
        for currency, here, outside_here, there, outside_there in await connection.fetch(BALANCES, agent):
            if here != there:
                result.standing += (
                    f"; {currency}: {int(here)} in the books, {int(there)} at {agent}; "
                    f"outside of cycles {int(outside_here)} and {int(outside_there)}"
                )
    return result


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
            continue  # Outside of cycles: an alarm while the node runs, and named here with both balances.
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
