"""The default waterfall: whose money covers what a defaulter can't pay, layer by layer.

The layers are data of the scheme's rulebook, in the order in which they pay. The defaulter's own collateral and
contribution cover its own loss only; what they leave is one loss, which the further layers bear together:
the scheme's capital, the survivors' contributions to the default fund, and what survivors are assessed beyond them.
If all layers aren't enough, the rest is uncovered, and the cycle has to be unwound. (CPSS-IOSCO, Principles for
financial market infrastructures, 2012, principles 4, 7 and 13.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from netting.loss_allocation.pro_rata import pro_rata
from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError

Account = tuple[str, str]
"""Participant and currency."""


class LayerKind(StrEnum):
    """Whose money a layer is."""

    DEFAULTER_COLLATERAL = "defaulter_collateral"
    DEFAULTER_CONTRIBUTION = "defaulter_contribution"
    SCHEME_CAPITAL = "scheme_capital"
    SURVIVOR_CONTRIBUTIONS = "survivor_contributions"
    SURVIVOR_ASSESSMENTS = "survivor_assessments"


class ShareRule(StrEnum):
    """In proportion to what survivors share a loss."""

    CONTRIBUTION = "contribution"
    EXPOSURE = "exposure"
    LIMIT = "limit"


class WaterfallReason(StrEnum):
    """Why a waterfall can't be applied, in order of precedence."""

    LAYER_REPEATED = "layer_repeated"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    NEGATIVE = "negative"
    OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `share` is the rule of survivors' assessments, and isn't used by the other kinds.

    Contributions are always shared in proportion to contributions.
    """

    kind: LayerKind
    share: ShareRule = ShareRule.CONTRIBUTION


LAYERS = (
    Layer(LayerKind.DEFAULTER_COLLATERAL),
    Layer(LayerKind.DEFAULTER_CONTRIBUTION),
    Layer(LayerKind.SCHEME_CAPITAL),
    Layer(LayerKind.SURVIVOR_CONTRIBUTIONS),
    Layer(LayerKind.SURVIVOR_ASSESSMENTS, ShareRule.EXPOSURE),
)
"""The usual order."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The layers in order, and the money behind them in minor units; what isn't named is zero.

    `assessment_caps`: the most that a survivor can be assessed beyond its contribution; without one, nothing.
    `limits`: the survivors' net debit caps, the weights of ShareRule.LIMIT.
    """

    layers: tuple[Layer, ...] = LAYERS
    collateral: Mapping[Account, int] = field(default_factory=dict)
    contributions: Mapping[Account, int] = field(default_factory=dict)
    capital: Mapping[str, int] = field(default_factory=dict)
    assessment_caps: Mapping[Account, int] = field(default_factory=dict)
    limits: Mapping[Account, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What one participant pays in a layer."""

    participant: str
    amount: int


@dataclass(frozen=True, slots=True)
class LayerOutcome:
    """What a layer found to cover, what it had, who paid what of it, and what it left to the next."""

    layer: Layer
    loss: int
    available: int
    paid: int
    shares: tuple[LayerShare, ...]
    remaining: int


@dataclass(frozen=True, slots=True)
class WaterfallOutcome:
    """The layers in order. loss == covered + uncovered, and covered is the sum of what the layers paid."""

    currency: str
    loss: int
    layers: tuple[LayerOutcome, ...]
    covered: int
    uncovered: int

    def paid_by(self, participant: str) -> int:
        """Return what a participant pays in all layers."""
        return sum(share.amount for layer in self.layers for share in layer.shares if share.participant == participant)


