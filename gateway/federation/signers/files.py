"""Private keys in files: one PEM file for each use, readable by its owner only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compliance.crypto.keys import Signer, SigningKey
from compliance.statements import KeyUse
from gateway.federation.settings import SettingsError


@dataclass(frozen=True)
class KeyFiles:
    """A directory with `auth.pem`, `sign.pem` and, at institutions that issue tokens, `token.pem`."""

    directory: Path

    def signer(self, use: KeyUse) -> Signer:
        """Read the key of a use. Raises SettingsError where there is none, or what is there is no key; OSError."""
        try:
            return SigningKey.load(self._path(use))
        except FileNotFoundError:
            raise SettingsError(f"CONCORDAT_DATA_DIR: no {use} key in {self.directory}; `init` makes it") from None
        except ValueError as error:
            raise SettingsError(f"CONCORDAT_DATA_DIR: {self._path(use)} is no private key: {error}") from None

    def make(self, use: KeyUse) -> Signer:
        """Make the key of a use, unless it is there, and read it. Raises OSError, ValueError."""
        return SigningKey.load_or_create(self._path(use))

    def _path(self, use: KeyUse) -> Path:
        return self.directory / f"{use}.pem"
