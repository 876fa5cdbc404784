"""Readers of sanctions lists as their publishers give them: OFAC's CSV layouts and the UN consolidated XML.

A list is taken whole or refused: a reader never skips what it can't read, since what it skips is a listed name
that nobody screens. Whatever the layout, a file that is cut off, of another version than its companion, or not a
list at all raises `ListError` with a stable reason and the line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from xml.etree.ElementTree import Element, TreeBuilder  # builds the tree only; parsing is expat's, below
from xml.parsers import expat

from compliance.statements import ScreeningList, Timestamp

LIST_BYTES_MAX = 256 * 1024 * 1024
"""The largest list taken, after decompression. The OFAC list of 2026 has 1.7 MB, the UN list 2.0 MB."""

EMPTY = "-0-"
"""How OFAC writes a field without a value."""

_XZ_MAGIC = b"\xfd7zXZ\x00"
_CONTROL_Z = "\x1a"
_ONE_FILE_HEADER = ["uid", "name", "type", "programs", "alternate_names"]
# In the UN list one alias field may hold several names: "Azim Adhajani; Azim Agha-Jani", "… b) M. Javad Sabet".
_UN_SEPARATOR = re.compile(r";|\s[a-z]\)\s")


class ListRefusal(StrEnum):
    """Why a file isn't taken as a list, in the order in which it is looked at."""

    TOO_LARGE = "list_too_large"
    XZ_MALFORMED = "list_xz_malformed"
    NOT_TEXT = "list_not_text"
    EMPTY = "list_empty"
    DOCTYPE_REFUSED = "list_doctype_refused"
    XML_MALFORMED = "list_xml_malformed"
    UNKNOWN_LAYOUT = "list_unknown_layout"
    CUT_OFF = "list_cut_off"
    COLUMNS_WRONG = "list_columns_wrong"
    ID_MALFORMED = "list_id_malformed"
    DUPLICATE_ID = "list_duplicate_id"
    NAME_MISSING = "list_name_missing"
    ALIAS_ORPHANED = "list_alias_orphaned"


class ListError(Exception):
    """A file that isn't taken as a list. `line` counts from 1; 0 where no line is to blame."""

    def __init__(self, reason: ListRefusal, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}" if line else detail)
        self.reason = reason
        self.line = line
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed person, entity, vessel or aircraft. `names` holds the primary name, then the aliases, each once."""

    id: str
    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SanctionsList:
    """A list as it was read. `sha256` is of the uncompressed bytes (see the readers), `imported_at` the caller's."""

    name: str
    sha256: str
    entries: tuple[Entry, ...]
    imported_at: Timestamp

    def statement(self) -> ScreeningList:
        """Return what a ScreeningStatement says of this list."""
        return ScreeningList(
            name=self.name, sha256=self.sha256, entries=len(self.entries), imported_at=self.imported_at
        )


def read_list(name: str, data: bytes, *, imported_at: Timestamp, aliases: bytes | None = None) -> SanctionsList:
    """Read a list in whichever supported layout it has; any file may be xz-compressed. Raises ListError.

    The layouts are OFAC's `sdn.csv` (with its `alt.csv` in `aliases`), the one-file OFAC CSV with a header, and
    the UN consolidated XML.
    """
    data = decompress(data)
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        return read_un_xml(name, data, imported_at=imported_at)
    if start.startswith(b"uid,"):
        return read_ofac_one_file(name, data, imported_at=imported_at)
    return read_ofac(name, data, aliases, imported_at=imported_at)


def decompress(data: bytes) -> bytes:
    """Return the content of an xz file, or other bytes as they are. Raises ListError (malformed, too large)."""
    if data.startswith(_XZ_MAGIC):
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LIST_BYTES_MAX)
        try:
            data = decompressor.decompress(data, max_length=LIST_BYTES_MAX + 1)
        except lzma.LZMAError as error:
            raise ListError(ListRefusal.XZ_MALFORMED, 0, f"xz: {error}") from error
        if not decompressor.eof and len(data) <= LIST_BYTES_MAX:
            raise ListError(ListRefusal.XZ_MALFORMED, 0, "xz: the stream is cut off")
    if len(data) > LIST_BYTES_MAX:
        raise ListError(ListRefusal.TOO_LARGE, 0, f"more than {LIST_BYTES_MAX} bytes")
    return data


