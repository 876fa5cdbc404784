"""List readers: every supported layout, and every kind of file that must not pass for a list."""

from __future__ import annotations

import hashlib
import lzma

import pytest

from compliance.screening import lists
from compliance.screening.lists import Entry, ListError, ListRefusal, SanctionsList

AT = "2026-03-02T08:00:00Z"
SDN = (
    b'36,"AEROCARIBBEAN AIRLINES",-0- ,"CUBA",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
    b'2674,"ABBAS, Abu","individual","SDGT",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,"DOB 1948; a.k.a. \'X\'."\r\n\x1a'
)
ALT = b'36,12,"aka","AERO-CARIBBEAN",-0- \r\n2674,57,"aka","ZAYDAN, Muhammad",-0- \r\n\x1a'
ONE_FILE = (
    b"uid,name,type,programs,alternate_names\r\n"
    b"36,AEROCARIBBEAN AIRLINES,entity,CUBA,AERO-CARIBBEAN; AERO CARIBBEAN\r\n"
    b'2674,"ABBAS, Abu",individual,SDGT,\r\n'
)
UN = """<?xml version="1.0" encoding="UTF-8"?>
<CONSOLIDATED_LIST>
  <INDIVIDUALS>
    <INDIVIDUAL>
      <DATAID>690</DATAID><FIRST_NAME>SADDAM</FIRST_NAME><SECOND_NAME>HUSSEIN</SECOND_NAME>
      <THIRD_NAME>AL-TIKRITI</THIRD_NAME><NAME_ORIGINAL_SCRIPT>صدام حسين التكريتي</NAME_ORIGINAL_SCRIPT>
      <INDIVIDUAL_ALIAS><QUALITY>Good</QUALITY><ALIAS_NAME>Abu Ali; Abu Aly</ALIAS_NAME></INDIVIDUAL_ALIAS>
      <INDIVIDUAL_ALIAS><QUALITY/><ALIAS_NAME/></INDIVIDUAL_ALIAS>
    </INDIVIDUAL>
  </INDIVIDUALS>
  <ENTITIES>
    <ENTITY><DATAID>691</DATAID><FIRST_NAME>ANSARALLAH</FIRST_NAME></ENTITY>
  </ENTITIES>
</CONSOLIDATED_LIST>
""".encode()


def read(data: bytes, aliases: bytes | None = None) -> SanctionsList:
    return lists.read_list("list", data, imported_at=AT, aliases=aliases)


def test_ofac_with_aliases() -> None:
    one = read(SDN, ALT)
    assert one.entries == (
        Entry("36", "entity", ("AEROCARIBBEAN AIRLINES", "AERO-CARIBBEAN")),
        Entry("2674", "individual", ("ABBAS, Abu", "ZAYDAN, Muhammad")),
    )
    assert one.sha256 == hashlib.sha256(SDN + ALT).hexdigest()
    assert one.statement().entries == 2
    assert one.statement().imported_at == AT


def test_ofac_without_aliases_and_without_control_z() -> None:
    assert [entry.names for entry in read(SDN.rstrip(b"\x1a")).entries] == [
        ("AEROCARIBBEAN AIRLINES",),
        ("ABBAS, Abu",),
    ]


def test_ofac_in_one_file() -> None:
    assert read(ONE_FILE).entries == (
        Entry("36", "entity", ("AEROCARIBBEAN AIRLINES", "AERO-CARIBBEAN", "AERO CARIBBEAN")),
        Entry("2674", "individual", ("ABBAS, Abu",)),
    )


def test_united_nations() -> None:
    assert read(UN).entries == (
        Entry("690", "individual", ("SADDAM HUSSEIN AL-TIKRITI", "صدام حسين التكريتي", "Abu Ali", "Abu Aly")),
        Entry("691", "entity", ("ANSARALLAH",)),
    )


def test_a_compressed_list_is_the_same_list() -> None:
    assert read(lzma.compress(ONE_FILE)) == read(ONE_FILE)
    assert read(b"\xef\xbb\xbf" + ONE_FILE).entries == read(ONE_FILE).entries


