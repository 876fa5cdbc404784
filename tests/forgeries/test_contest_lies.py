"""A coordinator that leaves pairs out for contested cuts that nobody contested, in an export it signs itself."""

from __future__ import annotations

import pytest
from clearing import COORDINATOR, A, B, C, chained, honest, refused, scheme
from lying import unstated
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.statements import CarriedOver, CarryReason, NettingResult
from compliance.verifier.findings import Finding
from compliance.verifier.verify import VerificationError


def lied(**changes: object) -> VerificationError:
    return refused(scheme().export(replace(honest(), **changes)))


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        (None, False),
        ({}, True),
        ({"cut_at": 4}, False),
        ({"known_through": 3}, False),
        ({"sender": B, "receiver": A}, True),
        ({"receiver": C}, False),
    ],
)
def test_a_pair_carried_over_for_a_cut_that_nobody_contested(said: dict[str, object] | None, believed: bool) -> None:
    """Neither bank signed for the pair; that one of them contested the other's cut is in the log, or isn't true."""
    assert honest().result is not None
    document = canonical.decode(honest().result.payload_bytes(), NettingResult)  # type: ignore[union-attr]
    first = document.statements[0]
    assert first.pair == (A, B)
    told = scheme().sign(
        COORDINATOR,
        replace(
            document,
            statements=document.statements[1:],
            carried_over=(
                CarriedOver(pair=(A, B), currency="EUR", reason=CarryReason.CUT_CONTESTED),
                *document.carried_over,
            ),
        ),
    )
    data = {"pair": [A, B], "currency": "EUR", "sender": A, "receiver": B, "cut_at": 3, "known_through": 1}
    events = honest().events
    if said is not None:
        event = replace(events[5], type="cycle.cut_contested", data={**data, **said})
        events = chained((*events[:5], event, *events[6:]))
    record = unstated(scheme().agreed()[0])
    error = refused(scheme().export(replace(record, result=told, events=events)))
    assert (error.step > 6) is believed
    assert believed or error.finding is Finding.PAIR_LEFT_OUT


def test_a_contest_that_cannot_be_read() -> None:
    events = honest().events
    event = replace(events[5], type="cycle.cut_contested", data={"sender": A})
    error = lied(events=chained((*events[:5], event, *events[6:])))
    assert (error.step, error.finding) == (6, Finding.FORMAT_VIOLATION)
