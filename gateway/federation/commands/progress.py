"""Word of long work, for whoever watches a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from compliance.terminal import shown

_TICK_S = 1.0


class Progress:
    """Keeps one line of standard error where that is a terminal, and is silent elsewhere; leaving clears it."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

    def __call__(self, records: int) -> None:
        """Show how many records were read."""
        self.show(f"{records:,} records …")

    @contextmanager
    def ticking(self, activity: str) -> Iterator[None]:
        """Show every second how long something has taken that can't tell how far it is."""
        if not sys.stderr.isatty():
            yield
            return
        started_at, is_done = time.monotonic(), threading.Event()

        def tick() -> None:
            while not is_done.wait(_TICK_S):
                self.show(f"{activity}: {time.monotonic() - started_at:.0f} s …")

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()

    def show(self, text: str) -> None:
        """Show what is going on, in place of what was shown; nothing in it is obeyed by a terminal."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{shown(text)}")
            sys.stderr.flush()
            self._shown = True
