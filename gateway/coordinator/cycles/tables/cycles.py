"""The table of cycles: one row each, moved on by the state machine together with its event. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.keys import VerifyingKey
from compliance.cycle.states import TRIGGER_MEMBER, State, Trigger, event_type, follow
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.failures import STUCK_FROM, FailureReason
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.log import events
from gateway.coordinator.rulebook import Rulebook, stored
from gateway.federation.messages.cycles import Cycle as CycleMessage
from gateway.federation.messages.cycles import StuckView
from gateway.federation.problems import Refusal

_COLUMNS = (
    "id, value_date, number, state, currencies, closed::text AS closed, rulebook, trust_list_version, opened_at,"
    " cut_off_at, deadline_at, due_at, result, version, failures, failure_reason, failure_detail, failing_since"
)


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """One clearing cycle as it is stored.

    `deadline_at` ends the present step for the banks, `due_at` is when the coordinator must look again. `version`
    counts the steps taken; `failures` counts how often in a row the one that is due has failed.
    """

    id: str
    value_date: date
    number: int
    state: State
    currencies: tuple[str, ...]
    closed: dict[str, str]
    """The other currencies of the rulebook, each with why it doesn't settle on the value date."""
    rulebook: str
    trust_list_version: int
    opened_at: datetime
    cut_off_at: datetime | None
    deadline_at: datetime | None
    due_at: datetime | None
    result: str | None
    version: int
    failures: int
    failure_reason: FailureReason | None
    failure_detail: str | None
    failing_since: datetime | None

    @property
    def stuck(self) -> bool:
        """Whether the step that is due has failed so often that people must know."""
        return self.failures >= STUCK_FROM

    def message(self) -> CycleMessage:
        """Return the cycle as members and operators see it."""
        return CycleMessage(
            id=self.id,
            value_date=self.value_date.isoformat(),
            number=self.number,
            state=self.state.value,
            currencies=self.currencies,
            closed=self.closed,
            rulebook=self.rulebook,
            trust_list_version=self.trust_list_version,
            opened_at=timestamp(self.opened_at),
            cut_off_at=None if self.cut_off_at is None else timestamp(self.cut_off_at),
            deadline_at=None if self.deadline_at is None else timestamp(self.deadline_at),
            result=self.result,
            stuck=self._stuck_view(),
        )

    def _stuck_view(self) -> StuckView | None:
        if not self.stuck or self.failure_reason is None or self.failing_since is None:
            return None
        return StuckView(
            reason=self.failure_reason.value,
            since=timestamp(self.failing_since),
            failures=self.failures,
            retry_at=None if self.due_at is None else timestamp(self.due_at),
        )


def _cycle(row: Any) -> Cycle:
    values = row._asdict()
    reason = values["failure_reason"]
    return Cycle(
        **{
            **values,
            "state": State(values["state"]),
            "currencies": tuple(values["currencies"]),
            "closed": msgspec.json.decode(values["closed"]),
            "failure_reason": None if reason is None else FailureReason(reason),
        }
    )


async def find(conn: AsyncConnection, cycle_id: str, *, lock: bool = False) -> Cycle:
    """Return a cycle; raises Refusal `cycle_unknown`. `lock` holds off every other step and submission."""
    query = f"SELECT {_COLUMNS} FROM cycles WHERE id = :id{' FOR UPDATE' if lock else ''}"
    row = (await conn.execute(text(query), {"id": cycle_id})).one_or_none()
    if row is None:
        raise Refusal(CycleReason.CYCLE_UNKNOWN, f"no cycle {cycle_id}")
    return _cycle(row)


async def lock_unmoved(conn: AsyncConnection, cycle: Cycle) -> Cycle | None:
    """Lock a cycle and return it as it is now; None if it has moved on since `cycle` was read."""
    now = await find(conn, cycle.id, lock=True)
    return now if (now.state, now.version) == (cycle.state, cycle.version) else None


