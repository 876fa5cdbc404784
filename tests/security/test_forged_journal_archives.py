"""Files that aren't the part of the journal that was taken out: none of them is put in its place, nor harms a bank."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from bank_ledgers import Bank, connect
from journal_parts import KEY, assert_proved, built, copied, put_back, rows_of, take_out
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from participants.archive.document import (
    ARCHIVE_TYPE,
    EVENTS,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    POSTINGS,
    ArchiveReason,
    ArchiveRefusedError,
    JournalArchive,
)
from participants.archive.turn import KEEP_OUT

BOMB_BYTES = 192 << 20
MEMORY_BYTES_MAX = 24 << 20
STRANGER = SigningKey.generate()
Files = dict[str, bytes]
WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"


@pytest.fixture(scope="module")
def journals(postgres_url: str) -> Iterator[list[str]]:
    with built(postgres_url) as urls:
        yield urls


@pytest.fixture
async def pair(postgres_url: str, journals: list[str]) -> AsyncIterator[tuple[Bank, Bank]]:
    async with copied(postgres_url, journals) as banks:
        yield banks


def read(path: Path) -> Files:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def write(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def signed(files: Files, *keys: SigningKey, **changes: str) -> Files:
    """Return the files with a manifest that these keys sign, in which some members are others."""
    said = canonical.decode(envelope_of(files).payload_bytes(), JournalArchive)
    envelope = dsse.sign(replace(said, **changes), *keys, payload_type=ARCHIVE_TYPE)
    return files | {MANIFEST: msgspec.json.encode(envelope)}


def unsigned(files: Files) -> Files:
    return files | {MANIFEST: msgspec.json.encode(replace(envelope_of(files), signatures=()))}


def envelope_of(files: Files) -> Envelope:
    return msgspec.json.decode(files[MANIFEST], type=Envelope)


async def assert_refused(one: Bank, path: Path, *reasons: ArchiveReason) -> None:
    before = await rows_of(one)
    with pytest.raises(ArchiveRefusedError) as refused:
        await put_back(one, path)
    assert refused.value.reason in reasons
    assert await rows_of(one) == before
    assert await one.connection.fetchval("SELECT count(*) FROM pg_class WHERE relname ~ '_back$'") == 0


FORGERIES: dict[str, tuple[Callable[[Files], Files], ArchiveReason]] = {
    "signed by a stranger": (lambda files: signed(files, STRANGER), ArchiveReason.ARCHIVE_NOT_OURS),
    "signed by nobody": (lambda files: unsigned(files), ArchiveReason.ARCHIVE_NOT_OURS),
    "signed by a stranger too": (lambda files: signed(files, KEY, STRANGER), ArchiveReason.ARCHIVE_NOT_OURS),
    "of another bank": (lambda files: signed(files, KEY, bank="BETAFRPP"), ArchiveReason.ARCHIVE_NOT_OURS),
    "of another ledger": (lambda files: signed(files, KEY, ends_at="2024-01-01"), ArchiveReason.ARCHIVE_UNKNOWN),
    "a posting changed": (
        lambda files: files | {POSTINGS: files[POSTINGS].replace(b",100", b",101")}, ArchiveReason.ARCHIVE_DIFFERS,
    ),
    "an event missing": (
        lambda files: files | {EVENTS: files[EVENTS].partition(b"\n")[2]}, ArchiveReason.ARCHIVE_DIFFERS,
    ),
    "an event more": (lambda files: files | {EVENTS: files[EVENTS] * 2}, ArchiveReason.ARCHIVE_DIFFERS),
    "a file missing": (
        lambda files: {name: data for name, data in files.items() if name != EVENTS}, ArchiveReason.ARCHIVE_UNREADABLE,
    ),
    "no manifest": (lambda files: files | {MANIFEST: b"[" * 100_000}, ArchiveReason.ARCHIVE_UNREADABLE),
}  # fmt: skip


async def test_what_isnt_the_part_that_was_taken_out_is_not_put_back(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, beta = pair
    good = (await take_out(alfa, tmp_path)).path
    for forge, reason in FORGERIES.values():
        await assert_refused(alfa, write(tmp_path / "forged.zip", forge(read(good))), reason)
    others = (await take_out(beta, tmp_path, key=STRANGER)).path
    await assert_refused(alfa, others, ArchiveReason.ARCHIVE_NOT_OURS)
    whole = good.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "forged.zip").write_bytes(whole[:length])
        await assert_refused(alfa, tmp_path / "forged.zip", ArchiveReason.ARCHIVE_UNREADABLE)
    with zipfile.ZipFile(good) as packed:
        size = packed.getinfo(EVENTS).compress_size
    for place in range(100, size, size // 10):
        (tmp_path / "forged.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        await assert_refused(
            alfa, tmp_path / "forged.zip", ArchiveReason.ARCHIVE_UNREADABLE, ArchiveReason.ARCHIVE_DIFFERS
        )
    await put_back(alfa, good)
    await assert_proved(alfa)


async def test_a_digest_in_the_database_is_not_enough(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    """Whoever can write both the file and the digest has no key of the bank."""
    alfa, _ = pair
    good = (await take_out(alfa, tmp_path)).path
    forged = signed(read(good), STRANGER, ends_at="2024-01-01")
    owner = await connect(alfa.url, role=None)
    sha256 = bytes.fromhex(canonical.digest(envelope_of(forged).payload_bytes()))
    await owner.execute("UPDATE journal_archive SET manifest_sha256 = $1", sha256)
    await owner.close()
    await assert_refused(alfa, write(tmp_path / "forged.zip", forged), ArchiveReason.ARCHIVE_NOT_OURS)


async def test_parts_are_put_back_once_newest_first_and_by_a_key_of_before(
    pair: tuple[Bank, Bank], tmp_path: Path
) -> None:
    alfa, _ = pair
    new = SigningKey.generate()
    first = (await take_out(alfa, tmp_path)).path
    second = (await take_out(alfa, tmp_path, key=new)).path
    await assert_refused(alfa, first, ArchiveReason.ARCHIVE_UNKNOWN)
    await put_back(alfa, second, keys=(new, KEY))
    await assert_refused(alfa, second, ArchiveReason.ARCHIVE_NOT_OURS)
    assert (await put_back(alfa, second, keys=(new, KEY))).already
    assert not (await put_back(alfa, first, keys=(new, KEY))).already
    assert (await put_back(alfa, first, keys=(new, KEY))).already
    await assert_proved(alfa)


def bomb(path: Path, files: Files, name: str, compression: int) -> None:
    """Write an archive of which one file is zeros that take nothing, and is said to be small."""
    with zipfile.ZipFile(path, "w") as packed:
        for other, data in files.items():
            if other != name:
                packed.writestr(other, data)
        info = zipfile.ZipInfo(name)
        info.compress_type = compression
        with packed.open(info, "w") as file:
            for _ in range(BOMB_BYTES >> 20):
                file.write(bytes(1 << 20))
        if name == MANIFEST:
            info.file_size = MANIFEST_BYTES_MAX


async def test_a_bomb_takes_no_memory(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    files = read((await take_out(alfa, tmp_path)).path)
    path = tmp_path / "bomb.zip"
    bombs: list[tuple[Callable[[], None], ArchiveReason]] = [
        (lambda: bomb(path, files, EVENTS, zipfile.ZIP_DEFLATED), ArchiveReason.ARCHIVE_DIFFERS),
        (lambda: bomb(path, files, EVENTS, zipfile.ZIP_BZIP2), ArchiveReason.ARCHIVE_UNREADABLE),
        (lambda: bomb(path, files, MANIFEST, zipfile.ZIP_DEFLATED), ArchiveReason.ARCHIVE_UNREADABLE),
        (lambda: directory(path), ArchiveReason.ARCHIVE_UNREADABLE),
    ]
    for make, reason in bombs:
        make()
        assert path.stat().st_size < BOMB_BYTES / 20
        tracemalloc.start()
        await assert_refused(alfa, path, reason)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY_BYTES_MAX


def directory(path: Path) -> None:
    """Write an archive of as many files as its list has room for, each of them nothing."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 16)
    count = 60_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, count * len(entry), 0, 0)
    path.write_bytes(entry * count + end)


