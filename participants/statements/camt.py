"""camt.052, camt.053 and camt.054, versions 02 to 12: reports, statements and notifications of ISO 20022.

Read in a stream, an entry at a time. No schema is needed: what is read is checked, and the rest passed over. The
document may stand in whatever a network puts around it; a header (head.001) there must say the same message.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from lxml import etree

from participants.statements.amounts import check_entries
from participants.statements.camt_elements import Element, Names, name_of
from participants.statements.camt_entry import EntryReader
from participants.statements.camt_statement import OpenStatement, StatementReader, pagination
from participants.statements.checks import Page, check_balance, in_order
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Place, Statement

TAGS_MAX, ATTRIBUTES_MAX = 8_000_000, 2_000_000
LINES_KNOWN = 65_000

PREFIX = "urn:iso:std:iso:20022:tech:xsd:"
_DEFINITION = re.compile(r"camt\.05([234])\.001\.(0[2-9]|1[0-2])")
_FAMILIES = {"2": ("BkToCstmrAcctRpt", "Rpt"), "3": ("BkToCstmrStmt", "Stmt"), "4": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}
# Those that a byte of ASCII is the same in, so that a document type declaration can't hide.
_ENCODINGS = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252", "cp1252"}
)
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\s[^>]*?\sencoding\s*=\s*[\"']([!-~]{1,40}?)[\"']")
_STATEMENTS = tuple(f"{{*}}{name}" for _, name in _FAMILIES.values())


def read_camt(data: bytes, progress: Callable[[int], None]) -> list[Statement]:
    """Read all statements of an XML document. Raises StatementRefused."""
    encoding = _checked_encoding(data)
    document = _Document(data, progress)
    try:
        events = etree.iterparse(
            io.BytesIO(data),
            events=("end",),
            tag=("{*}AppHdr", "{*}Document", "{*}GrpHdr", "{*}Ntry", *_STATEMENTS),
            remove_comments=True,
            remove_pis=True,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            encoding=encoding,
        )
        for _, element in events:
            document.take(element)
        root = events.root
    except etree.XMLSyntaxError as error:
        raise _malformed(data, error) from None
    return document.statements(root)


def _checked_encoding(data: bytes) -> str:
    """Return what the document is in, which the parser is made to take. Raises StatementRefused.

    In none of the encodings that are read, and in no other that the parser might guess, can a declaration hide.
    """
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise StatementRefused(Reason.ENCODING_WRONG, "a byte of zero: UTF-16, or no text", Place(line, ""))
    if b"<!DOCTYPE" in data:
        line = data.count(b"\n", 0, data.index(b"<!DOCTYPE")) + 1
        detail = "a document type declaration is not accepted"
        raise StatementRefused(Reason.DOCTYPE_REFUSED, detail, Place(line, "DOCTYPE"))
    if data.count(b"<") > TAGS_MAX or data.count(b"=") > ATTRIBUTES_MAX:
        detail = f"more than {TAGS_MAX:,} tags or {ATTRIBUTES_MAX:,} attributes"
        raise StatementRefused(Reason.FILE_TOO_LARGE, detail, Place(1, ""))
    declared = _DECLARATION.match(data)
    encoding = "utf-8" if declared is None else declared[1].decode().lower()
    if encoding not in _ENCODINGS:
        raise StatementRefused(Reason.ENCODING_WRONG, f"XML in {encoding}; UTF-8 is read", Place(1, "encoding"))
    return encoding


def _malformed(data: bytes, error: etree.XMLSyntaxError) -> StatementRefused:
    line = error.lineno or 1
    detail = re.sub(r", line \d+, column \d+.*$", "", error.msg or "not well-formed XML")
    cut_off = not data.rstrip().endswith(b">") or "Premature end" in detail or "unclosed" in detail.lower()
    return StatementRefused(Reason.FILE_TRUNCATED if cut_off else Reason.XML_MALFORMED, detail[:300], Place(line, ""))


class _Document:
    """A document as its elements end: what is checked of its form, and the statements in it."""

    def __init__(self, data: bytes, progress: Callable[[int], None]) -> None:
        self._data = data
        self._progress = progress
        self._said: tuple[str, Place] | None = None
        self._body: _Body | None = None

    def take(self, element: Element) -> None:
        """Take an element whose end has come. Raises StatementRefused."""
        namespace, name = name_of(element)
        if name == "AppHdr":
            if self._said is None and self._body is None:
                self._take_header(element)
            return
        if self._body is None:
            document = element if name == "Document" else next(element.iterancestors("{*}Document"), None)
            if document is not None:
                self._begin(document)
        if self._body is not None and namespace == self._body.names.namespace:
            self._body.take(name, element)

    def statements(self, root: Element | None) -> list[Statement]:
        """Return what was read, once all has been. Raises StatementRefused."""
        if root is None:
            raise StatementRefused(Reason.XML_MALFORMED, "no element in it", Place(1, ""))
        if self._body is None:
            namespace, name = name_of(root)
            detail = f"the XML document {name[:40]} of {namespace[:80] or 'no namespace'} is no statement"
            raise StatementRefused(Reason.NOT_A_STATEMENT, detail, Place(root.sourceline or 1, name[:40]))
        return self._body.statements(root)

    def _take_header(self, element: Element) -> None:
        for child in element:
            if name_of(child)[1] == "MsgDefIdr":
                place = Place(child.sourceline or 1, "AppHdr/MsgDefIdr")
                self._said = (child.text or "").strip(), place

    def _begin(self, element: Element) -> None:
        place = Place(element.sourceline or 1, "Document")
        namespace, _ = name_of(element)
        definition = namespace.removeprefix(PREFIX) if namespace.startswith(PREFIX) else ""
        match = _DEFINITION.fullmatch(definition)
        if match is None:
            what = definition or namespace or "a document without a namespace"
            if re.fullmatch(r"camt\.05[234]\..*", definition):
                detail = f"{what[:60]}: versions 02 to 12 are read"
                raise StatementRefused(Reason.FORMAT_UNKNOWN, detail, place)
            raise StatementRefused(Reason.NOT_A_STATEMENT, f"{what[:80]} is no statement", place)
        if self._said is not None and self._said[0] != definition:
            detail = f"the header says {self._said[0][:40]!r}, the document is {definition}"
            raise StatementRefused(Reason.HEADER_DIFFERS, detail, self._said[1])
        names = Names(namespace, *_FAMILIES[match[1]])
        self._body = _Body(names, definition, _Lines(self._data, element.prefix), self._progress)


class _Body:
    """The statements of one document."""

    def __init__(self, names: Names, definition: str, lines: _Lines, progress: Callable[[int], None]) -> None:
        self.names = names
        self._definition = definition
        self._lines = lines
        self._progress = progress
        self._open: OpenStatement | None = None
        self._pages: list[Page] = []
        self._message_page: tuple[int, bool] | None = None
        self._entries = 0
        self._complete = False

    def take(self, name: str, element: Element) -> None:
        """Take an element in the document's namespace whose end has come. Raises StatementRefused."""
        if self._complete:
            raise StatementRefused(Reason.STRUCTURE_WRONG, f"{name} after the document", self.names.at(element))
        if name == "Ntry":
            self._take_entry(element)
        elif name == "GrpHdr":
            page = self.names.deep(element, "MsgPgntn")
            self._message_page = None if page is None else pagination(self.names, page)
        elif name == self.names.statement:
            self._end_statement(element)
        elif name == "Document":
            self._complete = True

    def statements(self, root: Element) -> list[Statement]:
        """Return what was read, once all has been. Raises StatementRefused."""
        if not self._pages:
            name = self.names.statement
            raise StatementRefused(Reason.FIELD_MISSING, f"{name} is missing", Place(root.sourceline or 1, name))
        for page in self._pages:
            if page.begins and page.ends:
                check_balance(page.statement)
        return in_order(self._pages)

    def _take_entry(self, element: Element) -> None:
        line = self._lines.next_entry(element)
        statement = self._statement(element.getparent(), element)
        reader = EntryReader(self.names.branch(element), Place(line, f"Ntry[{statement.count + 1}]"))
        entries = reader.entries(statement.findings)
        statement.entries.extend(entries)
        (statement.debits if reader.amount < 0 else statement.credits).append(abs(reader.amount))
        statement.currencies.add(reader.currency)
        self._entries += len(entries)
        check_entries(self._entries, Place(line, "Ntry"))
        # Its place in the tree stays, what it holds is let go.
        element.clear(keep_tail=True)
        self._progress(line)

    def _statement(self, element: Element | None, inner: Element) -> OpenStatement:
        """Return the statement that an element is, begun if it wasn't. Raises StatementRefused."""
        if self._open is not None and element is self._open.element:
            return self._open
        above = [] if element is None else [self.names.local(e) for e in (element, *element.iterancestors())]
        if self._open is not None or above[:3] != [self.names.statement, self.names.body, "Document"]:
            place = self.names.at(inner)
            raise StatementRefused(Reason.STRUCTURE_WRONG, f"{place.field} isn't where it belongs", place)
        assert element is not None
        self._open = OpenStatement(element, element.sourceline or 1)
        return self._open

    def _end_statement(self, element: Element) -> None:
        statement = self._statement(element, element)
        self._pages.append(StatementReader(self.names, self._definition, statement).page(self._message_page))
        element.clear(keep_tail=True)
        self._open = None


class _Lines:
    """On which line each entry begins.

    libxml2 doesn't know lines beyond 65,535, so that entries are looked for in the bytes, in step with the parser.
    """

    def __init__(self, data: bytes, prefix: str | None) -> None:
        tag = re.escape(f"{prefix}:Ntry" if prefix else "Ntry").encode()
        self._data, self._line, self._counted = data, 1, 0
        self._places = None
        if data.count(b"\n") > LINES_KNOWN:
            skipped = rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|" if b"<!--" in data or b"<![CDATA[" in data else b""
            self._places = re.finditer(skipped + rb"<(" + tag + rb")[\s/>]", data, re.DOTALL)

    def next_entry(self, element: Element) -> int:
        """Return the line of the next entry, whose element is given."""
        if self._places is None:
            return element.sourceline or 1
        for match in self._places:
            if match[1] is not None:
                self._line += self._data.count(b"\n", self._counted, match.start())
                self._counted = match.start()
                break
        return self._line
