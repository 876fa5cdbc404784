"""JSON Web Signatures (RFC 7515) by whatever algorithm a key has: PyJWT makes and checks them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

import jwt
import msgspec
from jwt.algorithms import Algorithm

from compliance.crypto.keys import Signer, VerifyingKey


class _ByKey(Algorithm):
    """An algorithm as PyJWT asks for it: the key itself signs and verifies."""

    def prepare_key(self, key: Any) -> Any:
        return key

    def sign(self, msg: bytes, key: Signer) -> bytes:
        return key.sign(msg)

    def verify(self, msg: bytes, key: VerifyingKey, sig: bytes) -> bool:
        return key.verifies(sig, msg)

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> NoReturn:
        raise NotImplementedError("a key tells its own JWK")

    @staticmethod
    def from_jwk(jwk: Any) -> NoReturn:
        raise NotImplementedError("keys come from the trust list")


@cache
def _jws(algorithm: str) -> jwt.PyJWS:
    """Return a JWS of one algorithm, and of no other."""
    jws = jwt.PyJWS(algorithms=[])
    jws.register_algorithm(algorithm, _ByKey())
    return jws


def sign(payload: dict[str, Any], *, token_type: str, key: Signer) -> str:
    """Return a compact token whose header holds alg, kid and typ."""
    algorithm = key.algorithm.jws
    headers = {"kid": key.kid, "typ": token_type}
    encode: Callable[..., str] = _jws(algorithm).encode
    return encode(msgspec.json.encode(payload), key, algorithm=algorithm, headers=headers)


def verifies(token: bytes, key: VerifyingKey) -> bool:
    """Tell whether a compact token's signature is of this key, by its one algorithm."""
    decode: Callable[..., Any] = _jws(key.algorithm.jws).decode
    try:
        decode(token, key, algorithms=[key.algorithm.jws])
    except jwt.InvalidTokenError:
        return False
    return True
