"""ZIP archives that are a pure function of their files: one set of files, one sequence of bytes.

Files are stored, never compressed, in the order of their names, dated 1 January 1980, with no extra field and no
comment (APPNOTE.TXT 6.3.3, sections 4.3.7, 4.3.12, 4.3.16). Any ZIP program opens such an archive. `unpack` takes
nothing else: whatever a reader could overlook (a second file of a name, bytes between or behind the files, another
order) makes the archive differ from the one that its files make, and nothing can expand beyond the archive's size.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import BinaryIO, NamedTuple

# Places and sizes have 32 bits in this form, so with all headers an archive stays below 4 GiB.
ARCHIVE_BYTES_MAX = 4 * 1024**3 - 1024**2
FILES_MAX = 1_000
PIECE_BYTES = 256 * 1024

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
    local: list[bytes] = []
    central, offset = bytearray(), 0
    for name, content in sorted(files.items()):
        if _NAME.fullmatch(name) is None:
            raise ArchiveError(f"{name!r} isn't a name for a file")
        raw = name.encode()
        common = _common(raw, len(content), zlib.crc32(content))
        if offset + len(content) > ARCHIVE_BYTES_MAX:
            raise ArchiveError(f"more than {ARCHIVE_BYTES_MAX} bytes")
        header = _LOCAL.pack(_LOCAL_SIGNATURE, *common) + raw
        local += (header, content)
        central += _central(name, common, offset)
        offset += len(header) + len(content)
    if len(files) > FILES_MAX:
        raise ArchiveError(f"more than {FILES_MAX} files")
    end = _END.pack(_END_SIGNATURE, 0, 0, len(files), len(files), len(central), offset, 0)
    return b"".join((*local, central, end))


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive that `pack` made. Raises ArchiveError for any other bytes."""
    archive = Archive(BytesIO(data))
    return {name: archive[name] for name in archive}


