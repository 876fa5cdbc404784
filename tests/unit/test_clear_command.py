"""`concordat clear` as an analyst meets it: what it answers, and what it refuses beside what every command does."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.analyst import LARGEST, Source, answer, check_refusal, concordat, of, owe


def clear(source: Source, *arguments: str) -> list[Any]:
    clearings: list[Any] = answer("clear", source, *arguments)["currencies"]
    return clearings


RING = of(
    owe("A", "B", 10, id="T1"), owe("B", "A", 10, id="T2"), owe("B", "C", "10", id="T3"), owe("C", "A", 10, id="T4")
)


def many(count: int, *, banks: int, seed: int, money: bool = False, currencies: str = "XY") -> dict[str, Any]:
    """Invent debts with and without ids."""
    random_ = random.Random(seed)
    names = [f"BANK{at:02}" for at in range(banks)]
    debts = [
        owe(
            *random_.sample(names, 2),
            random_.randrange(1, 100),
            currency=random_.choice(currencies),
            priority=random_.randrange(2),
            **({"id": f"T{at}"} if at % 2 else {}),
        )
        for at in range(count)
    ]
    if not money:
        return of(*debts)
    return of(*debts, balances={name: {"X": random_.randrange(50)} for name in names[::2]})


# --- what it answers --------------------------------------------------------------------------------------


def test_the_answer() -> None:
    assert clear(RING) == [
        {
            "currency": "",
            "obligations": 4,
            "gross": 40,
            "cleared": 30,
            "cleared_bp": 7500,
            "offset": 0,
            "least": 10,
            "discharges": [
                {"id": "T1", "from": "A", "to": "B", "cleared": 10, "residual": 0},
                {"id": "T2", "from": "B", "to": "A", "cleared": 0, "residual": 10},
                {"id": "T3", "from": "B", "to": "C", "cleared": 10, "residual": 0},
                {"id": "T4", "from": "C", "to": "A", "cleared": 10, "residual": 0},
            ],
            "residual": [{"from": "B", "to": "A", "amount": 10}],
            "savings": [
                {"participant": "A", "before": 30, "after": 10, "saving": 20, "paid": 0},
                {"participant": "B", "before": 30, "after": 10, "saving": 20, "paid": 0},
                {"participant": "C", "before": 20, "after": 0, "saving": 20, "paid": 0},
            ],
            "potentials": {"A": 0, "B": 1, "C": 0},
        }
    ]


def nets(debts: list[dict[str, Any]], amount: str = "amount") -> dict[str, int]:
    """Return what each bank is owed less what it owes."""
    sums: Counter[str] = Counter()
    for debt in debts:
        sums[debt["to"]] += int(debt[amount])
        sums[debt["from"]] -= int(debt[amount])
    return dict(sums)


def by_pair(debts: list[dict[str, Any]], amount: str = "amount") -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for debt in debts:
        sums[debt["from"], debt["to"]] += int(debt[amount])
    return sums


def check(clearing: dict[str, Any], source: dict[str, Any], *, pre_net_pairs: bool = False) -> None:
    """Prove a clearing from the file and the answer alone."""
    debts = [debt for debt in source["payments"] if debt.get("currency", "") == clearing["currency"]]
    have = {name: int(of.get(clearing["currency"], 0)) for name, of in source.get("balances", {}).items()}
    owed, cleared = by_pair(debts), by_pair(clearing["discharges"], "cleared")
    offset = {pair: min(owed[pair], owed[pair[::-1]]) if pre_net_pairs else 0 for pair in owed}

    # Every obligation is there, and only shrinks.
    assert sorted(
        (part.get("id", ""), part["from"], part["to"], part["cleared"] + part["residual"])
        for part in clearing["discharges"]
    ) == sorted((debt.get("id", ""), debt["from"], debt["to"], debt["amount"]) for debt in debts)
    assert all(part["cleared"] >= 0 and part["residual"] >= 0 for part in clearing["discharges"])
    assert all(cleared[pair] >= offset[pair] for pair in owed)

    # What remains is what isn't cleared, and the figures are its sums.
    assert by_pair(clearing["residual"]) == +(owed - cleared)
    assert len(clearing["residual"]) == len({(debt["from"], debt["to"]) for debt in clearing["residual"]})
    assert (clearing["obligations"], clearing["gross"]) == (len(debts), owed.total())
    assert (clearing["cleared"], clearing["offset"]) == (cleared.total(), sum(offset.values()))
    assert clearing["cleared_bp"] == clearing["cleared"] * 10_000 // clearing["gross"]
    assert clearing["least"] == sum(net for net in nets(debts).values() if net > 0)

    # Nobody's net changes but by the money that it pays or gets, and nobody pays more than it has.
    before, after = nets(debts), nets(clearing["residual"])
    for saving in clearing["savings"]:
        name = saving["participant"]
        assert after.get(name, 0) - before[name] == saving["paid"] <= have.get(name, 0)
        assert saving["before"] == sum(amount for pair, amount in owed.items() if name in pair)
        assert saving["after"] == sum(
            debt["amount"] for debt in clearing["residual"] if name in (debt["from"], debt["to"])
        )
        assert saving["saving"] == saving["before"] - saving["after"]
    assert [saving["participant"] for saving in clearing["savings"]] == sorted(before)
    assert sum(saving["paid"] for saving in clearing["savings"]) == 0

    # The potentials bound what any clearing of what isn't set off discharges, and this saving does discharge it.
    worth = clearing["potentials"]
    assert sorted(worth) == sorted(before)
    assert min(worth.values()) >= 0
    bound = sum(worth[name] * amount for name, amount in have.items() if name in worth)
    bound += sum((owed[a, b] - offset[a, b]) * max(0, 1 - worth[a] + worth[b]) for a, b in owed)
    assert clearing["cleared"] - clearing["offset"] == bound


@pytest.mark.parametrize("money", [False, True], ids=["without money", "with money"])
@pytest.mark.parametrize("pre_net_pairs", [False, True], ids=["rings first", "pairs first"])
@pytest.mark.parametrize(
    ("count", "banks", "currencies"), [(60, 6, "XY"), (6_000, 60, "X")], ids=["interpreted", "compiled"]
)
def test_every_net_is_kept_and_the_proof_holds(
    count: int, banks: int, currencies: str, pre_net_pairs: bool, money: bool
) -> None:
    source = many(count, banks=banks, seed=count, money=money, currencies=currencies)
    clearings = clear(source, *["--pre-net-pairs"] * pre_net_pairs)
    assert [clearing["currency"] for clearing in clearings] == list(currencies)
    for clearing in clearings:
        check(clearing, source, pre_net_pairs=pre_net_pairs)
    paid = sum(saving["paid"] for saving in clearings[0]["savings"] if saving["paid"] > 0)
    assert (paid > 0) is money


@pytest.mark.parametrize("seed", range(5))
def test_no_clearing_discharges_more(seed: int) -> None:
    """Try every way to shrink six small debts between three banks, with a little money."""
    random_ = random.Random(seed)
    pairs = [(a, b) for a, b in product("ABC", repeat=2) if a != b]
    debts = [owe(a, b, random_.randrange(1, 5)) for a, b in pairs]
    have = {"A": random_.randrange(2), "B": random_.randrange(2), "C": 0}
    best = 0
    for parts in product(*(range(debt["amount"] + 1) for debt in debts)):
        out = Counter(have)
        for (debtor, creditor), part in zip(pairs, parts, strict=True):
            out[debtor] -= part
            out[creditor] += part
        if min(out.values()) >= 0:
            best = max(best, sum(parts))
    [clearing] = clear(of(*debts, balances=have))
    assert clearing["cleared"] == best


def test_setting_off_pairs_first_can_cost_a_longer_ring() -> None:
    [clearing] = clear(RING, "--pre-net-pairs")
    assert (clearing["cleared"], clearing["offset"]) == (20, 20)
    assert clearing["residual"] == [{"from": "B", "to": "C", "amount": 10}, {"from": "C", "to": "A", "amount": 10}]


def test_money_discharges_along_a_chain() -> None:
    chain = of(owe("A", "B", 5, currency="EUR"), owe("B", "C", 5, currency="EUR"))
    assert clear(chain)[0]["cleared"] == 0
    for money in ({"A": 2}, {"A": "2"}, {"A": {"EUR": 2}}, {"A": {"EUR": 2, "USD": 9}, "D": 7}):
        [clearing] = clear({**chain, "balances": money})
        assert (clearing["cleared"], [saving["paid"] for saving in clearing["savings"]]) == (4, [2, 0, -2])


def test_not_conservative_leaves_the_least_that_keeps_every_net() -> None:
    source = many(80, banks=9, seed=2)
    for clearing in clear(source, "--non-conservative"):
        debts = [debt for debt in source["payments"] if debt["currency"] == clearing["currency"]]
        after = nets(clearing["residual"])
        assert {name: after.get(name, 0) for name in nets(debts)} == nets(debts)
        assert (
            sum(debt["amount"] for debt in clearing["residual"])
            == clearing["least"]
            == clearing["gross"] - clearing["cleared"]
        )
        assert clearing["least"] == sum(net for net in nets(debts).values() if net > 0)
        assert len(clearing["residual"]) < len(nets(debts))
        assert {part["residual"] for part in clearing["discharges"]} == {0}
        assert {saving["paid"] for saving in clearing["savings"]} == {0}
        assert "potentials" not in clearing


def test_the_urgent_the_old_and_the_smaller_id_are_discharged_first() -> None:
    [clearing] = clear(
        of(
            owe("A", "B", 4, id="T10"),
            owe("A", "B", 4, id="T2"),
            owe("A", "B", 4, id="URGENT", priority=-1, sequence=9),
            owe("A", "B", 4, id="YOUNG", sequence=1),
            owe("B", "A", 9),
        )
    )
    cleared = [
        (discharge.get("id"), discharge["cleared"]) for discharge in clearing["discharges"] if discharge["from"] == "A"
    ]
    assert cleared == [("URGENT", 4), ("T2", 4), ("T10", 1), ("YOUNG", 0)]


def test_amounts_of_38_digits() -> None:
    [clearing] = clear(of(owe("A", "B", LARGEST // 2), owe("B", "A", str(LARGEST // 2 - 1)), balances={"A": LARGEST}))
    assert (clearing["gross"], clearing["cleared"]) == (LARGEST // 2 * 2 - 1, LARGEST // 2 * 2 - 1)


def test_money_without_debts_clears_nothing() -> None:
    assert clear(of(balances={"A": 1})) == []


# --- what it refuses --------------------------------------------------------------------------------------

T1 = owe("A", "B", 1, id="T1")


@pytest.mark.parametrize(
    ("source", "reason", "place"),
    [
        (of(T1, balances={"A": -1}), "limit_negative", "balances: A: "),
        (of(T1, balances={"A": {"": -1}}), "limit_negative", "balances.A: what"),
        (of(T1, balances={"A": LARGEST + 1}), "amount_overflow", "balances: A: it has more than 38"),
        (of(T1, balances={"A": "1e3"}), "amount_malformed", "balances: A: "),
        (of(T1, balances={"A": 1.5}), "field_invalid", "balances: A: "),
        (of(T1, balances={" ": 1}), "name_malformed", "balances: "),
        (of(T1, participants=["A", "B"], balances={"C": 1}), "unknown_participant", "balances: C\n"),
        (
            of(T1, owe("A", "B", 1, currency="EUR"), balances={"A": 1}),
            "field_invalid",
            "balances: A: there are several currencies: give it for each\n",
        ),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_place(
    tmp_path: Path, source: Source, reason: str, place: str
) -> None:
    check_refusal(tmp_path, "clear", source, reason, place)


@pytest.mark.parametrize(
    ("source", "arguments", "complaint"),
    [
        (RING, ("--pre-net-pairs", "--non-conservative"), "--pre-net-pairs"),
        ({**RING, "balances": {"A": 1}}, ("--non-conservative",), "field_invalid: standard input: balances: "),
    ],
)
def test_options_that_contradict_are_refused(source: Source, arguments: tuple[str, ...], complaint: str) -> None:
    process = concordat("clear", "-", *arguments, stdin=source, exit_code=2)
    assert complaint in process.stderr.decode()
    assert process.stdout == b""