async def current(conn: AsyncConnection) -> Cycle | None:
    """Return the open cycle."""
    row = (await conn.execute(text(f"SELECT {_COLUMNS} FROM cycles WHERE state = 'open'"))).one_or_none()
    return None if row is None else _cycle(row)


async def in_progress(conn: AsyncConnection) -> Cycle | None:
    """Return the cycle between its cut-off and its end."""
    row = (
        await conn.execute(text(f"SELECT {_COLUMNS} FROM cycles WHERE state NOT IN ('open', 'final', 'abandoned')"))
    ).one_or_none()
    return None if row is None else _cycle(row)


async def page(
    conn: AsyncConnection, *, limit: int, before: tuple[date, int] | None, value_date: date | None
) -> tuple[Cycle, ...]:
    """Return cycles, newest first, that are older than `before` (value date, number)."""
    rows = await conn.execute(
        text(
            f"SELECT {_COLUMNS} FROM cycles"
            " WHERE (CAST(:value_date AS date) IS NULL OR value_date = :value_date)"
            " AND (CAST(:day AS date) IS NULL OR (value_date, number) < (CAST(:day AS date), CAST(:number AS integer)))"
            " ORDER BY value_date DESC, number DESC LIMIT :limit"
        ),
        {
            "value_date": value_date,
            "day": None if before is None else before[0],
            "number": 0 if before is None else before[1],
            "limit": limit,
        },
    )
    return tuple(_cycle(row) for row in rows)


async def insert(
    conn: AsyncConnection,
    *,
    value_date: date,
    number: int,
    rulebook: Rulebook,
    closed: Mapping[str, str],
    trust_list_version: int,
    opened_at: datetime,
    cut_off_at: datetime | None,
) -> Cycle | None:
    """Open a cycle, to be told by `tell_opened`; None when its number is taken or another cycle is open.

    The registry has put the rulebook in force before.
    """
    cycle_id = f"{value_date.isoformat()}-{number:02d}"
    row = (
        await conn.execute(
            text(
                "INSERT INTO cycles (id, value_date, number, state, currencies, closed, rulebook,"
                " trust_list_version, opened_at, cut_off_at) VALUES (:id, :value_date, :number, 'open', :currencies,"
                " CAST(:closed AS json), :rulebook, :version,"
                f" :opened_at, :cut_off_at) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
            ),
            {
                "id": cycle_id,
                "value_date": value_date,
                "number": number,
                **_currencies(rulebook, closed),
                "rulebook": rulebook.sha256,
                "version": trust_list_version,
                "opened_at": opened_at,
                "cut_off_at": cut_off_at,
            },
        )
    ).one_or_none()
    if row is None:
        return None
    return _cycle(row)


async def tell_opened(conn: AsyncConnection, cycle: Cycle, in_force: Mapping[str, Any]) -> None:
    """Append the event of an opening. `in_force` names what counts from here on, read under the log's lock."""
    data: dict[str, Any] = {
        "state": State.OPEN,
        "value_date": cycle.value_date.isoformat(),
        "currencies": sorted({*cycle.currencies, *cycle.closed}),
        "rulebook": cycle.rulebook,
        **in_force,
    }
    if cycle.closed:
        data["closed"] = cycle.closed
    if cycle.cut_off_at is not None:
        data["cut_off_at"] = timestamp(cycle.cut_off_at)
    await events.append(conn, event_type(State.OPEN), data, cycle=cycle.id)


async def leave_out(conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook, closed: Mapping[str, str]) -> Cycle:
    """Fix which currencies a locked cycle takes in: all but the closed ones. Return the cycle as it is then."""
    if dict(closed) == cycle.closed:
        return cycle
    terms = _currencies(rulebook, closed)
    query = text("UPDATE cycles SET currencies = :currencies, closed = CAST(:closed AS json) WHERE id = :id")
    await conn.execute(query, {"id": cycle.id, **terms})
    return replace(cycle, currencies=tuple(terms["currencies"]), closed=dict(closed))