class Archive(Mapping[str, bytes]):
    """The files of an archive that `pack` made, by name; each is read when it is asked for, and none is kept.

    Raises ArchiveError for any other bytes, as soon as it is made: all of them are looked at once, a piece at a time.
    `sha256` is of the whole archive, `size` its length in bytes.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._members: dict[str, _Member] = {}
        self._whole = hashlib.sha256()
        self.size = source.seek(0, os.SEEK_END)
        if self.size > ARCHIVE_BYTES_MAX:
            raise ArchiveError(f"more than {ARCHIVE_BYTES_MAX} bytes")
        source.seek(0)
        self._read_central(self._read_members())
        self.sha256 = self._whole.hexdigest()

    def __getitem__(self, name: str) -> bytes:
        member = self._members[name]
        self._source.seek(member.offset)
        content = self._source.read(member.size)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise ArchiveError(f"{name} was changed while it was read")
        return content

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def member_size(self, name: str) -> int:
        """Return how many bytes a file has."""
        return self._members[name].size

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        return self._members[name].sha256

    def lines(self, name: str) -> Iterator[bytes]:
        """Read a file line by line, without the line breaks. Raises ArchiveError if the last line doesn't end."""
        member = self._members[name]
        offset, end = member.offset, member.offset + member.size
        seen = hashlib.sha256()
        while offset < end:
            # Others read in between.
            self._source.seek(offset)
            line = self._source.readline(end - offset)
            seen.update(line)
            offset += len(line)
            if line[-1:] != b"\n":
                raise ArchiveError(f"{name}: the last line doesn't end")
            yield line[:-1]
        if seen.hexdigest() != member.sha256:
            raise ArchiveError(f"{name} was changed while it was read")

    def _take(self, size: int) -> bytes:
        """Read on. What isn't there is missing from what is returned."""
        data = self._source.read(size)
        self._whole.update(data)
        return data

    def _read_members(self) -> tuple[bytes, bytes]:
        """Look at all files; return the central directory that belongs to them, and the first bytes after them."""
        central, offset, previous = bytearray(), 0, ""
        while (signature := self._take(4)) == _LOCAL_SIGNATURE:
            if len(self._members) == FILES_MAX:
                raise ArchiveError(f"more than {FILES_MAX} files")
            name, common = self._read_member(offset, signature)
            if name in self._members:
                raise ArchiveError(f"{name} stands in the archive twice")
            if name < previous:
                raise ArchiveError(f"{name} stands behind {previous}: the order was changed")
            member = self._members[name] = self._pass_over(name, common)
            central += _central(name, common, offset)
            offset, previous = member.offset + member.size, name
        if not self._members:
            raise ArchiveError("not a ZIP archive, or an empty one")
        end = _END.pack(_END_SIGNATURE, 0, 0, len(self._members), len(self._members), len(central), offset, 0)
        return bytes(central) + end, signature

    def _read_member(self, offset: int, signature: bytes) -> tuple[str, _Common]:
        """Read the header of a file, whose signature was read."""
        header = signature + self._take(_LOCAL.size - len(signature))
        if len(header) < _LOCAL.size:
            raise ArchiveError(f"cut off in a file header at byte {offset}")
        _, *common, name_size, extra_size = _LOCAL.unpack(header)
        _, _, method, _, _, crc, compressed, size = common
        raw = self._take(name_size)
        name = raw.decode("ascii", "backslashreplace")
        if _NAME.fullmatch(name) is None:
            raise ArchiveError(f"{name!r} isn't a name for a file")
        if method != 0 or compressed != size or extra_size != 0:
            raise ArchiveError(f"{name} isn't stored as it is (compression method {method})")
        expected = _common(raw, size, crc)
        if (written := _LOCAL.pack(_LOCAL_SIGNATURE, *expected)) != header:
            at = offset + next(place for place in range(len(header)) if header[place] != written[place])
            raise ArchiveError(f"byte {at} isn't what the files in the archive make it")
        return name, expected

    def _pass_over(self, name: str, common: _Common) -> _Member:
        """Read the content of a file a piece at a time, compare its checksum and remember its digest."""
        offset, size, crc = self._source.tell(), common[7], common[5]
        if offset + size > self.size:
            raise ArchiveError(f"{name} is cut off: {self.size - offset} of {size} bytes")
        digest, checksum, left = hashlib.sha256(), 0, size
        while left and (piece := self._take(min(left, PIECE_BYTES))):
            digest.update(piece)
            checksum = zlib.crc32(piece, checksum)
            left -= len(piece)
        if left or checksum != crc:
            raise ArchiveError(f"{name} was changed: its checksum is wrong")
        return _Member(offset, size, digest.hexdigest())

    def _read_central(self, expected_and_seen: tuple[bytes, bytes]) -> None:
        """Check that what follows the files is their central directory, and nothing else."""
        expected, seen = expected_and_seen
        begin = self._source.tell() - len(seen)
        available = seen + self._take(len(expected) - len(seen) + 1)
        if available != expected:
            at = next((i for i, pair in enumerate(zip(expected, available, strict=False)) if pair[0] != pair[1]), None)
            at = begin + (min(len(expected), len(available)) if at is None else at)
            should = begin + len(expected)
            raise ArchiveError(f"byte {at} isn't what the files in the archive make it: {self.size} bytes, {should}")


_Common = tuple[int, int, int, int, int, int, int, int, int, int]
"""What the local and the central header of a file have in common."""


class _Member(NamedTuple):
    """Where the content of a file stands, and its SHA-256."""

    offset: int
    size: int
    sha256: str


def _common(raw_name: bytes, size: int, crc: int) -> _Common:
    # Version needed, flags, method, time, date, checksum, compressed and plain size, length of name and extra field.
    return (_VERSION, 0, 0, 0, _DATE_1980_01_01, crc, size, size, len(raw_name), 0)


def _central(name: str, common: _Common, offset: int) -> bytes:
    header = _CENTRAL.pack(_CENTRAL_SIGNATURE, _MADE_BY_UNIX, *common, 0, 0, 0, _REGULAR_FILE_0644, offset)
    return header + name.encode()