# --- OFAC -------------------------------------------------------------------------------------------------


def read_ofac(name: str, sdn: bytes, alt: bytes | None, *, imported_at: Timestamp) -> SanctionsList:
    """Read OFAC's own layout: `sdn.csv` (12 columns, no header) and `alt.csv` (5 columns). Raises ListError.

    The digest is of sdn.csv followed by alt.csv, as `cat sdn.csv alt.csv | sha256sum` prints it. Aliases that the
    publisher only mentions in remarks are weak ones ("a.k.a. 'BNC'"), not for screening by name, and stay out.
    """
    sdn = decompress(sdn)
    kinds: dict[str, str] = {}
    names: dict[str, dict[str, None]] = {}
    for line, row in _rows(sdn, columns=12):
        identifier = _identifier(row[0], line, names)
        kind = row[2].strip()
        kinds[identifier] = "entity" if kind in ("", EMPTY) else kind
        names[identifier] = {_name(row[1], line): None}
    digest = hashlib.sha256(sdn)
    if alt is not None:
        alt = decompress(alt)
        digest.update(alt)
        for line, row in _rows(alt, columns=5):
            owner = names.get(row[0].strip())
            if owner is None:
                detail = f"alias of entry {row[0]!r}, which isn't in the list: the two files differ in version"
                raise ListError(ListRefusal.ALIAS_ORPHANED, line, detail)
            owner[_name(row[3], line)] = None
    entries = tuple(Entry(i, kinds[i], tuple(names[i])) for i in names)
    return SanctionsList(name, digest.hexdigest(), entries, imported_at)


def read_ofac_one_file(name: str, data: bytes, *, imported_at: Timestamp) -> SanctionsList:
    """Read the one-file OFAC CSV: header, then uid, name, type, programs, "alias; alias". Raises ListError."""
    data = decompress(data)
    rows = _rows(data, columns=len(_ONE_FILE_HEADER))
    line, header = next(rows)
    if header != _ONE_FILE_HEADER:
        raise ListError(ListRefusal.UNKNOWN_LAYOUT, line, f"header is {','.join(header)}")
    entries: dict[str, Entry] = {}
    for line, row in rows:
        identifier = _identifier(row[0], line, entries)
        names = {_name(row[1], line): None} | {alias.strip(): None for alias in row[4].split(";") if alias.strip()}
        entries[identifier] = Entry(identifier, row[2].strip() or "entity", tuple(names))
    if not entries:
        raise ListError(ListRefusal.EMPTY, line, "no entry after the header")
    return SanctionsList(name, hashlib.sha256(data).hexdigest(), tuple(entries.values()), imported_at)


