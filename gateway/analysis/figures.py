"""The answer of `concordat net`: figures as canonical JSON, with a plan to settle them, or one bank's in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from compliance.crypto import canonical
from netting.explain import explain, share
from netting.multilateral import CurrencyNetting

if TYPE_CHECKING:
    from netting.plan import Transfer

_ACCOUNT = ""
"""The settlement account: no participant has an empty name."""


def document(nettings: Sequence[CurrencyNetting], *, planned: bool = False) -> bytes:
    """Return the figures of all currencies: members sorted, no white space, one line.

    Amounts are integers of minor units, shares whole basis points, rounded down. `net` of a position is what it
    receives less what it pays; of a pair, what the first owes the second less what it is owed. `planned` adds a
    plan to settle each currency.
    """
    told = [_currency(one) for one in nettings]
    if planned:
        for one, how in zip(told, _plans(nettings), strict=True):
            one["plan"] = how
    return canonical.encode({"currencies": told}) + b"\n"


def explanation(nettings: Sequence[CurrencyNetting], bank: str, *, top: int) -> bytes:
    """Return a bank's nets in words, a paragraph for each currency."""
    paragraphs = ["\n".join(explain(one, bank, top=top)) for one in nettings]
    return ("\n\n".join(paragraphs or [f"There are no obligations: the net of {bank} is 0."]) + "\n").encode()


def _currency(netting: CurrencyNetting) -> dict[str, Any]:
    return {
        "currency": netting.currency,
        "obligations": netting.obligations,
        "gross": netting.gross,
        "bilateral": netting.bilateral,
        "multilateral": netting.multilateral,
        "saving": netting.saving,
        "saving_bp": share(netting.saving, netting.gross),
        "bilateral_saving": netting.gross - netting.bilateral,
        "bilateral_saving_bp": share(netting.gross - netting.bilateral, netting.gross),
        "positions": [
            {"participant": one.participant, "receives": one.receives, "pays": one.pays, "net": one.net}
            for one in netting.positions
        ],
        "pairs": [
            {"first": one.first, "second": one.second, "forth": one.forth, "back": one.back, "net": one.net}
            for one in netting.pairs
        ],
    }


def _plans(nettings: Sequence[CurrencyNetting]) -> Iterator[dict[str, Any]]:
    from netting.plan import Net, plan

    nets = (Net(one.currency, at.participant, at.net) for one in nettings for at in one.positions)
    for one in plan(nets, account=_ACCOUNT):
        direct = one.direct
        yield {
            "value": one.value,
            "through_account": [_movement(moved) for moved in one.through_account],
            "direct": {
                "transfers": [
                    {"from": moved.debtor, "to": moved.creditor, "amount": moved.amount} for moved in direct.transfers
                ],
                "lower_bound": direct.lower_bound,
                "gap": direct.gap,
                "why": direct.why,
            },
        }


def _movement(one: Transfer) -> dict[str, Any]:
    if one.creditor == _ACCOUNT:
        return {"participant": one.debtor, "pays": one.amount}
    return {"participant": one.creditor, "receives": one.amount}