def _currencies(rulebook: Rulebook, closed: Mapping[str, str]) -> dict[str, Any]:
    return {
        "currencies": sorted(set(rulebook.currencies) - closed.keys()),
        "closed": msgspec.json.encode(closed).decode(),
    }


async def last_number(conn: AsyncConnection, value_date: date) -> int:
    """Return the highest number of a value date's cycles, 0 before the first."""
    query = text("SELECT coalesce(max(number), 0) FROM cycles WHERE value_date = :value_date")
    return int((await conn.execute(query, {"value_date": value_date})).scalar_one())


async def move(
    conn: AsyncConnection,
    cycle: Cycle,
    trigger: Trigger,
    *,
    data: Mapping[str, Any] | None = None,
    cut_off_at: datetime | None = None,
    trust_list_version: int | None = None,
    deadline_at: datetime | None = None,
    due_at: datetime | None = None,
    result: str | None = None,
) -> Cycle:
    """Move a locked cycle on and append the event, in the caller's transaction. Raises IllegalStepError.

    `deadline_at` and `due_at` are those of the new state; what else is given replaces what the cycle had.
    """
    moved = replace(
        cycle,
        state=follow(cycle.state, trigger),
        cut_off_at=cut_off_at or cycle.cut_off_at,
        trust_list_version=trust_list_version or cycle.trust_list_version,
        deadline_at=deadline_at,
        due_at=due_at,
        result=result or cycle.result,
        version=cycle.version + 1,
        failures=0,
        failure_reason=None,
        failure_detail=None,
        failing_since=None,
    )
    await conn.execute(
        text(
            "UPDATE cycles SET state = :state, cut_off_at = :cut_off_at, trust_list_version = :trust_list_version,"
            " deadline_at = :deadline_at, due_at = :due_at, result = :result, version = :version, failures = 0,"
            " failure_reason = NULL, failure_detail = NULL, failing_since = NULL WHERE id = :id"
        ),
        {
            "id": cycle.id,
            "state": moved.state,
            "version": moved.version,
            "cut_off_at": moved.cut_off_at,
            "trust_list_version": moved.trust_list_version,
            "deadline_at": deadline_at,
            "due_at": due_at,
            "result": moved.result,
        },
    )
    event: dict[str, Any] = {"state": moved.state, TRIGGER_MEMBER: trigger, **(data or {})}
    if deadline_at is not None:
        event["deadline_at"] = timestamp(deadline_at)
    await events.append(conn, event_type(moved.state), event, cycle=cycle.id)
    return moved


# --- rulebooks ------------------------------------------------------------------------------------------


# Named by their digests, so what was read once never changes.
_rulebooks: dict[str, Rulebook] = {}


async def rulebook_of(conn: AsyncConnection, cycle: Cycle) -> Rulebook:
    """Return the rulebook that a cycle was opened under."""
    if cycle.rulebook not in _rulebooks:
        query = text("SELECT document::text FROM rulebooks WHERE sha256 = :sha256")
        document = (await conn.execute(query, {"sha256": cycle.rulebook})).scalar_one()
        _rulebooks[cycle.rulebook] = stored(document)
    return _rulebooks[cycle.rulebook]


async def rulebook_text(conn: AsyncConnection, cycle: Cycle) -> str:
    """Return the very text of the rulebook that a cycle was opened under: the cycle names its digest."""
    query = text("SELECT document::text FROM rulebooks WHERE sha256 = :sha256")
    return str((await conn.execute(query, {"sha256": cycle.rulebook})).scalar_one())


# --- participants ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Participation:
    """A participant's part in a cycle: active at the cut-off, and what it delivered since."""

    participant: str
    status: str
    cut_at: datetime | None
    attested_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether it still is active."""
        return self.status == "active"

    @property
    def awaited(self) -> bool:
        """Whether its statements are still to come. Nobody waits for who isn't active, or delivered no cut."""
        return self.active and self.cut_at is not None and self.attested_at is None


