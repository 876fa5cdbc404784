"""`concordat clear` as an analyst meets it: real processes, files in, bytes out."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_import_hygiene import SERVER, loaded_by

LARGEST = 10**38 - 1


def concordat(
    *arguments: str | Path, given: Any = b"", seed: str = "0", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "clear", *map(str, arguments)],
        input=given if isinstance(given, bytes) else json.dumps(given).encode(),
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def owe(from_: str, to: str, amount: Any, **members: Any) -> dict[str, Any]:
    return {"from": from_, "to": to, "amount": amount, **members}


def of(*debts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**members, "obligations": list(debts)}


def clear(given: Any, *arguments: str) -> list[Any]:
    found: list[Any] = json.loads(concordat("-", *arguments, given=given).stdout)["currencies"]
    return found


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
    found: Counter[str] = Counter()
    for one in debts:
        found[one["to"]] += int(one[amount])
        found[one["from"]] -= int(one[amount])
    return dict(found)


def by_pair(debts: list[dict[str, Any]], amount: str = "amount") -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for one in debts:
        found[one["from"], one["to"]] += int(one[amount])
    return found


def check(found: dict[str, Any], given: dict[str, Any], *, pre_net_pairs: bool = False) -> None:
    """Prove a clearing from the file and the answer alone."""
    debts = [one for one in given["obligations"] if one.get("currency", "") == found["currency"]]
    have = {name: int(of.get(found["currency"], 0)) for name, of in given.get("balances", {}).items()}
    owed, cleared = by_pair(debts), by_pair(found["discharges"], "cleared")
    offset = {pair: min(owed[pair], owed[pair[::-1]]) if pre_net_pairs else 0 for pair in owed}

    # Every obligation is there, and only shrinks.
    assert sorted(
        (one.get("id", ""), one["from"], one["to"], one["cleared"] + one["residual"]) for one in found["discharges"]
    ) == sorted((one.get("id", ""), one["from"], one["to"], one["amount"]) for one in debts)
    assert all(one["cleared"] >= 0 and one["residual"] >= 0 for one in found["discharges"])
    assert all(cleared[pair] >= offset[pair] for pair in owed)

    # What remains is what isn't cleared, and the figures are its sums.
    assert by_pair(found["residual"]) == +(owed - cleared)
    assert len(found["residual"]) == len({(one["from"], one["to"]) for one in found["residual"]})
    assert (found["obligations"], found["gross"]) == (len(debts), owed.total())
    assert (found["cleared"], found["offset"]) == (cleared.total(), sum(offset.values()))
    assert found["cleared_bp"] == found["cleared"] * 10_000 // found["gross"]
    assert found["least"] == sum(net for net in nets(debts).values() if net > 0)

    # Nobody's net changes but by the money that it pays or gets, and nobody pays more than it has.
    before, after = nets(debts), nets(found["residual"])
    for one in found["savings"]:
        name = one["participant"]
        assert after.get(name, 0) - before[name] == one["paid"] <= have.get(name, 0)
        assert one["before"] == sum(amount for pair, amount in owed.items() if name in pair)
        assert one["after"] == sum(debt["amount"] for debt in found["residual"] if name in (debt["from"], debt["to"]))
        assert one["saving"] == one["before"] - one["after"]
    assert [one["participant"] for one in found["savings"]] == sorted(before)
    assert sum(one["paid"] for one in found["savings"]) == 0

    # The potentials bound what any clearing of what isn't set off discharges, and this one does discharge it.
    worth = found["potentials"]
    assert sorted(worth) == sorted(before)
    assert min(worth.values()) >= 0
    bound = sum(worth[name] * amount for name, amount in have.items() if name in worth)
    bound += sum((owed[a, b] - offset[a, b]) * max(0, 1 - worth[a] + worth[b]) for a, b in owed)
    assert found["cleared"] - found["offset"] == bound


@pytest.mark.parametrize("money", [False, True], ids=["without money", "with money"])
@pytest.mark.parametrize("pre_net_pairs", [False, True], ids=["rings first", "pairs first"])
@pytest.mark.parametrize(
    ("count", "banks", "currencies"), [(60, 6, "XY"), (6_000, 60, "X")], ids=["interpreted", "compiled"]
)
def test_every_net_is_kept_and_the_proof_holds(
    count: int, banks: int, currencies: str, pre_net_pairs: bool, money: bool
) -> None:
    given = many(count, banks=banks, seed=count, money=money, currencies=currencies)
    found = clear(given, *["--pre-net-pairs"] * pre_net_pairs)
    assert [one["currency"] for one in found] == list(currencies)
    for one in found:
        check(one, given, pre_net_pairs=pre_net_pairs)
    paid = sum(saving["paid"] for saving in found[0]["savings"] if saving["paid"] > 0)
    assert (paid > 0) is money


@pytest.mark.parametrize("seed", range(5))
def test_no_clearing_discharges_more(seed: int) -> None:
    """Try every way to shrink six small debts between three banks, with a little money."""
    random_ = random.Random(seed)
    pairs = [(a, b) for a, b in product("ABC", repeat=2) if a != b]
    debts = [owe(a, b, random_.randrange(1, 5)) for a, b in pairs]
    have = {"A": random_.randrange(2), "B": random_.randrange(2), "C": 0}
    best = 0
    for parts in product(*(range(one["amount"] + 1) for one in debts)):
        out = Counter(have)
        for (debtor, creditor), part in zip(pairs, parts, strict=True):
            out[debtor] -= part
            out[creditor] += part
        if min(out.values()) >= 0:
            best = max(best, sum(parts))
    [found] = clear(of(*debts, balances=have))
    assert found["cleared"] == best


def test_setting_off_pairs_first_can_cost_a_longer_ring() -> None:
    [found] = clear(RING, "--pre-net-pairs")
    assert (found["cleared"], found["offset"]) == (20, 20)
    assert found["residual"] == [{"from": "B", "to": "C", "amount": 10}, {"from": "C", "to": "A", "amount": 10}]


def test_money_discharges_along_a_chain() -> None:
    chain = of(owe("A", "B", 5, currency="EUR"), owe("B", "C", 5, currency="EUR"))
    assert clear(chain)[0]["cleared"] == 0
    for money in ({"A": 2}, {"A": "2"}, {"A": {"EUR": 2}}, {"A": {"EUR": 2, "USD": 9}, "D": 7}):
        [found] = clear({**chain, "balances": money})
        assert (found["cleared"], [one["paid"] for one in found["savings"]]) == (4, [2, 0, -2])


def test_not_conservative_leaves_the_least_that_keeps_every_net() -> None:
    given = many(80, banks=9, seed=2)
    for found in clear(given, "--non-conservative"):
        debts = [one for one in given["obligations"] if one["currency"] == found["currency"]]
        after = nets(found["residual"])
        assert {name: after.get(name, 0) for name in nets(debts)} == nets(debts)
        assert sum(one["amount"] for one in found["residual"]) == found["least"] == found["gross"] - found["cleared"]
        assert found["least"] == sum(net for net in nets(debts).values() if net > 0)
        assert len(found["residual"]) < len(nets(debts))
        assert {one["residual"] for one in found["discharges"]} == {0}
        assert {one["paid"] for one in found["savings"]} == {0}
        assert "potentials" not in found


def test_the_urgent_the_old_and_the_smaller_id_are_discharged_first() -> None:
    [found] = clear(
        of(
            owe("A", "B", 4, id="T10"),
            owe("A", "B", 4, id="T2"),
            owe("A", "B", 4, id="URGENT", priority=-1, sequence=9),
            owe("A", "B", 4, id="YOUNG", sequence=1),
            owe("B", "A", 9),
        )
    )
    told = [(one.get("id"), one["cleared"]) for one in found["discharges"] if one["from"] == "A"]
    assert told == [("URGENT", 4), ("T2", 4), ("T10", 1), ("YOUNG", 0)]


def test_amounts_of_38_digits() -> None:
    [found] = clear(of(owe("A", "B", LARGEST // 2), owe("B", "A", str(LARGEST // 2 - 1)), balances={"A": LARGEST}))
    assert (found["gross"], found["cleared"]) == (LARGEST // 2 * 2 - 1, LARGEST // 2 * 2 - 1)


@pytest.mark.parametrize(
    "text", [b'{"payments": []}', b"from,to,amount\n", b'{"obligations": [], "balances": {"A": 1}}']
)
def test_nothing_clears_to_nothing(text: bytes) -> None:
    assert concordat("-", given=text).stdout == b'{"currencies":[]}\n'


# --- the same bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--pre-net-pairs",), ("--non-conservative",)])
def test_every_order_form_process_and_hash_seed_gives_the_same_bytes(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    given = many(50, banks=7, seed=1)
    debts = given["obligations"]
    debts += debts[:2:2]  # one without an id is there twice
    shuffled = random.Random(4).sample(debts, len(debts))
    columns = ("priority", "amount", "to", "from", "currency", "id")
    path = tmp_path / "debts.csv"
    path.write_text(
        "\n".join([",".join(columns), *(",".join(str(one.get(name, "")) for name in columns) for one in shuffled), ""])
    )
    answers = {
        concordat("-", *arguments, given=given, seed="1").stdout,
        concordat("-", *arguments, given={"payments": shuffled}, seed="2").stdout,
        concordat(path, *arguments, seed="3").stdout,
        concordat("-", "--format", "csv", *arguments, given=path.read_bytes(), seed="random").stdout,
    }
    assert len(answers) == 1
    [answer] = answers
    assert answer == json.dumps(json.loads(answer), sort_keys=True, separators=(",", ":")).encode() + b"\n"


# --- what it refuses --------------------------------------------------------------------------------------

T1 = owe("A", "B", 1, id="T1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "file_empty: standard input\n"),
        (b'{"obligations": [{"id": "T1", "fr', "json_malformed: standard input: "),
        (b"{}", "records_ambiguous: standard input: "),
        (of(T1, owe("B", "A", 1, id="T1")), "duplicate_id: standard input: obligations[1]: id: T1\n"),
        (of(T1, owe("B", "B", 1)), "self_payment: standard input: obligations[1]: to: B\n"),
        (of(T1, owe("B", "A", -1)), "amount_not_positive: standard input: obligations[1]: amount: -1\n"),
        (of(T1, owe("B", "A", LARGEST + 1)), "amount_overflow: standard input: obligations[1]: amount: "),
        (of(T1, owe("B", "A", LARGEST)), "sum_overflow: standard input: obligations[1]: amount: "),
        (of(T1, owe("B", "A", "1.0")), "amount_malformed: standard input: obligations[1]: amount: '1.0'\n"),
        (
            of(T1, owe("B", "C", 1), participants=["A", "B"]),
            "unknown_participant: standard input: obligations[1]: to: C\n",
        ),
        (of(T1, balances={"A": -1}), "limit_negative: standard input: balances: A: "),
        (of(T1, balances={"A": {"": -1}}), "limit_negative: standard input: balances.A: what"),
        (of(T1, balances={"A": LARGEST + 1}), "amount_overflow: standard input: balances: A: it has more than 38"),
        (of(T1, balances={"A": "1e3"}), "amount_malformed: standard input: balances: A: "),
        (of(T1, balances={"A": 1.5}), "field_invalid: standard input: balances: A: "),
        (of(T1, balances={" ": 1}), "name_malformed: standard input: balances: "),
        (of(T1, participants=["A", "B"], balances={"C": 1}), "unknown_participant: standard input: balances: C\n"),
        (
            of(T1, owe("A", "B", 1, currency="EUR"), balances={"A": 1}),
            "field_invalid: standard input: balances: A: there are several currencies: give it for each\n",
        ),
        (b"from,to,amount\nA,B,1\nA,B,0\n", "amount_not_positive: standard input: line 3: amount: 0\n"),
        (b"from,to,amount,balance\n", "columns_wrong: standard input: line 1: balance: "),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_place(tmp_path: Path, given: Any, said: str) -> None:
    target = tmp_path / "answer.json"
    done = concordat("-", "--output", target, given=given, code=2)
    assert done.stderr.decode().startswith(f"concordat: {said}")
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (("--pre-net-pairs", "--non-conservative"), RING, "--pre-net-pairs"),
        (("--non-conservative",), {**RING, "balances": {"A": 1}}, "field_invalid: standard input: balances: "),
        (("--format", "xml"), RING, "'xml' is neither json nor csv"),
        (("--format", "csv"), RING, "columns_wrong: standard input: line 1: "),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: tuple[str, ...], given: Any, said: str) -> None:
    done = concordat("-", *arguments, given=given, code=2)
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_few_debts_load_neither_kernels_nor_a_server(tmp_path: Path) -> None:
    path = tmp_path / "debts.json"
    path.write_text(json.dumps(RING))
    loaded = loaded_by(
        "from gateway.analysis.clear import _answer;"
        f"_answer({str(path)!r}, None, pre_net_pairs=False, conservative=True)"
    )
    assert not loaded & {*SERVER, "numba", "numpy", "httpx", "textual"}
