"""Unwinding: the nets without the defaulters' obligations.

Each survivor loses its claims on the defaulters and its debts to them; the shock of the default moves from the
scheme to the survivors, in amounts they couldn't know before (BIS, Lamfalussy report, 1990). A net debit that exceeds
its cap because of it is flagged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from netting.model import Obligation, canonicalise
from netting.multilateral import ConservationError


@dataclass(frozen=True, slots=True)
class NetChange:
    """A survivor's net before and after, positive when it is owed; `beyond` is by how much it now exceeds its cap."""

    participant: str
    before: int
    after: int
    cap: int | None
    beyond: int

    @property
    def change(self) -> int:
        """Return what the unwinding gives the survivor, negative when it takes."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Unwind:
    """The survivors of a currency in order of their names; the nets after sum to zero.

    `removed` is the sum of the obligations taken out, `before` and `after` are what has to move.
    """

    currency: str
    removed: int
    before: int
    after: int
    changes: tuple[NetChange, ...]


def without_defaulters(obligations: Iterable[Obligation], defaulters: Collection[str]) -> tuple[Obligation, ...]:
    """Return the obligations in canonical order in which no defaulter takes part."""
    return tuple(
        obligation
        for obligation in canonicalise(obligations)
        if obligation.debtor not in defaulters and obligation.creditor not in defaulters
    )


def unwind(
    obligations: Iterable[Obligation], defaulters: Collection[str], caps: Mapping[tuple[str, str], int] | None = None
) -> tuple[Unwind, ...]:
    """Recompute the nets without the defaulters, currency by currency. `caps`: net debit caps in minor units.

    Raises ObligationRefusedError. A function of the sets given.
    """
    ordered = canonicalise(obligations)
    return tuple(
        _unwind_currency(currency, ordered, frozenset(defaulters), caps or {})
        for currency in sorted({obligation.currency for obligation in ordered})
    )


def _unwind_currency(
    currency: str,
    ordered: tuple[Obligation, ...],
    defaulters: frozenset[str],
    caps: Mapping[tuple[str, str], int],
) -> Unwind:
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    removed = 0
    for obligation in ordered:
        if obligation.currency != currency:
            continue
        is_removed = not defaulters.isdisjoint(obligation.pair)
        removed += obligation.amount if is_removed else 0
        for name, amount in ((obligation.debtor, -obligation.amount), (obligation.creditor, obligation.amount)):
            before[name] = before.get(name, 0) + amount
            after[name] = after.get(name, 0) + (0 if is_removed else amount)
    if sum(after.values()) != 0:
        raise ConservationError(f"{currency}: nets don't sum to zero after the unwinding")
    changes: list[NetChange] = []
    for name in sorted(before.keys() - defaulters):
        cap = caps.get((name, currency))
        beyond = 0 if cap is None else max(0, -after[name] - cap)
        changes.append(NetChange(name, before[name], after[name], cap, beyond))
    moves = [sum(net for net in nets.values() if net > 0) for nets in (before, after)]
    return Unwind(currency, removed, moves[0], moves[1], tuple(changes))
