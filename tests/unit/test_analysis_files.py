"""Analysts' files are read strictly: what is wrong is refused with its reason and place, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.analysis.documents import collect, read_document
from gateway.analysis.files import Form, InputRefusedError
from netting.batch import Batch

LARGEST = "9" * 38


def batch(path: Path, form: Form | None = None) -> Batch:
    return collect(read_document(str(path), form=form))


def two(second: str) -> str:
    return '{"obligations": [{"from": "A", "to": "B", "amount": 1}, {' + second + "}]}"


@pytest.mark.parametrize(
    ("text", "reason", "place", "field"),
    [
        ("", "file_empty", "", ""),
        ("  \n", "file_empty", "", ""),
        ("{", "json_malformed", "", ""),
        ("[]", "field_invalid", "", ""),
        ("{}", "records_ambiguous", "", ""),
        ('{"obligations": [], "payments": []}', "records_ambiguous", "", ""),
        ('{"obligation": []}', "field_invalid", "", "obligation"),
        ('{"obligations": [], "obligations": []}', "member_repeated", "", "obligations"),
        ('{"payments": [], "limits": {"A": 1, "A": 2}}', "member_repeated", "limits", "A"),
        (two('"from": "A", "to": "B", "to": "C", "amount": 1'), "member_repeated", "obligations[1]", "to"),
        (two('"from": "A", "to": "B"'), "field_invalid", "obligations[1]", "amount"),
        (two('"from": "A", "to": "B", "amount": 1, "amuont": 2'), "field_invalid", "obligations[1]", "amuont"),
        (two('"from": "A", "to": 7, "amount": 1'), "field_invalid", "obligations[1]", "to"),
        (two('"from": "A", "to": "B", "amount": 1.0'), "field_invalid", "obligations[1]", "amount"),
        (two('"from": "A", "to": "B", "amount": 1e3'), "field_invalid", "obligations[1]", "amount"),
        (two('"from": "A", "to": "B", "amount": true'), "field_invalid", "obligations[1]", "amount"),
        (two('"from": "A", "to": "B", "amount": null'), "field_invalid", "obligations[1]", "amount"),
        *(
            (two(f'"from": "A", "to": "B", "amount": "{text}"'), "amount_malformed", "obligations[1]", "amount")
            for text in ("", "1.0", "007", "+1", " 1", "1_000", "1,000", "1e3", "٣", "-0.5", "9" * 1_001)
        ),
        ('{"payments": [], "balances": {"A": 1, "B": 1.5}}', "field_invalid", "balances", "B"),
        ('{"payments": [], "limits": {"A": 1, "B": {"EUR": 1, "USD": true}}}', "field_invalid", "limits.B", "USD"),
        ('{"payments": [], "aggregate": {"rates": {"EUR": null}}}', "field_invalid", "aggregate.rates", "EUR"),
        ('{"payments": [], "aggregate": {"limits": {}}}', "field_invalid", "aggregate", "rates"),
        (
            '{"payments": [], "bilateral": [{"from": "A", "to": "B", "limit": 1e3}]}',
            "field_invalid",
            "bilateral[0]",
            "limit",
        ),
        ('{"payments": [], "balances": {"A": 1.5', "field_invalid", "balances[...]", ""),
        (two('"from": "", "to": "B", "amount": 1'), "name_malformed", "obligations[1]", "from"),
        (two('"from": "A", "to": " B", "amount": 1'), "name_malformed", "obligations[1]", "to"),
        (
            two('"from": "A", "to": "B", "amount": 1, "currency": "EU\\n"'),
            "name_malformed",
            "obligations[1]",
            "currency",
        ),
        (two('"from": "A", "to": "B", "amount": 1, "id": ""'), "name_malformed", "obligations[1]", "id"),
        (two('"from": "A", "to": "A", "amount": 1'), "self_payment", "obligations[1]", "to"),
        (two('"from": "A", "to": "B", "amount": 0'), "amount_not_positive", "obligations[1]", "amount"),
        (two('"from": "A", "to": "B", "amount": "-3"'), "amount_not_positive", "obligations[1]", "amount"),
        (two(f'"from": "A", "to": "B", "amount": 1{LARGEST}'), "amount_overflow", "obligations[1]", "amount"),
        (two(f'"from": "A", "to": "B", "amount": "1{LARGEST}"'), "amount_overflow", "obligations[1]", "amount"),
        (two(f'"from": "A", "to": "B", "amount": {LARGEST}'), "sum_overflow", "obligations[1]", "amount"),
        ('{"payments": [], "participants": ["A", "B", "A"]}', "participant_repeated", "participants[2]", ""),
        ('{"payments": [], "participants": ["A", " "]}', "name_malformed", "participants[1]", ""),
        (
            '{"participants": ["A"], "payments": [{"from": "A", "to": "B", "amount": 1}]}',
            "unknown_participant",
            "payments[0]",
            "to",
        ),
        (
            '{"payments": [{"id": "T", "from": "A", "to": "B", "amount": 1},'
            ' {"id": "T", "from": "A", "to": "A", "amount": 1}]}',
            "duplicate_id",
            "payments[1]",
            "id",
        ),
        ("from,to,amount\nA,B,1\nA,B\n", "row_malformed", "line 3", ""),
        ("from,to,amount\nA,B,1\n\nA,B,1\n", "row_malformed", "line 3", ""),
        ('from,to,amount\n"A"x,B,1\n', "row_malformed", "line 2", ""),
        ("from,to\nA,B\n", "columns_wrong", "line 1", "amount"),
        ("from,to,amount,to\nA,B,1,C\n", "columns_wrong", "line 1", "to"),
        ("from,to,amount,note\nA,B,1,C\n", "columns_wrong", "line 1", "note"),
        ("from;to;amount\nA;B;1\n", "columns_wrong", "line 1", "from;to;amount"),
        ("from,to,amount\nA,,1\n", "field_invalid", "line 2", "to"),
        ("from,to,amount\nA,B,1.50\n", "amount_malformed", "line 2", "amount"),
        ('id,from,to,amount\n"T\n1",A,B,1\n', "name_malformed", "line 3", "id"),
        ("id,from,to,amount\nT1,A,B,1\nT1,A,C,1\n", "duplicate_id", "line 3", "id"),
        *(
            (f"from,to,amount,priority\nA,B,1,{text}\n", "field_invalid", "line 2", "priority")
            for text in ("urgent", "1.0", "1e2", "007", "null")
        ),
        ("from,to,amount,held\nA,B,1,perhaps\n", "field_invalid", "line 2", "held"),
    ],
)
def test_a_file_is_refused_with_its_reason_and_place(
    tmp_path: Path, text: str, reason: str, place: str, field: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text, "utf-8", newline="")
    with pytest.raises(InputRefusedError) as refused:
        batch(path)
    assert (refused.value.reason.value, refused.value.place, refused.value.field) == (reason, place, field)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("around", ['{"limits": %s}', '{"limits": {"A": %s}}', '{"limits": {"A": {"EUR": %s}}}', "%s"])
def test_a_document_nested_too_deeply_is_refused(tmp_path: Path, around: str) -> None:
    path = tmp_path / "file"
    path.write_text(around % ("[" * 100_000 + "]" * 100_000))
    with pytest.raises(InputRefusedError, match="field_invalid"):
        batch(path, Form.JSON)


@pytest.mark.parametrize("text", [b'{"payments": "\xff"}', b"from,to,amount\nA,\xff,1\n"])
def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(InputRefusedError, match="encoding_wrong"):
        batch(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefusedError, match="file_unreadable"):
        batch(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('{"obligations": [{"from": "A", "to": "B", "amount": "5", "currency": "EUR"}]}', None),
        ('{"payments": [{"id": "T", "from": "A", "to": "B", "amount": 5, "currency": "EUR", "priority": 3}]}', None),
        (' {"balances": {"A": 3}, "obligations": [{"from":"A","to":"B","amount":5,"currency":"EUR"}]}', Form.JSON),
        ("\ufeffamount,currency,to,from\r\n5,EUR,B,A\r\n", None),
        ('from,to,amount,currency,id,priority\n"A","B",5,EUR,,\n', Form.CSV),
    ],
)
def test_the_same_obligation_in_several_forms(tmp_path: Path, text: str, form: Form | None) -> None:
    path = tmp_path / "file"
    path.write_text(text, "utf-8", newline="")
    obligations = batch(path, form)
    assert (obligations.currencies, obligations.participants) == (("EUR",), ("A", "B"))
    assert obligations.lists() == ([0], [0], [1], [5])


def test_the_ending_of_the_name_says_the_form(tmp_path: Path) -> None:
    path = tmp_path / "file.CSV"
    path.write_text('{"payments": []}')
    with pytest.raises(InputRefusedError, match="columns_wrong"):
        batch(path)
