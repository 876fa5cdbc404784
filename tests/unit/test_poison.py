"""Whose fault it is that an event of the feed can't be dealt with."""

from __future__ import annotations

import asyncpg
import msgspec
import pytest

from compliance.crypto.dsse import EvidenceError, EvidenceReason
from gateway.federation.http.client import RemoteProblem, RemoteUnavailable
from gateway.federation.membership.trust import TrustError, TrustReason
from gateway.federation.problems import Refusal, ServiceReason, problem
from participants.cycle.poison import SET_ASIDE_MAX, Fault, PoisonEvent, SetAside, fault_of
from participants.ledger.writer import WriterReason


def answered(status: int) -> RemoteProblem:
    return RemoteProblem(problem("code", status, "detail"))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (EvidenceError(EvidenceReason.BAD_SIGNATURE, "detail"), Fault.EVENT),
        (TrustError(TrustReason.UNVERIFIED, "detail"), Fault.EVENT),
        (msgspec.ValidationError("not a document"), Fault.EVENT),
        (ValueError("month must be in 1..12"), Fault.EVENT),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), Fault.EVENT),
        (KeyError("statement"), Fault.EVENT),
        (OverflowError("too far"), Fault.EVENT),
        (asyncpg.DataError("value out of range"), Fault.EVENT),
        (answered(404), Fault.EVENT),
        (answered(422), Fault.EVENT),
        (answered(401), Fault.WORLD),
        (answered(429), Fault.WORLD),
        (answered(502), Fault.WORLD),
        (answered(503), Fault.WORLD),
        (RemoteUnavailable("refused"), Fault.WORLD),
        (TimeoutError(), Fault.WORLD),
        (ConnectionResetError(), Fault.WORLD),
        (OSError(28, "no space left on device"), Fault.WORLD),
        (asyncpg.PostgresConnectionError("gone"), Fault.WORLD),
        (asyncpg.LockNotAvailableError("locked"), Fault.WORLD),
        (asyncpg.InterfaceError("pool is closing"), Fault.WORLD),
        (Refusal(WriterReason.LEDGER_BUSY, "busy"), Fault.WORLD),
        (Refusal(ServiceReason.VALIDATION_FAILED, "no"), Fault.EVENT),
        (RuntimeError("nobody foresaw it"), Fault.UNFORESEEN),
        (AssertionError(), Fault.UNFORESEEN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_whose_fault_it_is(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


def test_what_is_set_aside_is_bounded_and_known_once() -> None:
    events = SetAside()
    for number in [*range(1, SET_ASIDE_MAX + 11), SET_ASIDE_MAX + 10]:
        events.add(PoisonEvent(id=number, type="cycle.final", cycle=None, reason="forged"))
    assert [event.id for event in events] == list(range(11, SET_ASIDE_MAX + 11))
    assert events.ids(after=SET_ASIDE_MAX + 8) == [SET_ASIDE_MAX + 9, SET_ASIDE_MAX + 10]
    events.discard(SET_ASIDE_MAX + 10)
    assert events.ids(after=SET_ASIDE_MAX + 8) == [SET_ASIDE_MAX + 9]
