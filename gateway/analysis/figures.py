"""The answer of `concordat net`: figures as canonical JSON, or one bank's in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compliance import canonical
from netting.explain import explain, share
from netting.multilateral import CurrencyNetting


def document(nettings: Sequence[CurrencyNetting]) -> bytes:
    """Return the figures of all currencies: members sorted, no white space, one line.

    Amounts are integers of minor units, shares whole basis points, rounded down. `net` of a position is what it
    receives less what it pays; of a pair, what the first owes the second less what it is owed.
    """
    return canonical.encode({"currencies": [_currency(one) for one in nettings]}) + b"\n"


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