@pytest.mark.parametrize("change", ["replaced", "changed", "cut off"])
async def test_a_file_that_changes_while_it_is_read(pair: tuple[Bank, Bank], tmp_path: Path, change: str) -> None:
    """The file that was proved is the one that is put back, or none."""
    alfa, _ = pair
    before = await rows_of(alfa)
    good = (await take_out(alfa, tmp_path)).path
    files = read(good)
    shutil.copy(good, tmp_path / "kept.zip")
    other = await connect(alfa.url, role=None)
    async with other.transaction():
        await other.execute(KEEP_OUT)
        attaching = asyncio.create_task(put_back(alfa, good))
        while not await alfa.connection.fetchval(WAITING):
            assert not attaching.done()
            await asyncio.sleep(0.02)
        if change == "replaced":
            forged = files | {POSTINGS: files[POSTINGS].replace(b",100", b",101")}
            os.replace(write(tmp_path / "forged.zip", forged), good)
        elif change == "changed":
            with good.open("r+b") as file:
                file.seek(200)
                file.write(bytes(400))
        else:
            os.truncate(good, 300)
    if change == "replaced":
        await attaching
    else:
        with pytest.raises(ArchiveRefusedError) as refused:
            await attaching
        assert refused.value.reason in (ArchiveReason.ARCHIVE_UNREADABLE, ArchiveReason.ARCHIVE_DIFFERS)
        await assert_refused(alfa, good, *ArchiveReason)
        await put_back(alfa, tmp_path / "kept.zip")
    await other.close()
    assert await rows_of(alfa) == before
    await assert_proved(alfa)
