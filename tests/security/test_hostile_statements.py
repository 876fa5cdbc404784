"""Files of statements made to cost memory and time, to read other files, or to be read in two ways."""

from __future__ import annotations

import gzip
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from statement_texts import BAI2, CAMT, CSV, EVERY_FORMAT, MT940, document, entry, outcome, statement

from participants.statements import amounts, camt, mt_fields, reading
from participants.statements.reading import read
from participants.statements.reasons import StatementRefused

SECONDS_MAX = 20
"""On a busy machine; each takes less than one by itself."""
MEMORY_KIB_MAX = 1_500_000

LINE = 10_000_000
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(97 + n)} "{f"&{chr(96 + n)};" * 10}">' for n in range(1, 10))
    + "]><Document>&j;</Document>"
)
XXE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


def judged(data: bytes) -> str:
    """Return the reason of a refusal, or "read", within the limits."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reason = outcome_of(data)
    assert time.process_time() - began < SECONDS_MAX
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB_MAX
    return reason


def outcome_of(data: bytes) -> str:
    try:
        read(data)
    except StatementRefused as refused:
        return refused.reason.value if refused.place.line >= 1 and len(refused.detail) < 2_000 else "endless"
    return "read"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB.encode(), "doctype_refused"),
        (CAMT.replace(b"?>\n", b"?>" + XXE.encode(), 1).replace(b"S-5", b"&x;"), "doctype_refused"),
        (CAMT.replace(b"S-5", b"&x;"), "xml_malformed"),
        (CAMT.replace(b"<GrpHdr>", b"<!-- <!DOCTYPE a> --><GrpHdr>"), "doctype_refused"),
        (CAMT.replace(b'encoding="UTF-8"', b'encoding="UTF-16"'), "encoding_wrong"),
        (CAMT.replace(b'encoding="UTF-8"', b'encoding="UTF-7"'), "encoding_wrong"),
        (CAMT.decode().encode("utf-16"), "encoding_wrong"),
        (CAMT.replace(b"?>\n", b"?>" + XXE.encode(), 1).decode().encode("utf-16-le"), "encoding_wrong"),
        (CAMT.replace(b'encoding="UTF-8"', b" " * 5_000 + b"encoding = 'EBCDIC-CP-US'"), "encoding_wrong"),
        (CAMT.replace(b'encoding="UTF-8"', b'encoding="' + b"x" * 50 + b'"'), "read"),
        (CAMT.replace(b"S-5", b"S\x00-5"), "encoding_wrong"),
        (CAMT.replace(b"S-5", b"S\xff5"), "xml_malformed"),
        (b"<a>" * 100_000, "xml_malformed"),
        (b"<Document xmlns='" + camt.PREFIX.encode() + b"camt.053.001.08'>" + b"<a>" * 5_000, "xml_malformed"),
        (CAMT[: len(CAMT) // 2], "file_truncated"),
        (CAMT[:-3], "file_truncated"),
        (CAMT.replace(b"S-5", b"S" * 11_000_000), "xml_malformed"),
        (CAMT.replace(b"S-5", b"S" * 5_000), "field_malformed"),
        (CAMT + CAMT.split(b"\n", 1)[1], "xml_malformed"),
    ],
    ids=[
        "entity bomb", "external entity", "unknown entity", "DOCTYPE in a comment", "said to be UTF-16",
        "said to be UTF-7", "UTF-16", "UTF-16 without a mark", "EBCDIC far behind", "an encoding of no name", "NUL",
        "not UTF-8", "depth", "depth within", "cut in the middle", "cut at the end",
        "a text of 11 MB", "a text of 5,000", "twice",
    ],
)  # fmt: skip
def test_xml_that_means_harm(data: bytes, reason: str) -> None:
    assert judged(data) == reason


def test_an_external_entity_never_opens_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET-OF-THE-BANK")
    hint = f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a file://{secret}"'
    include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{secret}"/>'
    data = CAMT.replace(b"<Document ", f"<Document {hint} ".encode()).replace(b"<Id>S-5", f"{include}<Id>S-5".encode())
    assert "SECRET" not in repr(read(data))


def test_more_tags_and_attributes_than_a_statement_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(CAMT.replace(b"<GrpHdr>", b"<b/>" * 500_000 + b"<GrpHdr>")) == "read"
    monkeypatch.setattr(camt, "TAGS_MAX", 1_000)
    monkeypatch.setattr(camt, "ATTRIBUTES_MAX", 100)
    assert judged(b"<a>" + b"<b/>" * 1_000 + b"</a>") == "file_too_large"
    assert judged(b"<a" + b' b=""' * 101 + b"/>") == "file_too_large"


@pytest.mark.parametrize(
    "data",
    [
        MT940.encode().replace(b":62F:", b":61:261127C1,NTRFX\n" * 1_100 + b":62F:"),
        MT940.encode().replace(b"-\n", b"-\n" * 1_100),
        BAI2.encode().replace(b"16,195", b"16,195,1,,,,/\n" * 1_100 + b"16,195"),
        b"amount,currency\n" + b"1,EUR\n" * 1_100,
        document(statement(entry() * 1_100)),
    ],
    ids=["MT940", "ends of MT940", "BAI2", "CSV", "camt"],
)
def test_more_entries_than_a_file_may_have(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amounts, "ENTRIES_MAX", 1_000)
    monkeypatch.setattr(mt_fields, "FIELDS_MAX", 1_000)
    assert judged(data) == "file_too_large"


def test_what_is_not_read_of_an_entry_costs_nothing_but_its_parsing() -> None:
    nested = "<NtryDtls>" + "<TxDtls><Refs/></TxDtls>" * 100_000 + "</NtryDtls>"
    assert judged(document(statement(entry(details=nested)))) == "read"


LONG: dict[str, Callable[[], bytes]] = {
    "a text": lambda: MT940.encode().replace(b"?21SVWZ+Rent", b"x" * LINE),
    "a number": lambda: MT940.encode().replace(b":61:2611271127D", b":61:" + b"9" * LINE),
    "subfields": lambda: MT940.encode().replace(b":86:", b":86:" + b"?20" * (LINE // 3)),
    "words": lambda: MT940.encode().replace(b":86:166", b":86:" + b"/EREF/" * (LINE // 6)),
    "lines at the end": lambda: MT940.encode().replace(b"-\n", b"\n" * LINE),
    "tags on a line": lambda: b":20:" * (LINE // 4),
    "tags": lambda: b":20:\n" * (LINE // 5),
    "blocks": lambda: b"{1:" * (LINE // 3),
    "colons": lambda: b":" * LINE,
    "a text of BAI2": lambda: BAI2.encode().replace(b"INCOMING", b"x" * LINE),
    "continuations on a line": lambda: BAI2.encode().replace(b"88,100", b"88," * (LINE // 3) + b"100"),
    "continuations": lambda: b"01,a,b,\n" + b"88,x\n" * (LINE // 5),
    "codes of BAI2": lambda: b"01," * (LINE // 3),
    "a field": lambda: CSV.encode().replace(b"Ada Rossi", b"x" * LINE),
    "a quote": lambda: CSV.encode().replace(b"Ada Rossi", b'"' + b"\n" * LINE),
    "columns": lambda: b"amount,currency" + b"," * LINE,
    "signs": lambda: b"amount,currency\n" + b"-" * LINE + b",EUR\n",
    "fields": lambda: b"amount,currency\n" + b"1," * (LINE // 2),
    "line ends": lambda: b"\n" * LINE,
    "spaces": lambda: b" " * LINE,
    "bytes of no text": lambda: b"\xff" * LINE,
    "zeros": lambda: bytes(LINE),
    "letters": lambda: b"x" * LINE,
}


@pytest.mark.parametrize("name", LONG)
def test_ten_megabytes_and_more_end_in_bounded_time(name: str) -> None:
    assert judged(LONG[name]()) != "read" or name in ("lines at the end",)


def test_more_bytes_than_a_file_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(200 * 2**20), compresslevel=1))
    assert path.stat().st_size < 2**20
    with pytest.raises(StatementRefused, match="file_too_large"):
        read(path)
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 100)
    assert outcome(CAMT)[0] == "file_too_large"


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StatementRefused, match="file_unreadable"):
            read(path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(CAMT)[:-10])
    with pytest.raises(StatementRefused, match="file_truncated"):
        read(tmp_path / "cut.gz")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(StatementRefused, match="file_unreadable"):
        read(tmp_path / "zip")


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_a_file_cut_anywhere_never_says_less_in_silence(name: str) -> None:
    """A prefix is refused, unless all that is missing is white space or the mark of an end."""
    data = EVERY_FORMAT[name]
    whole = [entry.amount_minor for statement in read(data) for entry in statement.entries]
    for size in range(1, len(data)):
        try:
            said = [entry.amount_minor for statement in read(data[:size]) for entry in statement.entries]
        except StatementRefused:
            continue
        # A CSV ends anywhere, and so does a list of totals; a line is never half read.
        assert name in ("CSV", "MT942") or said == whole, data[:size]
