"""Looking for payments: a page of those that match, the newest first, in bounded time however long the journal is.

What somebody asks for decides where is looked (`docs/decisions/0019-finding-payments.md`). A page may be short although
there is more; its cursor says how far was looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import asyncpg
from msgspec import Struct

from participants.ledger.instants import INVERSION_MAX, last_event_before
from participants.ledger.payment import Status
from participants.search.criteria import REFERENCES, Criteria
from participants.search.sources import (
    END,
    FOLLOWED_AND_HEAD,
    START,
    Exceptions,
    Hit,
    Open,
    Place,
    Postings,
    Refused,
    Source,
    TermsOf,
    Window,
    accounts_of,
    term_of,
)
from participants.search.terms import NOT_PROVIDED, term

SIZE_MIN, SIZE_MAX = 500, 10_000
"""How many rows are looked at at once: more each time, while nothing is found."""
SECONDS_MAX = 1.0
"""For how long a request looks before it answers how far it got."""
OPEN_MAX = 20_000
"""While so many payments wait they are looked through, and the journal else."""
EXCEPTIONAL = {
    Status.DECLINED: "payment.declined",
    Status.REFUSED: "payment.refused",
    Status.CANCELLED: "payment.cancelled",
    Status.DISPUTED: "payment.disputed",
    Status.RETURNED: "payment.returned",
}
"""What few payments are, and the event by which they became it."""
WAITING = frozenset({Status.RESERVED, Status.CANCELLING, Status.HELD})
FLOOR = "SELECT sequence FROM journal_floor"
COUNT_OPEN = f"SELECT count(*) FROM (SELECT FROM payment_open LIMIT {OPEN_MAX + 1}) AS open"  # noqa: S608 - a number


class FoundPage(Struct, frozen=True):
    """Hits, newest first, and the place that the next page begins before; None where there is no more."""

    hits: Sequence[Hit]
    next: Place | None


async def find(pool: asyncpg.Pool, criteria: Criteria, *, before: Place, limit: int) -> FoundPage:
    """Return the next payments and refused orders that match, before a place."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with pool.acquire() as connection:
        sources, top = await _sources(connection, criteria)
    before = min(before, top)
    hits: list[Hit] = []
    size = max(SIZE_MIN, 4 * limit)
    while True:
        # A connection for each stretch, so that nobody waits for one until the whole search is done.
        async with pool.acquire() as connection:
            stretches = [await source.look(connection, before, size) for source in sources]
        through = max(stretch.through for stretch in stretches)
        new = {hit for stretch in stretches for hit in stretch.hits if through <= hit.place < before}
        hits += sorted(new, reverse=True)
        if len(hits) > limit:
            return FoundPage(hits[:limit], hits[limit - 1].place)
        if through == END:
            return FoundPage(hits, None)
        if len(hits) == limit or loop.time() - begun > SECONDS_MAX:
            return FoundPage(hits, through)
        before, size = through, min(2 * size, SIZE_MAX)


async def _sources(connection: asyncpg.Connection, criteria: Criteria) -> tuple[list[Source], Place]:
    """Return where to look, and the place to begin before."""
    begin, end = criteria.created_from, criteria.created_to
    if criteria.of_changes:
        begin, end = _latest(begin, criteria.updated_from), criteria.updated_to
    # Clocks differ a little between the nodes of a bank, so what is near is looked at too.
    floor = await connection.fetchval(FLOOR)
    if begin is not None:
        floor = max(floor, await last_event_before(connection, begin - INVERSION_MAX))
    ceiling = START[0] if end is None else await last_event_before(connection, end + INVERSION_MAX) + 1
    top = (ceiling, START[0])
    refused = [] if criteria.statuses and Status.REFUSED not in criteria.statuses else [Refused(criteria, floor)]
    reference = next((name for name in REFERENCES if getattr(criteria, name) not in (None, NOT_PROVIDED)), None)
    if criteria.of_changes:
        return [Window(criteria, floor, ceiling, changed=True), *refused], top
    if reference is not None:
        return [TermsOf(criteria, term(reference, getattr(criteria, reference)), floor), *refused], top
    if criteria.statuses and criteria.statuses <= WAITING and await connection.fetchval(COUNT_OPEN) <= OPEN_MAX:
        return [Open(criteria)], top
    if criteria.statuses and criteria.statuses <= EXCEPTIONAL.keys() and await _followed(connection):
        terms = [term("event", EXCEPTIONAL[status]) for status in criteria.statuses]
        return [Exceptions(criteria, terms), *refused], top
    if criteria.account is not None or criteria.counterparty is not None:
        posted = Postings(criteria, await accounts_of(connection, criteria), floor)
        return [posted, TermsOf(criteria, term_of(criteria), floor), *refused], top
    return [Window(criteria, floor, ceiling), *refused], top


async def _followed(connection: asyncpg.Connection) -> bool:
    """Tell whether the journal is followed nearly to its end."""
    followed, head = await connection.fetchrow(FOLLOWED_AND_HEAD)
    return bool(head - followed <= SIZE_MAX)


def _latest(*instants: datetime | None) -> datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)
