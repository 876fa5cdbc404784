"""Word of long work, for whoever watches a terminal."""

from __future__ import annotations

import sys


class Progress:
    """Counts on one line of standard error where that is a terminal, and is silent elsewhere."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, records: int) -> None:
        """Show how many records were read."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{records:,} records …")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
