"""Where payments are looked for: each source looks through a stretch of the journal, from newer events to older ones.

A source finds all that there is of its kind in the stretch, and says how far down it looked. The stretch that is common
to all sources of a search is known whole, whatever is written meanwhile: events are numbered in the order of commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import asyncpg
from msgspec import Struct

from participants.search.criteria import BESIDE, MATCHES, REFUSAL_MATCHES, Criteria
from participants.search.terms import term

START = (2**63 - 1, 0)
"""Before everything."""
END = (0, 0)
"""After everything."""

Place = tuple[int, int]
"""Where something stands: an event's number and 0; of a refused order the event before it, and the refusal's number."""


class Hit(NamedTuple):
    """A payment that matches, by its id; or, where `place` has a refusal's number, an order that was refused."""

    place: Place
    payment_id: str


class Stretch(Struct, frozen=True):
    """What a source found, and down to which place it looked for it."""

    hits: Sequence[Hit]
    through: Place


class Source(Protocol):
    """Something to look through, from newer to older."""

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        """Look through about `size` rows before a place."""


# Each names the events that are looked at, with their places; `f` is the first event of the payment. LATERAL and LIMIT
# leave the planner no way that would read the whole journal.
WINDOW = "FROM event f WHERE f.version = 1 AND f.sequence >= $15 AND f.sequence < $16"
CHANGES = """
FROM event e
CROSS JOIN LATERAL (SELECT * FROM subject_event WHERE subject = e.subject AND version = 1 LIMIT 1) f
CROSS JOIN LATERAL (
    SELECT version FROM subject_event WHERE subject = e.subject AND type LIKE 'payment.%' ORDER BY version DESC LIMIT 1
) newest
WHERE e.type LIKE 'payment.%' AND e.sequence >= $15 AND e.sequence < $16 AND e.version = newest.version
"""
NUMBERED = "FROM event f WHERE f.version = 1 AND f.sequence = ANY($15::bigint[])"
POSTED = """
FROM unnest($15::bigint[], $16::bigint[], $17::bigint[]) AS a (id, lowest, highest)
CROSS JOIN LATERAL (
    SELECT event_sequence FROM posting WHERE account_id = a.id AND version BETWEEN a.lowest AND a.highest
    ORDER BY version LIMIT a.highest - a.lowest + 1
) p
CROSS JOIN LATERAL (SELECT * FROM event WHERE sequence = p.event_sequence AND version = 1 LIMIT 1) f
WHERE f.sequence >= $18
"""


def _matching(looked_at: str, place: str = "f.sequence") -> str:
    return f"""
WITH f AS MATERIALIZED (SELECT {place} AS place, f.subject, f.type, f.data, f.recorded_at {looked_at})
SELECT f.place, f.subject::text FROM f {BESIDE} WHERE {MATCHES} ORDER BY f.place DESC
"""  # noqa: S608 - text of ours


IN_WINDOW = _matching(WINDOW)
CHANGED = _matching(CHANGES, "e.sequence")
CHANGED_LATELY = _matching(CHANGES)
OF_NUMBERS = _matching(NUMBERED)
BY_POSTINGS = _matching(POSTED)
ACCOUNTS = """
SELECT id FROM account WHERE kind = ANY($1::text[]) AND code = $2 AND ($3::text IS NULL OR currency = $3)
"""
# Each account's last posting before an event, by halving on the primary key; and the last one that is detached.
LAST_POSTINGS = """
SELECT a.id, coalesce((SELECT version FROM carried_balance WHERE account_id = a.id), 0), (
    WITH RECURSIVE search (low, high) AS (
        SELECT coalesce(c.version, 0), b.version + 1
        FROM account_balance b LEFT JOIN carried_balance c USING (account_id) WHERE b.account_id = a.id
        UNION ALL
        SELECT CASE WHEN p.event_sequence < $2 THEN p.version ELSE low END,
               CASE WHEN p.event_sequence < $2 THEN high ELSE p.version END
        FROM search JOIN posting p ON p.account_id = a.id AND p.version = (low + high) / 2 WHERE high - low > 1
    )
    SELECT max(low) FROM search
) FROM unnest($1::bigint[]) AS a (id)
"""
LOWEST = """
SELECT max(p.event_sequence) FROM unnest($1::bigint[], $2::bigint[]) AS a (id, lowest)
JOIN posting p ON p.account_id = a.id AND p.version = a.lowest
"""
TERMS = """
SELECT event_sequence FROM event_term WHERE term = $1 AND event_sequence < $2
ORDER BY event_sequence DESC LIMIT $3
"""
FOLLOWED = "SELECT through FROM event_term_cursor"
FOLLOWED_AND_HEAD = "SELECT c.through, h.sequence FROM event_term_cursor c CROSS JOIN ledger_head h"
OPEN = """
SELECT f.sequence FROM payment_open o
CROSS JOIN LATERAL (SELECT sequence FROM event_key WHERE subject = o.payment_id AND version = 1 LIMIT 1) f
WHERE f.sequence < $1 ORDER BY f.sequence DESC LIMIT $2
"""
REFUSED = f"""
WITH r AS MATERIALIZED (
    SELECT id, head, recorded_at, payment_id, asked FROM refusal
    WHERE (head, id) < ($15, $16) AND head >= $17 ORDER BY head DESC, id DESC LIMIT $18
)
SELECT head, id, payment_id::text, {REFUSAL_MATCHES} AS matches FROM r ORDER BY head DESC, id DESC
"""  # noqa: S608 - text of ours


