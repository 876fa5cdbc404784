"""Signing what is sent, as Standard Webhooks has it (https://www.standardwebhooks.com), and the secrets for that.

A secret is never stored: it is derived from a key in the node's key directory, the webhook's id and the number of times
that it was changed. So the database holds nothing that signs, and nodes of one bank, who share their keys, share it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes

from compliance.crypto.secret_file import create_secret

KEY_FILE = "webhooks.key"
KEY_BYTES = 32
PREFIX = "whsec_"


class WebhookSecrets:
    """The secrets of one bank's webhooks."""

    def __init__(self, keys_dir: Path) -> None:
        self._path = keys_dir / KEY_FILE

    def make_key(self) -> None:
        """Make the key, unless there is one: what `init` does, and nothing else. Raises OSError."""
        if not self._path.exists():
            # Another `init` may have made it meanwhile.
            with suppress(FileExistsError):
                create_secret(self._path, token_bytes(KEY_BYTES))

    def secret(self, webhook: str, generation: int) -> bytes:
        """Return the secret of a webhook under a generation. Raises OSError, ValueError."""
        key = self._path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ValueError(f"{self._path} holds {len(key)} bytes, not {KEY_BYTES}")
        return hmac.digest(key, f"concordat webhook {webhook} {generation}".encode(), hashlib.sha256)


def shown(secret: bytes) -> str:
    """Return a secret as its receiver is given it."""
    return PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message under one secret."""
    signed = b"%s.%d.%s" % (message.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def headers(secrets: list[bytes], message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message, signed under each secret that is valid."""
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message, timestamp, body) for secret in secrets),
    }
