"""`concordat gridlock` as an analyst meets it: real processes, files in, bytes out."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_import_hygiene import SERVER, loaded_by

COMMAND = (sys.executable, "-m", "gateway.cli", "gridlock")
LARGEST = 10**38 - 1
QUEUE: dict[str, Any] = {
    "balances": {"A": 3, "B": 4},
    "limits": {"C": 2},
    "payments": [
        {"id": "T1", "from": "A", "to": "B", "amount": 5, "priority": 1},
        {"id": "T2", "from": "B", "to": "A", "amount": "6"},
        {"id": "T10", "from": "C", "to": "A", "amount": 7},
        {"id": "T9", "from": "A", "to": "C", "amount": 4, "sequence": 2},
        {"id": "T11", "from": "C", "to": "B", "amount": 9, "sequence": 1},
    ],
}


def concordat(
    *arguments: str | Path, given: Any = b"", seed: str = "0", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=given if isinstance(given, bytes) else json.dumps(given).encode(),
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def answer(given: Any, *arguments: str) -> Any:
    return json.loads(concordat("-", *arguments, given=given).stdout)


def pay(name: str, from_: str, to: str, amount: Any = 1, **members: Any) -> dict[str, Any]:
    return {"id": name, "from": from_, "to": to, "amount": amount, **members}


def many(count: int, *, seed: int = 1, banks: int = 30) -> dict[str, Any]:
    """Invent a queue that is too large to be looked at selection by selection."""
    random_ = random.Random(seed)
    names = [f"B{at:02}" for at in range(banks)]
    payments = [pay(f"T{at}", *random_.sample(names, 2), random_.randrange(1, 10**6)) for at in range(count)]
    return {"balances": {name: random_.randrange(10**6) for name in names}, "payments": payments}


# --- what it answers --------------------------------------------------------------------------------------


def test_the_answer() -> None:
    found = answer(QUEUE)
    assert found.pop("work") > 0
    assert found == {
        "settled": found["settled"],
        "mode": "optimal",
        "value": best_value(QUEUE),
        "count": len(found["settled"]),
        "upper_bound": best_value(QUEUE),
        "gap": 0,
        "optimal": True,
        "balances": found["balances"],
    }
    assert found["balances"] == after(QUEUE, found["settled"])


def after(queue: dict[str, Any], settled: Any) -> dict[str, int]:
    banks = {name for payment in queue["payments"] for name in (payment["from"], payment["to"])}
    balances = {name: queue["balances"].get(name, 0) for name in banks}
    for payment in queue["payments"]:
        if payment["id"] in settled:
            balances[payment["from"]] -= int(payment["amount"])
            balances[payment["to"]] += int(payment["amount"])
    return balances


def best_value(queue: dict[str, Any]) -> int:
    """Look at every selection."""
    payments, limits = queue["payments"], queue.get("limits", {})
    return max(
        sum(int(payment["amount"]) for payment in chosen)
        for count in range(len(payments) + 1)
        for chosen in combinations(payments, count)
        if all(
            balance + limits.get(name, 0) >= 0
            for name, balance in after(queue, {payment["id"] for payment in chosen}).items()
        )
    )


def test_the_example_of_the_documentation() -> None:
    queue = {"balances": {"A": 3, "B": 4}, "payments": [pay("T1", "A", "B", 5, priority=0)]}
    assert concordat("-", given=queue).stdout.startswith(
        b'{"balances":{"A":3,"B":4},"count":0,"gap":0,"mode":"optimal","optimal":true,"settled":[],'
        b'"upper_bound":0,"value":0,"work":'
    )
    queue["limits"] = {"A": 2}
    assert answer(queue)["settled"] == ["T1"]
    assert answer(queue)["balances"] == {"A": -2, "B": 9}


@pytest.mark.parametrize("text", [b'{"payments": []}', b'{"payments": [], "balances": {}}', b"id,from,to,amount\n"])
@pytest.mark.parametrize("mode", ["optimal", "fifo"])
def test_an_empty_queue_settles_nothing(text: bytes, mode: str) -> None:
    found = json.loads(concordat("-", "--mode", mode, given=text).stdout)
    assert (found["settled"], found["value"], found["count"], found["optimal"]) == ([], 0, 0, True)
    assert (found["upper_bound"], found["gap"], found["balances"]) == (0, 0, {})


def test_fifo_lets_nothing_overtake() -> None:
    queue = {
        "balances": {"A": 5},
        "payments": [pay("T1", "A", "B", 9), pay("T2", "A", "C", 5), pay("T3", "B", "A", 1)],
    }
    assert answer(queue, "--mode", "fifo")["settled"] == []
    fifo, optimal = answer(queue, "--mode", "fifo"), answer(queue)
    assert (fifo["mode"], optimal["mode"]) == ("fifo", "optimal")
    assert optimal["settled"] == ["T2"]
    assert fifo["upper_bound"] >= optimal["value"]
    assert fifo["gap"] == fifo["upper_bound"] - fifo["value"]


def test_every_member_has_its_meaning() -> None:
    queue: dict[str, Any] = {
        "participants": ["A", "B", "C"],
        "balances": {"A": {"EUR": 10}},
        "limits": {"B": {"EUR": None}},
        "default_limit": 1,
        "reserved": {"A": {"EUR": 9}},
        "urgent": 3,
        "bilateral": [{"from": "B", "to": "C", "limit": 4}],
        "at": 5,
        "payments": [
            pay("URGENT", "A", "B", 2, priority=3),
            pay("NORMAL", "A", "B", 9, priority=4),
            pay("HELD", "B", "A", held=True),
            pay("EARLY", "B", "A", earliest=6),
            pay("LATE", "B", "A", latest=4),
            pay("NOW", "B", "C", earliest=5, latest=5),
            pay("MORE", "B", "C", 4),
            pay("PART", "C", "A", 20, split=True),
        ],
    }
    for payment in queue["payments"]:
        payment["currency"] = "EUR"
    found = answer(queue)
    assert set(found["settled"]) == {"URGENT", "MORE"}
    assert found["parts"] == {"PART": 5}
    assert set(answer(queue, "--at", "6")["settled"]) == {"URGENT", "EARLY", "MORE"}
    assert {"LATE", "EARLY"} & set(answer({**queue, "at": None})["settled"])


def test_linked_payments_settle_together_or_not_at_all() -> None:
    legs = [pay("E", "A", "B", 5, currency="EUR", link="U"), pay("U", "B", "A", 6, currency="USD", link="E")]
    queue: dict[str, Any] = {
        "balances": {"A": {"EUR": 5}, "B": {"USD": 5}},
        "aggregate": {"rates": {"EUR": 2, "USD": 1}},
        "payments": legs,
    }
    assert answer(queue)["settled"] == []
    queue["balances"]["B"]["USD"] = "6"
    found = answer(queue)
    assert (found["settled"], found["value"]) == (["E", "U"], 16)
    assert found["balances"] == {"A": {"EUR": 0, "USD": 6}, "B": {"EUR": 5, "USD": 0}}
    queue["aggregate"] = {"rates": {"EUR": 2, "USD": 1}, "haircuts_ppm": {"EUR": 100_000}, "limits": {"A": 0}}
    queue["balances"]["A"]["EUR"] = 4
    queue["limits"] = {"A": {"EUR": None}}
    assert answer(queue)["settled"] == ["E", "U"]
    queue["balances"]["A"]["EUR"] = 0
    assert answer(queue)["settled"] == []


def test_currencies_are_resolved_each_on_its_own() -> None:
    queue = {
        "balances": {"A": {"EUR": 5, "USD": 1}},
        "limits": {"A": 1},
        "payments": [pay("E", "A", "B", 6, currency="EUR"), pay("U", "A", "B", 3, currency="USD")],
    }
    found = answer(queue)["currencies"]
    assert list(found) == ["EUR", "USD"]
    assert (found["EUR"]["settled"], found["EUR"]["balances"]) == (["E"], {"A": -1, "B": 6})
    assert (found["USD"]["settled"], found["USD"]["balances"]) == ([], {"A": 1, "B": 0})


@pytest.mark.parametrize("amount", [LARGEST, str(LARGEST)])
def test_amounts_of_38_digits(amount: Any) -> None:
    found = answer({"balances": {"A": amount}, "payments": [pay("T1", "A", "B", amount)]})
    assert (found["value"], found["balances"]) == (LARGEST, {"A": 0, "B": LARGEST})


# --- the same bytes ---------------------------------------------------------------------------------------


def shuffled(queue: dict[str, Any], seed: int) -> dict[str, Any]:
    random_ = random.Random(seed)

    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            random_.shuffle(items)
            return {name: shuffle(inner) for name, inner in items}
        if isinstance(value, list):
            return random_.sample([shuffle(inner) for inner in value], len(value))
        return value

    return {name: shuffle(value) for name, value in queue.items()}


@pytest.mark.parametrize(
    ("queue", "arguments"),
    [(QUEUE, ()), (QUEUE, ("--mode", "fifo")), (many(40), ("--work", "50000")), (many(400), ("--work", "2000000"))],
    ids=["enumerated", "fifo", "interpreted", "compiled"],
)
def test_every_order_process_and_hash_seed_gives_the_same_bytes(
    tmp_path: Path, queue: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    answers, proofs = set(), set()
    for seed in range(3):
        proof = tmp_path / f"{seed}.json"
        given = shuffled(queue, seed) if seed else queue
        done = concordat("-", *arguments, "--certificate", proof, given=given, seed=str(seed + 1))
        answers.add(done.stdout)
        proofs.add(proof.read_bytes())
    assert len(answers) == len(proofs) == 1
    for text in (*answers, *proofs):
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_a_table_and_its_limits_say_the_same_as_a_document(tmp_path: Path) -> None:
    columns = ("sequence", "priority", "id", "amount", "from", "to")
    rows = [",".join(str(payment.get(name, "")) for name in columns) for payment in QUEUE["payments"]]
    table = tmp_path / "payments.csv"
    table.write_text("\n".join((",".join(columns), *rows)) + "\n")
    limits, document = tmp_path / "limits.csv", tmp_path / "limits.json"
    limits.write_text("participant,limit,balance\nC,2,\nA,,3\nB,0,4\n")
    document.write_text(json.dumps({"balances": {"A": "3", "B": 4}, "limits": {"C": 2}}))
    expected = concordat("-", given=QUEUE).stdout
    assert concordat(table, "--limits", limits).stdout == expected
    assert concordat(table, "--limits", document).stdout == expected
    assert concordat("-", "--limits", document, given={"payments": QUEUE["payments"]}).stdout == expected


def test_a_table_of_limits_may_be_without_limit_and_by_currency(tmp_path: Path) -> None:
    table, limits = tmp_path / "payments.csv", tmp_path / "limits.csv"
    table.write_text(
        "id,from,to,amount,currency,priority,held,split,link,earliest,latest\n"
        "T1,A,B,50,EUR,,,,,,\nT2,B,A,7,USD,1,false,true,,,\nT3,B,C,1,USD,0,true,,,,\n"
    )
    limits.write_text(
        "participant,currency,balance,limit,reserved\nA,EUR,,unlimited,\nB,EUR,,,\nB,USD,9,unlimited,\nB,GBP,1,1,1\n"
    )
    found = json.loads(concordat(table, "--limits", limits).stdout)["currencies"]
    assert (found["EUR"]["settled"], found["USD"]["settled"]) == (["T1"], ["T2"])


# --- certificates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "arguments"),
    [
        (QUEUE, ()),
        (QUEUE, ("--mode", "fifo")),
        (many(40), ("--work", "100000")),
        ({"payments": [], "at": 5}, ()),
        ({**QUEUE, "at": 3}, ()),
        (many(400), ("--work", "1")),
    ],
)
def test_a_certificate_is_written_and_holds(tmp_path: Path, queue: dict[str, Any], arguments: tuple[str, ...]) -> None:
    proof = tmp_path / "proof.json"
    bound = json.loads(concordat("-", *arguments, "--certificate", proof, given=queue).stdout)["upper_bound"]
    said = concordat("-", "--check", proof, given=queue).stdout.decode()
    assert said == f"holds: no selection is worth more than {bound}\n"


def test_certificates_of_several_currencies(tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    queue = {
        "default_limit": 9,
        "payments": [pay("E", "A", "B", 6, currency="EUR"), pay("U", "A", "B", 3, currency="USD")],
    }
    concordat("-", "--certificate", proof, given=queue)
    assert concordat("-", "--check", proof, given=queue).stdout.decode() == (
        "holds: no selection of EUR is worth more than 6\nholds: no selection of USD is worth more than 3\n"
    )
    queue["payments"] = queue["payments"][:1]  # type: ignore[index]
    assert b"other currencies" in concordat("-", "--check", proof, given=queue, code=1).stderr


def test_a_certificate_that_does_not_hold(tmp_path: Path) -> None:
    """Lower the bound, change the limits or the moment, fell the tree: each is seen."""
    proof, forged = tmp_path / "proof.json", tmp_path / "forged.json"
    queue = many(40)
    concordat("-", "--work", "100000", "--certificate", proof, given=queue)

    def wrong(change: Any, *arguments: str) -> str:
        document = json.loads(proof.read_bytes())
        change(document["proofs"][0], document)
        forged.write_text(json.dumps(document))
        done = concordat("-", "--check", forged, *arguments, given=queue, code=1)
        assert done.stdout == b""
        said = done.stderr.decode()
        assert said.startswith(f"concordat: {forged}: the certificate doesn't hold: ")
        assert said.count("\n") == 1
        return said

    assert "allows" in wrong(lambda one, _: one.update(upper_bound=one["upper_bound"] - 1))
    assert "about other limits" in wrong(lambda one, _: one["rows"].pop())
    assert "tree has no root" in wrong(lambda one, _: one.update(nodes=[]))
    assert "tree has no root" in wrong(lambda one, _: one.update(scale=0))
    assert "can't have been enumerated" in wrong(lambda one, _: one.update(enumerated=True, nodes=[]))
    assert "the moment 4" in wrong(lambda _, whole: whole.update(at=4))
    assert "no moment, and asked for is the moment 4" in wrong(lambda _, whole: None, "--at", "4")
    assert "other currencies" in wrong(lambda one, _: one.update(currency="EUR"))
    assert "multiplier" in wrong(lambda one, _: one["nodes"][-1].update(multipliers=[]))
    assert concordat("-", "--check", proof, given=queue).stdout.startswith(b"holds: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "file_empty"),
        ("{", "json_malformed"),
        ('{"proofs": [{}]}', "field_invalid"),
        ('{"proofs": [], "proofs": []}', "member_repeated"),
        ('{"proofs": [], "more": 1}', "field_invalid"),
    ],
)
def test_a_certificate_that_can_not_be_read(tmp_path: Path, text: str, reason: str) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text(text)
    assert f"concordat: {reason}: {proof}" in concordat("-", "--check", proof, given=QUEUE, code=2).stderr.decode()


# --- what it refuses --------------------------------------------------------------------------------------


def refusal(given: Any, *arguments: str | Path) -> str:
    """Return why the input is refused: one line, with nothing else written."""
    done = concordat("-", *arguments, given=given, code=2)
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.startswith("concordat: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1
    return said.removeprefix("concordat: ").rstrip("\n")


def of(*payments: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**members, "payments": list(payments)}


T1 = pay("T1", "A", "B")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "file_empty: standard input"),
        (b"{", "json_malformed: standard input: "),
        (b'{"payments": [{"id": "T1", "fr', "json_malformed: standard input: "),
        (b"[]", "field_invalid: standard input: "),
        (b"\xff\xfe{", "encoding_wrong"),
        (b"{}", "records_ambiguous: standard input: "),
        (b'{"payments": [], "balances": {"A": 1, "A": 2}}', "member_repeated: standard input: balances: A"),
        (b'{"payments": [], "payments": []}', "member_repeated: standard input: payments"),
        (of(T1, balance={}), "field_invalid: standard input: balance: "),
        (of({**T1, "amuont": 1}), "field_invalid: standard input: payments[0]: amuont: "),
        (of({"from": "A", "to": "B", "amount": 1}), "field_invalid: standard input: payments[0]: id: "),
        (of(T1, pay("T2", "A", "B", 0)), "amount_not_positive: standard input: payments[1]: amount: T2: "),
        (of(T1, pay("T2", "A", "B", -1)), "amount_not_positive: standard input: payments[1]: amount: T2: "),
        (of(T1, pay("T2", "A", "B", LARGEST + 1)), "amount_overflow: standard input: payments[1]: amount: T2: "),
        (of(T1, pay("T2", "A", "B", LARGEST)), "sum_overflow: standard input: payments[1]: amount: T2: "),
        (b'{"payments": [{"id": "T1", "from": "A", "to": "B", "amount": ' + b"9" * 100_000 + b"}]}", "field_invalid"),
        (of(T1, pay("T2", "A", "B", "9" * 100_000)), "amount_malformed: standard input: payments[1]: amount: "),
        (of(T1, pay("T2", "A", "B", 1.0)), "field_invalid: standard input: payments[1]: amount: "),
        (of(T1, pay("T2", "A", "B", True)), "field_invalid: standard input: payments[1]: amount: "),
        (of(T1, pay("T2", "A", "B", "1e3")), "amount_malformed: standard input: payments[1]: amount: "),
        (b'{"payments": [{"id": "T1", "from": "A", "to": "B", "amount": 1e3}]}', "field_invalid"),
        (of(T1, pay("T2", "A", "B", "1.0")), "amount_malformed: standard input: payments[1]: amount: "),
        (of(T1, pay("T2", "B", "B")), "self_payment: standard input: payments[1]: to: T2: "),
        (of(T1, pay("T1", "B", "A")), "duplicate_id: standard input: payments[1]: id: T1: "),
        (of(T1, pay("T2", "A", " ")), "name_malformed: standard input: payments[1]: to: "),
        (of(T1, pay("T2", "A", "B", link="T3")), "link_unknown: standard input: payments[1]: link: T2: "),
        (of(pay("T1", "A", "B", link="T1")), "link_cycle: standard input: payments[0]: link: T1: "),
        (
            of(pay("T3", "A", "B", link="T1"), pay("T2", "A", "B", link="T3"), pay("T1", "A", "B", link="T2")),
            "link_cycle: standard input: payments[2]: link: T1: linked in a circle: T1 → T2 → T3 → T1",
        ),
        (of(T1, pay("T2", "A", "B", link="T1", split=True)), "link_split: standard input: payments[1]: link: T2: "),
        (of(pay("T1", "A", "B", earliest=5, latest=4)), "window_empty: standard input: payments[0]: latest: T1: "),
        (of(T1, participants=["A"]), "unknown_participant: standard input: payments[0]: to: T1: "),
        (of(T1, participants=["B"]), "unknown_participant: standard input: payments[0]: from: T1: "),
        (of(T1, participants=["A", "B"], balances={"C": 1}), "unknown_participant: standard input: balances: C"),
        (of(T1, participants=["A", "B"], limits={"C": 1}), "unknown_participant: standard input: limits: C"),
        (of(T1, participants=["A", "A"]), "participant_repeated: standard input: participants[1]"),
        (
            of(T1, participants=["A", "B"], bilateral=[{"from": "A", "to": "C", "limit": 1}]),
            "unknown_participant: standard input: bilateral[0]: to: C",
        ),
        (of(T1, balances={"A": 1.5}), "field_invalid: standard input: balances: A: "),
        (of(T1, balances={"A": True}), "field_invalid: standard input: balances: A: "),
        (of(T1, balances={"A": None}), "field_invalid: standard input: balances: A: "),
        (of(T1, balances={"A": "1e3"}), "amount_malformed: standard input: balances: A: "),
        (of(T1, balances={"A": LARGEST + 1}), "amount_overflow: standard input: balances: A: "),
        (of(T1, limits={"A": -1}), "limit_negative: standard input: limits: A: "),
        (of(T1, limits={"A": {"": LARGEST + 1}}), "amount_overflow: standard input: limits.A: "),
        (of(T1, default_limit=-1), "limit_negative: standard input: default_limit: "),
        (of(T1, reserved={"A": -1}), "limit_negative: standard input: reserved: A: "),
        (of(T1, urgent=1.0), "field_invalid: standard input: urgent: "),
        (
            of(T1, bilateral=[{"from": "A", "to": "B", "limit": -1}]),
            "limit_negative: standard input: bilateral[0]: limit: ",
        ),
        (
            of(T1, bilateral=[{"from": "A", "to": "B", "limit": 1}] * 2),
            "member_repeated: standard input: bilateral[1]: ",
        ),
        (of(T1, aggregate={"rates": {"EUR": 1}}), "rate_missing: standard input: payments[0]: currency: T1: "),
        (of(T1, aggregate={"rates": {"": 0}}), "limit_negative: standard input: aggregate.rates: "),
        (
            of(T1, aggregate={"rates": {"": 1}, "limits": {"A": -1}}),
            "limit_negative: standard input: aggregate.limits: A: ",
        ),
        (of(T1, pay("T2", "A", "B", currency="EUR"), balances={"A": 1}), "field_invalid: standard input: balances: A"),
        (
            of(pay("E", "A", "B", currency="EUR", link="U"), pay("U", "B", "A", currency="USD")),
            "rate_missing: standard input: payments[0]: link: E is linked to U of another currency",
        ),
        (b"id,from,to,amount\nT1,A,B,1\nT2,A,B,0\n", "amount_not_positive: standard input: line 3: amount: "),
        (b"id,from,to,amount\nT1,A,B,1.5\n", "amount_malformed: standard input: line 2: amount: "),
        (b"from,to,amount\nA,B,1\n", "field_invalid: standard input: line 2: id: "),
        (b"id,from,to,amount,balance\n", "columns_wrong: standard input: line 1: balance: "),
        (b"id,from,to,amount\nT1,A,B\n", "row_malformed: standard input: line 2: "),
        (b'id,from,to,amount\nT1,A,"B', "row_malformed: standard input: line 2: "),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_place(given: Any, said: str) -> None:
    assert refusal(given).startswith(said)


@pytest.mark.parametrize(
    ("given", "limits", "said"),
    [
        (of(T1), "", "file_empty: {}"),
        (of(T1), "participant,balance\nA,1.5\n", "amount_malformed: {}: line 2: balance: "),
        (of(T1), "participant,balance\nA,1\nA,2\n", "member_repeated: {}: line 3: A"),
        (of(T1), "participant,limit\nB,0\nA,-1\n", "limit_negative: {}: line 3: limit: "),
        (of(T1), "balance\n1\n", "columns_wrong: {}: line 1: participant: "),
        (of(T1), '{"accounts": []}', "field_invalid: {}: accounts: "),
        (of(T1), '{"payments": []}', "field_invalid: {}: payments: "),
        (of(T1), '{"limits": {"A": -1}}', "limit_negative: {}: limits: A: "),
        (of(T1, balances={}), '{"limits": {}}', "member_repeated: standard input: balances: "),
        (of(T1, default_limit=None), "participant\n", "member_repeated: standard input: default_limit: "),
        (of(T1, pay("T2", "A", "B", currency="X")), "participant,balance\nA,1\n", None),
        (
            of(pay("T1", "A", "B", currency="Y"), pay("T2", "A", "B", currency="X")),
            "participant,balance\nA,1\n",
            "field_invalid: {}: line 2: currency: ",
        ),
    ],
)
def test_a_bad_file_of_limits_is_refused(tmp_path: Path, given: Any, limits: str, said: str | None) -> None:
    path = tmp_path / "limits"
    path.write_text(limits)
    if said is None:
        concordat("-", "--limits", path, given=given)
    else:
        assert refusal(given, "--limits", path).startswith(said.format(path))


def test_a_refusal_does_not_depend_on_the_order_of_members() -> None:
    bad = of(T1, pay("T2", "A", "A"), pay("T3", "A", "B", 0), pay("T0", "B", "B"), limits={"A": -1, "B": -2})
    assert {refusal(shuffled(bad, seed)).rpartition(": to: ")[2] for seed in range(4)} == {"T0: B pays itself"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-", "--mode", "best"), "best"),
        (("-", "--work", "0"), "--work"),
        (("-", "--format", "xml"), "'xml' is neither json nor csv"),
        (("-", "--limits", "-"), "only one file can be standard input"),
        (("-", "--check", "x", "--certificate", "y"), "either written or checked"),
        (("nothing.json",), "file_unreadable: nothing.json"),
        (("-", "--check", "nothing.json"), "file_unreadable: nothing.json"),
        (("-", "--limits", "nothing.json"), "file_unreadable: nothing.json"),
        (("-", "--output", "/nowhere/at/all.json"), "No such file or directory"),
        (("-", "--certificate", "/nowhere/at/all.json"), "No such file or directory"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = concordat(*arguments, given=QUEUE, code=2)
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_nothing_is_written_for_bad_input(tmp_path: Path) -> None:
    target, proof = tmp_path / "answer.json", tmp_path / "proof.json"
    assert concordat("-", "--output", target, "--certificate", proof, given=QUEUE).stdout == b""
    before = target.read_bytes(), proof.read_bytes()
    bad = {**QUEUE, "payments": [*QUEUE["payments"], QUEUE["payments"][0]]}
    concordat("-", "--output", target, "--certificate", proof, given=bad, code=2)
    assert (target.read_bytes(), proof.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "proof.json"]


# --- manners ----------------------------------------------------------------------------------------------


def test_few_payments_load_neither_kernels_nor_a_server(tmp_path: Path) -> None:
    for count in (5, 40):
        path = tmp_path / "queue.json"
        path.write_text(json.dumps(many(count)))
        loaded = loaded_by(
            "from gateway.analysis.gridlock import _queues, _resolved;"
            f"_resolved(_queues({str(path)!r}, None, None), 'optimal', 10000, None, proven=True)"
        )
        assert not loaded & {*SERVER, "numba", "numpy", "httpx", "textual"}


def test_long_work_shows_progress_on_a_terminal_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    path, target = tmp_path / "queue.json", tmp_path / "answer.json"
    # No even amounts add up to an odd balance, which the bound can't know: the search goes on and on.
    even = [pay(f"T{at}", "A", "B", 2 * (10**6 + at * at * at)) for at in range(60)]
    path.write_text(json.dumps({"balances": {"A": 60 * 10**6 + 1}, "payments": even}))
    above, below = pty.openpty()
    arguments = (str(path), "--work", str(10**15), "--output", str(target))
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=below)
    os.close(below)
    said = b""
    try:
        while b" s \xe2\x80\xa6" not in said:
            said += os.read(above, 1000)
        assert b"resolving 60 payments: 1 s" in said
        process.send_signal(signal.SIGINT)
        assert process.wait(30) not in (0, 1, 2)
        with contextlib.suppress(OSError):  # the terminal ends with its last user
            while more := os.read(above, 1000):
                said += more
    finally:
        process.kill()
        process.wait()
        os.close(above)
    assert b"Traceback" not in said
    assert not target.exists()
    assert [one.name for one in tmp_path.iterdir()] == ["queue.json"]
