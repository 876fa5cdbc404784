"""Prove the agent's books from what they hold: everything derived is recomputed and compared.

Each check is a query that returns the rows that contradict it, or a comparison of a stored message with the journal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import asyncpg

from gateway.agent.settlement import fingerprint
from gateway.federation.iso20022 import MessageRefused, read_notification, read_settlement_request, read_status

FINDINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and what contradicts it (at most `FINDINGS_MAX` lines)."""

    name: str
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.findings


_QUERIES = {
    "entries balance per currency": """
        SELECT format('entry %s: %s %s', e.id, coalesce(sum(p.amount)::text, 'nothing posted'), p.currency)
        FROM entry e LEFT JOIN posting p ON p.entry_id = e.id
        GROUP BY e.id, p.currency HAVING count(p.amount) < 2 OR sum(p.amount) <> 0 ORDER BY e.id""",
    "balances follow from the postings": """
        SELECT format('account %s %s: balance %s, postings %s', a.participant, a.currency, a.balance,
            coalesce(sum(p.amount), 0))
        FROM account a LEFT JOIN posting p ON p.account_id = a.id
        GROUP BY a.id HAVING a.balance <> coalesce(sum(p.amount), 0) OR a.version <> count(p.amount) ORDER BY a.id""",
    "every posting continues the one before": """
        SELECT format('account %s, posting %s: balance %s', account_id, version, balance) FROM (
            SELECT *, sum(amount) OVER running AS expected, row_number() OVER running AS number FROM posting
            WINDOW running AS (PARTITION BY account_id ORDER BY version)) AS p
        WHERE balance <> expected OR version <> number ORDER BY account_id, version""",
    "no account was ever below its limit": """
        SELECT format('account %s %s, posting %s: balance %s', a.participant, a.currency, p.version, p.balance)
        FROM posting p JOIN account a ON a.id = p.account_id
        WHERE a.kind = 'participant' AND p.balance < -a.overdraft_limit ORDER BY a.id, p.version""",
    "central money adds up per currency": """
        SELECT format('%s: %s', currency, sum(balance)) FROM account
        GROUP BY currency HAVING sum(balance) <> 0 ORDER BY currency""",
    "every request has its answer, every settlement its request": """
        SELECT format('request %s of %s', r.message_id, r.sender) FROM request r
        LEFT JOIN answer a USING (sender, message_id) LEFT JOIN entry e ON e.id = a.entry_id
        WHERE a.status IS NULL OR (a.status = 'ACSC'
            AND e.cause IS DISTINCT FROM format('settlement:%s:%s', r.sender, r.message_id))
        UNION ALL SELECT format('entry %s', e.id) FROM entry e LEFT JOIN answer a ON a.entry_id = e.id
        WHERE e.kind = 'settlement' AND a.entry_id IS NULL""",
    "every posting was notified": """
        SELECT format('account %s, posting %s', p.account_id, p.version) FROM posting p
        JOIN account a ON a.id = p.account_id AND a.kind = 'participant'
        LEFT JOIN notification n ON n.account_id = p.account_id AND n.version = p.version
        WHERE n.id IS NULL ORDER BY 1""",
}


async def fsck(connection: Any) -> tuple[Check, ...]:
    """Check the whole database as of one moment."""
    checks = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, query in _QUERIES.items():
            rows = await connection.fetch(f"SELECT * FROM ({query}) AS found LIMIT {FINDINGS_MAX}")  # noqa: S608
            checks.append(Check(name, tuple(row[0] for row in rows)))
        checks.append(Check("answers say what was posted", await _contradicted_answers(connection)))
        checks.append(Check("notifications say what was posted", await _contradicted_notifications(connection)))
    return tuple(checks)


async def _contradicted_answers(connection: Any) -> tuple[str, ...]:
    """Read every request and answer again and hold them against the journal."""
    posted: defaultdict[int, set[tuple[str, str, int]]] = defaultdict(set)
    async for row in connection.cursor(
        "SELECT p.entry_id, a.participant, a.currency, p.amount FROM posting p JOIN account a ON a.id = p.account_id"
        " JOIN entry e ON e.id = p.entry_id WHERE e.kind = 'settlement'"
    ):
        posted[row["entry_id"]].add((row["participant"], row["currency"], row["amount"]))
    problems = []
    async for row in connection.cursor(
        "SELECT r.message_id, r.fingerprint, r.document AS asked, a.document AS answered, a.status, a.entry_id"
        " FROM request r JOIN answer a USING (sender, message_id) ORDER BY r.number"
    ):
        try:
            request, answer = read_settlement_request(row["asked"]), read_status(row["answered"])
        except MessageRefused as refused:
            problems.append(f"request {row['message_id']}: {refused}")
            continue
        movements = {(m.participant, m.currency, m.amount) for m in request.movements}
        if (
            fingerprint(request) != row["fingerprint"]
            or (answer.original_message_id, answer.status) != (row["message_id"], row["status"])
            or posted.get(row["entry_id"], set()) != (movements if row["entry_id"] is not None else set())
        ):
            problems.append(f"request {row['message_id']}: the answer differs from what was asked or posted")
    return _some(problems)


async def _contradicted_notifications(connection: asyncpg.Connection) -> tuple[str, ...]:
    problems = []
    async for row in connection.cursor(
        "SELECT n.id, n.participant, n.document, p.amount, p.version, a.currency, a.participant AS owner"
        " FROM notification n JOIN posting p USING (account_id, version) JOIN account a ON a.id = p.account_id"
    ):
        try:
            notified = read_notification(row["document"])
        except MessageRefused as refused:
            problems.append(f"notification {row['id']}: {refused}")
            continue
        posted = (row["owner"], row["owner"], row["currency"], row["amount"], row["version"])
        if (row["participant"], notified.participant, notified.currency, notified.amount, notified.sequence) != posted:
            problems.append(f"notification {row['id']}: differs from the posting")
    return _some(problems)


def _some(problems: Iterable[str]) -> tuple[str, ...]:
    return tuple(problems)[:FINDINGS_MAX]
