"""How attestation closes: which pairs agree, why each other one is carried over, and what is still waited for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from compliance.cycle.carry_over import MENDABLE
from compliance.cycle.matching import Match, PairKey, carry_reason
from compliance.statements import CarryReason
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
    mendable = {reason for reason in carried if reason in MENDABLE}
    return bool(mendable - {CarryReason.CUT_CONTESTED}) or (bool(mendable) and patient)


def closed(
    matches: Mapping[PairKey, Match],
    with_payments: set[PairKey],
    participations: tuple[Participation, ...],
    contested: Collection[PairKey],
) -> tuple[dict[PairKey, str], dict[PairKey, CarryReason]]:
    """Return the digests of the agreed pairs, and the reasons of the others."""
    active = {part.participant for part in participations if part.active}
    delivered = {part.participant for part in participations if part.cut_at is not None}
    agreed: dict[PairKey, str] = {}
    carried: dict[PairKey, CarryReason] = {}
    for key in sorted(matches.keys() | with_payments):
        of_pair = matches.get(key)
        reason = carry_reason(key, of_pair, active=active, delivered=delivered, contested=contested)
        if reason is not None:
            carried[key] = reason
        elif of_pair is not None and of_pair.sha256 is not None:
            agreed[key] = of_pair.sha256
    return agreed, carried
