"""The envelope: one `BusinessMessage` that holds the header (head.001.001.02) and one document.

ISO 20022 defines the header and the document but leaves open what carries the two. Ours is

    <BusinessMessage xmlns="https://concordat.example/ns/business-message/1">
      <AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02">…</AppHdr>
      <Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.029.001.02">…</Document>
    </BusinessMessage>

The header says who sends to whom, and names the document: its definition and its message id must be the
document's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from lxml import etree

from gateway.federation.iso20022 import schemas, values, xml
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.xml import Element, Field, Node

ENVELOPE_NAMESPACE = "https://concordat.example/ns/business-message/1"
HEADER_DEFINITION = "head.001.001.02"
_HEADER_NAMESPACE = schemas.NAMESPACE_PREFIX + HEADER_DEFINITION

# A party is a financial institution named by its BIC.
_PARTY = (Field("FIId", (Field("FinInstnId", (Field("BICFI", values.BIC),)),)),)
_HEADER = Field(
    "AppHdr",
    (
        Field("Fr", _PARTY),
        Field("To", _PARTY),
        Field("BizMsgIdr", values.TEXT_35),
        Field("MsgDefIdr", values.TEXT_35),
        Field("CreDt", values.DATE_TIME),
        Field("BizPrcgDt", values.DATE_TIME, least=0),
    ),
)


@dataclass(frozen=True, slots=True)
class Header:
    """Who says it to whom, when, and under which id. `value_date` is the header's business processing date."""

    sender: str
    receiver: str
    message_id: str
    created_at: datetime
    value_date: date | None = None


def frame(header: Header, definition: str, document: Node) -> bytes:
    """Return a whole message: the envelope with its header and a `Document` around `document`.

    Raises `MessageRefused` (schema_invalid) where official schemas are set up and say no.
    """
    root = etree.Element(f"{{{ENVELOPE_NAMESPACE}}}BusinessMessage", nsmap={None: ENVELOPE_NAMESPACE})
    app_header = xml.build(_HEADER_NAMESPACE, _header_node(header, definition))
    body = xml.build(schemas.NAMESPACE_PREFIX + definition, ("Document", [document]))
    schemas.validate(app_header, HEADER_DEFINITION)
    schemas.validate(body, definition)
    root.append(app_header)
    root.append(body)
    return xml.serialise(root)


def _header_node(header: Header, definition: str) -> Node:
    return (
        "AppHdr",
        [
            ("Fr", _party(header.sender)),
            ("To", _party(header.receiver)),
            ("BizMsgIdr", header.message_id),
            ("MsgDefIdr", definition),
            ("CreDt", values.write_time(header.created_at)),
            ("BizPrcgDt", f"{header.value_date.isoformat()}T00:00:00Z" if header.value_date else None),
        ],
    )


def _party(bic: str) -> list[Node]:
    return [("FIId", [("FinInstnId", [("BICFI", bic)])])]


def unframe(data: bytes, definition: str, document: Field) -> tuple[Header, Element]:
    """Read a message of one definition; return its header and the checked element inside its `Document`.

    `document` is the profile of that element. The document's own message id is at `GrpHdr/MsgId`. Raises
    `MessageRefused`.
    """
    root = xml.parse(data)
    if xml.split(root) != (ENVELOPE_NAMESPACE, "BusinessMessage"):
        raise MessageRefused(MessageReason.NAMESPACE_UNKNOWN, "the envelope is not a BusinessMessage of ours")
    app_header, body = _parts(root, definition)
    body_namespace = schemas.NAMESPACE_PREFIX + definition
    xml.check(app_header, _HEADER, _HEADER_NAMESPACE)
    xml.check(body, Field("Document", (document,)), body_namespace)
    schemas.validate(app_header, HEADER_DEFINITION)
    schemas.validate(body, definition)
    content = body[0]
    header = _read_header(app_header)
    if xml.required(app_header, "MsgDefIdr") != definition:
        raise MessageRefused(MessageReason.HEADER_MISMATCH, f"the header does not name {definition}")
    if header.message_id != xml.required(content, "GrpHdr/MsgId"):
        raise MessageRefused(MessageReason.HEADER_MISMATCH, "the header names another message id than the document")
    return header, content


def _parts(root: Element, definition: str) -> tuple[Element, Element]:
    """Return the header and the document: exactly these two, in this order, in exactly their namespaces."""
    if root.attrib or (root.text or "").strip() or any((child.tail or "").strip() for child in root):
        raise MessageRefused(MessageReason.ELEMENT_UNEXPECTED, "the envelope holds a header and a document only")
    names = [xml.split(child) for child in root]
    for (namespace, _), expected in zip(names, (HEADER_DEFINITION, definition), strict=False):
        if namespace != schemas.NAMESPACE_PREFIX + expected:
            raise MessageRefused(MessageReason.NAMESPACE_UNKNOWN, f"expected {expected}, found {namespace[:120]!r}")
    if [name for _, name in names] != ["AppHdr", "Document"]:
        raise MessageRefused(MessageReason.ELEMENT_UNEXPECTED, "the envelope holds one AppHdr, then one Document")
    return root[0], root[1]


def _read_header(app_header: Element) -> Header:
    processing = xml.value(app_header, "BizPrcgDt")
    return Header(
        sender=xml.required(app_header, "Fr/FIId/FinInstnId/BICFI"),
        receiver=xml.required(app_header, "To/FIId/FinInstnId/BICFI"),
        message_id=xml.required(app_header, "BizMsgIdr"),
        created_at=values.read_time(xml.required(app_header, "CreDt"), pointer="/AppHdr/CreDt"),
        value_date=values.read_date(processing[:10], pointer="/AppHdr/BizPrcgDt") if processing else None,
    )
