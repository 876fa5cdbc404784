"""Who is speaking: access tokens (RFC 9068) and assertions (RFC 7523), issued and strictly verified.

Everything that a signature (`jws`) leaves open is closed here. A token is refused unless: it is short; its
header holds exactly alg, kid and typ, and its typ is the expected one; no JSON member is repeated; (issuer, kid)
names a key we know, and alg is that key's one algorithm; the signature verifies; the claims are exactly the known
ones, numbers being integers; it lives no longer than it may; and its audience is one string, us.
"""

from __future__ import annotations

import time
from binascii import Error as Base64Error
from collections.abc import Callable, Collection
from typing import Annotated, Any, NamedTuple, NoReturn, Protocol, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct

from compliance.crypto.keys import Signer, VerifyingKey, b64url, unb64url
from compliance.person import name_fault
from compliance.statements import Member
from gateway.federation.identity.jws import sign, verifies
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.strict_json import read_strictly

TOKEN_BYTES_MAX = 8_192
TOKEN_LIFETIME_MAX_S = 300
ASSERTION_LIFETIME_MAX_S = 60
CLOCK_SKEW_MAX_S = 10
"""How far ahead of ours the clock of whoever issued a token may be. There is no leeway at its end."""
CACHE_SECONDS_MAX = 60
CACHE_ENTRIES_MAX = 4_096
STAFF_ROLE = "staff"

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068, section 2.1
ASSERTION_TYPE = "client-authentication+jwt"  # draft-ietf-oauth-rfc7523bis, section 4
MEMBER_ASSERTION_TYPE = "concordat-member+jwt"

KeyLookup = Callable[[str, str], VerifyingKey | None]
"""(issuer, kid) -> the key, if it is known and may be used for this."""


class Members(Protocol):
    """Who is who among members of a scheme, and by which keys each says so: a trust list."""

    @property
    def scheme(self) -> str: ...

    def member(self, bic: str) -> Member | None: ...

    def auth_key(self, bic: str, kid: str) -> VerifyingKey | None: ...


class TokenReason(RefusalReason):
    """Why a token or assertion is refused, in order of precedence."""

    MISSING = "token_missing", 401
    TOO_LARGE = "token_too_large", 401
    MALFORMED = "token_malformed", 401
    HEADER_REFUSED = "token_header_refused", 401
    KEY_UNKNOWN = "token_key_unknown", 401
    ALGORITHM_REFUSED = "token_algorithm_refused", 401
    SIGNATURE_BAD = "token_signature_bad", 401
    CLAIMS_REFUSED = "token_claims_refused", 401
    SUBJECT_REFUSED = "token_subject_refused", 401
    """Its subject may be nobody's name: it holds what can't be seen, or letters of several scripts."""
    EXPIRED = "token_expired", 401
    NOT_YET_VALID = "token_not_yet_valid", 401
    AUDIENCE_WRONG = "token_audience_wrong", 401
    LIFETIME_TOO_LONG = "token_lifetime_too_long", 401
    SCHEME_WRONG = "token_scheme_wrong", 401
    """An assertion of another scheme than the one that its signer is known in here."""
    WITHDRAWN = "token_withdrawn", 401
    """Whoever it was issued to, or the key that it was got by, has lost access since."""


class TokenRefused(Refusal):
    """A token that doesn't prove who is speaking."""

    def __init__(self, reason: TokenReason, detail: str, *, issued_at: int | None = None) -> None:
        """`issued_at` is there where the signature is good and the time isn't: what time it was at the issuer."""
        super().__init__(reason, detail)
        self.issued_at = issued_at


Name = Annotated[str, Meta(min_length=1, max_length=256)]
Seconds = Annotated[int, Meta(ge=0, le=2**40)]


