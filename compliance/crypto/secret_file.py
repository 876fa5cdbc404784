"""Files with secrets: there as a whole or not at all, for their owner only, and never written over."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def create_secret(target: Path, content: bytes) -> None:
    """Create a file of mode 0600 that outlives a crash of the machine. Raises FileExistsError, OSError.

    Its directory is made with mode 0700 where there is none; one that is there keeps its mode. What a crash leaves
    behind is a file beside the target that nobody reads.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, takes no name that is taken.
        os.link(draft, target)
    finally:
        draft.unlink()
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
