"""What all commands for analysts do alike: start fast, say in one line what is wrong, leave nothing half-written."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.analyst import COMMAND, LARGEST, Source, canonical, check_refusal, concordat, of, pay, table
from tests.unit.test_import_hygiene import SERVER, loaded_by

COMMANDS = [("net",), ("net", "--plan"), ("net", "--explain", "A"), ("gridlock",), ("clear",), ("advise",)]
T1, T2 = pay("T1", "A", "B", 5, time=7), pay("T2", "B", "C", 3, time=9)
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


def start(*arguments: str | Path, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [*COMMAND, *map(os.fspath, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE)


def refusal(process: subprocess.Popen[bytes]) -> str:
    """Return the one line that a process refuses with."""
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout or b"") == (2, b""), stderr.decode()
    assert stderr.startswith(b"concordat: ")
    assert stderr.endswith(b"\n")
    assert stderr.count(b"\n") == 1
    return stderr.decode().removeprefix("concordat: ").rstrip("\n")


@pytest.fixture
def debts(tmp_path: Path) -> Path:
    path = tmp_path / "debts.json"
    path.write_text(json.dumps(of(T1)))
    return path


# --- the same bytes ---------------------------------------------------------------------------------------


def several(count: int) -> list[dict[str, Any]]:
    """Invent debts with and without ids, one of them twice."""
    chance = random.Random(1)
    records = [
        {
            "from": debtor,
            "to": creditor,
            "amount": chance.randrange(1, 100),
            "currency": chance.choice(("EUR", "USD")),
            "priority": chance.randrange(2),
            "time": chance.randrange(-200_000, 200_000),
            **({"id": f"T{at}"} if at % 2 else {}),
        }
        for at in range(count)
        for debtor, creditor in [chance.sample("ABCDEFG", 2)]
    ]
    return [*records, records[0]]


@pytest.mark.parametrize(
    "command",
    [
        *(("net",), ("net", "--plan"), ("net", "--explain", "A")),
        *(("clear",), ("clear", "--pre-net-pairs"), ("clear", "--non-conservative"), ("advise",)),
    ],
    ids=" ".join,
)
def test_every_order_form_process_and_hash_seed_gives_the_same_bytes(tmp_path: Path, command: tuple[str, ...]) -> None:
    records = several(60)
    in_another_order = random.Random(4).sample(records, len(records))
    path = tmp_path / "debts.csv"
    path.write_bytes(table(("priority", "amount", "time", "to", "from", "currency", "id"), in_another_order))
    name, *options = command
    answers = {
        concordat(name, "-", *options, stdin={"obligations": records}, hash_seed="1").stdout,
        concordat(name, "-", *options, stdin=of(*in_another_order), hash_seed="2").stdout,
        concordat(name, path, *options, hash_seed="3").stdout,
        concordat(name, "-", "--format", "csv", *options, stdin=path.read_bytes(), hash_seed="random").stdout,
    }
    assert len(answers) == 1
    assert "--explain" in options or {canonical(answer) for answer in answers} == answers


@pytest.mark.parametrize("command", ["net", "clear", "advise"])
@pytest.mark.parametrize("source", [b'{"payments": []}', b"from,to,amount\n", b"time,from,to,amount\n"])
def test_nothing_is_answered_by_nothing(command: str, source: bytes) -> None:
    assert concordat(command, "-", stdin=source).stdout == b'{"currencies":[]}\n'


# --- refusals ---------------------------------------------------------------------------------------------


@every_command
def test_a_reader_who_goes_away_is_told_in_one_line(command: tuple[str, ...], debts: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*command, debts, stdout=writing)
    os.close(writing)
    assert refusal(process) == "output_unwritable: standard output: Broken pipe"


@every_command
def test_an_answer_that_can_t_be_written_leaves_nothing(command: tuple[str, ...], debts: Path) -> None:
    target = debts.parent / "nowhere" / "answer.json"
    assert refusal(start(*command, debts, "--output", target)) == (
        f"output_unwritable: {target}: No such file or directory"
    )
    below = debts / "answer.json"
    assert refusal(start(*command, debts, "--output", below)) == f"output_unwritable: {below}: Not a directory"
    assert list(debts.parent.iterdir()) == [debts]


@every_command
def test_a_refusal_stays_one_line_whatever_the_input_says(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "two\nlines"
    path.write_text(r'{"a\n\u001b[31mb": []}')
    assert refusal(start(*command, path)).startswith(rf"field_invalid: {tmp_path}/two\nlines: a\n\x1b[31mb: ")
    path.write_text('"fr\nom",to,amount\n')
    assert r"line 1: fr\nom: not a column that is known" in refusal(start(*command, path))
    path.write_text("x" * 100_000)
    assert len(refusal(start(*command, path))) < 1_000


@every_command
def test_bad_input_leaves_the_answer_that_was_there(command: tuple[str, ...], debts: Path) -> None:
    target = debts.parent / "answer.json"
    target.write_text("an answer of yesterday")
    assert refusal(start(*command, "-", "--output", target)) == "file_empty: standard input"
    debts.write_text(json.dumps(of(T1, T1)))
    assert refusal(start(*command, debts, "--output", target)).startswith(f"duplicate_id: {debts}: payments[1]: id: T1")
    assert target.read_text() == "an answer of yesterday"
    assert sorted(path.name for path in debts.parent.iterdir()) == ["answer.json", "debts.json"]


@pytest.mark.parametrize("command", ["net", "gridlock", "clear", "advise"])
@pytest.mark.parametrize(
    ("source", "reason", "place"),
    [
        (b"", "file_empty", ""),
        (b"{", "json_malformed", ""),
        (b'{"payments": [{"id": "T1", "fr', "json_malformed", ""),
        (b"[]", "field_invalid", ""),
        (b"\xff\xfe{", "encoding_wrong", ""),
        (b"{}", "records_ambiguous", ""),
        (of(T1, obligations=[]), "records_ambiguous", ""),
        (b'{"payments": [], "balances": {"A": 1, "A": 2}}', "member_repeated", "balances: A"),
        (b'{"payments": [], "payments": []}', "member_repeated", "payments"),
        (of(T1, balance={}), "field_invalid", "balance: "),
        (of({**T1, "amuont": 1}), "field_invalid", "payments[0]: amuont: "),
        (of(T1, {**T2, "amount": 0}), "amount_not_positive", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": -1}), "amount_not_positive", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": LARGEST + 1}), "amount_overflow", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": LARGEST}), "sum_overflow", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": "9" * 100_000}), "amount_malformed", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": 1.0}), "field_invalid", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": True}), "field_invalid", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": "1e3"}), "amount_malformed", "payments[1]: amount: "),
        (of(T1, {**T2, "amount": "1.0"}), "amount_malformed", "payments[1]: amount: "),
        (b'{"payments": [{"id": "T1", "from": "A", "to": "B", "amount": 1e3}]}', "field_invalid", ""),
        (
            b'{"payments": [{"id": "T", "from": "A", "to": "B", "amount": ' + b"9" * 100_000 + b"}]}",
            "field_invalid",
            "",
        ),
        (of(T1, {**T2, "to": "B"}), "self_payment", "payments[1]: to: "),
        (of(T1, {**T2, "id": "T1"}), "duplicate_id", "payments[1]: id: T1"),
        (of(T1, {**T2, "to": " "}), "name_malformed", "payments[1]: to: "),
        (of(T1, participants=["A"]), "unknown_participant", "payments[0]: to: "),
        (of(T1, participants=["B"]), "unknown_participant", "payments[0]: from: "),
        (of(T1, participants=["A", "A"]), "participant_repeated", "participants[1]"),
        (b"id,from,to,amount,time\nT1,A,B,1,5\nT2,A,B,0,5\n", "amount_not_positive", "line 3: amount: "),
        (b"id,from,to,amount,time\nT1,A,B,1.5,5\n", "amount_malformed", "line 2: amount: "),
        (b"id,from,to,amount,balance\n", "columns_wrong", "line 1: balance: "),
        (b"id,from,to,amount\nT1,A,B\n", "row_malformed", "line 2: "),
        (b'id,from,to,amount\nT1,A,"B', "row_malformed", "line 2: "),
    ],
)
def test_every_command_refuses_the_same_files(
    tmp_path: Path, command: str, source: Source, reason: str, place: str
) -> None:
    check_refusal(tmp_path, command, source, reason, place)


@every_command
def test_a_wrong_call_ends_with_code_2(command: tuple[str, ...]) -> None:
    for arguments, complaint in (
        (("-", "--format", "xml"), b"'xml' is neither json nor csv"),
        (("-", "--format", "csv"), b"columns_wrong: standard input: line 1: "),
        (("nothing.json",), b"file_unreadable: nothing.json"),
    ):
        process = concordat(*command, *arguments, stdin=of(T1), exit_code=2)
        assert complaint in process.stderr
        assert process.stdout == b""


@pytest.mark.parametrize(
    "call",
    [
        "cli import _answer; _answer({!r}, None, 'B1', 0)",
        "cli import _answer; _answer({!r}, None, None, 0, planned=True)",
        "clear import _answer; _answer({!r}, None, pre_net_pairs=False, conservative=True, credit_notes=False)",
        "advise import _answer; _answer({!r}, None, [1, 2], opens_at=0, day=86400)",
        "gridlock import _queues, _resolved; _resolved(_queues({!r}, None, None), 'optimal', 10000, None, proven=True)",
    ],
    ids=["net --explain", "net --plan", "clear", "advise", "gridlock"],
)
@pytest.mark.parametrize("count", [1, 40])
def test_few_records_load_neither_kernels_nor_a_server(tmp_path: Path, call: str, count: int) -> None:
    path = tmp_path / "debts.json"
    ring = [pay(f"T{at}", f"B{at}", f"B{(at * 7 + 1) % 40}", at * at + 3, time=at) for at in range(1, count + 1)]
    path.write_text(json.dumps(of(*ring)))
    loaded = loaded_by(f"from gateway.analysis.{call.format(str(path))}")
    assert not loaded & {*SERVER, "numba", "numpy", "httpx", "textual"}
