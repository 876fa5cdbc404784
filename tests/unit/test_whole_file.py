"""Files that commands write: whole, their owner's alone, and named in what goes wrong."""

from __future__ import annotations

import ast
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.federation.storage.whole_file import naming, owner_only, write_whole

ROOT = Path(__file__).parents[2]
FOR_EVERYBODY = {
    "compliance/trust.py",  # the anchor
    "gateway/agent/cli.py",  # applications, which anybody may see
    "participants/cli.py",
}


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_has_no_room_is_named_and_leaves_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "pair.json"
    write_whole(target, b"before")
    with full_after(4_096), pytest.raises(OSError, match="large") as full:
        write_whole(target, bytes(100_000))
    assert full.value.filename == str(target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"pair.json": b"before"}


def test_a_directory_that_isnt_there_is_named_by_the_file(tmp_path: Path) -> None:
    target = tmp_path / "gone" / "pair.json"
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(target, b"")
    assert missing.value.filename == str(target)


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    for target in (tmp_path, fifo):
        with pytest.raises(FileExistsError):
            write_whole(target, b"")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_lost_connection_isnt_the_files_matter(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError) as lost, naming(tmp_path / "pair.json"):
        raise ConnectionResetError
    assert lost.value.filename is None


def test_files_are_their_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_whole(tmp_path / "a", b"")
        open(tmp_path / "b", "xb", opener=owner_only).close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_every_file_that_is_written_is_its_owners_or_for_everybody() -> None:
    open_to_all = set()
    for package in ("compliance", "gateway", "participants", "tui"):
        for path in (ROOT / package).rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
            if any(map(_writes_for_all, calls)):
                open_to_all.add(path.relative_to(ROOT).as_posix())
    assert {name for name in open_to_all if not name.startswith("gateway/demo/")} == FOR_EVERYBODY


def _writes_for_all(call: ast.Call) -> bool:
    called = ast.unparse(call.func).rpartition(".")[2]
    if called in ("write_text", "write_bytes"):
        return True
    if called != "open" or any(keyword.arg == "opener" for keyword in call.keywords):
        return False
    # A file by its path; of `open` itself the mode comes second, and what is called for may be open already.
    given = call.args[1:] if isinstance(call.func, ast.Name) and isinstance(call.args[0], ast.Name) else call.args[:1]
    return any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "x", "a") for mode in given)
