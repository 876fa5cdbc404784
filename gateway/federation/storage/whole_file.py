"""Files that are there as a whole or not at all, and that their owner alone may read."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(target: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file at once. Raises OSError.

    A crash of the machine leaves the old file or the new one, or an empty one if it isn't `durable`.
    """
    with whole_file(target) as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file of mode 0600 beside the target, and rename it when all is written.

    Nothing half-written ever has the target's name, and what is no file is never replaced by one. Raises OSError.
    """
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "it is there, and is no file", str(target))
    with naming(target):
        handle, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
    try:
        with naming(target), os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def owner_only(path: str, flags: int) -> int:
    """Open a file that its owner alone may read, where it isn't there yet: an opener for `open`."""
    return os.open(path, flags, 0o600)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Name a file in what goes wrong with writing it, or a draft of it, as where a disk is full."""
    try:
        yield
    except OSError as error:
        # What is written may come from elsewhere, which isn't this file's matter.
        elsewhere = isinstance(error, (ConnectionError, TimeoutError))
        if not elsewhere and (error.filename is None or Path(error.filename).name.startswith(f".{target.name}.")):
            error.filename = str(target)
        raise
