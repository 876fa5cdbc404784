"""Access tokens and client assertions: what good ones say, and how long they are believed."""

from __future__ import annotations

import pytest

from compliance.crypto.keys import SigningKey, VerifyingKey
from gateway.federation.identity.tokens import (
    CACHE_ENTRIES_MAX,
    CACHE_SECONDS_MAX,
    TokenReason,
    TokenRefused,
    TokenVerifier,
    client_assertion,
    issue_access_token,
    verify_client_assertion,
)

NOW = 1_800_000_000.0
ISSUER = "https://coordinator.example"
KEY = SigningKey.generate()


def lookup(issuer: str, kid: str) -> VerifyingKey | None:
    return KEY.verifying_key if (issuer, kid) == (ISSUER, KEY.kid) else None


def issue(*, audience: str = "BANKDEFF", now: float = NOW, lifetime_s: int = 300) -> str:
    return issue_access_token(
        key=KEY,
        issuer=ISSUER,
        subject="alice",
        audience=audience,
        client_id="console",
        role="operator",
        scope="read",
        now=now,
        lifetime_s=lifetime_s,
    )


def test_a_token_says_what_was_issued() -> None:
    claims = TokenVerifier("BANKDEFF", lookup).verify(issue(), now=NOW)
    assert (claims.iss, claims.sub, claims.aud, claims.client_id) == (ISSUER, "alice", "BANKDEFF", "console")
    assert (claims.role, claims.scope, claims.iat, claims.exp) == ("operator", "read", NOW, NOW + 300)


@pytest.mark.parametrize("header", [b"Bearer ", b"bearer ", "Bearer ", "BEARER "])
def test_the_scheme_is_bearer_in_any_case(header: bytes | str) -> None:
    token = issue(now=NOW)
    value = header + token.encode() if isinstance(header, bytes) else header + token
    verifier = TokenVerifier("BANKDEFF", lookup)
    verifier.verify(token, now=NOW)
    with pytest.raises(TokenRefused) as refused:  # the clock says otherwise than NOW
        verifier.verify_authorization(value)
    assert refused.value.reason in (TokenReason.EXPIRED, TokenReason.NOT_YET_VALID)


@pytest.mark.parametrize("header", [None, b"", "", b"Basic YTpi", b"DPoP x", b"Bearer"])
def test_without_a_bearer_token_it_is_missing(header: bytes | str | None) -> None:
    with pytest.raises(TokenRefused) as refused:
        TokenVerifier("BANKDEFF", lookup).verify_authorization(header)
    assert refused.value.reason == TokenReason.MISSING


def test_the_clock_may_be_ten_seconds_off_but_expiry_is_exact() -> None:
    token = issue()
    assert TokenVerifier("BANKDEFF", lookup).verify(token, now=NOW - 10)
    assert TokenVerifier("BANKDEFF", lookup).verify(token, now=NOW + 299.9)
    with pytest.raises(TokenRefused) as refused:
        TokenVerifier("BANKDEFF", lookup).verify(token, now=NOW + 300)
    assert refused.value.reason == TokenReason.EXPIRED


class Keys:
    """A registry of one key that counts its look-ups and can take the key back."""

    def __init__(self) -> None:
        self.lookups = 0
        self.known = True

    def __call__(self, issuer: str, kid: str) -> VerifyingKey | None:
        self.lookups += 1
        return lookup(issuer, kid) if self.known else None


def test_a_verified_token_is_remembered_for_a_minute() -> None:
    keys, token = Keys(), issue()
    verifier = TokenVerifier("BANKDEFF", keys)
    first = verifier.verify(token, now=NOW)
    assert verifier.verify(token.encode(), now=NOW + CACHE_SECONDS_MAX - 1) is first
    assert keys.lookups == 1
    verifier.verify(token, now=NOW + CACHE_SECONDS_MAX)
    assert keys.lookups == 2


def test_a_remembered_token_still_expires() -> None:
    token = issue(lifetime_s=20)
    verifier = TokenVerifier("BANKDEFF", lookup)
    verifier.verify(token, now=NOW)
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(token, now=NOW + 20)
    assert refused.value.reason == TokenReason.EXPIRED