def apply(
    waterfall: Waterfall,
    currency: str,
    losses: Mapping[str, int],
    survivors: Iterable[str],
    exposures: Mapping[str, int] | None = None,
) -> WaterfallOutcome:
    """Return who pays for the losses of a currency: `losses` maps each defaulter to what it can't pay.

    `exposures` maps survivors to what the defaulters owe them net, the weights of ShareRule.EXPOSURE. The
    outcome is a function of these sets: no order matters but that of the layers. Raises RefusedError.
    """
    names = sorted(set(survivors) - losses.keys())
    check(waterfall)
    for defaulter, loss in sorted(losses.items()):
        _check_amount(f"loss of {defaulter} in {currency}", loss)
    for name, exposure in sorted((exposures or {}).items()):
        _check_amount(f"exposure of {name} in {currency}", exposure)
    own = dict(sorted(losses.items()))
    total = sum(own.values())
    _check_amount(f"losses in {currency}", total)
    outcomes: list[LayerOutcome] = []
    uncovered = total
    for layer in waterfall.layers:
        if layer.kind in (LayerKind.DEFAULTER_COLLATERAL, LayerKind.DEFAULTER_CONTRIBUTION):
            available, shares = _of_defaulters(waterfall, layer, currency, own, uncovered)
        else:
            available, shares = _of_others(waterfall, layer, currency, names, exposures or {}, uncovered)
        paid = sum(shares.values())
        listed = tuple(LayerShare(name, amount) for name, amount in sorted(shares.items()) if amount)
        outcomes.append(LayerOutcome(layer, uncovered, available, paid, listed, uncovered - paid))
        uncovered -= paid
    return WaterfallOutcome(currency, total, tuple(outcomes), total - uncovered, uncovered)


SCHEME = ""
"""The participant named for the scheme's own capital: none."""


def _of_defaulters(
    waterfall: Waterfall, layer: Layer, currency: str, own: dict[str, int], uncovered: int
) -> tuple[int, dict[str, int]]:
    """Let each defaulter's own money cover its own loss, and never more than what other layers have left of all."""
    source = waterfall.collateral if layer.kind is LayerKind.DEFAULTER_COLLATERAL else waterfall.contributions
    available = {name: source.get((name, currency), 0) for name in own}
    claims = {name: min(available[name], loss) for name, loss in own.items()}
    shares = pro_rata(min(uncovered, sum(claims.values())), claims, caps=claims)
    for name, amount in shares.items():
        own[name] -= amount
    return sum(available.values()), shares


def _of_others(
    waterfall: Waterfall, layer: Layer, currency: str, names: list[str], exposures: Mapping[str, int], uncovered: int
) -> tuple[int, dict[str, int]]:
    contributions = {name: waterfall.contributions.get((name, currency), 0) for name in names}
    if layer.kind is LayerKind.SCHEME_CAPITAL:
        capital = waterfall.capital.get(currency, 0)
        return capital, {SCHEME: min(uncovered, capital)}
    if layer.kind is LayerKind.SURVIVOR_CONTRIBUTIONS:
        weights, caps = contributions, contributions
    else:
        caps = {name: waterfall.assessment_caps.get((name, currency), 0) for name in names}
        weights = {
            ShareRule.CONTRIBUTION: contributions,
            ShareRule.EXPOSURE: {name: exposures.get(name, 0) for name in names},
            ShareRule.LIMIT: {name: waterfall.limits.get((name, currency), 0) for name in names},
        }[layer.share]
    available = sum(caps[name] for name in names if weights[name])
    return available, pro_rata(min(uncovered, available), weights, caps=caps)


def check(waterfall: Waterfall, participants: frozenset[str] | None = None) -> None:
    """Raise RefusedError for a waterfall that can't be applied, with the layer or the account it is at."""
    kinds: set[LayerKind] = set()
    for at, layer in enumerate(waterfall.layers, 1):
        if layer.kind in kinds:
            raise RefusedError(WaterfallReason.LAYER_REPEATED, f"layer {at}", f"{layer.kind} pays once")
        kinds.add(layer.kind)
    sources = [
        ("collateral", waterfall.collateral),
        ("contribution", waterfall.contributions),
        ("assessment cap", waterfall.assessment_caps),
        ("limit", waterfall.limits),
    ]
    if participants is not None:
        for source, amounts in sources:
            for name, currency in sorted(amounts):
                if name not in participants:
                    detail = f"{name} isn't a participant"
                    raise RefusedError(WaterfallReason.UNKNOWN_PARTICIPANT, f"{source} of {name} in {currency}", detail)
    for source, amounts in sources:
        for (name, currency), amount in sorted(amounts.items()):
            _check_amount(f"{source} of {name} in {currency}", amount)
    for currency, amount in sorted(waterfall.capital.items()):
        _check_amount(f"scheme capital in {currency}", amount)


def _check_amount(place: str, amount: int) -> None:
    if amount < 0:
        raise RefusedError(WaterfallReason.NEGATIVE, place, f"it is {amount}")
    if amount > AMOUNT_MAX:
        raise RefusedError(WaterfallReason.OVERFLOW, place, "it has more than 38 digits")
