"""What a netted cycle shows of its result: totals and liquidity by currency. Pure."""

from __future__ import annotations

from typing import Any

from compliance.statements import NettingResult
from gateway.federation.messages.cycles import CurrencyTotal, LiquidityView


def currency_totals(result: NettingResult) -> tuple[CurrencyTotal, ...]:
    """Return the totals of every currency in which pairs matched, whether or not any settles."""
    netted = {of.currency: of for of in result.results}
    totals: list[CurrencyTotal] = []
    for chosen in result.liquidity:
        settling = netted.get(chosen.currency)
        totals.append(
            CurrencyTotal(
                currency=chosen.currency,
                gross_minor="0" if settling is None else settling.gross_minor,
                bilateral_minor="0" if settling is None else settling.bilateral_minor,
                settlement_minor="0" if settling is None else settling.settlement_minor,
                saving_minor="0" if settling is None else settling.saving_minor,
                liquidity=LiquidityView(
                    mode=chosen.mode,
                    matched_minor=chosen.matched_minor,
                    value_minor=chosen.value_minor,
                    upper_bound_minor=chosen.upper_bound_minor,
                    gap_minor=chosen.gap_minor,
                    optimal=chosen.optimal,
                ),
            )
        )
    return tuple(totals)


def liquidity_figures(result: NettingResult) -> list[dict[str, Any]]:
    """Return what the event of a netted cycle tells of each currency: what settles, and what at most could."""
    return [
        {
            "currency": chosen.currency,
            "mode": chosen.mode,
            "value_minor": chosen.value_minor,
            "upper_bound_minor": chosen.upper_bound_minor,
            "gap_minor": chosen.gap_minor,
            "optimal": chosen.optimal,
        }
        for chosen in result.liquidity
    ]