def _rows(data: bytes, *, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a CSV file that is whole: strict quoting, the same columns, a last line that ends."""
    text = _text(data)
    body = text.rstrip(_CONTROL_Z + "\r\n")
    if not body.strip():
        raise ListError(ListRefusal.EMPTY, 0, "no line")
    reader = csv.reader(io.StringIO(text.rstrip(_CONTROL_Z), newline=""), strict=True)
    # The number of a last line that doesn't end; no row begins there in a whole file.
    last = text.count("\n") + 1
    line = 1
    try:
        for row in reader:
            # A row that holds line breaks in quotes is named by its first line.
            first, line = line, reader.line_num + 1
            if row and row != [_CONTROL_Z]:
                if len(row) != columns:
                    reason = ListRefusal.COLUMNS_WRONG if first != last else ListRefusal.CUT_OFF
                    reason = ListRefusal.UNKNOWN_LAYOUT if first == 1 else reason
                    raise ListError(reason, first, f"{len(row)} columns instead of {columns}")
                yield first, row
    except csv.Error as error:
        raise ListError(ListRefusal.CUT_OFF, line, f"a quoted field doesn't end ({error})") from error
    if len(body) == len(text):
        raise ListError(ListRefusal.CUT_OFF, last, "the last line doesn't end: the file is cut off")


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ListError(ListRefusal.NOT_TEXT, line, f"byte 0x{data[error.start]:02x} isn't UTF-8") from error
    if "\x00" in text:
        raise ListError(ListRefusal.NOT_TEXT, text.count("\n", 0, text.index("\x00")) + 1, "a NUL byte")
    return text


def _identifier(field: str, line: int, earlier: Container[str]) -> str:
    identifier = field.strip()
    if not (identifier.isascii() and identifier.isdigit()):
        raise ListError(ListRefusal.ID_MALFORMED, line, f"entry number {identifier[:40]!r}")
    if identifier in earlier:
        raise ListError(ListRefusal.DUPLICATE_ID, line, f"entry number {identifier} a second time")
    return identifier


def _name(field: str, line: int) -> str:
    name = field.strip()
    if not name or name == EMPTY:
        raise ListError(ListRefusal.NAME_MISSING, line, "no name")
    return name


# --- United Nations ---------------------------------------------------------------------------------------


def read_un_xml(name: str, data: bytes, *, imported_at: Timestamp) -> SanctionsList:
    """Read the UN Security Council consolidated list, aliases and original-script names included. Raises ListError.

    A document type declaration is refused where it starts, so no entity is ever declared, expanded or fetched.
    """
    data = decompress(data)
    root = _parse_xml(data)
    if root.tag != "CONSOLIDATED_LIST":
        raise ListError(ListRefusal.UNKNOWN_LAYOUT, 1, f"the document is a {root.tag}, not a CONSOLIDATED_LIST")
    entries: dict[str, Entry] = {}
    for kind in ("INDIVIDUAL", "ENTITY"):
        for element in root.iterfind(f"{_PLURAL[kind]}/{kind}"):
            line = int(element.attrib[_LINE])
            identifier = _identifier(element.findtext("DATAID", ""), line, entries)
            entries[identifier] = Entry(identifier, kind.lower(), _un_names(element, kind, line))
    if not entries:
        raise ListError(ListRefusal.EMPTY, 1, "no individual and no entity")
    return SanctionsList(name, hashlib.sha256(data).hexdigest(), tuple(entries.values()), imported_at)


_PLURAL = {"INDIVIDUAL": "INDIVIDUALS", "ENTITY": "ENTITIES"}
_UN_NAME_PARTS = ("FIRST_NAME", "SECOND_NAME", "THIRD_NAME", "FOURTH_NAME")
_LINE = "line"


def _un_names(element: Element, kind: str, line: int) -> tuple[str, ...]:
    primary = " ".join(" ".join((element.findtext(part) or "").split()) for part in _UN_NAME_PARTS)
    names = {_name(" ".join(primary.split()), line): None}
    fields = [element.findtext("NAME_ORIGINAL_SCRIPT") or ""]
    fields += [alias.text or "" for alias in element.iterfind(f"{kind}_ALIAS/ALIAS_NAME")]
    for field in fields:
        for alias in _UN_SEPARATOR.split(" ".join(field.split())):
            if alias.strip():
                names[alias.strip()] = None
    return tuple(names)


def _parse_xml(data: bytes) -> Element:
    """Parse without a DTD; each target's element carries its line. Raises ListError."""
    parser = expat.ParserCreate()
    builder = TreeBuilder()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag in _PLURAL:
            attributes[_LINE] = str(parser.CurrentLineNumber)
        builder.start(tag, attributes)

    def refuse_doctype(*_: object) -> None:
        detail = "a document type declaration is refused"
        raise ListError(ListRefusal.DOCTYPE_REFUSED, parser.CurrentLineNumber, detail)

    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ListError(ListRefusal.XML_MALFORMED, error.lineno, expat.ErrorString(error.code)) from error
    return builder.close()
