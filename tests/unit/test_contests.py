"""Contested cuts: which of them the cuts bear out, which still stand, and which pairs they take out."""

from __future__ import annotations

import msgspec
import pytest

from compliance.crypto.keys import SigningKey
from compliance.cycle.contests import CONTEST_EVENT, Contest, ContestedLane, contested_pairs, contests_in, standing
from compliance.cycle.cuts import Lane
from compliance.cycle.matching import Attested, carry_reason, match
from compliance.event_log import GENESIS, LoggedEvent
from participants.cycle.attestations import attest, contradiction, submission_of

A, B = "ALFADEFF", "BETAFRPP"
KEY = ("EUR", A, B)
FORTH, BACK = (A, B, "EUR"), (B, A, "EUR")
CYCLE = "2026-03-02-01"


def contest(lane: Lane = FORTH, cut_at: int = 7, known_through: int = 5) -> Contest:
    return Contest(sender=lane[0], receiver=lane[1], currency=lane[2], cut_at=cut_at, known_through=known_through)


def by(*banks: str) -> list[Attested]:
    """Banks that signed, each something of its own."""
    return [Attested(KEY, bank, 1, bank) for bank in banks]


AGREED = [Attested(KEY, A, 1, "x"), Attested(KEY, B, 1, "x")]
CASES = [
    # contests, cuts, attested, pairs contested, why the pair is carried over
    ([], {FORTH: 7}, [], set(), "not_attested"),
    ([contest()], {FORTH: 7}, [], {KEY}, "cut_contested"),
    # Who cut signs for the pair: that convicts nobody, and mends nothing.
    ([contest()], {FORTH: 7}, by(B), {KEY}, "cut_contested"),
    # Who contested has signed since: it knows the payments, and the other one is missing.
    ([contest()], {FORTH: 7}, by(A), set(), "not_attested"),
    ([contest()], {FORTH: 7}, by(A, B), set(), "break"),
    ([contest()], {FORTH: 7}, AGREED, set(), None),
    # Both directions, each contested by its sender; one has come round.
    ([contest(), contest(BACK, 3, 0)], {FORTH: 7, BACK: 3}, by(A), {KEY}, "cut_contested"),
    # What the cuts don't bear out counts for nothing, whoever wrote it down.
    ([contest()], {FORTH: 6}, [], set(), "not_attested"),
    ([contest()], {}, [], set(), "not_attested"),
    ([contest(known_through=7)], {FORTH: 7}, [], set(), "not_attested"),
    ([contest(BACK)], {FORTH: 7}, [], set(), "not_attested"),
]


@pytest.mark.parametrize(("contests", "cuts", "attested", "pairs", "reason"), CASES)
def test_what_a_contest_takes_out(
    contests: list[Contest],
    cuts: dict[Lane, int],
    attested: list[Attested],
    pairs: set[tuple[str, str, str]],
    reason: str | None,
) -> None:
    contested = contested_pairs(contests, cuts=cuts, attested=attested)
    assert contested == pairs
    of_pair = match(attested).get(KEY)
    assert carry_reason(KEY, of_pair, active={A, B}, delivered={A, B}, contested=contested) == reason


@pytest.mark.parametrize(
    ("active", "delivered", "reason"), [({A}, {A, B}, "participant_suspended"), ({A, B}, {A}, "cut_missing")]
)
def test_what_comes_before_a_contest(active: set[str], delivered: set[str], reason: str) -> None:
    assert carry_reason(KEY, None, active=active, delivered=delivered, contested={KEY}) == reason


def test_whether_it_still_stands() -> None:
    assert standing([contest()], cuts={FORTH: 7}, attested=by(B)) == {contest(): True}
    assert standing([contest()], cuts={FORTH: 7}, attested=by(A)) == {contest(): False}


def test_it_is_read_from_the_events_of_its_cycle() -> None:
    def event(type_: str, cycle: str, data: dict[str, object]) -> LoggedEvent:
        at = "2026-03-02T09:00:00.000Z"
        return LoggedEvent(id=1, type=type_, at=at, cycle=cycle, data=data, audience=None, prev_hash=GENESIS)

    said = event(CONTEST_EVENT, CYCLE, contest().data())
    assert said.data["pair"] == [A, B]
    others = [event("cycle.break", CYCLE, {}), event(CONTEST_EVENT, "2026-03-02-02", contest(BACK).data())]
    assert contests_in([*others, said], CYCLE) == [contest()]
    with pytest.raises(msgspec.ValidationError):
        contests_in([event(CONTEST_EVENT, CYCLE, {"sender": A})], CYCLE)


def test_a_kept_attestation_covers_what_its_bank_contests() -> None:
    lanes = [ContestedLane(receiver=B, currency="EUR", cut_at=3, known_through=1)]
    said = attest(
        bank=A, cycle="2026-03-02-01", stated=[], screening=None, contested=lanes, complete=True,
        signer=SigningKey.generate(),
    ).value  # fmt: skip
    assert submission_of(said).contested == tuple(lanes)
    assert contradiction(said, A) is None
    assert contradiction(msgspec.structs.replace(said, contested=()), A) is not None
