"""The manifest of an export: what the archive holds, under the coordinator's signature."""

from __future__ import annotations

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import Signer
from compliance.export.archive import pack
from compliance.export.files import to_files
from compliance.export.record import MANIFEST, MANIFEST_SIGNED, CycleRecord
from compliance.statements import Count, CycleId, Document, Sha256

MANIFEST_BYTES_MAX = 1024 * 1024
"""Of `manifest.json` and `manifest.dsse.json`, each: what a verifier reads before it knows who signed."""
MANIFEST_TYPE = "application/vnd.concordat.export-manifest.v1+json"


class FileEntry(Document, frozen=True, kw_only=True):
    """One file of the archive."""

    name: str
    sha256: Sha256
    bytes: Count


class Manifest(Document, frozen=True, kw_only=True):
    """`manifest.json`: what the archive holds. Payload type `MANIFEST_TYPE`."""

    format: str
    cycle: CycleId
    files: tuple[FileEntry, ...]


def build_export(record: CycleRecord, signer: Signer) -> bytes:
    """Return the archive of a cycle, signed. The same record and key give the same bytes.

    `signer` is the coordinator's `sign` key. Raises ArchiveError for more than an archive holds.
    """
    files = to_files(record)
    entries = tuple(
        FileEntry(name=name, sha256=canonical.digest(content), bytes=len(content))
        for name, content in sorted(files.items())
    )
    manifest = canonical.encode(Manifest(format=record.format, cycle=record.cycle, files=entries))
    signed = canonical.encode(dsse.seal(manifest, MANIFEST_TYPE, signer))
    return pack({**files, MANIFEST: manifest, MANIFEST_SIGNED: signed})