BILLION = b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c">]>\n<CONSOLIDATED_LIST>&b;</CONSOLIDATED_LIST>'


@pytest.mark.parametrize(
    ("data", "aliases", "reason", "line"),
    [
        (b"", None, ListRefusal.EMPTY, 0),
        (b"\x1a", None, ListRefusal.EMPTY, 0),
        (b"\xff\xfe", None, ListRefusal.NOT_TEXT, 1),
        (SDN + b"\n\x80", None, ListRefusal.NOT_TEXT, 4),
        (SDN.replace(b"ABBAS", b"AB\x00AS"), None, ListRefusal.NOT_TEXT, 2),
        (b"hello\n", None, ListRefusal.UNKNOWN_LAYOUT, 1),
        (b"uid,name\r\n36,X\r\n", None, ListRefusal.UNKNOWN_LAYOUT, 1),
        (b"uid,name,type,programs,aka\r\n36,X,entity,CUBA,\r\n", None, ListRefusal.UNKNOWN_LAYOUT, 1),
        (ONE_FILE.split(b"\r\n")[0] + b"\r\n", None, ListRefusal.EMPTY, 1),
        (ONE_FILE[:-9], None, ListRefusal.CUT_OFF, 3),
        (ONE_FILE.replace(b"36,AERO", b"3x,AERO"), None, ListRefusal.ID_MALFORMED, 2),
        (ONE_FILE.replace(b"2674", b"36"), None, ListRefusal.DUPLICATE_ID, 3),
        (ONE_FILE.replace(b'"ABBAS, Abu"', b" "), None, ListRefusal.NAME_MISSING, 3),
        (ONE_FILE + b"1,2\r\n", None, ListRefusal.COLUMNS_WRONG, 4),
        (SDN[:20], None, ListRefusal.CUT_OFF, 1),
        (SDN[:30], None, ListRefusal.UNKNOWN_LAYOUT, 1),
        (SDN[:100], None, ListRefusal.CUT_OFF, 2),
        (SDN[:-40], None, ListRefusal.CUT_OFF, 2),
        (SDN[:-3], None, ListRefusal.CUT_OFF, 2),
        (SDN.replace(b'"ABBAS, Abu"', b"-0- "), None, ListRefusal.NAME_MISSING, 2),
        (SDN, b"", ListRefusal.EMPTY, 0),
        (SDN, ALT.replace(b"2674", b"9999"), ListRefusal.ALIAS_ORPHANED, 2),
        (SDN, ALT[:-20], ListRefusal.CUT_OFF, 2),
        (b"<html></html>", None, ListRefusal.UNKNOWN_LAYOUT, 1),
        (b"<!DOCTYPE html><html></html>", None, ListRefusal.DOCTYPE_REFUSED, 1),
        (BILLION, None, ListRefusal.DOCTYPE_REFUSED, 2),
        (UN[:400], None, ListRefusal.XML_MALFORMED, 7),
        (UN.replace(b"690", b""), None, ListRefusal.ID_MALFORMED, 4),
        (UN.replace(b"ANSARALLAH", b""), None, ListRefusal.NAME_MISSING, 12),
        (b"<CONSOLIDATED_LIST/>", None, ListRefusal.EMPTY, 1),
        (lzma.compress(SDN)[:60], None, ListRefusal.XZ_MALFORMED, 0),
        (lzma.compress(SDN)[:6] + b"garbage garbage", None, ListRefusal.XZ_MALFORMED, 0),
    ],
)
def test_what_is_not_a_list(data: bytes, aliases: bytes | None, reason: ListRefusal, line: int) -> None:
    with pytest.raises(ListError) as caught:
        read(data, aliases)
    assert (caught.value.reason, caught.value.line) == (reason, line)
    if line:
        assert f"line {line}" in str(caught.value)


def test_a_compressed_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LIST_BYTES_MAX", 100_000)
    with pytest.raises(ListError) as caught:
        read(lzma.compress(b"\x00" * 10_000_000, preset=0))
    assert caught.value.reason in (ListRefusal.TOO_LARGE, ListRefusal.XZ_MALFORMED)