async def enrol_active(conn: AsyncConnection, cycle_id: str) -> tuple[str, ...]:
    """Write down who is active now: these take part in the cycle."""
    rows = await conn.execute(
        text(
            "INSERT INTO cycle_participants (cycle, participant)"
            " SELECT :cycle, bic FROM members WHERE kind = 'participant' AND status = 'active' RETURNING participant"
        ),
        {"cycle": cycle_id},
    )
    return tuple(sorted(rows.scalars()))


async def known_participants(conn: AsyncConnection, bics: Iterable[str]) -> frozenset[str]:
    """Return those that the trust list names as participants, whether or not they are active."""
    query = text("SELECT bic FROM members WHERE bic = ANY (:bics) AND kind = 'participant' AND status <> 'applied'")
    return frozenset((await conn.execute(query, {"bics": list(bics)})).scalars())


async def signing_keys(
    conn: AsyncConnection, banks: Iterable[str], scheme: str | None
) -> dict[str, dict[str, VerifyingKey]]:
    """Return the keys that these banks sign a scheme's documents with, of those that are active participants."""
    rows = await conn.execute(
        text(
            "SELECT m.bic, k.x FROM members m"
            " LEFT JOIN member_keys k ON k.bic = m.bic AND k.use = 'sign' AND k.status = 'active'"
            " WHERE m.bic = ANY (:banks) AND m.kind = 'participant' AND m.status = 'active'"
        ),
        {"banks": list(banks)},
    )
    by_bank: dict[str, dict[str, VerifyingKey]] = {}
    for bank, x in rows:
        keys = by_bank.setdefault(bank, {})
        if x is not None:
            key = VerifyingKey(x)
            keys[key.kid] = key.within(scheme)
    return by_bank


async def participations(conn: AsyncConnection, cycle_id: str) -> tuple[Participation, ...]:
    """Return a cycle's participants, ordered by BIC."""
    rows = await conn.execute(
        text(
            "SELECT participant, status, cut_at, attested_at FROM cycle_participants"
            " JOIN members ON bic = participant WHERE cycle = :cycle ORDER BY participant"
        ),
        {"cycle": cycle_id},
    )
    return tuple(Participation(participant=row[0], status=row[1], cut_at=row[2], attested_at=row[3]) for row in rows)


async def mark_attested(conn: AsyncConnection, cycle_id: str, banks: Iterable[str], at: datetime) -> None:
    """Write down that banks have said all they have to say."""
    await conn.execute(
        text("UPDATE cycle_participants SET attested_at = :at WHERE cycle = :cycle AND participant = ANY (:banks)"),
        {"cycle": cycle_id, "banks": list(banks), "at": at},
    )


@dataclass(frozen=True, kw_only=True)
class Roster:
    """A cycle's participants in short: who takes part, delivered its cut, attested, and how many are waited for."""

    participants: frozenset[str]
    delivered: frozenset[str]
    attested: frozenset[str]
    cuts_awaited: int
    statements_awaited: int


async def roster(conn: AsyncConnection, cycle_id: str) -> Roster:
    """Return a cycle's roster. Nobody waits for a participant that isn't active any more, or delivered no cut."""
    row = (
        await conn.execute(
            text(
                "SELECT array_agg(participant), array_agg(participant) FILTER (WHERE cut_at IS NOT NULL),"
                " array_agg(participant) FILTER (WHERE attested_at IS NOT NULL),"
                " count(*) FILTER (WHERE cut_at IS NULL AND status = 'active'),"
                " count(*) FILTER (WHERE cut_at IS NOT NULL AND attested_at IS NULL AND status = 'active')"
                " FROM cycle_participants JOIN members ON bic = participant WHERE cycle = :cycle"
            ),
            {"cycle": cycle_id},
        )
    ).one()
    return Roster(
        participants=frozenset(row[0] or ()),
        delivered=frozenset(row[1] or ()),
        attested=frozenset(row[2] or ()),
        cuts_awaited=row[3],
        statements_awaited=row[4],
    )
