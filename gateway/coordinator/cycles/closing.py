"""How attestation closes: which pairs agree, why each other one is carried over, and what is still waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from compliance.cycle.carry_over import MENDABLE
from compliance.cycle.matching import PairKey, carry_reason, in_order
from compliance.statements import CarryReason
from gateway.coordinator.cycles.book import Book, Closed
from gateway.coordinator.cycles.tables.cycles import Participation

CONTEST_PATIENCE = 0.25
"""How much of the time to attest everybody waits where only contested cuts are left.

Answers that were on their way arrive within seconds, and what was never sent never does. A share of what the rulebook
sets, and no rule of its own: it moves no pair into or out of a result by itself, since until then the pair may be
attested as ever, and rulebooks in force stay what they are to the byte.
"""


def patience_ends_at(deadline_at: datetime | None, attestation_deadline_s: int) -> datetime | None:
    """Return until when contested cuts are waited for where nothing else is outstanding."""
    if deadline_at is None:
        return None
    return deadline_at - timedelta(seconds=attestation_deadline_s * (1 - CONTEST_PATIENCE))


def is_waited_for(carried: Iterable[CarryReason], *, patient: bool) -> bool:
    """Tell whether banks may still mend any of the reasons for which pairs would be carried over now.

    `patient` tells that contested cuts are waited for, too.
    """
    return any(reason in MENDABLE and (patient or reason != CarryReason.CUT_CONTESTED) for reason in carried)


def still_open(book: Book, participations: Sequence[Participation]) -> Iterator[tuple[PairKey, CarryReason]]:
    """Yield the pairs that don't agree, each with the reason why it would be carried over now."""
    active, delivered = _active(participations), _delivered(participations)
    contested = book.contested()
    for key, of_pair in book.open_pairs():
        reason = carry_reason(key, of_pair, active=active, delivered=delivered, contested=contested)
        assert reason is not None, "a pair that doesn't agree is carried over"
        yield key, reason


def closed(book: Book, participations: Sequence[Participation]) -> Iterator[Closed]:
    """Yield how each pair closes, in order: the agreed ones first."""
    carried = dict(still_open(book, participations))
    left_out = {part.participant for part in participations if not (part.active and part.cut_at is not None)}
    if left_out:
        active, delivered = _active(participations), _delivered(participations)
        for key in book.agreed():
            if key[1] in left_out or key[2] in left_out:
                reason = carry_reason(key, book.match(key), active=active, delivered=delivered)
                assert reason is not None, "a pair with a bank that is left out is carried over"
                carried[key] = reason
    for key in in_order(book.agreed(), _itself):
        if key not in carried:
            yield key, book.digest_of(key), None
    for key in in_order(carried, _itself):
        yield key, None, carried[key]


def _itself(key: PairKey) -> PairKey:
    return key


def _active(participations: Sequence[Participation]) -> set[str]:
    return {part.participant for part in participations if part.active}


def _delivered(participations: Sequence[Participation]) -> set[str]:
    return {part.participant for part in participations if part.cut_at is not None}
