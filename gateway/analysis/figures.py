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
    currencies = [_currency(netting) for netting in nettings]
    if planned:
        for currency, plan in zip(currencies, _plans(nettings), strict=True):
            currency["plan"] = plan
    return canonical.encode({"currencies": currencies}) + b"\n"


def explanation(nettings: Sequence[CurrencyNetting], bank: str, *, top: int) -> bytes:
    """Return a bank's nets in words, a paragraph for each currency."""
    paragraphs = ["\n".join(explain(netting, bank, top=top)) for netting in nettings]
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
            {"participant": row.participant, "receives": row.receives, "pays": row.pays, "net": row.net}
            for row in netting.positions
        ],
        "pairs": [
            {"first": row.first, "second": row.second, "forth": row.forth, "back": row.back, "net": row.net}
            for row in netting.pairs
        ],
    }


def _plans(nettings: Sequence[CurrencyNetting]) -> Iterator[dict[str, Any]]:
    from netting.plan import Net, plan

    nets = (
        Net(netting.currency, position.participant, position.net)
        for netting in nettings
        for position in netting.positions
    )
    for currency_plan in plan(nets, account=_ACCOUNT):
        direct = currency_plan.direct
        yield {
            "value": currency_plan.value,
            "through_account": [_movement(transfer) for transfer in currency_plan.through_account],
            "direct": {
                "transfers": [
                    {"from": transfer.debtor, "to": transfer.creditor, "amount": transfer.amount}
                    for transfer in direct.transfers
                ],
                "lower_bound": direct.lower_bound,
                "gap": direct.gap,
                "why": direct.proof,
            },
        }


def _movement(transfer: Transfer) -> dict[str, Any]:
    if transfer.creditor == _ACCOUNT:
        return {"participant": transfer.debtor, "pays": transfer.amount}
    return {"participant": transfer.creditor, "receives": transfer.amount}
