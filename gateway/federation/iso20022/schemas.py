"""Optional validation against the official XML Schemas.

ISO 20022 publishes them; they are not part of this project. When the environment variable `CONCORDAT_XSD_DIR`
names a directory with files such as `pacs.029.001.02.xsd`, every message read or written is validated as well.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from lxml import etree

from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.settings import SettingsError

XSD_DIR_VARIABLE = "CONCORDAT_XSD_DIR"
NAMESPACE_PREFIX = "urn:iso:std:iso:20022:tech:xsd:"


@cache
def load(directory: Path, definition: str) -> etree.XMLSchema:
    """Return the schema of a message definition. Raises OSError when its file isn't there."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    with (directory / f"{definition}.xsd").open("rb") as file:
        return etree.XMLSchema(etree.parse(file, parser))


def require_schemas(*definitions: str) -> None:
    """Load the schemas that will be needed, if schemas are set up. Raises SettingsError for one that can't be."""
    directory = os.environ.get(XSD_DIR_VARIABLE)
    if not directory:
        return
    for definition in definitions:
        try:
            load(Path(directory), definition)
        except (OSError, etree.LxmlError) as error:
            raise SettingsError(f"{XSD_DIR_VARIABLE}: {error}") from error


def validate(root: etree._Element, definition: str) -> None:
    """Validate an `AppHdr` or `Document` against its schema, if schemas are set up. Raises schema_invalid."""
    directory = os.environ.get(XSD_DIR_VARIABLE)
    if not directory:
        return
    schema = load(Path(directory), definition)
    # A copy, because validation must see the element as the root of a document of its own.
    alone = etree.fromstring(etree.tostring(root, with_tail=False))
    if not schema.validate(alone):
        error = schema.error_log[0]
        raise MessageRefused(MessageReason.SCHEMA_INVALID, error.message, pointer=error.path)
