"""A bank's net in words: the sentences say the figures, and the figures add up."""

from __future__ import annotations

import re

from netting.batch import collect
from netting.explain import explain, share
from netting.multilateral import CurrencyNetting, net_batch


def netting(*owed: tuple[str, str, int]) -> CurrencyNetting:
    (currency,) = net_batch(collect((None, "EUR", debtor, creditor, amount) for debtor, creditor, amount in owed))
    return currency


MIXED = netting(("A", "B", 500), ("B", "A", 200), ("C", "A", 900), ("A", "D", 40), ("D", "A", 40), ("A", "E", 1_000))


def test_counterparties_come_by_the_size_of_their_net_and_add_up() -> None:
    assert explain(MIXED, "A") == [
        "EUR: amounts in minor units",
        "A receives 1,140 and pays 1,540, so it owes 400: its net is -400.",
        "A nets with 4 banks:",
        "  A receives nothing from E and pays 1,000: -1,000.",
        "  A receives 900 from C and pays nothing: +900.",
        "  A receives 200 from B and pays 500: -300.",
        "  A receives 40 from D and pays 40: they are even, 0.",
        "Added up: +900 from 1 bank and -1,300 from 2 banks make -400.",
        "One by one, 2,680 would move in and out of A; pair by pair, 2,200; as one net, 400.",
        "Saved: 2,280 of the gross (85.07 %), 1,800 of the bilateral nets (81.81 %).",
    ]


def test_the_rest_is_summed_so_that_the_lines_still_add_up() -> None:
    for top in range(1, 6):
        lines = [line for line in explain(MIXED, "A", top=top) if line.startswith("  ")]
        assert len(lines) == min(top + 1, 4)
        nets = [int(re.search(r"([+-]?[\d,]+)\.$", line)[1].replace(",", "")) for line in lines]  # type: ignore[index]
        assert sum(nets) == -400
    assert "from the 3 others together" in explain(MIXED, "A", top=1)[4]
    assert "from the one other" in explain(MIXED, "A", top=3)[6]


def test_a_bank_that_is_even() -> None:
    sentences = explain(netting(("A", "B", 5), ("B", "C", 5)), "B")
    assert sentences[1] == "B receives 5 and pays 5, which is the same: its net is 0."
    assert sentences[-1] == "Saved: 10 of the gross (100.00 %), 10 of the bilateral nets (100.00 %)."


def test_a_bank_without_obligations() -> None:
    assert explain(MIXED, "Z")[1:] == ["Z owes nobody and nobody owes Z: its net is 0."]


def test_shares_are_rounded_down_and_exact_for_large_amounts() -> None:
    assert share(10**38 - 2, 10**38 - 1) == 9_999
    assert share(0, 0) == 0
