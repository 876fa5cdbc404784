"""`concordat net` as an analyst meets it: real processes, files in, bytes out."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_import_hygiene import SERVER, loaded_by

PAYMENTS = [
    {"id": "T1", "from": "ALFA", "to": "BETA", "amount": 100, "currency": "EUR"},
    {"id": "T2", "from": "BETA", "to": "ALFA", "amount": 60, "currency": "EUR"},
    {"id": "T3", "from": "ALFA", "to": "BETA", "amount": 20, "currency": "EUR"},
    {"id": "T4", "from": "BETA", "to": "GAMA", "amount": "50", "currency": "EUR"},
    {"id": "T5", "from": "GAMA", "to": "ALFA", "amount": 10**38 - 1, "currency": "JPY"},
]


def concordat(
    *arguments: str | Path, given: bytes = b"", seed: str = "0", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "net", *map(str, arguments)],
        input=given,
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def table(payments: list[dict[str, Any]]) -> bytes:
    rows = [f"{p['amount']},{p['to']},{p['from']},{p['currency']},{p['id']}\n" for p in payments]
    return ("amount,to,from,currency,id\n" + "".join(rows)).encode()


def document(payments: list[dict[str, Any]], **members: Any) -> bytes:
    return json.dumps({**members, "payments": payments}).encode()


def test_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "payments.json"
    path.write_bytes(document(PAYMENTS, balances={"ALFA": 3}, participants=["ALFA", "BETA", "GAMA", "IDLE"]))
    answer = json.loads(concordat(path).stdout)
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


def test_every_order_form_process_and_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    shuffled = list(PAYMENTS)
    random.Random(4).shuffle(shuffled)
    path = tmp_path / "payments.csv"
    path.write_bytes(table(shuffled))
    answers = {
        concordat("-", given=document(PAYMENTS), seed="1").stdout,
        concordat("-", given=document(shuffled), seed="2").stdout,
        concordat("-", "--format", "csv", given=table(PAYMENTS), seed="3").stdout,
        concordat(path, seed="random").stdout,
    }
    assert len(answers) == 1
    assert answers.pop() == json_bytes(json.loads(concordat(path).stdout))


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_many_obligations_are_netted_by_arrays_to_the_same_bytes_as_their_sums() -> None:
    random_ = random.Random(5)
    names = [f"BANK{at:03}" for at in range(40)]
    many = [
        {"id": f"T{at}", "from": a, "to": b, "amount": random_.randrange(1, 10**9), "currency": "EUR"}
        for at in range(21_000)
        for a, b in [random_.sample(names, 2)]
    ]
    sums: dict[tuple[str, str], int] = {}
    for one in many:
        sums[one["from"], one["to"]] = sums.get((one["from"], one["to"]), 0) + one["amount"]
    few = [
        {"id": f"{a}{b}", "from": a, "to": b, "amount": amount, "currency": "EUR"} for (a, b), amount in sums.items()
    ]
    by_arrays, by_lists = (json.loads(concordat("-", given=table(ones)).stdout) for ones in (many, few))
    assert by_arrays["currencies"][0].pop("obligations") == len(many)
    assert by_lists["currencies"][0].pop("obligations") == len(few)
    assert by_arrays == by_lists


def test_explain_says_why(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(table(PAYMENTS))
    told = concordat(path, "--explain", "BETA").stdout.decode()
    assert told.startswith(
        "EUR: amounts in minor units\n"
        "BETA receives 120 and pays 110, so it is owed 10: its net is +10.\n"
        "BETA nets with 2 banks:\n"
        "  BETA receives 120 from ALFA and pays 60: +60.\n"
        "  BETA receives nothing from GAMA and pays 50: -50.\n"
    )
    assert "JPY: amounts in minor units\nBETA owes nobody and nobody owes BETA: its net is 0.\n" in told


def test_a_plan_settles_the_nets(tmp_path: Path) -> None:
    path = tmp_path / "payments.json"
    path.write_bytes(document(PAYMENTS))
    plain, planned = (json.loads(concordat(path, *option).stdout)["currencies"] for option in ((), ("--plan",)))
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
    names = [f"BANK{at:03}" for at in range(banks)]
    payments = [
        {"id": f"T{at}", "from": a, "to": b, "amount": random_.randint(1, largest), "currency": currency}
        for at in range(count)
        for a, b in [random_.sample(names, 2)]
        for currency in [random_.choice(("EUR", "USD"))]
    ]
    answers = [
        concordat("-", "--plan", given=given, seed=seed).stdout
        for given, seed in ((document(payments), "1"), (table(payments[::-1]), "2"))
    ]
    assert answers[0] == answers[1]
    for one in json.loads(answers[0])["currencies"]:
        nets = {at["participant"]: at["net"] for at in one["positions"] if at["net"]}
        plan, direct = one["plan"], one["plan"]["direct"]
        through = [(at["participant"], at.get("receives", 0) - at.get("pays", 0)) for at in plan["through_account"]]
        assert dict(through) == nets
        assert [net > 0 for _, net in through] == sorted(net > 0 for net in nets.values()), "debits before credits"
        moved: dict[str, int] = {}
        for transfer in direct["transfers"]:
            assert nets[transfer["from"]] < 0 < nets[transfer["to"]]
            assert transfer["amount"] > 0
            moved[transfer["from"]] = moved.get(transfer["from"], 0) - transfer["amount"]
            moved[transfer["to"]] = moved.get(transfer["to"], 0) + transfer["amount"]
        assert moved == nets
        assert sum(transfer["amount"] for transfer in direct["transfers"]) == plan["value"] == one["multilateral"]
        assert (
            max(sum(net < 0 for net in nets.values()), sum(net > 0 for net in nets.values())) <= direct["lower_bound"]
        )
        assert direct["lower_bound"] <= len(direct["transfers"]) == direct["lower_bound"] + direct["gap"] < len(nets)


def test_the_fewest_transfers_are_proven() -> None:
    """D and E settle among themselves, so five nets take three transfers: the example of the page on plans."""
    owed = [("B", "A", 2), ("C", "A", 3), ("E", "D", 7), ("D", "C", 4), ("C", "D", 4)]
    given = [{"id": f"T{at}", "from": a, "to": b, "amount": n, "currency": "EUR"} for at, (a, b, n) in enumerate(owed)]
    direct = json.loads(concordat("-", "--plan", given=document(given)).stdout)["currencies"][0]["plan"]["direct"]
    assert [(one["from"], one["to"], one["amount"]) for one in direct["transfers"]] == [
        ("B", "A", 2),
        ("C", "A", 3),
        ("E", "D", 7),
    ]
    assert (direct["lower_bound"], direct["gap"]) == (3, 0)


def test_nothing_to_move_has_an_empty_plan() -> None:
    ring = [{"id": a, "from": a, "to": b, "amount": 5, "currency": "EUR"} for a, b in ("AB", "BC", "CA")]
    plan = json.loads(concordat("-", "--plan", given=document(ring)).stdout)["currencies"][0]["plan"]
    assert (plan["value"], plan["through_account"], plan["direct"]["transfers"], plan["direct"]["gap"]) == (
        0,
        [],
        [],
        0,
    )
    assert concordat("-", "--plan", given=b'{"payments": []}').stdout == b'{"currencies":[]}\n'


def test_nothing_is_written_for_bad_input(tmp_path: Path) -> None:
    path, target = tmp_path / "payments.csv", tmp_path / "nets.json"
    path.write_bytes(table(PAYMENTS))
    assert concordat(path, "--output", target).stdout == b""
    before = target.read_bytes()
    path.write_bytes(table([*PAYMENTS, {**PAYMENTS[0], "amount": -1}]))
    done = concordat(path, "--output", target, code=2)
    assert done.stderr.decode() == f"concordat: duplicate_id: {path}: line 7: id: T1\n"
    assert done.stdout == b""
    assert target.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nets.json", "payments.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-", "--explain", "NOBODY"), "unknown_participant: standard input: --explain: NOBODY"),
        (("-", "--plan", "--explain", "ALFA"), "--plan"),
        (("-", "--format", "xml"), "'xml' is neither json nor csv"),
        (("nothing.json",), "file_unreadable: nothing.json"),
        (("-", "--output", "/nowhere/at/all.json"), "No such file or directory"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = concordat(*arguments, given=document(PAYMENTS), code=2)
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_an_empty_set_nets_to_nothing() -> None:
    assert concordat("-", given=b'{"payments": []}').stdout == b'{"currencies":[]}\n'
    assert concordat("-", given=b"from,to,amount\n").stdout == b'{"currencies":[]}\n'
    told = concordat("-", "--explain", "ALFA", given=b'{"participants": ["ALFA"], "payments": []}').stdout
    assert told == b"There are no obligations: the net of ALFA is 0.\n"


def test_few_obligations_load_neither_kernels_nor_a_server(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(table(PAYMENTS))
    loaded = loaded_by(
        f"import os, sys; from gateway.analysis.cli import _answer; _answer({str(path)!r}, None, 'ALFA', 0)"
    )
    assert not loaded & {*SERVER, "numba", "numpy", "httpx", "textual"}
