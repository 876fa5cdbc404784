"""Who pays when a participant can't: the rulebook's waterfall as data, and as the netting engine takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from compliance.cycle.limits import Limits
from compliance.statements import Bic, CurrencyCode, TotalAmount
from netting.loss_allocation.waterfall import Layer, LayerKind, ShareRule, Waterfall

LayerName = Literal[
    "defaulter_collateral",
    "defaulter_contribution",
    "scheme_capital",
    "survivor_contributions",
    "survivor_assessments",
]
ShareName = Literal["contribution", "exposure", "limit"]
Amounts = dict[CurrencyCode, TotalAmount]


class WaterfallRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The layers in the order in which they pay, and the money behind them in minor units.

    Who or what isn't named has nothing in a layer. `assessment_share` says in proportion to what survivors share the
    last layer: their contributions, what the defaulters owe them net, or their net debit caps.
    """

    layers: tuple[LayerName, ...]
    assessment_share: ShareName
    capital_minor: Amounts
    collateral_minor: dict[Bic, Amounts]
    contributions_minor: dict[Bic, Amounts]
    assessment_caps_minor: dict[Bic, Amounts]

    @property
    def currencies(self) -> set[str]:
        """The currencies that are named."""
        by_bank = (self.collateral_minor, self.contributions_minor, self.assessment_caps_minor)
        return {code for banks in by_bank for amounts in banks.values() for code in amounts} | self.capital_minor.keys()

    def waterfall(self, limits: Limits) -> Waterfall:
        """Return the waterfall as the netting engine takes it; the caps are weights of the share by limit."""
        return Waterfall(
            layers=tuple(Layer(LayerKind(name), ShareRule(self.assessment_share)) for name in self.layers),
            collateral=_by_account(self.collateral_minor),
            contributions=_by_account(self.contributions_minor),
            capital={currency: int(amount) for currency, amount in self.capital_minor.items()},
            assessment_caps=_by_account(self.assessment_caps_minor),
            limits={(cap.participant, cap.currency): int(cap.cap_minor) for cap in limits.caps},
        )


NOBODY = WaterfallRule(
    layers=(),
    assessment_share="exposure",
    capital_minor={},
    collateral_minor={},
    contributions_minor={},
    assessment_caps_minor={},
)
"""No layer: a default is unwound."""


def _by_account(banks: Mapping[str, Amounts]) -> dict[tuple[str, str], int]:
    return {
        (bank, currency): int(amount)
        for bank, amounts in sorted(banks.items())
        for currency, amount in sorted(amounts.items())
    }
