"""Ed25519 keys (RFC 8032), named by their RFC 7638 thumbprint."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "Ed25519"


def b64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Decode base64url without padding; raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(x: str) -> str:
    """Return the RFC 7638 thumbprint of the Ed25519 public key whose JWK member is `x`."""
    return b64url(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


class Signer(Protocol):
    """Whatever can sign: a key in a file today, a hardware module tomorrow."""

    @property
    def kid(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


class VerifyingKey:
    """A public Ed25519 key. `x` is its base64url form as in a JWK."""

    def __init__(self, x: str) -> None:
        raw = unb64url(x)
        # Several texts decode to the same bytes, and each would give the key another thumbprint.
        if b64url(raw) != x:
            raise ValueError("the key isn't base64url in its one form")
        self.x = x
        self.kid = thumbprint(x)
        self.public = Ed25519PublicKey.from_public_bytes(raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether the signature over the message is this key's."""
        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private Ed25519 key held in memory."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.x = b64url(private.public_key().public_bytes_raw())
        self.kid = thumbprint(self.x)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PKCS#8 PEM file. Raises OSError, ValueError."""
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError(f"{path}: not an Ed25519 private key")
        return cls(private)

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Read the key, or make one and write it readable by its owner only."""
        if path.exists():
            return cls.load(path)
        key = cls.generate()
        key.save(path)
        return key

    def save(self, path: Path) -> None:
        """Write as PKCS#8 PEM, mode 0600."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(
            self.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def verifying_key(self) -> VerifyingKey:
        return VerifyingKey(self.x)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)