def _bound(before: Place) -> int:
    """Return the number that an event has to be less than to stand before a place."""
    sequence, refusal = before
    return sequence if refusal == 0 or sequence == START[0] else sequence + 1


def _hits(rows: Sequence[asyncpg.Record]) -> list[Hit]:
    return [Hit((row[0], 0), row[1]) for row in rows]


class Window(Struct, frozen=True):
    """The journal itself, by a stretch of numbers; with `changed` by the payments' last events.

    `floor` is the first number that may match, `ceiling` the number after the last.
    """

    criteria: Criteria
    floor: int = 0
    ceiling: int = START[0]
    changed: bool = False

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        head = await connection.fetchval("SELECT sequence FROM ledger_head")
        top = min(_bound(before), self.ceiling, head + 1)
        bottom = max(top - size, self.floor)
        rows = await connection.fetch(
            CHANGED if self.changed else IN_WINDOW, *self.criteria.arguments(), bottom, max(top, bottom)
        )
        return Stretch(_hits(rows), END if bottom <= self.floor else (bottom, 0))


class Postings(Struct, frozen=True):
    """The postings of some accounts: they stand with the first event of each payment that moved money then."""

    criteria: Criteria
    accounts: Sequence[int]
    floor: int = 0

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        if not self.accounts:
            return Stretch([], END)
        rows = await connection.fetch(LAST_POSTINGS, self.accounts, _bound(before))
        ids, first, highest = ([row[column] for row in rows] for column in range(3))
        first = [carried + 1 for carried in first]
        lowest = [max(least, number - size + 1) for least, number in zip(first, highest, strict=True)]
        through = 0
        partly = [(id_, number) for id_, number, least in zip(ids, lowest, first, strict=True) if number > least]
        if partly:
            through = await connection.fetchval(LOWEST, *map(list, zip(*partly, strict=True)))
        through = max(through, self.floor)
        posted = await connection.fetch(BY_POSTINGS, *self.criteria.arguments(), ids, lowest, highest, through)
        return Stretch(_hits(posted), END if through <= self.floor else (through, 0))


class TermsOf(Struct, frozen=True):
    """What was taken down under a term, and the journal itself as far as that hasn't been done yet."""

    criteria: Criteria
    term: bytes
    floor: int = 0

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        followed = max(await connection.fetchval(FOLLOWED), self.floor)
        newer = await Window(self.criteria, followed + 1).look(connection, before, size)
        if newer.through > (followed + 1, 0):
            return newer
        top = min(_bound(before), followed + 1)
        numbers = [row[0] for row in await connection.fetch(TERMS, self.term, top, size)]
        rows = await connection.fetch(OF_NUMBERS, *self.criteria.arguments(), numbers)
        ended = len(numbers) < size or numbers[-1] <= self.floor
        return Stretch([*newer.hits, *_hits(rows)], END if ended else (numbers[-1], 0))


class Exceptions(Struct, frozen=True):
    """The payments to which something happened that happens to few, as taken down, and in the journal's newest events.

    For a journal that is followed nearly to its end.
    """

    criteria: Criteria
    terms: Sequence[bytes]

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        followed, head = await connection.fetchrow(FOLLOWED_AND_HEAD)
        rows = await connection.fetch(CHANGED_LATELY, *self.criteria.arguments(), followed + 1, head + 1)
        numbers: set[int] = set()
        through = 0
        for kept in self.terms:
            some = [row[0] for row in await connection.fetch(TERMS, kept, _bound(before), size)]
            numbers.update(some)
            if len(some) == size:
                through = max(through, some[-1])
        rows += await connection.fetch(OF_NUMBERS, *self.criteria.arguments(), list(numbers))
        return Stretch(_hits(rows), (through, 0))


class Open(Struct, frozen=True):
    """The payments that wait for another bank or for people."""

    criteria: Criteria

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        numbers = [row[0] for row in await connection.fetch(OPEN, _bound(before), size)]
        rows = await connection.fetch(OF_NUMBERS, *self.criteria.arguments(), numbers)
        return Stretch(_hits(rows), END if len(numbers) < size else (numbers[-1], 0))


class Refused(Struct, frozen=True):
    """Orders that were refused."""

    criteria: Criteria
    floor: int = 0

    async def look(self, connection: asyncpg.Connection, before: Place, size: int) -> Stretch:
        rows = await connection.fetch(REFUSED, *self.criteria.arguments(), *before, self.floor, size)
        hits = [Hit((row[0], row[1]), row[2]) for row in rows if row[3]]
        return Stretch(hits, END if len(rows) < size else (rows[-1][0], rows[-1][1]))


async def accounts_of(connection: asyncpg.Connection, criteria: Criteria) -> list[int]:
    """Return the accounts by which payments of the account, or else of the counterparty, are posted."""
    if criteria.account is not None:
        kinds, code = ["customer"], criteria.account
    else:
        kinds, code = [], criteria.counterparty or ""
        if criteria.direction != "in":
            kinds.append("reserved")
        if criteria.direction != "out":
            kinds.append("due_from")
    return [row[0] for row in await connection.fetch(ACCOUNTS, kinds, code, criteria.currency)]


def term_of(criteria: Criteria) -> bytes:
    """Return the term of payments that moved nothing, of the account or else of the counterparty."""
    if criteria.account is not None:
        return term("account", criteria.account)
    return term("counterparty", criteria.counterparty or "")
