"""XML, read with suspicion and written plainly.

A message is read in fixed steps: size, document type declaration, well-formedness, then a closed profile. A
profile is a `Field` tree: which elements may come in which order, how often, and what text they hold. Whatever
isn't in the profile is refused, because an instruction that we half understand must not move money.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lxml import etree

from gateway.federation.iso20022.reasons import MessageReason, MessageRefused

Element: TypeAlias = etree._Element

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_SCHEMA_HINTS = frozenset(
    f"{{http://www.w3.org/2001/XMLSchema-instance}}{name}" for name in ("schemaLocation", "noNamespaceSchemaLocation")
)


@dataclass(frozen=True, slots=True)
class Field:
    """One element of a profile: its children in order, or the pattern of its whole text.

    `most` of None means any number. An amount carries the attribute `Ccy`, and nothing else has attributes.
    """

    tag: str
    content: tuple[Field, ...] | re.Pattern[str]
    least: int = 1
    most: int | None = 1
    amount: bool = False


def parse(data: bytes) -> Element:
    """Return the root of an XML document in UTF-8 that has no document type declaration.

    Raises `MessageRefused`: message_too_large, doctype_refused, xml_malformed.
    """
    if len(data) > MESSAGE_BYTES_MAX:
        raise MessageRefused(MessageReason.MESSAGE_TOO_LARGE, f"over {MESSAGE_BYTES_MAX} bytes")
    # The declaration is looked for in the bytes, so that the parser never gets to see an entity. Forcing UTF-8
    # on the parser keeps another encoding from hiding it.
    if b"<!DOCTYPE" in data:
        raise MessageRefused(MessageReason.DOCTYPE_REFUSED, "a document type declaration is not accepted")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise MessageRefused(MessageReason.XML_MALFORMED, error.msg or "not well-formed XML") from None
    if root.getroottree().docinfo.doctype:
        raise MessageRefused(MessageReason.DOCTYPE_REFUSED, "a document type declaration is not accepted")
    return root


def split(element: Element) -> tuple[str, str]:
    """Return (namespace, local name) of an element; a comment or processing instruction is refused."""
    if not isinstance(element.tag, str):
        raise MessageRefused(MessageReason.ELEMENT_UNEXPECTED, "comments and processing instructions are not accepted")
    name = etree.QName(element)
    return name.namespace or "", name.localname


def check(element: Element, field: Field, namespace: str, path: str = "") -> None:
    """Hold an element against its profile, all the way down.

    Raises `MessageRefused` for the first thing that the profile doesn't have, in document order.
    """
    path = f"{path}/{field.tag}"
    _check_attributes(element, field, path)
    if isinstance(field.content, re.Pattern):
        for child in element:
            raise MessageRefused(MessageReason.ELEMENT_UNEXPECTED, f"{_name(child)} in a value", pointer=path)
        if field.content.fullmatch(element.text or "") is None:
            raise MessageRefused(MessageReason.VALUE_MALFORMED, f"{field.tag} holds no valid value", pointer=path)
        return
    if any(text and not text.isspace() for text in (element.text, *(child.tail for child in element))):
        raise MessageRefused(MessageReason.VALUE_MALFORMED, f"text between the elements of {field.tag}", pointer=path)
    for child, expected in _pair(element, field.content, namespace, path):
        check(child, expected, namespace, path)


def _check_attributes(element: Element, field: Field, path: str) -> None:
    names = set(element.attrib) - _SCHEMA_HINTS
    if field.amount and "Ccy" not in names:
        raise MessageRefused(MessageReason.ELEMENT_MISSING, "an amount without its currency", pointer=f"{path}/@Ccy")
    unexpected = names - {"Ccy"} if field.amount else names
    if unexpected:
        name = str(min(unexpected))[:70]
        raise MessageRefused(MessageReason.ATTRIBUTE_UNEXPECTED, f"attribute {name} is not accepted", pointer=path)


def _pair(element: Element, fields: tuple[Field, ...], namespace: str, path: str) -> Iterator[tuple[Element, Field]]:
    """Match children to fields in the order of the profile."""
    children = list(element)
    position = 0
    for index, field in enumerate(fields):
        count = 0
        while (
            position < len(children)
            and split(children[position]) == (namespace, field.tag)
            and (field.most is None or count < field.most)
        ):
            yield children[position], field
            position += 1
            count += 1
        if count < field.least:
            later = {f"{{{namespace}}}{following.tag}" for following in fields[index + 1 :]}
            if position < len(children) and children[position].tag not in later:
                break
            raise MessageRefused(MessageReason.ELEMENT_MISSING, f"{field.tag} is missing", pointer=path)
    if position < len(children):
        raise MessageRefused(
            MessageReason.ELEMENT_UNEXPECTED, f"{_name(children[position])} is not accepted here", pointer=path
        )


def _name(element: Element) -> str:
    return split(element)[1][:70]


def value(element: Element, path: str) -> str | None:
    """Return the text at a path of local names below an element that was checked, or None."""
    return element.findtext("/".join(f"{{*}}{step}" for step in path.split("/")))


def required(element: Element, path: str) -> str:
    """Return the text at a path that the profile makes mandatory."""
    text = value(element, path)
    if text is None:
        raise MessageRefused(MessageReason.ELEMENT_MISSING, f"{path} is missing", pointer=path)
    return text


def each(element: Element, path: str) -> list[Element]:
    """Return all elements at a path of local names."""
    return element.findall("/".join(f"{{*}}{step}" for step in path.split("/")))


# --- writing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Money:
    """An amount as it is written: decimal text and its currency."""

    text: str
    currency: str


Node: TypeAlias = "tuple[str, str | Money | Sequence[Node] | None]"
"""An element to write: its name, and its text, amount or children. None leaves the element out."""


def build(namespace: str, node: Node) -> Element:
    """Return the element tree of a node, all of it in one namespace."""
    tag, content = node
    root = etree.Element(f"{{{namespace}}}{tag}", nsmap={None: namespace})
    _fill(root, namespace, content)
    return root


def _fill(element: Element, namespace: str, content: str | Money | Sequence[Node] | None) -> None:
    if isinstance(content, Money):
        element.set("Ccy", content.currency)
        element.text = content.text
    elif isinstance(content, str):
        element.text = content
    else:
        for tag, below in content or ():
            if below is not None:
                _fill(etree.SubElement(element, f"{{{namespace}}}{tag}"), namespace, below)


def serialise(root: Element) -> bytes:
    """Return the document as bytes: UTF-8, with declaration, no white space added."""
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")
