"""When a counterparty that can't be paid is tried again, and what people see of it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from gateway.federation.telemetry import REGISTRY
from participants.payments.circuit import FAILURES_MAX, PROBE_SECONDS_MAX, RETRY_SECONDS_MAX, Circuit, CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState


def after(events: str) -> Circuit:
    """Return a circuit after events: f, a failure of theirs; o, one of ours; p, a probe is due; s, success."""
    circuit = Circuit("TESTXXB0")
    for event in events:
        match event:
            case "f" | "o":
                circuit.failed(ours=event == "o")
            case "p":
                circuit.state = HALF_OPEN
            case _:
                circuit.succeeded()
    return circuit


@pytest.mark.parametrize(
    ("events", "state", "seen"),
    [
        ("", CLOSED, False),
        ("ffff", CLOSED, False),
        ("fffff", OPEN, True),
        ("ffffs", CLOSED, False),
        ("ffffsffff", CLOSED, False),
        ("fffffp", HALF_OPEN, True),
        ("fffffpf", OPEN, True),
        ("fffffps", CLOSED, False),
        ("ooooo", CLOSED, True),
        ("fffffpo", CLOSED, True),
        ("oooof", OPEN, True),
    ],
)
def test_states(events: str, state: CircuitState, seen: bool) -> None:
    circuit = after(events)
    since = circuit.undeliverable_since
    assert (circuit.state, since is not None) == (state, seen)
    gauge = REGISTRY.get_sample_value("concordat_payments_undeliverable_since_seconds", {"counterparty": "TESTXXB0"})
    assert gauge == (0 if since is None else since.timestamp())
    assert since is None or abs((datetime.now(UTC) - since).total_seconds()) < 60


def test_waits_grow_to_a_minute_and_begin_anew() -> None:
    circuit = Circuit("TESTXXB1")
    waits = [circuit.failed(ours=False) for _ in range(20)]
    assert waits[0] <= 0.1
    assert sum(waits[:FAILURES_MAX]) < 4
    assert 0.8 * PROBE_SECONDS_MAX <= min(waits[-5:]) <= max(waits) <= PROBE_SECONDS_MAX
    assert max(Circuit("TESTXXB1").failed(ours=True) for _ in range(20)) <= RETRY_SECONDS_MAX
    circuit.succeeded()
    assert circuit.failed(ours=False) <= 0.1
    assert 20 < circuit.failed(ours=False, retry_after_s=30) <= 30
    assert circuit.failed(ours=False, retry_after_s=3_600) <= PROBE_SECONDS_MAX


async def test_a_call_of_theirs_cuts_a_rest_short() -> None:
    circuit = after("fffff")
    started = time.monotonic()
    resting = asyncio.create_task(circuit.rest(60))
    await asyncio.sleep(0.1)
    circuit.heard()
    await asyncio.wait_for(resting, 5)
    assert 0.9 < time.monotonic() - started < 3
    assert circuit.state is HALF_OPEN
