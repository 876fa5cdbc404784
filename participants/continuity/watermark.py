"""How far this node has seen its ledger, kept beside the keys and not in the database that a backup replaces."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.federation.storage.whole_file import write_whole


class _Seen(Struct, frozen=True):
    events: int


class Watermark:
    """The number of events that the ledger held at least, in a file that a crash leaves old or new.

    A file that can't be read counts as none: the other ways to notice a restored backup remain.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """Return how many events were seen; 0 if nobody knows."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Seen).events
        except (OSError, msgspec.MsgspecError):
            return 0

    def keep(self, events: int) -> None:
        """Write down that the ledger holds so many events, durably. Raises OSError."""
        write_whole(self._path, msgspec.json.encode(_Seen(events)), durable=True)
