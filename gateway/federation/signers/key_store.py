"""The choice of where the private keys are. Every signer of an institution comes from here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from compliance.crypto.keys import Signer
from compliance.statements import KeyUse
from gateway.federation.signers.files import KeyFiles


class KeyStore(Protocol):
    """The private keys of one institution, one for each use."""

    def signer(self, use: KeyUse) -> Signer:
        """Return the signer of a use. Raises SettingsError where it has no key that can be read, OSError."""

    def make(self, use: KeyUse) -> Signer:
        """Return the signer of a use; its key is made if there is none. `init` alone calls this."""


def open_keys(directory: Path) -> KeyStore:
    """Return the keys of the institution whose key directory this is: files in it."""
    return KeyFiles(directory)
