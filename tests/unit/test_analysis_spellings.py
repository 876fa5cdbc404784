"""Files for analysis as spreadsheets and systems leave them: read as what they say, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.analysis.documents import collect, read_document
from gateway.analysis.files import InputRefusedError
from tests.analyst import concordat

RECORD = '{"obligations":[{"id":"T1","from":"A","to":"B","amount":5}]}'


def nets(path: Path, *options: str) -> dict[str, int]:
    (currency,) = json.loads(concordat("net", path, *options).stdout)["currencies"]
    return {position["participant"]: position["net"] for position in currency["positions"]}


def written(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("name", ["a.json", "a.txt"])
def test_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    assert nets(written(tmp_path, name, f"\ufeff{RECORD}")) == {"A": -5, "B": 5}


def test_nothing_but_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(InputRefusedError, match=r"^file_empty"):
        read_document(str(written(tmp_path, "a.json", "\ufeff \r\n")))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_at_the_end(tmp_path: Path, end: str) -> None:
    lines = ["from,to,amount", "A,B,5", "B,A,3", "", ""]
    assert nets(written(tmp_path, "a.csv", end.join(lines))) == {"A": -2, "B": 2}


def test_a_blank_line_before_a_row(tmp_path: Path) -> None:
    with pytest.raises(InputRefusedError, match=r"^row_malformed.*line 3: a blank line"):
        read_document(str(written(tmp_path, "a.csv", "from,to,amount\nA,B,5\n\nB,A,3\n")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "from,to,amount\nCaf\u00e9,B,5\nCafe\u0301,B,5\n"),
        ("a.json", RECORD.replace('"A"', '"Caf\u00e9"').replace("5}", '5},{"from":"Cafe\u0301","to":"B","amount":5}')),
        ("a.json", RECORD.replace('"A"', '"Caf\u00e9"').replace("5}", '5},{"from":"Cafe\\u0301","to":"B","amount":5}')),
    ],
    ids=["csv", "json", "escaped"],
)
def test_names_that_look_the_same_are_the_same(tmp_path: Path, name: str, content: str) -> None:
    batch = collect(read_document(str(written(tmp_path, name, content))))
    assert batch.participants == ("B", "Caf\u00e9")


@pytest.mark.parametrize("said", ['"C\\\\u0301"', '"\\ud834\\udd1e"', '"\\u0041"'])
def test_other_escapes_stay(tmp_path: Path, said: str) -> None:
    batch = collect(read_document(str(written(tmp_path, "a.json", RECORD.replace('"A"', said)))))
    assert json.loads(said) in batch.participants


@pytest.mark.parametrize("command", ["net", "clear", "gridlock"])
def test_a_currency_in_small_letters(tmp_path: Path, command: str) -> None:
    path = written(tmp_path, "a.csv", "id,from,to,amount,currency\nT1,A,B,5,EUR\nT2,B,A,3,eur\n")
    stderr = concordat(command, path, exit_code=2).stderr.decode()
    assert "name_malformed" in stderr
    assert "'eur' is written EUR" in stderr


def test_a_credit_note_if_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "from,to,amount\nA,B,-5\nB,A,7\n")
    assert "line 2" in concordat("net", path, exit_code=2).stderr.decode()
    assert nets(path, "--credit-notes") == {"A": 12, "B": -12}
