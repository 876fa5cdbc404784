"""`concordat gridlock` as an analyst meets it: what it answers. Certificates and refusals have files of their own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests import analyst
from tests.analyst import COMMAND, LARGEST, canonical, concordat, pay, shuffled, table

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


def answer(queue: Any, *arguments: str) -> Any:
    return analyst.answer("gridlock", queue, *arguments)


def many(count: int, *, seed: int = 1, banks: int = 30) -> dict[str, Any]:
    """Invent a queue that is too large to be looked at selection by selection."""
    random_ = random.Random(seed)
    names = [f"B{at:02}" for at in range(banks)]
    payments = [pay(f"T{at}", *random_.sample(names, 2), random_.randrange(1, 10**6)) for at in range(count)]
    return {"balances": {name: random_.randrange(10**6) for name in names}, "payments": payments}


# --- what it answers --------------------------------------------------------------------------------------


def test_the_answer() -> None:
    resolution = answer(QUEUE)
    assert resolution.pop("work") > 0
    assert resolution == {
        "settled": resolution["settled"],
        "mode": "optimal",
        "value": best_value(QUEUE),
        "count": len(resolution["settled"]),
        "upper_bound": best_value(QUEUE),
        "gap": 0,
        "optimal": True,
        "balances": resolution["balances"],
    }
    assert resolution["balances"] == after(QUEUE, resolution["settled"])


def after(queue: dict[str, Any], ids: Any) -> dict[str, int]:
    banks = {name for payment in queue["payments"] for name in (payment["from"], payment["to"])}
    balances = {name: queue["balances"].get(name, 0) for name in banks}
    for payment in queue["payments"]:
        if payment["id"] in ids:
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
    assert concordat("gridlock", "-", stdin=queue).stdout.startswith(
        b'{"balances":{"A":3,"B":4},"count":0,"gap":0,"mode":"optimal","optimal":true,"settled":[],'
        b'"upper_bound":0,"value":0,"work":'
    )
    queue["limits"] = {"A": 2}
    assert answer(queue)["settled"] == ["T1"]
    assert answer(queue)["balances"] == {"A": -2, "B": 9}


@pytest.mark.parametrize("text", [b'{"payments": []}', b'{"payments": [], "balances": {}}', b"id,from,to,amount\n"])
@pytest.mark.parametrize("mode", ["optimal", "fifo"])
def test_an_empty_queue_settles_nothing(text: bytes, mode: str) -> None:
    resolution = json.loads(concordat("gridlock", "-", "--mode", mode, stdin=text).stdout)
    assert (resolution["settled"], resolution["value"], resolution["count"], resolution["optimal"]) == ([], 0, 0, True)
    assert (resolution["upper_bound"], resolution["gap"], resolution["balances"]) == (0, 0, {})


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
    resolution = answer(queue)
    assert set(resolution["settled"]) == {"URGENT", "MORE"}
    assert resolution["parts"] == {"PART": 5}
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
    resolution = answer(queue)
    assert (resolution["settled"], resolution["value"]) == (["E", "U"], 16)
    assert resolution["balances"] == {"A": {"EUR": 0, "USD": 6}, "B": {"EUR": 5, "USD": 0}}
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
    resolution = answer(queue)["currencies"]
    assert list(resolution) == ["EUR", "USD"]
    assert (resolution["EUR"]["settled"], resolution["EUR"]["balances"]) == (["E"], {"A": -1, "B": 6})
    assert (resolution["USD"]["settled"], resolution["USD"]["balances"]) == ([], {"A": 1, "B": 0})


@pytest.mark.parametrize("amount", [LARGEST, str(LARGEST)])
def test_amounts_of_38_digits(amount: Any) -> None:
    resolution = answer({"balances": {"A": amount}, "payments": [pay("T1", "A", "B", amount)]})
    assert (resolution["value"], resolution["balances"]) == (LARGEST, {"A": 0, "B": LARGEST})


# --- the same bytes ---------------------------------------------------------------------------------------


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
        document = shuffled(queue, seed) if seed else queue
        process = concordat(
            "gridlock", "-", *arguments, "--certificate", proof, stdin=document, hash_seed=str(seed + 1)
        )
        answers.add(process.stdout)
        proofs.add(proof.read_bytes())
    assert len(answers) == len(proofs) == 1
    assert {canonical(text) for text in answers | proofs} == answers | proofs


def test_a_table_and_its_limits_say_the_same_as_a_document(tmp_path: Path) -> None:
    payments = tmp_path / "payments.csv"
    payments.write_bytes(table(("sequence", "priority", "id", "amount", "from", "to"), QUEUE["payments"]))
    limits, document = tmp_path / "limits.csv", tmp_path / "limits.json"
    limits.write_text("participant,limit,balance\nC,2,\nA,,3\nB,0,4\n")
    document.write_text(json.dumps({"balances": {"A": "3", "B": 4}, "limits": {"C": 2}}))
    expected = concordat("gridlock", "-", stdin=QUEUE).stdout
    assert concordat("gridlock", payments, "--limits", limits).stdout == expected
    assert concordat("gridlock", payments, "--limits", document).stdout == expected
    assert concordat("gridlock", "-", "--limits", document, stdin={"payments": QUEUE["payments"]}).stdout == expected


def test_a_table_of_limits_may_be_without_limit_and_by_currency(tmp_path: Path) -> None:
    payments, limits = tmp_path / "payments.csv", tmp_path / "limits.csv"
    payments.write_text(
        "id,from,to,amount,currency,priority,held,split,link,earliest,latest\n"
        "T1,A,B,50,EUR,,,,,,\nT2,B,A,7,USD,1,false,true,,,\nT3,B,C,1,USD,0,true,,,,\n"
    )
    limits.write_text(
        "participant,currency,balance,limit,reserved\nA,EUR,,unlimited,\nB,EUR,,,\nB,USD,9,unlimited,\nB,GBP,1,1,1\n"
    )
    resolution = json.loads(concordat("gridlock", payments, "--limits", limits).stdout)["currencies"]
    assert (resolution["EUR"]["settled"], resolution["USD"]["settled"]) == (["T1"], ["T2"])


# --- manners ----------------------------------------------------------------------------------------------


def test_long_work_shows_progress_on_a_terminal_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    path, target = tmp_path / "queue.json", tmp_path / "answer.json"
    # No even amounts add up to an odd balance, which the bound can't know: the search goes on and on.
    even = [pay(f"T{at}", "A", "B", 2 * (10**6 + at * at * at)) for at in range(60)]
    path.write_text(json.dumps({"balances": {"A": 60 * 10**6 + 1}, "payments": even}))
    above, below = pty.openpty()
    arguments = (str(path), "--work", str(10**15), "--output", str(target))
    process = subprocess.Popen(
        [*COMMAND, "gridlock", *arguments],
        stdout=subprocess.PIPE,
        stderr=below,
        # A shell that runs the tests in the background has them ignore the interrupt, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(below)
    shown = b""
    try:
        while b" s \xe2\x80\xa6" not in shown:
            shown += os.read(above, 1000)
        assert b"resolving 60 payments: 1 s" in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(30) not in (0, 1, 2)
        with contextlib.suppress(OSError):  # the terminal ends with its last user
            while more := os.read(above, 1000):
                shown += more
    finally:
        process.kill()
        process.wait()
        os.close(above)
    assert b"Traceback" not in shown
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["queue.json"]
