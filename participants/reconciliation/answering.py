"""What a bank answers another that looks for differences: of the two banks' own lanes, bounded, and nothing else.

| asked | costs at most |
|---|---|
| digests of a lane | the leaves of `LEAVES_MAX` payments read and hashed |
| to open a set | its payments read once, 100 bytes of memory each; one set of a counterparty, `SESSIONS_MAX` in all |
| symbols | `SYMBOLS_MAX` of a set |
| records | `RECORDS_MAX` payments read |

Each counterparty has so many questions a second, and a set is forgotten after a while.
"""

from __future__ import annotations

import asyncio
import sys
import time
from base64 import b64encode
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import asyncpg
from msgspec import Struct

from compliance.crypto.dsse import Envelope
from gateway.federation.http.rates import Rates
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.reconciliation import (
    LaneAnswer,
    LaneQuestion,
    LaneRange,
    RecordQuestion,
    SetAnswer,
    SetQuestion,
    SharedRecords,
)
from gateway.federation.problems import Refusal, RefusalReason, ServiceReason
from participants.ledger.lanes import LaneKey
from participants.reconciliation import reads
from participants.reconciliation.agreement import Secrets, ShareRefused
from participants.reconciliation.lane_tree import LEAVES_MAX, Node, cost, whole

if TYPE_CHECKING:
    from participants.reconciliation.reads import Numbers
    from participants.reconciliation.sets import IdSet

SESSIONS_MAX = 4
SESSION_SECONDS = 120.0
"""Since it was last asked of."""
QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE = 20.0, 200.0
OPENED_PER_SECOND, OPENED_AT_ONCE = 0.2, 6.0
COMPILING_SECONDS_MAX = 120.0


class ReconciliationReason(RefusalReason):
    """Why another bank isn't answered when it looks for differences, in order of precedence."""

    LANE_NOT_YOURS = "lane_not_yours", 403
    """One of its two banks has to be the caller, and the other one this bank."""
    SHARE_REFUSED = "share_refused", 422
    """The half of a secret isn't signed by the caller, isn't for this bank, or isn't new."""
    AGREEMENT_UNKNOWN = "agreement_unknown", 409
    """The secret is forgotten, or was never agreed: agree on another one."""
    SESSION_UNKNOWN = "session_unknown", 404
    """The set is forgotten: open it again."""
    TOO_MUCH_ASKED = "too_much_asked", 422
    """More digests, symbols or payments than are told of at once."""
    SETS_BUSY = "sets_busy", 503
    """Others have theirs compared; with `Retry-After`."""


class LaneSet(NamedTuple):
    """Payments of a lane as a set of ids, and the number of each record."""

    ids: IdSet
    numbers: Numbers

    def numbers_of(self, ids: Iterable[str]) -> list[int]:
        """Return under which numbers the payments stand that keyed ids are of, those that there are."""
        from participants.reconciliation.sets import as_ids

        places, _ = self.ids.split(as_ids(b"".join(map(bytes.fromhex, ids))))
        return [int(number) for number in self.numbers[self.ids.places[places]]]


class _Session(Struct, eq=False):
    """A set that is compared with a counterparty."""

    id: str
    key: LaneKey
    set: LaneSet
    at: float


class Sets:
    """Making sets of ids, one at a time beside the event loop. Belongs to one event loop."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._turn = asyncio.Lock()
        self._compiled = False

    async def read(self, lane: reads.LaneHere, after: int, through: int, secret: bytes) -> LaneSet:
        """Return the set of a lane's payments after a number through another."""
        async with self._turn:
            await self._compile()
            parts = await reads.lane_records(self._pool.acquire, lane, after, through)
            return await asyncio.to_thread(_lane_set, secret, parts)

    async def _compile(self) -> None:
        """Have another process compile the loops, once: in this one it would slow down everybody's requests."""
        if not self._compiled:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "participants.reconciliation",
                stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(COMPILING_SECONDS_MAX):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
            self._compiled = True