def test_forgetting_takes_a_revoked_key_s_tokens_back_at_once() -> None:
    keys, token = Keys(), issue()
    verifier = TokenVerifier("BANKDEFF", keys)
    verifier.verify(token, now=NOW)
    keys.known = False
    assert verifier.verify(token, now=NOW)
    verifier.forget()
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(token, now=NOW)
    assert refused.value.reason == TokenReason.KEY_UNKNOWN


def test_the_memory_is_bounded() -> None:
    verifier = TokenVerifier("BANKDEFF", lookup)
    claims = verifier.verify(issue(), now=NOW)
    for number in range(CACHE_ENTRIES_MAX + 10):
        verifier._remember(str(number).encode(), claims, NOW + 60)
    assert len(verifier._verified) == CACHE_ENTRIES_MAX


def test_a_refused_token_isn_t_remembered() -> None:
    keys = Keys()
    verifier = TokenVerifier("VICTIMXX", keys)
    for _ in range(2):
        with pytest.raises(TokenRefused):
            verifier.verify(issue(), now=NOW)
    assert keys.lookups == 2


def test_staff_are_vouched_for_by_the_member_s_own_issuer_only() -> None:
    def staff_token(role: str) -> str:
        return issue_access_token(
            key=KEY, issuer=ISSUER, subject="bob", audience="BANKDEFF", client_id="bob", role=role, now=NOW
        )

    own = TokenVerifier("BANKDEFF", lookup, staff_issuer=ISSUER)
    foreign = TokenVerifier("BANKDEFF", lookup)
    assert own.verify(staff_token("staff"), now=NOW).role == "staff"
    assert foreign.verify(staff_token("operator"), now=NOW).role == "operator"
    for verifier, role in ((own, "operator"), (foreign, "staff")):
        with pytest.raises(TokenRefused) as refused:
            verifier.verify(staff_token(role), now=NOW)
        assert refused.value.reason == TokenReason.CLAIMS_REFUSED


def assertion_keys(issuer: str, kid: str) -> VerifyingKey | None:
    return KEY.verifying_key if (issuer, kid) == ("BANKDEFF", KEY.kid) else None


def test_a_client_assertion_says_who_the_client_is() -> None:
    assertion = client_assertion(key=KEY, client_id="BANKDEFF", audience=ISSUER, now=NOW)
    claims = verify_client_assertion(assertion, audience=ISSUER, key_for=assertion_keys, now=NOW)
    assert (claims.iss, claims.sub, claims.aud, claims.exp - claims.iat) == ("BANKDEFF", "BANKDEFF", ISSUER, 60)


def test_assertions_are_each_used_once() -> None:
    jtis = {
        verify_client_assertion(
            client_assertion(key=KEY, client_id="BANKDEFF", audience=ISSUER, now=NOW),
            audience=ISSUER,
            key_for=assertion_keys,
            now=NOW,
        ).jti
        for _ in range(3)
    }
    assert len(jtis) == 3


@pytest.mark.parametrize(
    ("audience", "now", "reason"),
    [
        ("https://evil.example", NOW, TokenReason.AUDIENCE_WRONG),
        (ISSUER + "/oauth/token", NOW, TokenReason.AUDIENCE_WRONG),
        (ISSUER, NOW + 60, TokenReason.EXPIRED),
        (ISSUER, NOW - 11, TokenReason.NOT_YET_VALID),
    ],
)
def test_a_client_assertion_is_for_one_issuer_and_one_minute(audience: str, now: float, reason: TokenReason) -> None:
    assertion = client_assertion(key=KEY, client_id="BANKDEFF", audience=ISSUER, now=NOW)
    with pytest.raises(TokenRefused) as refused:
        verify_client_assertion(assertion, audience=audience, key_for=assertion_keys, now=now)
    assert refused.value.reason == reason


def test_an_access_token_is_no_client_assertion() -> None:
    with pytest.raises(TokenRefused) as refused:
        verify_client_assertion(issue(audience=ISSUER), audience=ISSUER, key_for=lookup, now=NOW)
    assert refused.value.reason == TokenReason.HEADER_REFUSED


def test_a_client_assertion_is_no_access_token() -> None:
    assertion = client_assertion(key=KEY, client_id="BANKDEFF", audience="BANKDEFF", now=NOW)
    with pytest.raises(TokenRefused) as refused:
        TokenVerifier("BANKDEFF", assertion_keys).verify(assertion, now=NOW)
    assert refused.value.reason == TokenReason.HEADER_REFUSED
