"""What `concordat gridlock` refuses, beside what every command does: one line with the reason and the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.analyst import LARGEST, Source, check_refusal, concordat, of, pay, refusal, shuffled
from tests.unit.test_gridlock_command import QUEUE

T1 = pay("T1", "A", "B")


@pytest.mark.parametrize(
    ("source", "reason", "place"),
    [
        (of({"from": "A", "to": "B", "amount": 1}), "field_invalid", "payments[0]: id: "),
        (of(T1, pay("T2", "A", "B", link="T3")), "link_unknown", "payments[1]: link: T2: "),
        (of(pay("T1", "A", "B", link="T1")), "link_cycle", "payments[0]: link: T1: "),
        (
            of(pay("T3", "A", "B", link="T1"), pay("T2", "A", "B", link="T3"), pay("T1", "A", "B", link="T2")),
            "link_cycle",
            "payments[2]: link: T1: linked in a circle: T1 → T2 → T3 → T1",
        ),
        (of(T1, pay("T2", "A", "B", link="T1", split=True)), "link_split", "payments[1]: link: T2: "),
        (of(pay("T1", "A", "B", earliest=5, latest=4)), "window_empty", "payments[0]: latest: T1: "),
        (of(T1, participants=["A", "B"], balances={"C": 1}), "unknown_participant", "balances: C"),
        (of(T1, participants=["A", "B"], limits={"C": 1}), "unknown_participant", "limits: C"),
        (
            of(T1, participants=["A", "B"], bilateral=[{"from": "A", "to": "C", "limit": 1}]),
            "unknown_participant",
            "bilateral[0]: to: C",
        ),
        (of(T1, balances={"A": 1.5}), "field_invalid", "balances: A: "),
        (of(T1, balances={"A": True}), "field_invalid", "balances: A: "),
        (of(T1, balances={"A": None}), "field_invalid", "balances: A: "),
        (of(T1, balances={"A": "1e3"}), "amount_malformed", "balances: A: "),
        (of(T1, balances={"A": LARGEST + 1}), "amount_overflow", "balances: A: "),
        (of(T1, limits={"A": -1}), "limit_negative", "limits: A: "),
        (of(T1, limits={"A": {"": LARGEST + 1}}), "amount_overflow", "limits.A: "),
        (of(T1, default_limit=-1), "limit_negative", "default_limit: "),
        (of(T1, reserved={"A": -1}), "limit_negative", "reserved: A: "),
        (of(T1, urgent=1.0), "field_invalid", "urgent: "),
        (
            of(T1, bilateral=[{"from": "A", "to": "B", "limit": -1}]),
            "limit_negative",
            "bilateral[0]: limit: ",
        ),
        (
            of(T1, bilateral=[{"from": "A", "to": "B", "limit": 1}] * 2),
            "member_repeated",
            "bilateral[1]: ",
        ),
        (of(T1, aggregate={"rates": {"EUR": 1}}), "rate_missing", "payments[0]: currency: T1: "),
        (of(T1, aggregate={"rates": {"": 0}}), "limit_negative", "aggregate.rates: "),
        (
            of(T1, aggregate={"rates": {"": 1}, "limits": {"A": -1}}),
            "limit_negative",
            "aggregate.limits: A: ",
        ),
        (of(T1, pay("T2", "A", "B", currency="EUR"), balances={"A": 1}), "field_invalid", "balances: A"),
        (
            of(pay("E", "A", "B", currency="EUR", link="U"), pay("U", "B", "A", currency="USD")),
            "rate_missing",
            "payments[0]: link: E is linked to U of another currency",
        ),
        (b"from,to,amount\nA,B,1\n", "field_invalid", "line 2: id: "),
    ],
)
def test_bad_input_is_refused_with_its_reason_and_place(
    tmp_path: Path, source: Source, reason: str, place: str
) -> None:
    check_refusal(tmp_path, "gridlock", source, reason, place)


@pytest.mark.parametrize(
    ("source", "limits", "reason", "file", "place"),
    [
        (of(T1), "", "file_empty", "LIMITS", ""),
        (of(T1), "participant,balance\nA,1.5\n", "amount_malformed", "LIMITS", "line 2: balance: "),
        (of(T1), "participant,balance\nA,1\nA,2\n", "member_repeated", "LIMITS", "line 3: A"),
        (of(T1), "participant,limit\nB,0\nA,-1\n", "limit_negative", "LIMITS", "line 3: limit: "),
        (of(T1), "balance\n1\n", "columns_wrong", "LIMITS", "line 1: participant: "),
        (of(T1), '{"accounts": []}', "field_invalid", "LIMITS", "accounts: "),
        (of(T1), '{"payments": []}', "field_invalid", "LIMITS", "payments: "),
        (of(T1), '{"limits": {"A": -1}}', "limit_negative", "LIMITS", "limits: A: "),
        (of(T1, balances={}), '{"limits": {}}', "member_repeated", "FILE", "balances: "),
        (of(T1, default_limit=None), "participant\n", "member_repeated", "FILE", "default_limit: "),
        (
            of(pay("T1", "A", "B", currency="Y"), pay("T2", "A", "B", currency="X")),
            "participant,balance\nA,1\n",
            "field_invalid",
            "LIMITS",
            "line 2: currency: ",
        ),
    ],
)
def test_a_bad_file_of_limits_is_refused(
    tmp_path: Path, source: Source, limits: str, reason: str, file: str, place: str
) -> None:
    path = tmp_path / "limits"
    path.write_text(limits)
    line = refusal(tmp_path, "gridlock", source, "--limits", path).replace(str(path), "LIMITS")
    assert line.startswith(f"{reason}: {file}: {place}" if place else f"{reason}: {file}"), line


def test_a_table_without_currencies_is_about_the_one_that_has_no_name(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    path.write_text("participant,balance\nA,1\n")
    source = of(T1, pay("T2", "A", "B", currency="X"))
    resolution = json.loads(concordat("gridlock", "-", "--limits", path, stdin=source).stdout)
    assert [part["settled"] for part in resolution["currencies"].values()] == [["T1"], []]


def test_a_refusal_does_not_depend_on_the_order_of_members(tmp_path: Path) -> None:
    bad = of(T1, pay("T2", "A", "A"), pay("T3", "A", "B", 0), pay("T0", "B", "B"), limits={"A": -1, "B": -2})
    lines = {refusal(tmp_path, "gridlock", shuffled(bad, seed)).rpartition(": to: ")[2] for seed in range(4)}
    assert lines == {"T0: B pays itself\n"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-", "--mode", "best"), "best"),
        (("-", "--work", "0"), "--work"),
        (("-", "--limits", "-"), "only one file can be standard input"),
        (("-", "--check", "x", "--certificate", "y"), "either written or checked"),
        (("-", "--check", "nothing.json"), "file_unreadable: nothing.json"),
        (("-", "--limits", "nothing.json"), "file_unreadable: nothing.json"),
        (("-", "--certificate", "/nowhere/at/all.json"), "No such file or directory"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: tuple[str, ...], complaint: str) -> None:
    process = concordat("gridlock", *arguments, stdin=QUEUE, exit_code=2)
    assert complaint in process.stderr.decode()
    assert process.stdout == b""


def test_nothing_is_written_for_bad_input(tmp_path: Path) -> None:
    target, proof = tmp_path / "answer.json", tmp_path / "proof.json"
    assert concordat("gridlock", "-", "--output", target, "--certificate", proof, stdin=QUEUE).stdout == b""
    before = target.read_bytes(), proof.read_bytes()
    bad = {**QUEUE, "payments": [*QUEUE["payments"], QUEUE["payments"][0]]}
    concordat("gridlock", "-", "--output", target, "--certificate", proof, stdin=bad, exit_code=2)
    assert (target.read_bytes(), proof.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "proof.json"]