class Claims(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an access token says: `sub` acts as `role` at the member `aud`, says `iss`."""

    iss: Name
    sub: Name
    aud: Name
    client_id: Name
    role: Name
    iat: Seconds
    exp: Seconds
    jti: Name
    scope: str = ""


class AssertionClaims(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an assertion says to `aud`: I am `sub`.

    At the token endpoint `jti` may be used once, and whoever verifies remembers it until `exp`. What a member says to
    another one is a bearer token until `exp`. `scheme` names the one that the signer's key is for.
    """

    iss: Name
    sub: Name
    aud: Name
    iat: Seconds
    exp: Seconds
    jti: Name
    scheme: str = ""


AnyClaims = TypeVar("AnyClaims", Claims, AssertionClaims)


def issue_access_token(
    *,
    key: Signer,
    issuer: str,
    subject: str,
    audience: str,
    client_id: str,
    role: str,
    lifetime_s: int = TOKEN_LIFETIME_MAX_S,
    now: float | None = None,
    scope: str = "",
    signed_in_by: str = "",
) -> str:
    """Return a signed access token for one audience.

    Its id begins with the id of the key that the client signed in by, where it did: `signed_in_by` reads it.
    """
    issued_at = int(time.time() if now is None else now)
    payload: dict[str, Any] = {
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "client_id": client_id,
        "role": role,
        "iat": issued_at,
        "exp": issued_at + lifetime_s,
        "jti": f"{signed_in_by}.{uuid4()}" if signed_in_by else str(uuid4()),
    }
    if scope:
        payload["scope"] = scope
    return sign(payload, token_type=ACCESS_TOKEN_TYPE, key=key)


def signed_in_by(claims: Claims) -> str | None:
    """Return the id of the key that the holder of an access token signed in by; None if it doesn't say."""
    kid, dot, _ = claims.jti.rpartition(".")
    return kid if dot else None


def client_assertion(*, key: Signer, client_id: str, audience: str, now: float | None = None) -> str:
    """Return a signed assertion "I am client_id", for one use at the token endpoint of `audience`."""
    return _assertion(ASSERTION_TYPE, key, client_id, audience, ASSERTION_LIFETIME_MAX_S, now)


def member_assertion(*, key: Signer, member: str, audience: str, now: float | None = None) -> str:
    """Return a signed assertion "I am member", by BIC, with which one member calls another, `audience`.

    It is believed for as long as an access token, by the member's `auth` key on the trust list that the other holds.
    """
    return _assertion(MEMBER_ASSERTION_TYPE, key, member, audience, TOKEN_LIFETIME_MAX_S, now)


def _assertion(token_type: str, key: Signer, issuer: str, audience: str, lifetime_s: int, now: float | None) -> str:
    issued_at = int(time.time() if now is None else now)
    payload = {
        "iss": issuer,
        "sub": issuer,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + lifetime_s,
        "jti": str(uuid4()),
    }
    if key.scheme is not None:
        payload["scheme"] = key.scheme
    return sign(payload, token_type=token_type, key=key)


def verify_client_assertion(
    assertion: str, *, audience: str, key_for: KeyLookup, scheme: str | None = None, now: float | None = None
) -> AssertionClaims:
    """Verify a client assertion and return its claims; raises TokenRefused. Replay is the caller's to refuse.

    Of a `scheme` it names no other. It may name none: operators sign in by a key alone, at this one audience.
    """
    claims = _verify_assertion(
        _parse(assertion.encode(errors="replace")),
        token_type=ASSERTION_TYPE,
        audience=audience,
        lifetime_max_s=ASSERTION_LIFETIME_MAX_S,
        keys=key_for,
        now=time.time() if now is None else now,
    )
    if claims.scheme:
        _require_scheme(claims, scheme)
    return claims


def _require_scheme(claims: AssertionClaims, scheme: str | None) -> None:
    if scheme is not None and claims.scheme != scheme:
        _refuse(TokenReason.SCHEME_WRONG, f"the assertion isn't of {scheme}")


def _verify_assertion(unverified: _Unverified, **expected: Any) -> AssertionClaims:
    claims = _verify(unverified, AssertionClaims, **expected)
    if claims.iss != claims.sub:
        _refuse(TokenReason.CLAIMS_REFUSED, "iss and sub of an assertion are who makes it")
    return claims


def named_key(token: str) -> str:
    """Return the id of the key that a token says it is signed by. Nothing is verified."""
    return str(_parse(token.encode(errors="replace")).header["kid"])


def claimed_issuer(token: str) -> str:
    """Return who a token says it is of, to look up that one's keys; "" if it doesn't say. Nothing is verified."""
    try:
        issuer = _parse(token.encode(errors="replace")).payload.get("iss")
    except TokenRefused:
        return ""
    return issuer if isinstance(issuer, str) else ""


def token_id(token: str) -> str:
    """Return the `jti` of a token that we have just issued."""
    return str(_parse(token.encode()).payload["jti"])


class TokenVerifier:
    """Verifies access tokens meant for one member. Verified ones are remembered for a minute at most.

    The `staff_roles` are believed of `staff_issuer` only, the member's own, and nothing else is: so the coordinator
    can't make itself a member's staff, nor a member's issuer make itself an operator.

    Where other `members` may call, an assertion of theirs does for an access token, and what they are is their role.
    """

    def __init__(
        self,
        audience: str,
        keys: KeyLookup,
        *,
        staff_issuer: str | None = None,
        staff_roles: Collection[str] = (STAFF_ROLE,),
        members: Members | None = None,
        withdrawn: Callable[[Claims], bool] | None = None,
    ) -> None:
        """`withdrawn` tells whether a good access token counts no more; what it says anew takes a `forget`."""
        self.audience = audience
        self.staff_issuer = staff_issuer
        self._staff_roles = frozenset(staff_roles)
        self._keys = keys
        self._members = members
        self._withdrawn = withdrawn
        self._verified: dict[bytes, tuple[Claims, float]] = {}

    def verify(self, token: str | bytes, *, now: float | None = None) -> Claims:
        """Verify a token and return its claims; raises TokenRefused."""
        data = token if isinstance(token, bytes) else token.encode(errors="replace")
        if now is None:
            now = time.time()
        remembered = self._verified.get(data)
        if remembered is not None and remembered[0].iat - CLOCK_SKEW_MAX_S <= now < remembered[1]:
            return remembered[0]
        unverified = _parse(data)
        if self._members is not None and unverified.header.get("typ") == MEMBER_ASSERTION_TYPE:
            claims = self._verify_member(unverified, self._members, now)
        else:
            claims = self._verify_access(unverified, now)
        self._remember(data, claims, min(claims.exp, now + CACHE_SECONDS_MAX))
        return claims

    def _verify_access(self, unverified: _Unverified, now: float) -> Claims:
        claims = _verify(
            unverified,
            Claims,
            token_type=ACCESS_TOKEN_TYPE,
            audience=self.audience,
            lifetime_max_s=TOKEN_LIFETIME_MAX_S,
            keys=self._keys,
            now=now,
        )
        if (claims.role in self._staff_roles) != (claims.iss == self.staff_issuer):
            roles = ", ".join(sorted(self._staff_roles))
            detail = f"the member's own issuer gives its people one of these roles, and nobody else does: {roles}"
            _refuse(TokenReason.CLAIMS_REFUSED, detail)
        if self._withdrawn is not None and self._withdrawn(claims):
            _refuse(TokenReason.WITHDRAWN, "the key that this token was got by counts no more")
        return claims

    def is_own(self, claims: Claims) -> bool:
        """Tell whether a token is of the member's own issuer: one of its own people or systems is asking."""
        return claims.iss == self.staff_issuer

    def _verify_member(self, unverified: _Unverified, members: Members, now: float) -> Claims:
        assertion = _verify_assertion(
            unverified,
            token_type=MEMBER_ASSERTION_TYPE,
            audience=self.audience,
            lifetime_max_s=TOKEN_LIFETIME_MAX_S,
            keys=members.auth_key,
            now=now,
        )
        _require_scheme(assertion, members.scheme)
        member = members.member(assertion.sub)
        if member is None:
            _refuse(TokenReason.KEY_UNKNOWN, "no such member")
        return Claims(
            iss=assertion.iss,
            sub=assertion.sub,
            aud=assertion.aud,
            client_id=assertion.sub,
            role=member.kind,
            iat=assertion.iat,
            exp=assertion.exp,
            jti=assertion.jti,
        )

    def verify_authorization(self, header: bytes | str | None) -> Claims:
        """Verify the value of an Authorization header ("Bearer …") and return the claims; raises TokenRefused."""
        if not header:
            _refuse(TokenReason.MISSING, "an access token is required")
        data = header if isinstance(header, bytes) else header.encode(errors="replace")
        if data[:7].lower() != b"bearer ":
            _refuse(TokenReason.MISSING, "an access token is required, in the form 'Bearer <token>'")
        return self.verify(data[7:])

    def forget(self) -> None:
        """Forget every remembered token, because keys or members changed."""
        self._verified.clear()

    def _remember(self, data: bytes, claims: Claims, until: float) -> None:
        if len(self._verified) >= CACHE_ENTRIES_MAX:
            # Insertion order is nearly expiry order, so the oldest is the one to give up.
            del self._verified[next(iter(self._verified))]
        self._verified[data] = (claims, until)


class _Unverified(NamedTuple):
    """A token that could be read, of which nothing is believed yet."""

    token: bytes
    header: dict[str, Any]
    payload: dict[str, Any]


def _verify(
    unverified: _Unverified,
    kind: type[AnyClaims],
    *,
    token_type: str,
    audience: str,
    lifetime_max_s: int,
    keys: KeyLookup,
    now: float,
) -> AnyClaims:
    # 1. Small, and of the right shape: `_parse`.
    token, header, payload = unverified
    # 2. A header without surprises: no key, no address of a key, no extension.
    if header.keys() != {"alg", "kid", "typ"} or not all(isinstance(value, str) for value in header.values()):
        _refuse(TokenReason.HEADER_REFUSED, "the header holds exactly alg, kid and typ")
    if header["typ"] != token_type:
        _refuse(TokenReason.HEADER_REFUSED, f"the header's typ is {token_type}")
    # 3. A key that we know, used with its one algorithm.
    issuer = payload.get("iss")
    key = keys(issuer, header["kid"]) if isinstance(issuer, str) else None
    if key is None:
        _refuse(TokenReason.KEY_UNKNOWN, "no such key of this issuer")
    if header["alg"] != key.algorithm.jws:
        _refuse(TokenReason.ALGORITHM_REFUSED, f"this key's algorithm is {key.algorithm.jws}")
    # 4. The signature.
    if not verifies(token, key):
        _refuse(TokenReason.SIGNATURE_BAD, "the signature doesn't verify")
    # 5. The claims, all of them and no other.
    try:
        claims = msgspec.convert(payload, kind, strict=True)
    except msgspec.ValidationError as error:
        _refuse(TokenReason.CLAIMS_REFUSED, str(error))
    # 6. A name that people can tell from others: journals keep it, and four eyes compare it.
    if (fault := name_fault(claims.sub)) is not None:
        _refuse(TokenReason.SUBJECT_REFUSED, f"the subject {claims.sub!a} may be nobody's name: {fault}")
    # 7. Now, for us, and not for long.
    if claims.exp <= now:
        detail = f"the token expired at {_instant(claims.exp)}, and here it is {_instant(now)}"
        raise TokenRefused(TokenReason.EXPIRED, detail, issued_at=claims.iat)
    if claims.iat > now + CLOCK_SKEW_MAX_S:
        detail = f"the token was issued at {_instant(claims.iat)}, and here it is {_instant(now)}"
        raise TokenRefused(TokenReason.NOT_YET_VALID, detail, issued_at=claims.iat)
    if claims.aud != audience:
        _refuse(TokenReason.AUDIENCE_WRONG, f"the token isn't meant for {audience}")
    if claims.exp - claims.iat > lifetime_max_s:
        _refuse(TokenReason.LIFETIME_TOO_LONG, f"a token lives at most {lifetime_max_s} seconds")
    return claims


def _parse(token: bytes) -> _Unverified:
    """Read a compact token that is small enough and whose three parts are in their one form."""
    if len(token) > TOKEN_BYTES_MAX:
        _refuse(TokenReason.TOO_LARGE, f"a token has at most {TOKEN_BYTES_MAX} bytes")
    parts = token.split(b".")
    if len(parts) != 3:
        _refuse(TokenReason.MALFORMED, "a token has three parts")
    try:
        header, payload, _ = (_unb64(part) for part in parts)
        return _Unverified(token, _json_object(header), _json_object(payload))
    except ValueError:
        _refuse(TokenReason.MALFORMED, "header and payload are base64url-coded JSON objects without repeated members")


def _unb64(part: bytes) -> bytes:
    text = part.decode("ascii")
    try:
        data = unb64url(text)
    except Base64Error as error:
        raise ValueError("not base64url") from error
    # Only one text stands for these bytes: no stray characters, padding or bits.
    if b64url(data) != text:
        raise ValueError("not base64url in its one form")
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    document = read_strictly(data)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def _instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _refuse(reason: TokenReason, detail: str) -> NoReturn:
    raise TokenRefused(reason, detail) from None
