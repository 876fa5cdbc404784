"""Every way of forging an access token that we know of, and the reason each is refused for.

Where a forgery needs a signature, it has a good one: what is tested is the rule, not the signature behind it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from compliance.crypto.keys import SigningKey, b64url, unb64url
from gateway.federation.identity.tokens import TokenReason, TokenRefused, TokenVerifier, issue_access_token

NOW = 1_800_000_000
ISSUER = "https://coordinator.example"
BANK = "BANKDEFF"
KEY = SigningKey.generate()
OTHER_MEMBERS_KEY = SigningKey.generate()
UNLISTED_KEY = SigningKey.generate()
# The keys a node knows, by issuer; the other member's key is known, but not as this issuer's.
KEYS = {(ISSUER, KEY.kid): KEY, ("https://other.example", OTHER_MEMBERS_KEY.kid): OTHER_MEMBERS_KEY}

HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": KEY.kid, "typ": "at+jwt"}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "OTHERXX0",
    "aud": BANK,
    "client_id": "OTHERXX0",
    "role": "participant",
    "iat": NOW,
    "exp": NOW + 300,
    "jti": "0d4f3d5c-7a5e-4c55-9a60-2b7f0f3c9d11",
}


def verifier() -> TokenVerifier:
    def lookup(issuer: str, kid: str) -> Any:
        key = KEYS.get((issuer, kid))
        return None if key is None else key.verifying_key

    return TokenVerifier(BANK, lookup, staff_issuer="https://other.example")


def compact(header: bytes, payload: bytes, sign: Callable[[bytes], bytes] = KEY.sign) -> bytes:
    message = f"{b64url(header)}.{b64url(payload)}".encode()
    return message + b"." + b64url(sign(message)).encode()


def token(
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    *,
    without: str = "",
    sign: Callable[[bytes], bytes] = KEY.sign,
) -> bytes:
    full_header = {**HEADER, **(header or {})}
    full_claims = {**CLAIMS, **(claims or {})}
    for part in (full_header, full_claims):
        part.pop(without, None)
    return compact(json.dumps(full_header).encode(), json.dumps(full_claims).encode(), sign)


def hmac_with_public_key(message: bytes) -> bytes:
    return hmac.new(KEY.verifying_key.public.public_bytes_raw(), message, hashlib.sha256).digest()


def tampered(good: bytes) -> bytes:
    header, payload, signature = good.split(b".")
    claims = json.loads(unb64url(payload.decode()))
    return b".".join((header, b64url(json.dumps({**claims, "role": "operator"}).encode()).encode(), signature))


def signature_with_stray_bits(good: bytes) -> bytes:
    # 64 bytes need 86 characters, the last of which has four bits to spare.
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + bytes([alphabet[alphabet.index(good[-1:]) + 1]])


def members(document: dict[str, Any], repeated: str) -> bytes:
    """Write a JSON object with one more member in front."""
    return b"{" + repeated.encode() + b"," + json.dumps(document).encode()[1:]


@dataclass(frozen=True)
class Forgery:
    name: str
    token: bytes
    reason: TokenReason


GOOD = token()
R = TokenReason
FORGERIES = (
    Forgery("nothing", b"", R.MALFORMED),
    Forgery("words", b"open sesame", R.MALFORMED),
    Forgery("two parts", GOOD.rsplit(b".", 1)[0], R.MALFORMED),
    Forgery("four parts", GOOD + b".e30", R.MALFORMED),
    Forgery("oversize", token(claims={"scope": "x" * 9_000}), R.TOO_LARGE),
    Forgery("oversize and unparsable", b"." * 9_000, R.TOO_LARGE),
    Forgery("padded base64", GOOD.replace(b".", b"==.", 1), R.MALFORMED),
    Forgery("stray characters in base64", GOOD[:5] + b"\n" + GOOD[5:], R.MALFORMED),
    Forgery("stray bits at the end of the signature", signature_with_stray_bits(GOOD), R.MALFORMED),
    Forgery("header isn't an object", compact(b"[]", b"{}"), R.MALFORMED),
    Forgery("payload isn't an object", compact(json.dumps(HEADER).encode(), b'"sub"'), R.MALFORMED),
    Forgery("payload isn't UTF-8", compact(json.dumps(HEADER).encode(), b'{"iss":"\xff"}'), R.MALFORMED),
    Forgery("payload holds NaN", compact(json.dumps(HEADER).encode(), b'{"exp":NaN}'), R.MALFORMED),
    Forgery("nested 2,500 times", compact(json.dumps(HEADER).encode(), b"[" * 2_500 + b"]" * 2_500), R.MALFORMED),
    Forgery(
        "a number of 5,000 digits",
        compact(json.dumps(HEADER).encode(), b'{"exp":' + b"9" * 5_000 + b"}"),
        R.MALFORMED,
    ),
    Forgery(
        "audience named twice",
        compact(json.dumps(HEADER).encode(), members(CLAIMS, '"aud":"VICTIMXX"')),
        R.MALFORMED,
    ),
    Forgery("alg named twice", compact(members(HEADER, '"alg":"none"'), json.dumps(CLAIMS).encode()), R.MALFORMED),
    Forgery("alg none", token({"alg": "none"}, sign=lambda _: b""), R.ALGORITHM_REFUSED),
    Forgery(
        "alg HS256 with the public key as secret",
        token({"alg": "HS256"}, sign=hmac_with_public_key),
        R.ALGORITHM_REFUSED,
    ),
    Forgery("alg ES256", token({"alg": "ES256"}), R.ALGORITHM_REFUSED),
    Forgery("alg in lower case", token({"alg": "eddsa"}), R.ALGORITHM_REFUSED),
    Forgery("alg isn't a string", token({"alg": ["EdDSA"]}), R.HEADER_REFUSED),
    Forgery("no alg", token(without="alg"), R.HEADER_REFUSED),
    Forgery("no kid", token(without="kid"), R.HEADER_REFUSED),
    Forgery("no typ", token(without="typ"), R.HEADER_REFUSED),
    Forgery("typ JWT", token({"typ": "JWT"}), R.HEADER_REFUSED),
    Forgery("typ of a client assertion", token({"typ": "client-authentication+jwt"}), R.HEADER_REFUSED),
    Forgery("typ in upper case", token({"typ": "AT+JWT"}), R.HEADER_REFUSED),
    Forgery("jku", token({"jku": "https://evil.example/keys"}), R.HEADER_REFUSED),
    Forgery("x5u", token({"x5u": "https://evil.example/cert"}), R.HEADER_REFUSED),
    Forgery("x5c", token({"x5c": ["MII="]}), R.HEADER_REFUSED),
    Forgery("jwk", token({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": UNLISTED_KEY.x}}), R.HEADER_REFUSED),
    Forgery("crit", token({"crit": ["exp"]}), R.HEADER_REFUSED),
    Forgery("b64 false", token({"b64": False}), R.HEADER_REFUSED),
    Forgery("zip", token({"zip": "DEF"}), R.HEADER_REFUSED),
    Forgery("unlisted key", token({"kid": UNLISTED_KEY.kid}, sign=UNLISTED_KEY.sign), R.KEY_UNKNOWN),
    Forgery("kid is a path", token({"kid": "../../etc/passwd"}), R.KEY_UNKNOWN),
    Forgery("unknown issuer", token(claims={"iss": "https://evil.example"}), R.KEY_UNKNOWN),
    Forgery("issuer is a list", token(claims={"iss": [ISSUER]}), R.KEY_UNKNOWN),
    Forgery("no issuer", token(without="iss"), R.KEY_UNKNOWN),
    Forgery(
        "another member's key under our issuer's name",
        token({"kid": OTHER_MEMBERS_KEY.kid}, sign=OTHER_MEMBERS_KEY.sign),
        R.KEY_UNKNOWN,
    ),
    Forgery("another key under a good kid", token(sign=OTHER_MEMBERS_KEY.sign), R.SIGNATURE_BAD),
    Forgery("no signature", GOOD.rsplit(b".", 1)[0] + b".", R.SIGNATURE_BAD),
    Forgery("a signature of zeros", token(sign=lambda _: bytes(64)), R.SIGNATURE_BAD),
    Forgery("short signature", token(sign=lambda m: KEY.sign(m)[:63]), R.SIGNATURE_BAD),
    Forgery("role changed after signing", tampered(GOOD), R.SIGNATURE_BAD),
    *(Forgery(f"no {name}", token(without=name), R.CLAIMS_REFUSED) for name in CLAIMS if name != "iss"),
    Forgery("audience is a list with us in it", token(claims={"aud": [BANK, "VICTIMXX"]}), R.CLAIMS_REFUSED),
    Forgery("audience is a list of us", token(claims={"aud": [BANK]}), R.CLAIMS_REFUSED),
    Forgery("exp is a string", token(claims={"exp": str(NOW + 300)}), R.CLAIMS_REFUSED),
    Forgery("exp is a float", token(claims={"exp": NOW + 300.0}), R.CLAIMS_REFUSED),
    Forgery("exp is true", token(claims={"exp": True}), R.CLAIMS_REFUSED),
    Forgery("exp is huge", token(claims={"exp": 10**20}), R.CLAIMS_REFUSED),
    Forgery("iat is negative", token(claims={"iat": -1}), R.CLAIMS_REFUSED),
    Forgery("subject of two scripts", token(claims={"sub": "d\u043era"}), R.SUBJECT_REFUSED),
    Forgery("subject with what can't be seen", token(claims={"sub": "do\u200bra\x00"}), R.SUBJECT_REFUSED),
    Forgery("empty subject", token(claims={"sub": ""}), R.CLAIMS_REFUSED),
    Forgery("bound to a key, used as a bearer token", token(claims={"cnf": {"jkt": "x"}}), R.CLAIMS_REFUSED),
    Forgery("staff, says the coordinator", token(claims={"role": "staff"}), R.CLAIMS_REFUSED),
    Forgery(
        "operator, says a bank's own issuer",
        token(
            {"kid": OTHER_MEMBERS_KEY.kid},
            {"iss": "https://other.example", "role": "operator"},
            sign=OTHER_MEMBERS_KEY.sign,
        ),
        R.CLAIMS_REFUSED,
    ),
    Forgery("expired", token(claims={"iat": NOW - 300, "exp": NOW}), R.EXPIRED),
    Forgery("from the future", token(claims={"iat": NOW + 11, "exp": NOW + 300}), R.NOT_YET_VALID),
    Forgery("meant for another member", token(claims={"aud": "VICTIMXX"}), R.AUDIENCE_WRONG),
    Forgery("audience with a space", token(claims={"aud": BANK + " "}), R.AUDIENCE_WRONG),
    Forgery("audience in lower case", token(claims={"aud": BANK.lower()}), R.AUDIENCE_WRONG),
    Forgery("lives 301 seconds", token(claims={"exp": NOW + 301}), R.LIFETIME_TOO_LONG),
    Forgery("lives ten years", token(claims={"exp": NOW + 315_360_000}), R.LIFETIME_TOO_LONG),
)


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_forgery_is_refused_for_its_reason(forgery: Forgery) -> None:
    with pytest.raises(TokenRefused) as refused:
        verifier().verify(forgery.token, now=NOW)
    assert refused.value.reason == forgery.reason
    assert refused.value.status == 401


def test_the_token_they_are_forged_from_is_good() -> None:
    assert verifier().verify(GOOD, now=NOW).sub == "OTHERXX0"


def test_forgeries_cover_every_reason() -> None:
    # A withdrawn token is no forgery: `tests/security/test_withdrawn.py`. Assertions alone name a scheme.
    others = {TokenReason.MISSING, TokenReason.WITHDRAWN, TokenReason.SCHEME_WRONG}
    assert {forgery.reason for forgery in FORGERIES} == set(TokenReason) - others


def test_reasons_keep_their_precedence() -> None:
    """A token with everything wrong is refused for the first reason; mending that one shows the next."""
    stages = (
        (
            {"typ": "JWT", "kid": "no", "alg": "none"},
            {"aud": "X", "iat": NOW - 900, "exp": NOW - 400},
            R.HEADER_REFUSED,
        ),
        ({"kid": "no", "alg": "none"}, {"aud": "X", "iat": NOW - 900, "exp": NOW - 400}, R.KEY_UNKNOWN),
        ({"alg": "none"}, {"aud": "X", "iat": NOW - 900, "exp": NOW - 400}, R.ALGORITHM_REFUSED),
        ({}, {"aud": "X", "iat": NOW - 900, "exp": NOW - 400}, R.EXPIRED),
        ({}, {"aud": "X", "iat": NOW + 900, "exp": NOW + 1_400}, R.NOT_YET_VALID),
        ({}, {"aud": "X", "exp": NOW + 400}, R.AUDIENCE_WRONG),
        ({}, {"exp": NOW + 400}, R.LIFETIME_TOO_LONG),
    )
    for header, claims, reason in stages:
        with pytest.raises(TokenRefused) as refused:
            verifier().verify(token(header, claims), now=NOW)
        assert refused.value.reason == reason


def test_a_remembered_token_doesn_t_open_the_door_to_a_variant() -> None:
    strict = verifier()
    good = issue_access_token(
        key=KEY, issuer=ISSUER, subject="A", audience=BANK, client_id="A", role="participant", now=NOW
    ).encode()
    strict.verify(good, now=NOW)
    for variant in (good + b"=", good + b" ", b" " + good, signature_with_stray_bits(good), good.swapcase()):
        with pytest.raises(TokenRefused):
            strict.verify(variant, now=NOW)
