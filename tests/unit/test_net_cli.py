"""`concordat net` as an analyst meets it: figures, sentences and plans."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.analyst import concordat, of, table

PAYMENTS = [
    {"id": "T1", "from": "ALFA", "to": "BETA", "amount": 100, "currency": "EUR"},
    {"id": "T2", "from": "BETA", "to": "ALFA", "amount": 60, "currency": "EUR"},
    {"id": "T3", "from": "ALFA", "to": "BETA", "amount": 20, "currency": "EUR"},
    {"id": "T4", "from": "BETA", "to": "GAMA", "amount": "50", "currency": "EUR"},
    {"id": "T5", "from": "GAMA", "to": "ALFA", "amount": 10**38 - 1, "currency": "JPY"},
]


def csv(payments: list[dict[str, Any]]) -> bytes:
    return table(("amount", "to", "from", "currency", "id"), payments)


def test_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "payments.json"
    path.write_text(json.dumps(of(*PAYMENTS, balances={"ALFA": 3}, participants=["ALFA", "BETA", "GAMA", "IDLE"])))
    answer = json.loads(concordat("net", path).stdout)
    assert answer["currencies"][0] == {
        "currency": "EUR",
        "obligations": 4,
        "gross": 230,
        "bilateral": 110,
        "multilateral": 60,
        "saving": 170,
        "saving_bp": 7391,
        "bilateral_saving": 120,
        "bilateral_saving_bp": 5217,
        "positions": [
            {"participant": "ALFA", "receives": 60, "pays": 120, "net": -60},
            {"participant": "BETA", "receives": 120, "pays": 110, "net": 10},
            {"participant": "GAMA", "receives": 50, "pays": 0, "net": 50},
        ],
        "pairs": [
            {"first": "ALFA", "second": "BETA", "forth": 120, "back": 60, "net": 60},
            {"first": "BETA", "second": "GAMA", "forth": 50, "back": 0, "net": 50},
        ],
    }
    assert answer["currencies"][1]["gross"] == 10**38 - 1


def test_many_obligations_are_netted_by_arrays_to_the_same_bytes_as_their_sums() -> None:
    random_ = random.Random(5)
    names = [f"BANK{at:03}" for at in range(40)]
    many = [
        {"id": f"T{at}", "from": a, "to": b, "amount": random_.randrange(1, 10**9), "currency": "EUR"}
        for at in range(21_000)
        for a, b in [random_.sample(names, 2)]
    ]
    sums: dict[tuple[str, str], int] = {}
    for payment in many:
        sums[payment["from"], payment["to"]] = sums.get((payment["from"], payment["to"]), 0) + payment["amount"]
    few = [
        {"id": f"{a}{b}", "from": a, "to": b, "amount": amount, "currency": "EUR"} for (a, b), amount in sums.items()
    ]
    by_arrays, by_lists = (json.loads(concordat("net", "-", stdin=csv(ones)).stdout) for ones in (many, few))
    assert by_arrays["currencies"][0].pop("obligations") == len(many)
    assert by_lists["currencies"][0].pop("obligations") == len(few)
    assert by_arrays == by_lists


def test_explain_says_why(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(csv(PAYMENTS))
    sentences = concordat("net", path, "--explain", "BETA").stdout.decode()
    assert sentences.startswith(
        "EUR: amounts in minor units\n"
        "BETA receives 120 and pays 110, so it is owed 10: its net is +10.\n"
        "BETA nets with 2 banks:\n"
        "  BETA receives 120 from ALFA and pays 60: +60.\n"
        "  BETA receives nothing from GAMA and pays 50: -50.\n"
    )
    assert "JPY: amounts in minor units\nBETA owes nobody and nobody owes BETA: its net is 0.\n" in sentences


def test_a_plan_settles_the_nets(tmp_path: Path) -> None:
    path = tmp_path / "payments.json"
    path.write_text(json.dumps(of(*PAYMENTS)))
    plain, planned = (json.loads(concordat("net", path, *option).stdout)["currencies"] for option in ((), ("--plan",)))
    assert planned[0].pop("plan") == {
        "value": 60,
        "through_account": [
            {"participant": "ALFA", "pays": 60},
            {"participant": "BETA", "receives": 10},
            {"participant": "GAMA", "receives": 50},
        ],
        "direct": {
            "transfers": [{"from": "ALFA", "to": "BETA", "amount": 10}, {"from": "ALFA", "to": "GAMA", "amount": 50}],
            "lower_bound": 2,
            "gap": 0,
            "why": "all subsets were looked at",
        },
    }
    assert planned[1].pop("plan")["direct"]["transfers"] == [{"from": "GAMA", "to": "ALFA", "amount": 10**38 - 1}]
    assert planned == plain


@pytest.mark.parametrize(("banks", "count", "largest"), [(9, 40, 9), (40, 300, 50), (300, 2_000, 10**9)])
def test_every_movement_of_a_plan_is_of_a_net(banks: int, count: int, largest: int) -> None:
    """Both ways give every bank its net, and move no more than the nets."""
    random_ = random.Random(banks)
    names = [f"BANK{row:03}" for row in range(banks)]
    payments = [
        {"id": f"T{row}", "from": a, "to": b, "amount": random_.randint(1, largest), "currency": currency}
        for row in range(count)
        for a, b in [random_.sample(names, 2)]
        for currency in [random_.choice(("EUR", "USD"))]
    ]
    answers = [
        concordat("net", "-", "--plan", stdin=source, hash_seed=seed).stdout
        for source, seed in ((of(*payments), "1"), (csv(payments[::-1]), "2"))
    ]
    assert answers[0] == answers[1]
    for netting in json.loads(answers[0])["currencies"]:
        nets = {row["participant"]: row["net"] for row in netting["positions"] if row["net"]}
        plan, direct = netting["plan"], netting["plan"]["direct"]
        through = [(row["participant"], row.get("receives", 0) - row.get("pays", 0)) for row in plan["through_account"]]
        assert dict(through) == nets
        assert [net > 0 for _, net in through] == sorted(net > 0 for net in nets.values()), "debits before credits"
        money_moved: dict[str, int] = {}
        for transfer in direct["transfers"]:
            assert nets[transfer["from"]] < 0 < nets[transfer["to"]]
            assert transfer["amount"] > 0
            money_moved[transfer["from"]] = money_moved.get(transfer["from"], 0) - transfer["amount"]
            money_moved[transfer["to"]] = money_moved.get(transfer["to"], 0) + transfer["amount"]
        assert money_moved == nets
        assert sum(transfer["amount"] for transfer in direct["transfers"]) == plan["value"] == netting["multilateral"]
        assert (
            max(sum(net < 0 for net in nets.values()), sum(net > 0 for net in nets.values())) <= direct["lower_bound"]
        )
        assert direct["lower_bound"] <= len(direct["transfers"]) == direct["lower_bound"] + direct["gap"] < len(nets)


def test_the_fewest_transfers_are_proven() -> None:
    """D and E settle among themselves, so five nets take three transfers: the example of the page on plans."""
    owed = [("B", "A", 2), ("C", "A", 3), ("E", "D", 7), ("D", "C", 4), ("C", "D", 4)]
    debts = [{"id": f"T{at}", "from": a, "to": b, "amount": n, "currency": "EUR"} for at, (a, b, n) in enumerate(owed)]
    direct = json.loads(concordat("net", "-", "--plan", stdin=of(*debts)).stdout)["currencies"][0]["plan"]["direct"]
    assert [(transfer["from"], transfer["to"], transfer["amount"]) for transfer in direct["transfers"]] == [
        ("B", "A", 2),
        ("C", "A", 3),
        ("E", "D", 7),
    ]
    assert (direct["lower_bound"], direct["gap"]) == (3, 0)


def test_nothing_to_move_has_an_empty_plan() -> None:
    ring = [{"id": a, "from": a, "to": b, "amount": 5, "currency": "EUR"} for a, b in ("AB", "BC", "CA")]
    plan = json.loads(concordat("net", "-", "--plan", stdin=of(*ring)).stdout)["currencies"][0]["plan"]
    assert (plan["value"], plan["through_account"], plan["direct"]["transfers"], plan["direct"]["gap"]) == (
        0,
        [],
        [],
        0,
    )
    assert concordat("net", "-", "--plan", stdin=b'{"payments": []}').stdout == b'{"currencies":[]}\n'


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-", "--explain", "NOBODY"), "unknown_participant: standard input: --explain: NOBODY"),
        (("-", "--plan", "--explain", "ALFA"), "--plan"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: tuple[str, ...], complaint: str) -> None:
    process = concordat("net", *arguments, stdin=of(*PAYMENTS), exit_code=2)
    assert complaint in process.stderr.decode()
    assert process.stdout == b""


def test_an_empty_set_is_explained() -> None:
    sentence = concordat("net", "-", "--explain", "ALFA", stdin=b'{"participants": ["ALFA"], "payments": []}').stdout
    assert sentence == b"There are no obligations: the net of ALFA is 0.\n"
