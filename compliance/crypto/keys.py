"""Keys that sign documents and tokens, named by their RFC 7638 thumbprint, and the algorithms that there are.

A signature algorithm is one entry of `ALGORITHMS`; whoever signs or verifies asks the key. (A trust list names the
algorithm of each key in a closed schema, `compliance.statements.TrustKey`: another one is a new version of that list.)
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from compliance.crypto.points import require_point
from compliance.crypto.secret_file import create_secret


def b64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Decode base64url without padding; raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, kw_only=True, eq=False)
class Algorithm:
    """A signature algorithm: its names, and its keys as objects of `cryptography` and as JWKs."""

    name: str
    """In trust lists."""
    jws: str
    """`alg` in the header of a token (RFC 7515)."""
    jwk: Mapping[str, str]
    """The members that every public key has as a JWK (RFC 7517), besides `jwk_key` with the key itself."""
    jwk_key: str
    private_type: type[Any]
    generate: Callable[[], Any]
    public: Callable[[bytes], Any]
    """From a public key's raw bytes; raises ValueError."""


def _ed25519_point(raw: bytes) -> Ed25519PublicKey:
    require_point(raw)
    return Ed25519PublicKey.from_public_bytes(raw)


# The name in JWS that libraries know; RFC 9864 renames it to Ed25519.
ED25519 = Algorithm(
    name="Ed25519",
    jws="EdDSA",
    jwk={"crv": "Ed25519", "kty": "OKP"},
    jwk_key="x",
    private_type=Ed25519PrivateKey,
    generate=Ed25519PrivateKey.generate,
    public=_ed25519_point,
)
"""RFC 8032, RFC 8037."""

ALGORITHMS: tuple[Algorithm, ...] = (ED25519,)
"""All that is in use."""


def scheme_name(coordinator: str, key: VerifyingKey) -> str:
    """Return the name of a scheme: its coordinator's BIC and the thumbprint of the key that it was founded with."""
    return f"{coordinator}.{key.kid}"


class VerifyingKey:
    """A public key. `x` is its base64url form as in a JWK. Raises ValueError (PointError for bytes that are no key).

    `scheme` names the one that it is known in, if it is: by it no document counts that was signed in another.
    """

    scheme: str | None = None

    def __init__(self, x: str, algorithm: Algorithm = ED25519) -> None:
        raw = unb64url(x)
        # Several texts decode to the same bytes, and each would give the key another thumbprint.
        if b64url(raw) != x:
            raise ValueError("the key isn't base64url in its one form")
        self.x = x
        self.algorithm = algorithm
        self.kid = _thumbprint(self.jwk)
        self.public = algorithm.public(raw)

    @property
    def jwk(self) -> dict[str, str]:
        """The key as a JWK, with the members that its thumbprint covers and no other."""
        return {**self.algorithm.jwk, self.algorithm.jwk_key: self.x}

    def within(self, scheme: str | None) -> VerifyingKey:
        """Return the key as it is known in a scheme."""
        key = copy(self)
        key.scheme = scheme
        return key

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether the signature over the message is this key's."""
        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """Whatever signs documents and tokens: a key in a file today, a hardware module tomorrow."""

    @property
    def kid(self) -> str: ...

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def verifying_key(self) -> VerifyingKey: ...

    @property
    def scheme(self) -> str | None:
        """The scheme that every document names that it signs; None in none."""

    def within(self, scheme: str) -> Signer:
        """Return the same signer for the documents of a scheme."""

    @property
    def slow(self) -> bool:
        """Whether a signature takes so long that nobody else should have to wait for it."""

    def sign(self, message: bytes) -> bytes: ...


class SigningKey:
    """A private key held in memory."""

    slow = False
    scheme: str | None = None

    def __init__(self, private: Any) -> None:
        (self.algorithm,) = (algorithm for algorithm in ALGORITHMS if isinstance(private, algorithm.private_type))
        self.verifying_key = VerifyingKey(b64url(private.public_key().public_bytes_raw()), self.algorithm)
        self.private = private

    @property
    def x(self) -> str:
        return self.verifying_key.x

    @property
    def kid(self) -> str:
        return self.verifying_key.kid

    @classmethod
    def generate(cls, algorithm: Algorithm = ED25519) -> SigningKey:
        return cls(algorithm.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PKCS#8 PEM file. Raises OSError, ValueError."""
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, tuple(algorithm.private_type for algorithm in ALGORITHMS)):
            expected = " or ".join(algorithm.name for algorithm in ALGORITHMS)
            raise ValueError(f"{path}: not an {expected} private key")
        return cls(private)

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Read the key, or make one and write it readable by its owner only."""
        if not path.exists():
            # Somebody else may have made it meanwhile: whoever comes second reads it.
            with suppress(FileExistsError):
                cls.generate().save(path)
        return cls.load(path)

    def save(self, path: Path) -> None:
        """Write as PKCS#8 PEM, as a whole, mode 0600. Raises FileExistsError: a key is never written over."""
        create_secret(
            path,
            self.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def within(self, scheme: str) -> SigningKey:
        """Return the key for the documents of a scheme."""
        key = copy(self)
        key.scheme = scheme
        return key

    def sign(self, message: bytes) -> bytes:
        signature: bytes = self.private.sign(message)
        return signature


def _thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the RFC 7638 thumbprint of a JWK that holds its required members only."""
    canonical = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    return b64url(hashlib.sha256(canonical.encode()).digest())
