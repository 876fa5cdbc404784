"""What tests of several kinds share."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from litestar import Litestar

DATA = Path(os.environ.get("CONCORDAT_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""The public data sets, which aren't part of the project. What needs one that isn't there is skipped and says so."""

NewDatabase = Callable[..., Awaitable[str]]
"""The fixture `new_database`: the name of a package, or none, to the URL of a fresh database."""
Live = Callable[[Litestar | Callable[[str], Litestar]], str]
"""The fixture `live`: an application, or what makes one for a URL, to the URL where it is served."""


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562): ids in the order of time keep a B-tree's insertions together."""
    milliseconds = time.time_ns() // 1_000_000
    tail = random.getrandbits(74)
    value = (milliseconds << 80) | (7 << 76) | ((tail >> 62) << 64) | (2 << 62) | (tail & (2**62 - 1))
    return str(UUID(int=value))
