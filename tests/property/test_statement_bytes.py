"""Whatever bytes a file has, reading it ends in statements or in a refusal with a place; and what adds up is read."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from statement_texts import EVERY_FORMAT, balance, document, entry, statement

from participants.statements.reading import read
from participants.statements.reasons import StatementFileReason, StatementRefused
from participants.statements.statement import Statement

PIECES = (
    b":61:", b":86:", b":20:", b"-}", b"{4:", b"\n88,", b"/\n16,", b"<Ntry>", b"</Stmt>", b"\x00", b"\xff", b'"', b",",
    b";", b"<!DOCTYPE", b"]]>", b"<![CDATA[", b"&#0;", b"9" * 40, b"\r", b"\n", b"EUR", b"?20", b"/EREF/",
    b"\xef\xbb\xbf",
)  # fmt: skip


def judge(data: bytes) -> None:
    statements = statements_of(data)
    if isinstance(statements, StatementRefused):
        assert isinstance(statements.reason, StatementFileReason)
        assert statements.place.line >= 1
        return
    assert statements
    for said in statements:
        assert isinstance(said, Statement)
        if said.opening is not None and said.closing is not None and said.format != "BAI2":
            booked = sum(entry.amount_minor for entry in said.entries if entry.status == "booked")
            paged = any(finding.code.startswith("page_not") for finding in said.findings)
            assert paged or said.opening.amount_minor + booked == said.closing.amount_minor


def statements_of(data: bytes) -> list[Statement] | StatementRefused:
    try:
        return read(data)
    except StatementRefused as refused:
        return refused


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2_000))
def test_any_bytes(data: bytes) -> None:
    judge(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EVERY_FORMAT)), st.integers(0, 2**32))
def test_statements_made_wrong_anywhere(name: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(EVERY_FORMAT[name])
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at : at + chance.randint(1, 60)]
            case 2:
                data[at : at + 1] = bytes((chance.randrange(256),))
            case 3:
                data[at:at] = data[max(0, at - chance.randint(1, 300)) : at]
            case _:
                other = EVERY_FORMAT[chance.choice(sorted(EVERY_FORMAT))]
                begins = chance.randrange(len(other))
                data[at:at] = other[begins : begins + chance.randint(1, 300)]
    judge(bytes(data))


amounts = st.lists(st.integers(-(10**12), 10**12), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**12), 10**12), amounts)
def test_entries_that_add_up_are_read_in_every_format(opening: int, entries: list[int]) -> None:
    closing = opening + sum(entries)
    for data in (_mt940(opening, entries, closing), _camt(opening, entries, closing)):
        (said,) = read(data)
        assert [entry.amount_minor for entry in said.entries] == entries
        assert said.closing is not None
        assert said.closing.amount_minor == closing
    for wrong in (_mt940(opening, entries, closing + 1), _camt(opening, entries, closing - 1)):
        refused = statements_of(wrong)
        assert isinstance(refused, StatementRefused)
        assert refused.reason == "balance_wrong"


def _decimal(amount: int, mark: str) -> str:
    return f"{abs(amount) // 100}{mark}{abs(amount) % 100:02}"


def _mt940(opening: int, entries: list[int], closing: int) -> bytes:
    def signed(amount: int) -> str:
        return "D" if amount < 0 else "C"

    lines = [":20:S", ":25:A", ":28C:1/1", f":60F:{signed(opening)}261127EUR{_decimal(opening, ',')}"]
    lines += [f":61:261127{signed(amount)}{_decimal(amount, ',')}NTRFREF" for amount in entries]
    lines += [f":62F:{signed(closing)}261127EUR{_decimal(closing, ',')}", "-"]
    return "\n".join(lines).encode()


def _camt(opening: int, entries: list[int], closing: int) -> bytes:
    def sign(amount: int) -> str:
        return "DBIT" if amount < 0 else "CRDT"

    content = balance("OPBD", _decimal(opening, "."), sign=sign(opening))
    content += balance("CLBD", _decimal(closing, "."), sign=sign(closing))
    content += "".join(entry(_decimal(amount, "."), sign(amount)) for amount in entries)
    return document(statement(content))
