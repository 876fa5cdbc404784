"""ZIP archives that are a pure function of their files: one set of files, one sequence of bytes.

Files are stored, never compressed, in the order of their names, dated 1 January 1980, with no extra field and no
comment (APPNOTE.TXT 6.3.3, sections 4.3.7, 4.3.12, 4.3.16). Any ZIP program opens such an archive. `unpack` takes
nothing else: whatever a reader could overlook (a second file of a name, bytes between or behind the files, another
order) makes the archive differ from the one that its files make, and nothing can expand beyond the archive's size.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping

ARCHIVE_BYTES_MAX = 1024 * 1024 * 1024
FILES_MAX = 1_000

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION = 20
_MADE_BY_UNIX = 3 << 8 | _VERSION
_DATE_1980_01_01 = 1 << 5 | 1
_REGULAR_FILE_0644 = 0o100644 << 16
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")


class ArchiveError(Exception):
    """Bytes that aren't such an archive."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of files by name. Raises ArchiveError for a name or size that an archive can't have."""
    local, central = bytearray(), bytearray()
    for name, content in sorted(files.items()):
        if _NAME.fullmatch(name) is None:
            raise ArchiveError(f"{name!r} isn't a name for a file")
        raw, offset = name.encode(), len(local)
        common = (_VERSION, 0, 0, 0, _DATE_1980_01_01, zlib.crc32(content), len(content), len(content), len(raw), 0)
        if offset + len(content) > ARCHIVE_BYTES_MAX:
            raise ArchiveError(f"more than {ARCHIVE_BYTES_MAX} bytes")
        local += _LOCAL.pack(_LOCAL_SIGNATURE, *common) + raw + content
        central += _CENTRAL.pack(_CENTRAL_SIGNATURE, _MADE_BY_UNIX, *common, 0, 0, 0, _REGULAR_FILE_0644, offset) + raw
    if len(files) > FILES_MAX:
        raise ArchiveError(f"more than {FILES_MAX} files")
    end = _END.pack(_END_SIGNATURE, 0, 0, len(files), len(files), len(central), len(local), 0)
    return bytes(local + central + end)


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive that `pack` made. Raises ArchiveError for any other bytes."""
    if len(data) > ARCHIVE_BYTES_MAX:
        raise ArchiveError(f"more than {ARCHIVE_BYTES_MAX} bytes")
    files: dict[str, bytes] = {}
    offset, previous = 0, ""
    while data[offset : offset + 4] == _LOCAL_SIGNATURE:
        if len(files) == FILES_MAX:
            raise ArchiveError(f"more than {FILES_MAX} files")
        name, content, offset = _read_file(data, offset)
        if name in files:
            raise ArchiveError(f"{name} stands in the archive twice")
        if name < previous:
            raise ArchiveError(f"{name} stands behind {previous}: the order was changed")
        files[name] = content
        previous = name
    if not files:
        raise ArchiveError("not a ZIP archive, or an empty one")
    if (expected := pack(files)) != data:
        at = next((i for i, pair in enumerate(zip(expected, data, strict=False)) if pair[0] != pair[1]), None)
        at = min(len(expected), len(data)) if at is None else at
        raise ArchiveError(f"byte {at} isn't what the files in the archive make it: {len(data)} bytes, {len(expected)}")
    return files


def _read_file(data: bytes, offset: int) -> tuple[str, bytes, int]:
    """Return name and content of the file whose local header stands at an offset, and where the next one begins."""
    if offset + _LOCAL.size > len(data):
        raise ArchiveError(f"cut off in a file header at byte {offset}")
    _, _, _, method, _, _, crc, compressed, size, name_size, extra_size = _LOCAL.unpack_from(data, offset)
    start = offset + _LOCAL.size + name_size
    raw = data[offset + _LOCAL.size : start]
    name = raw.decode("ascii", "backslashreplace")
    if _NAME.fullmatch(name) is None:
        raise ArchiveError(f"{name!r} isn't a name for a file")
    if method != 0 or compressed != size or extra_size != 0:
        raise ArchiveError(f"{name} isn't stored as it is (compression method {method})")
    if start + size > len(data):
        raise ArchiveError(f"{name} is cut off: {len(data) - start} of {size} bytes")
    content = data[start : start + size]
    if zlib.crc32(content) != crc:
        raise ArchiveError(f"{name} was changed: its checksum is wrong")
    return name, content, start + size
