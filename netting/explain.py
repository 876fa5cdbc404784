"""Why a bank's net is what it is, in sentences: with whom it owes and is owed, and how that adds up."""

from __future__ import annotations

from collections.abc import Iterator

from netting.multilateral import CurrencyNetting, Pair, Position

BASIS_POINTS = 10_000


def share(part: int, whole: int) -> int:
    """Return what share of the whole a part is, in whole basis points, rounded down; 0 of nothing."""
    return part * BASIS_POINTS // whole if whole else 0


def explain(netting: CurrencyNetting, bank: str, *, top: int = 0) -> list[str]:
    """Return sentences on one bank in one currency; every figure in minor units.

    The counterparties come by the size of their bilateral net, the largest first, ties by name; after the first
    `top` the rest are summed, and 0 shows all.
    """
    heading = f"{netting.currency or 'No currency given'}: amounts in minor units"
    own = next((position for position in netting.positions if position.participant == bank), None)
    if own is None:
        return [heading, f"{bank} owes nobody and nobody owes {bank}: its net is 0."]
    sides = sorted(_sides(netting.pairs, bank), key=lambda side: (-abs(side.net), side.participant))
    shown = sides[:top] if top else sides
    lines = [heading, _net_sentence(own), f"{bank} nets with {_count(len(sides))}:"]
    lines += [_counterparty_sentence(bank, side) for side in shown]
    if others := sides[len(shown) :]:
        got, paid = sum(side.receives for side in others), sum(side.pays for side in others)
        which = "the one other" if len(others) == 1 else f"the {len(others):,} others together"
        lines.append(_counterparty_sentence(bank, Position(which, got, paid)))
    return [*lines, *_sums(own, sides), *_savings(own, sides)]


def _sides(pairs: tuple[Pair, ...], bank: str) -> Iterator[Position]:
    """Yield each counterparty, with what the bank receives from it and pays to it."""
    for pair in pairs:
        if pair.first == bank:
            yield Position(pair.second, pair.back, pair.forth)
        elif pair.second == bank:
            yield Position(pair.first, pair.forth, pair.back)


def _net_sentence(own: Position) -> str:
    figures = f"{own.participant} receives {own.receives:,} and pays {own.pays:,}"
    if own.net == 0:
        return f"{figures}, which is the same: its net is 0."
    outcome = "is owed" if own.net > 0 else "owes"
    return f"{figures}, so it {outcome} {abs(own.net):,}: its net is {own.net:+,}."


def _counterparty_sentence(bank: str, side: Position) -> str:
    counterparty = side.participant
    if side.receives and side.pays:
        flows = f"{bank} receives {side.receives:,} from {counterparty} and pays {side.pays:,}"
    elif side.receives:
        flows = f"{bank} receives {side.receives:,} from {counterparty} and pays nothing"
    else:
        flows = f"{bank} receives nothing from {counterparty} and pays {side.pays:,}"
    return f"  {flows}: {side.net:+,}." if side.net else f"  {flows}: they are even, 0."


def _sums(own: Position, sides: list[Position]) -> Iterator[str]:
    """Yield how the bilateral nets make up the net."""
    gains = [side.net for side in sides if side.net > 0]
    losses = [side.net for side in sides if side.net < 0]
    yield (
        f"Added up: {sum(gains):+,} from {_count(len(gains))} and {sum(losses):+,} from {_count(len(losses))} "
        f"make {own.net:+,}."
    )


def _savings(own: Position, sides: list[Position]) -> Iterator[str]:
    gross = own.receives + own.pays
    bilateral = sum(abs(side.net) for side in sides)
    net = abs(own.net)
    yield (
        f"One by one, {gross:,} would move in and out of {own.participant}; pair by pair, {bilateral:,}; "
        f"as one net, {net:,}."
    )
    yield (
        f"Saved: {gross - net:,} of the gross ({_percent(gross - net, gross)}), "
        f"{bilateral - net:,} of the bilateral nets ({_percent(bilateral - net, bilateral)})."
    )


def _count(banks: int) -> str:
    return "1 bank" if banks == 1 else f"{banks:,} banks"


def _percent(part: int, whole: int) -> str:
    whole_percent, hundredths = divmod(share(part, whole), 100)
    return f"{whole_percent}.{hundredths:02} %"
