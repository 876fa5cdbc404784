"""A coordinator that leaves pairs out for cuts that nobody contested, or hides that they are, and signs the export."""

from __future__ import annotations

import msgspec
import pytest
from attesting import Word, silent
from clearing import COORDINATOR, A, B, C, chained, honest, refused, scheme
from lying import stating
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.cycle.contests import Contest, ContestedLane
from compliance.event_log import LoggedEvent
from compliance.statements import CarriedOver, CarryReason, NettingResult
from compliance.verifier.findings import Finding
from compliance.verifier.verify import VerificationError

CONTEST = Contest(sender=A, receiver=B, currency="EUR", cut_at=3, known_through=1)


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
    """Neither bank signed for the pair; one of them signed that it contests the other's cut, or it isn't true."""
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
    words = silent(scheme().words(), scheme().agreed()[0])
    if said is None:
        record = stating(words)
    else:
        contest = msgspec.structs.replace(CONTEST, **said)
        record = replace(stating(contesting(words, contest)), events=logged(contest))
    error = refused(scheme().export(replace(record, result=told)))
    assert (error.step > 6) is believed
    assert believed or error.finding is Finding.PAIR_LEFT_OUT


def contesting(words: list[Word], *contests: Contest) -> list[Word]:
    """Return words in which the senders contest cuts, each in its first one."""
    for contest in contests:
        at = next(at for at, word in enumerate(words) if word.bank == contest.sender)
        lane = ContestedLane(
            receiver=contest.receiver,
            currency=contest.currency,
            cut_at=contest.cut_at,
            known_through=contest.known_through,
        )
        words = [*words[:at], words[at]._replace(contested=(lane,)), *words[at + 1 :]]
    return words


def logged(*contests: Contest) -> tuple[LoggedEvent, ...]:
    """Return the log with some of its events telling of contests."""
    events = list(honest().events)
    for at, contest in enumerate(contests, 5):
        events[at] = replace(events[at], type="cycle.cut_contested", data=contest.data())
    return chained(events)


BOTH = (CONTEST, Contest(sender=B, receiver=A, currency="EUR", cut_at=2, known_through=0))


@pytest.mark.parametrize("hides", ["the log", "the lanes", "a lane", "both lanes in the log and beside the signatures"])
def test_a_pair_that_both_its_banks_contest_cannot_be_hidden(hides: str) -> None:
    """Both signed that they had no more to state, but what they contest: that much a coordinator could leave out."""
    words = silent(scheme().words(), scheme().agreed()[0])
    assert honest().result is not None
    document = canonical.decode(honest().result.payload_bytes(), NettingResult)  # type: ignore[union-attr]
    silently = scheme().sign(COORDINATOR, replace(document, statements=document.statements[1:]))
    record = replace(stating(contesting(words, *BOTH)), result=silently)
    attestations = record.attestations
    if hides in ("the lanes", "both lanes in the log and beside the signatures"):
        attestations = tuple(replace(of, contested=()) for of in attestations)
    elif hides == "a lane":
        attestations = (replace(attestations[0], contested=()), *attestations[1:])
    events = honest().events if "log" in hides else logged(*BOTH)
    error = refused(scheme().export(replace(record, attestations=attestations, events=events)))
    assert error.finding is Finding.ATTESTATION_DIFFERS


def test_a_pair_that_both_its_banks_contest_is_not_one_without_news() -> None:
    words = silent(scheme().words(), scheme().agreed()[0])
    assert honest().result is not None
    document = canonical.decode(honest().result.payload_bytes(), NettingResult)  # type: ignore[union-attr]
    silently = scheme().sign(COORDINATOR, replace(document, statements=document.statements[1:]))
    record = replace(stating(contesting(words, *BOTH)), result=silently, events=logged(*BOTH))
    assert refused(scheme().export(record)).finding is Finding.PAIR_LEFT_OUT


def test_a_contest_that_its_bank_did_not_sign() -> None:
    """The log says that B contests a cut too, so that the pair needn't be shown to have had nothing new."""
    record = replace(stating(contesting(scheme().words(), CONTEST)), events=logged(*BOTH))
    error = refused(scheme().export(record))
    assert (error.step, error.finding) == (6, Finding.ATTESTATION_DIFFERS)


def test_a_contest_that_cannot_be_read() -> None:
    events = honest().events
    event = replace(events[5], type="cycle.cut_contested", data={"sender": A})
    error = lied(events=chained((*events[:5], event, *events[6:])))
    assert (error.step, error.finding) == (6, Finding.FORMAT_VIOLATION)