def _lane_set(secret: bytes, parts: list[reads.LaneRecords]) -> LaneSet:
    import numpy as np

    from participants.reconciliation.sets import RECORD_BYTES, IdSet

    records = np.concatenate([np.empty((0, RECORD_BYTES // 8), np.uint64), *(part.records for part in parts)])
    numbers = np.concatenate([np.empty(0, np.int64), *(part.numbers for part in parts)])
    ids = IdSet(secret, records)
    _ = ids.summary
    return LaneSet(ids, numbers)


class Answering:
    """The answers of one bank. Belongs to one event loop."""

    def __init__(self, *, bank: str, pool: asyncpg.Pool, trust: TrustStore, secrets: Secrets, sets: Sets) -> None:
        self._bank = bank
        self._pool = pool
        self._trust = trust
        self._secrets = secrets
        self._sets = sets
        self._sessions: dict[str, _Session] = {}
        self._opening: set[str] = set()
        self._questions = Rates(QUESTIONS_PER_SECOND, burst=QUESTIONS_AT_ONCE)
        self._opened = Rates(OPENED_PER_SECOND, burst=OPENED_AT_ONCE)

    async def agree(self, counterparty: str, envelope: Envelope) -> Envelope:
        """Answer the half of a secret with this bank's. Raises Refusal."""
        self._charge(self._opened, counterparty)
        try:
            return await self._secrets.answer(counterparty, envelope, self._trust.signing_keys(counterparty))
        except ShareRefused as error:
            raise Refusal(ReconciliationReason.SHARE_REFUSED, str(error)) from error

    async def lane(self, counterparty: str, question: LaneQuestion) -> LaneAnswer:
        """Say how far a lane goes and what its subtrees' digests are. Raises Refusal."""
        self._charge(self._questions, counterparty)
        key = self._key(counterparty, question.sender, question.currency)
        async with self._pool.acquire() as connection:
            lane = await reads.lane(connection, key)
            size = 0 if lane is None else lane.size
            if not question.nodes:
                at = min(size, question.size)
                digests = await reads.digests(connection, lane, at, [whole(at)])
                return LaneAnswer(
                    size=size,
                    digests=b64encode(b"".join(digests)).decode(),
                    settled=() if lane is None else await reads.settled(connection, lane),
                    disputed=() if lane is None else await reads.disputed(connection, lane),
                )
            nodes = [Node(*node) for node in question.nodes]
            if question.size > size or cost(nodes) > LEAVES_MAX:
                raise Refusal(ReconciliationReason.TOO_MUCH_ASKED, f"{len(nodes)} subtrees of {question.size} payments")
            if any(after >= through for after, through in (node.range(question.size) for node in nodes)):
                raise Refusal(ReconciliationReason.TOO_MUCH_ASKED, f"a subtree beyond payment {question.size}")
            digests = await reads.digests(connection, lane, question.size, nodes)
        return LaneAnswer(size=size, digests=b64encode(b"".join(digests)).decode())

    async def open(self, counterparty: str, question: SetQuestion) -> SetAnswer:
        """Make a set of ids and say what there is to say of it. Raises Refusal."""
        self._charge(self._opened, counterparty)
        agreement = self._secrets.named(counterparty, question.agreement)
        if agreement is None:
            raise Refusal(ReconciliationReason.AGREEMENT_UNKNOWN, "no secret of that name")
        self._forget_old()
        others = self._sessions.keys() | self._opening
        if counterparty in self._opening or len(others - {counterparty}) >= SESSIONS_MAX:
            raise Refusal(ReconciliationReason.SETS_BUSY, "sets of others are compared", retry_after_s=5)
        from participants.reconciliation.sets import IDS_MAX

        key = self._key(counterparty, question.lane.sender, question.currency)
        async with self._pool.acquire() as connection:
            lane = await reads.lane(connection, key) or reads.LaneHere(0, key, 0)
        through = min(question.lane.through, lane.size)
        after = min(question.lane.after, through)
        if through - after > IDS_MAX:
            raise Refusal(ReconciliationReason.TOO_MUCH_ASKED, f"more than {IDS_MAX} payments in a set")
        self._opening.add(counterparty)
        try:
            made = await self._sets.read(lane, after, through, agreement.secret)
        finally:
            self._opening.discard(counterparty)
        session = _Session(str(uuid4()), key, made, time.monotonic())
        self._sessions[counterparty] = session
        summary = made.ids.summary
        return SetAnswer(
            session=session.id,
            count=summary.count,
            root=summary.root.hex(),
            bits=b64encode(summary.bits.astype("<i4").tobytes()).decode(),
            lane=LaneRange(sender=question.lane.sender, after=after, through=through),
        )

    async def symbols(self, counterparty: str, session_id: str, first: int, count: int) -> bytes:
        """Return symbols of a set that was opened. Raises Refusal."""
        self._charge(self._questions, counterparty)
        session = self._session(counterparty, session_id)
        from participants.reconciliation.sets import SYMBOLS_MAX, symbol_bytes

        if first + count > SYMBOLS_MAX:
            raise Refusal(ReconciliationReason.TOO_MUCH_ASKED, f"{SYMBOLS_MAX} symbols are all there are of a set")
        return symbol_bytes(await asyncio.to_thread(session.set.ids.symbols, first, count))

    async def records(self, counterparty: str, question: RecordQuestion) -> SharedRecords:
        """Tell more of payments between the two banks. Raises Refusal."""
        self._charge(self._questions, counterparty)
        key, numbers = None, question.numbers
        if question.session is not None:
            session = self._session(counterparty, question.session)
            key, numbers = session.key, tuple(session.set.numbers_of(question.ids))
        elif question.sender is not None and question.currency is not None:
            key = self._key(counterparty, question.sender, question.currency)
        async with self._pool.acquire() as connection:
            entries = {} if key is None else await reads.numbered(connection, key, numbers)
            records = await reads.records(connection, self._bank, counterparty, question.payments, entries=entries)
        return SharedRecords(records=tuple(records))

    def _key(self, counterparty: str, sender: str, currency: str) -> LaneKey:
        if sender not in (counterparty, self._bank):
            raise Refusal(ReconciliationReason.LANE_NOT_YOURS, f"a lane of {sender} isn't between the two of us")
        return LaneKey(sender, self._bank if sender == counterparty else counterparty, currency)

    def _session(self, counterparty: str, session_id: str) -> _Session:
        self._forget_old()
        session = self._sessions.get(counterparty)
        if session is None or session.id != session_id:
            raise Refusal(ReconciliationReason.SESSION_UNKNOWN, "no set of that name is open")
        session.at = time.monotonic()
        return session

    def _forget_old(self) -> None:
        oldest = time.monotonic() - SESSION_SECONDS
        self._sessions = {name: session for name, session in self._sessions.items() if session.at > oldest}

    @staticmethod
    def _charge(rates: Rates, counterparty: str) -> None:
        if (seconds := rates.take(counterparty)) is not None:
            raise Refusal(ServiceReason.TOO_MANY_REQUESTS, "more questions than are answered", retry_after_s=seconds)
