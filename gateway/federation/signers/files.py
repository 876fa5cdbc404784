"""Private keys in files: one PEM file for each use, readable by its owner only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compliance.crypto.keys import Signer, SigningKey
from compliance.statements import KeyUse


@dataclass(frozen=True)
class KeyFiles:
    """A directory with `auth.pem`, `sign.pem` and, at institutions that issue tokens, `token.pem`."""

    directory: Path

    def signer(self, use: KeyUse) -> Signer:
        """Read the key of a use, or make it. Raises OSError, ValueError."""
        return SigningKey.load_or_create(self._path(use))

    def has(self, use: KeyUse) -> bool:
        """Tell whether there is a file for a use already."""
        return self._path(use).exists()

    def _path(self, use: KeyUse) -> Path:
        return self.directory / f"{use}.pem"
