"""Which faults come, when, and to whom: drawn from a seed beforehand, so that a run can be run again. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

FIRST_AT_S = 2.0


class Kind(StrEnum):
    """What can go wrong. The value is the word in the report."""

    KILLED = "process killed"
    STOPPED = "process stopped"
    DATABASE_RESTARTED = "database restarted"
    DATABASE_KILLED = "database killed"
    DATABASE_FAILED_OVER = "database failed over"
    DATABASE_READ_ONLY = "database read-only"
    DATABASE_FULL = "database full"
    PARTED = "partition"
    CUT_OFF = "cut off from all others"
    SLOW = "slow link"
    LOG_UNWRITABLE = "log can't be written"
    RESTORED = "old backup restored"
    OVERSTATED = "cut overstates a lane"
    INVENTED = "cut invents a lane"
    JUNK = "answers junk"
    SILENT = "never answers"

    @property
    def is_lie(self) -> bool:
        """Whether it takes a bank that lies in what it signs."""
        return self in (Kind.OVERSTATED, Kind.INVENTED)


AIMS_S = {
    Kind.KILLED: 5,
    Kind.DATABASE_RESTARTED: 10,
    Kind.DATABASE_KILLED: 10,
    Kind.DATABASE_FAILED_OVER: 10,
    Kind.PARTED: 10,
    Kind.CUT_OFF: 10,
}
"""Until an institution serves again, from when the cause is gone."""
LASTING_S = {
    Kind.STOPPED: (3, 12),
    Kind.DATABASE_READ_ONLY: (4, 10),
    Kind.DATABASE_FULL: (4, 10),
    Kind.PARTED: (5, 20),
    Kind.CUT_OFF: (5, 20),
    Kind.SLOW: (5, 15),
    Kind.LOG_UNWRITABLE: (5, 12),
    Kind.RESTORED: (6, 10),
    Kind.OVERSTATED: (15, 25),
    Kind.INVENTED: (15, 25),
    Kind.JUNK: (5, 15),
    Kind.SILENT: (5, 15),
}
"""How long a fault lasts, drawn between these; the others are over at once."""
WEIGHTS = {
    Kind.KILLED: 5,
    Kind.STOPPED: 2,
    Kind.DATABASE_RESTARTED: 2,
    Kind.DATABASE_KILLED: 2,
    Kind.DATABASE_FAILED_OVER: 3,
    Kind.DATABASE_READ_ONLY: 1,
    Kind.DATABASE_FULL: 1,
    Kind.PARTED: 3,
    Kind.CUT_OFF: 1,
    Kind.SLOW: 1,
    Kind.LOG_UNWRITABLE: 1,
    Kind.RESTORED: 1,
    Kind.OVERSTATED: 2,
    Kind.INVENTED: 2,
    Kind.JUNK: 1,
    Kind.SILENT: 1,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `whom` names the institutions, two of them for a partition; `choice` is a draw in [0, 1)."""

    number: int
    at_s: float
    kind: Kind
    whom: tuple[str, ...]
    lasting_s: float
    choice: float

    def __str__(self) -> str:
        return f"{self.kind}: {' | '.join(self.whom)}"


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is there."""

    banks: tuple[str, ...]
    liars: tuple[str, ...] = ()
    others: tuple[str, ...] = ("coordinator", "agent")

    @property
    def everybody(self) -> tuple[str, ...]:
        return (*self.banks, *self.others)


def draw(
    seed: int, cast: Cast, *, seconds: float, every_s: float, kinds: Sequence[Kind], lasting: float = 1
) -> tuple[Fault, ...]:
    """Return the faults of a run: each kind once at first, in any order, then as often as its weight says.

    `lasting` makes all of them longer or shorter.
    """
    rng = random.Random(f"chaos {seed}")
    once = [kind for kind in kinds if not kind.is_lie or cast.liars]
    pending = rng.sample(once, k=len(once))
    faults: list[Fault] = []
    at_s = FIRST_AT_S
    while at_s < seconds:
        kind = pending.pop() if pending else rng.choices(once, weights=[WEIGHTS[kind] for kind in once])[0]
        faults.append(
            Fault(
                number=len(faults) + 1,
                at_s=round(at_s, 1),
                kind=kind,
                whom=_whom(kind, cast, rng),
                lasting_s=round(lasting * rng.uniform(*LASTING_S.get(kind, (0, 0))), 1),
                choice=rng.random(),
            )
        )
        at_s += rng.uniform(0.6, 1.4) * every_s
    return tuple(faults)


def _whom(kind: Kind, cast: Cast, rng: random.Random) -> tuple[str, ...]:
    if kind.is_lie:
        return (rng.choice(cast.liars),)
    if kind is Kind.PARTED:
        pairs = [*combinations(sorted(cast.banks), 2), *((name, "coordinator") for name in (*cast.banks, "agent"))]
        return rng.choice(pairs)
    if kind in (Kind.CUT_OFF, Kind.RESTORED, Kind.JUNK, Kind.SILENT):
        return (rng.choice(cast.banks),)
    return (rng.choice(cast.everybody),)
