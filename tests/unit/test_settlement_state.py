"""Whether a payment is settled or why not: every state, in its order of precedence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from test_payment import HISTORIES, ID, history

from participants.ledger.events import Event, ExposureLimit, ExposureLimits
from participants.ledger.exposure import LIMITS, Limits
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Status
from participants.search.known import KnownPayment, Recorded
from participants.search.settlement import Settled, SettlementState, TakenIn, explain

AT = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


def limits(currency: str) -> Limits:
    scheme = ExposureLimits(scheme=(ExposureLimit(currency=currency, limit_minor="9"),))
    return Limits({LIMITS: Event(1, ID, 1, LIMITS, scheme)})


CLEARED = limits("EUR")
IN = LaneKey("BETAFRPP", "ALFADEFF", "EUR")
S = SettlementState


def known(status: Status) -> KnownPayment:
    payment = history(*HISTORIES[status])
    assert payment is not None
    versions = range(1, payment.version + 1)
    recorded = [Recorded(Event(n, ID, n, "payment.opinion", None), AT, status) for n in versions]
    return KnownPayment(payment, recorded)


def cycle(**changes: Any) -> TakenIn:
    fields = {"cycle": "2026-11-28-02", "lanes": {IN: 5}, "settled": frozenset(), "breaks": frozenset()}
    return TakenIn(**{**fields, **changes})


def explained(status: Status, *cycles: TakenIn, **changes: Any) -> tuple[SettlementState, str | None]:
    facts: dict[str, Any] = {"bank": "ALFADEFF", "settled": None, "taken_in": cycles, "limits": CLEARED, **changes}
    standing = explain(known(status), **facts)
    assert standing.explanation
    return standing.state, standing.cycle


BREAK = frozenset({("BETAFRPP", "EUR")})
OLD = cycle(cycle="2026-11-28-01", newest=False)


@pytest.mark.parametrize(
    ("status", "cycles", "changes", "expected"),
    [
        (Status.HELD, (), {}, (S.HELD, None)),
        (Status.RESERVED, (), {}, (S.WAITING_FOR_ANSWER, None)),
        (Status.DECLINED, (cycle(),), {}, (S.NOT_ACCEPTED, None)),
        (Status.REFUSED, (cycle(),), {}, (S.NOT_ACCEPTED, None)),
        (Status.DISPUTED, (cycle(),), {}, (S.DISPUTED, None)),
        (Status.ACCEPTED, (), {}, (S.IN_NO_CYCLE, None)),
        (Status.ACCEPTED, (), {"limits": limits("JPY")}, (S.CURRENCY_NOT_CLEARED, None)),
        (Status.ACCEPTED, (cycle(lanes={IN: 4}),), {}, (S.IN_NO_CYCLE, None)),
        (Status.ACCEPTED, (cycle(),), {}, (S.IN_CYCLE, "2026-11-28-02")),
        (Status.ACCEPTED, (cycle(breaks=BREAK),), {}, (S.LANE_IN_BREAK, "2026-11-28-02")),
        (Status.ACCEPTED, (cycle(settled=frozenset({"EUR"})),), {}, (S.CARRIED_OVER, "2026-11-28-02")),
        (Status.ACCEPTED, (cycle(settled=frozenset({"USD"})),), {}, (S.IN_CYCLE, "2026-11-28-02")),
        (Status.ACCEPTED, (cycle(lanes={}), OLD), {}, (S.CARRIED_OVER, "2026-11-28-01")),
        (Status.ACCEPTED, (cycle(), OLD), {}, (S.IN_CYCLE, "2026-11-28-02")),
        (Status.RETURNED, (cycle(),), {}, (S.IN_CYCLE, "2026-11-28-02")),
        (Status.RETURNED, (), {"settled": Settled("2026-11-27-01", AT)}, (S.SETTLED, "2026-11-27-01")),
    ],
)
def test_each_state(status: Status, cycles: tuple[TakenIn, ...], changes: Any, expected: Any) -> None:
    # The payment of the histories is number 5 of its lane, or none's.
    assert explained(status, *cycles, **changes) == expected


def test_since_when_and_that_nobody_can_be_reached() -> None:
    standing = explain(
        known(Status.RESERVED), bank="ALFADEFF", settled=None, taken_in=(), limits=CLEARED, undeliverable_since=AT
    )
    assert standing.since == AT
    assert "2026-11-28T09:00:00Z" in standing.explanation


def test_the_value_date_is_of_what_is_settled() -> None:
    settled = explain(
        known(Status.ACCEPTED), bank="ALFADEFF", settled=Settled("2026-11-27-01", AT), taken_in=(), limits=CLEARED
    )
    assert (settled.value_date, settled.settled_at) == ("2026-11-27", AT)
    taken = explain(known(Status.ACCEPTED), bank="ALFADEFF", settled=None, taken_in=(cycle(),), limits=CLEARED)
    assert (taken.value_date, taken.settled_at) == (None, None)
    assert msgspec.to_builtins(S.IN_CYCLE) == "in_cycle"


@pytest.mark.parametrize(
    ("status", "changes", "expected"),
    [
        (Status.POSTED, {"unattested_since": AT}, True),
        (Status.POSTED, {"unattested_since": AT - timedelta(seconds=1)}, False),
        (Status.POSTED, {}, False),
        (Status.ACCEPTED, {"unattested_since": AT}, False),
    ],
)
def test_a_cycle_whose_numbers_are_missing_may_have_taken_it_in(status: Status, changes: Any, expected: bool) -> None:
    taken_in = (cycle(lanes={}, **changes),)
    standing = explain(known(status), bank="ALFADEFF", settled=None, taken_in=taken_in, limits=CLEARED)
    assert standing.state is S.IN_NO_CYCLE
    assert ("unless cycle 2026-11-28-02 has" in standing.explanation) is expected
