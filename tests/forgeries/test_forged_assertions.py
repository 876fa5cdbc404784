"""Every way of posing as another member that we know of, tried on what one bank says to another of who it is.

Where a forgery needs a signature, it has a good one: what is tested is the rule, not the signature behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey, b64url
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.identity.tokens import (
    TokenReason,
    TokenRefused,
    TokenVerifier,
    client_assertion,
    issue_access_token,
    member_assertion,
    verify_client_assertion,
)
from gateway.federation.membership.trust import TrustStore

NOW = 1_800_000_000
ISSUER = "https://coordinator.example"
HOUSE, AGENT, BANK, PEER, OTHER, SUSPENDED, LEFT = (
    "CNCDXXC0", "AGNTXXA0", "BANKDEFF", "PEERDEF0", "OTHRDEF0", "SUSPDEF0", "LEFTDEF0"
)  # fmt: skip
KEYS = {bic: SigningKey.generate() for bic in (HOUSE, AGENT, BANK, PEER, OTHER, SUSPENDED, LEFT)}
ANCHOR, TOKEN, RETIRED, REVOKED, SIGN, STAFF, UNLISTED = (SigningKey.generate() for _ in range(7))
KEY = KEYS[PEER]
SAID = "scheme"
SCHEME = Anchor.of(HOUSE, ANCHOR.verifying_key).scheme

HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": KEY.kid, "typ": "concordat-member+jwt"}
CLAIMS: dict[str, Any] = {
    "iss": PEER,
    "sub": PEER,
    "aud": BANK,
    "iat": NOW,
    "exp": NOW + 300,
    "jti": "0d4f3d5c",
    "scheme": SCHEME,
}


def listed(key: SigningKey, use: Literal["auth", "sign", "token"] = "auth", status: Any = "active") -> TrustKey:
    return TrustKey(kid=key.kid, alg="Ed25519", x=key.x, use=use, status=status)


def member(bic: str, *more: TrustKey, kind: Any = "participant", status: Any = "active") -> Member:
    keys = (listed(KEYS[bic]), *more)
    return Member(bic=bic, name=bic, kind=kind, status=status, url="https://bank.example", keys=keys)


MEMBERS = (
    member(HOUSE, listed(ANCHOR, "sign"), listed(TOKEN, "token"), kind="coordinator"),
    member(AGENT, kind="agent"),
    member(BANK),
    member(PEER, listed(RETIRED, status="retired"), listed(REVOKED, status="revoked"), listed(SIGN, "sign")),
    member(OTHER),
    member(SUSPENDED, status="suspended"),
    member(LEFT, status="left"),
)


def trusting(*members: Member) -> TrustStore:
    store = TrustStore(Anchor.of(HOUSE, ANCHOR.verifying_key))
    store.update(dsse.sign(TrustList(version=1, issuer=ISSUER, members=members), ANCHOR))
    return store


def verifier(audience: str = BANK, trust: TrustStore | None = None) -> TokenVerifier:
    trust = trust or trusting(*MEMBERS)

    def keys(issuer: str, kid: str) -> Any:
        own = issuer == "https://bank.example" and kid == STAFF.kid
        return STAFF.verifying_key if own else trust.token_key(issuer, kid)

    return TokenVerifier(audience, keys, staff_issuer="https://bank.example", members=trust)


def assertion(
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    *,
    without: str = "",
    sign: Callable[[bytes], bytes] = KEY.sign,
) -> bytes:
    parts = {**HEADER, **(header or {})}, {**CLAIMS, **(claims or {})}
    for part in parts:
        part.pop(without, None)
    message = ".".join(b64url(json.dumps(part).encode()) for part in parts).encode()
    return message + b"." + b64url(sign(message)).encode()


def by(key: SigningKey, **claims: Any) -> bytes:
    return assertion({"kid": key.kid}, claims, sign=key.sign)


def claiming(bic: str) -> bytes:
    return by(KEYS[bic], iss=bic, sub=bic)


def access(key: SigningKey, issuer: str, role: str) -> bytes:
    token = issue_access_token(key=key, issuer=issuer, subject=PEER, audience=BANK, client_id=PEER, role=role, now=NOW)
    return token.encode()


@dataclass(frozen=True)
class Forgery:
    name: str
    token: bytes
    reason: TokenReason


R = TokenReason
FORGERIES = (
    Forgery("for another bank", assertion(claims={"aud": OTHER}), R.AUDIENCE_WRONG),
    Forgery("for the coordinator", assertion(claims={"aud": ISSUER}), R.AUDIENCE_WRONG),
    Forgery("for two banks", assertion(claims={"aud": [BANK, OTHER]}), R.CLAIMS_REFUSED),
    Forgery("for the bank's other spelling", assertion(claims={"aud": BANK + "XXX"}), R.AUDIENCE_WRONG),
    Forgery("ended", assertion(claims={"iat": NOW - 300, "exp": NOW}), R.EXPIRED),
    Forgery("of 11 seconds from now", assertion(claims={"iat": NOW + 11}), R.NOT_YET_VALID),
    Forgery("living 301 seconds", assertion(claims={"exp": NOW + 301}), R.LIFETIME_TOO_LONG),
    Forgery("another member's key", by(KEYS[OTHER]), R.KEY_UNKNOWN),
    Forgery("another member's key under a good kid", assertion(sign=KEYS[OTHER].sign), R.SIGNATURE_BAD),
    Forgery("the coordinator's auth key", by(KEYS[HOUSE]), R.KEY_UNKNOWN),
    Forgery("the coordinator's token key", by(TOKEN), R.KEY_UNKNOWN),
    Forgery("the coordinator's token key as the coordinator's", by(TOKEN, iss=HOUSE, sub=HOUSE), R.KEY_UNKNOWN),
    Forgery("the coordinator's issuer speaking for a member", by(TOKEN, iss=ISSUER), R.KEY_UNKNOWN),
    Forgery("the called bank's own issuer", by(STAFF, iss="https://bank.example"), R.KEY_UNKNOWN),
    Forgery("a key that signs documents", by(SIGN), R.KEY_UNKNOWN),
    Forgery("a retired key", by(RETIRED), R.KEY_UNKNOWN),
    Forgery("a revoked key", by(REVOKED), R.KEY_UNKNOWN),
    Forgery("a key that nobody knows", by(UNLISTED), R.KEY_UNKNOWN),
    Forgery("somebody who isn't on the list", by(UNLISTED, iss="STRADEF0", sub="STRADEF0"), R.KEY_UNKNOWN),
    Forgery("the member in lower case", assertion(claims={"iss": PEER.lower()}), R.KEY_UNKNOWN),
    Forgery("of one member about another", assertion(claims={"sub": OTHER}), R.CLAIMS_REFUSED),
    Forgery("alg none", assertion({"alg": "none"}, sign=lambda _: b""), R.ALGORITHM_REFUSED),
    Forgery("alg ES256", assertion({"alg": "ES256"}), R.ALGORITHM_REFUSED),
    Forgery("typ of an access token", assertion({"typ": "at+jwt"}), R.KEY_UNKNOWN),
    Forgery("typ JWT", assertion({"typ": "JWT"}), R.HEADER_REFUSED),
    Forgery("typ in upper case", assertion({"typ": "CONCORDAT-MEMBER+JWT"}), R.HEADER_REFUSED),
    Forgery("a key in the header", assertion({"jwk": {"kty": "OKP"}}), R.HEADER_REFUSED),
    Forgery(
        "a client assertion meant for the token endpoint",
        client_assertion(key=KEY, client_id=PEER, audience=ISSUER, now=NOW).encode(),
        R.HEADER_REFUSED,
    ),
    Forgery(
        "a client assertion meant for this bank",
        client_assertion(key=KEY, client_id=PEER, audience=BANK, now=NOW).encode(),
        R.HEADER_REFUSED,
    ),
    Forgery("of a test house's scheme", assertion(claims={"scheme": f"{HOUSE}.{STAFF.kid}"}), R.SCHEME_WRONG),
    Forgery("of no scheme", assertion(without="scheme"), R.SCHEME_WRONG),
    Forgery("giving itself a role", assertion(claims={"role": "staff"}), R.CLAIMS_REFUSED),
    Forgery("an access token of a member's own making", access(KEY, PEER, "participant"), R.KEY_UNKNOWN),
    Forgery("a staff token of a participant", access(STAFF, "https://bank.example", "participant"), R.CLAIMS_REFUSED),
    *(Forgery(f"no {name}", assertion(without=name), R.CLAIMS_REFUSED) for name in CLAIMS if name not in ("iss", SAID)),
)  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_forgery_is_refused_for_its_reason(forgery: Forgery) -> None:
    with pytest.raises(TokenRefused) as refused:
        verifier().verify(forgery.token, now=NOW)
    assert (refused.value.reason, refused.value.status) == (forgery.reason, 401)


def test_the_assertion_they_are_forged_from_is_good() -> None:
    claims = verifier().verify(assertion(), now=NOW)
    assert (claims.sub, claims.client_id, claims.role) == (PEER, PEER, "participant")
    made = member_assertion(key=KEY.within(SCHEME), member=PEER, audience=BANK, now=NOW)
    claims = verifier().verify(made, now=NOW)
    assert (claims.iss, claims.sub, claims.aud, claims.exp - claims.iat) == (PEER, PEER, BANK, 300)


@pytest.mark.parametrize(
    ("bic", "role"),
    [
        (HOUSE, "coordinator"),
        (AGENT, "agent"),
        (PEER, "participant"),
        (SUSPENDED, "participant"),
        (LEFT, "participant"),
    ],
)
def test_a_member_s_role_is_what_the_list_says_that_it_is(bic: str, role: str) -> None:
    """What it may do is decided by its role and, where it pays, by its being active."""
    assert verifier().verify(claiming(bic), now=NOW).role == role


def test_an_assertion_opens_neither_the_coordinator_nor_its_token_endpoint() -> None:
    trust = trusting(*MEMBERS)
    for audience in (HOUSE, ISSUER):
        made = member_assertion(key=KEY.within(SCHEME), member=PEER, audience=audience, now=NOW)
        with pytest.raises(TokenRefused) as refused:
            TokenVerifier(audience, trust.token_key).verify(made, now=NOW)
        assert refused.value.reason == R.HEADER_REFUSED
        with pytest.raises(TokenRefused) as refused:
            verify_client_assertion(made, audience=audience, key_for=lambda _, __: KEY.verifying_key, now=NOW)
        assert refused.value.reason == R.HEADER_REFUSED


def test_the_clock_may_be_ten_seconds_off_but_the_end_is_exact() -> None:
    made = assertion()
    assert verifier().verify(made, now=NOW - 10).sub == PEER
    assert verifier().verify(made, now=NOW + 299.9).sub == PEER


def test_a_newer_list_takes_back_what_was_verified() -> None:
    trust = trusting(*MEMBERS)
    door = verifier(trust=trust)
    door.verify(assertion(), now=NOW)
    without = [one for one in MEMBERS if one.bic != PEER]
    replaced = Member(
        bic=PEER, name=PEER, kind="participant", status="active", url="https://bank.example",
        keys=(listed(KEY, status="revoked"), listed(UNLISTED)),
    )  # fmt: skip
    trust.update(dsse.sign(TrustList(version=2, issuer=ISSUER, members=(*without, replaced)), ANCHOR))
    door.forget()
    with pytest.raises(TokenRefused) as refused:
        door.verify(assertion(), now=NOW)
    assert refused.value.reason == R.KEY_UNKNOWN
    assert door.verify(by(UNLISTED), now=NOW).sub == PEER


def test_it_is_verified_once_a_minute() -> None:
    trust = trusting(*MEMBERS)
    door, made = verifier(trust=trust), assertion()
    first = door.verify(made, now=NOW)
    assert door.verify(made, now=NOW + 59) is first
    assert door.verify(made, now=NOW + 60) is not first
