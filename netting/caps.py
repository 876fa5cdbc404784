"""Net debit caps: which pairs settle now so that nobody owes more than its cap.

The rule, for each currency on its own:

1. While a participant's net debit exceeds its cap, take the one that exceeds it most (ties: first by name) and
   leave out its pair that lowers its net debit most (ties: first by name of the counterparty).
2. Then put back every pair that was left out and now fits, in the reverse order of leaving out, until none fits:
   a later exclusion may have made an earlier one needless.

Both obligations of a pair go together, because the two banks sign them in one statement. An amount is never
changed. Step 1 ends because a participant above its cap always has a pair in which it owes more than it
receives, and every turn leaves out one pair; with none left every net is zero, which no cap forbids. After step 2
no single pair could be added without exceeding a cap. The set kept isn't the most valuable one possible: that is a
knapsack, and the work of a liquidity-saving engine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from netting.model import Obligation, canonicalise

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A pair left out because `participant` would have exceeded its cap by `excess`; ordered by leaving out."""

    currency: str
    pair: Pair
    participant: str
    excess: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The obligations within the caps, in canonical order, and the pairs left out."""

    kept: tuple[Obligation, ...]
    excluded: tuple[Exclusion, ...]


def apply_caps(obligations: Iterable[Obligation], caps: Mapping[tuple[str, str], int]) -> Selection:
    """Choose obligations so that no net debit exceeds its cap; `caps` maps (participant, currency) to minor units.

    A participant without a cap in a currency isn't limited in it. A function of the set of obligations: their
    order doesn't matter. Raises ObligationRefusedError, and ValueError for a negative cap.
    """
    for (participant, currency), cap in caps.items():
        if cap < 0:
            raise ValueError(f"negative cap of {participant} in {currency}")
    kept: list[Obligation] = []
    excluded: list[Exclusion] = []
    for currency, group in groupby(canonicalise(obligations), lambda o: o.currency):
        members = tuple(group)
        exclusions = _exclude(currency, members, {name: cap for (name, of), cap in caps.items() if of == currency})
        left_out = {exclusion.pair for exclusion in exclusions}
        kept += [obligation for obligation in members if obligation.pair not in left_out]
        excluded += exclusions
    return Selection(tuple(kept), tuple(excluded))


def _exclude(currency: str, obligations: tuple[Obligation, ...], caps: Mapping[str, int]) -> list[Exclusion]:
    # owes[a][b] is what a owes b more than b owes a, so owes[b][a] is its negative.
    owes: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for obligation in obligations:
        owes[obligation.debtor][obligation.creditor] += obligation.amount
        owes[obligation.creditor][obligation.debtor] -= obligation.amount
    debit = {name: sum(counterparties.values()) for name, counterparties in owes.items()}

    def excess(name: str) -> int:
        return debit[name] - caps[name] if name in caps else 0

    exclusions: list[Exclusion] = []
    differences: list[int] = []
    limited = sorted(caps.keys() & debit.keys())
    while limited:
        worst = max(limited, key=excess)  # the first by name among equals
        if excess(worst) <= 0:
            break
        other = max(sorted(owes[worst]), key=owes[worst].__getitem__)
        pair = (worst, other) if worst < other else (other, worst)
        exclusions.append(Exclusion(currency, pair, worst, excess(worst)))
        difference = owes[worst].pop(other)
        del owes[other][worst]
        differences.append(difference)
        debit[worst] -= difference
        debit[other] += difference

    return _put_back(list(zip(exclusions, differences, strict=True)), debit, caps)


def _put_back(left_out: list[tuple[Exclusion, int]], debit: dict[str, int], caps: Mapping[str, int]) -> list[Exclusion]:
    """Return the exclusions that are needed. A pair that comes back may make room for another, so go on to the end."""
    while True:
        needed: list[tuple[Exclusion, int]] = []
        for exclusion, difference in reversed(left_out):
            debtor = exclusion.participant
            creditor = exclusion.pair[0] if exclusion.pair[1] == debtor else exclusion.pair[1]
            # The creditor's net debit falls when the pair comes back, so only the debtor's cap can forbid it.
            if debit[debtor] + difference > caps[debtor]:
                needed.append((exclusion, difference))
            else:
                debit[debtor] += difference
                debit[creditor] -= difference
        needed.reverse()
        if len(needed) == len(left_out):
            return [exclusion for exclusion, _ in needed]
        left_out = needed
