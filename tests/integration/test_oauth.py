"""The token endpoint over a real socket: who gets a token, for whom, and every way of being refused one."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR, Bank, Coordinator, running_coordinator

from compliance.crypto.keys import SigningKey, VerifyingKey
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.access.oauth import FAILURES_AT_ONCE
from gateway.federation.http.client import ASSERTION_GRANT
from gateway.federation.identity.tokens import ASSERTION_TYPE, TokenRefused, TokenVerifier, client_assertion
from gateway.federation.messages.events import Events
from tests.conftest import NewDatabase

Fields = dict[str, str]


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def fields(coordinator: Coordinator, client_id: str, key: SigningKey, resource: str | None = COORDINATOR) -> Fields:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_GRANT,
        "client_assertion": client_assertion(key=key, client_id=client_id, audience=coordinator.url),
    }
    return form if resource is None else form | {"resource": resource}


def forged(claims: dict[str, Any], key: SigningKey, **headers: Any) -> str:
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.kid, "typ": ASSERTION_TYPE} | headers)


def claims(coordinator: Coordinator, client_id: str, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"iss": client_id, "sub": client_id, "aud": coordinator.url, "iat": now, "exp": now + 60, "jti": "once"}
    return {name: value for name, value in (base | changes).items() if value is not None}


async def ask(coordinator: Coordinator, http: httpx.AsyncClient, form: Fields) -> httpx.Response:
    return await http.post(f"{coordinator.url}/oauth/token", data=form)


async def test_a_token_is_for_one_audience_and_verifies_by_the_published_keys(
    coordinator: Coordinator, http: httpx.AsyncClient
) -> None:
    (alpha,) = await coordinator.admit(ALPHA)
    await coordinator.admit_agent()
    answer = await ask(coordinator, http, fields(coordinator, ALPHA, alpha.identity.auth, AGENT))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)

    jwks = (await http.get(f"{coordinator.url}/.well-known/jwks.json")).json()["keys"]
    published = {key["kid"]: VerifyingKey(key["x"]) for key in jwks}
    verified = TokenVerifier(AGENT, lambda iss, kid: published.get(kid) if iss == coordinator.url else None).verify(
        body["access_token"]
    )
    assert (verified.sub, verified.client_id, verified.aud, verified.role) == (ALPHA, ALPHA, AGENT, "participant")
    assert verified.exp - verified.iat <= 300
    with pytest.raises(TokenRefused, match="token_audience_wrong"):
        TokenVerifier(CARLO, lambda _, kid: published.get(kid)).verify(body["access_token"])


async def test_the_metadata_are_those_of_rfc_8414(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    document = (await http.get(f"{coordinator.url}/.well-known/oauth-authorization-server")).json()
    metadata = AuthorizationServerMetadata(document)
    metadata.validate_issuer()
    metadata.validate_token_endpoint()
    metadata.validate_jwks_uri()
    metadata.validate_grant_types_supported()
    metadata.validate_token_endpoint_auth_methods_supported()
    metadata.validate_token_endpoint_auth_signing_alg_values_supported()
    assert document["issuer"] == coordinator.url


async def test_an_assertion_works_once(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    form = fields(coordinator, ALPHA, alpha.identity.auth)
    assert (await ask(coordinator, http, form)).status_code == 200
    replayed = await ask(coordinator, http, form)
    assert (replayed.status_code, replayed.json()["error"]) == (401, "invalid_client")
    assert "used before" in replayed.json()["error_description"]


async def test_an_assertion_is_used_up_by_a_refusal_too(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    form = fields(coordinator, ALPHA, alpha.identity.auth, CARLO)
    assert (await ask(coordinator, http, form)).json()["error"] == "invalid_target"
    assert (await ask(coordinator, http, form | {"resource": COORDINATOR})).json()["error"] == "invalid_client"


ASSERTIONS: dict[str, tuple[Callable[[Coordinator, Bank], str], str]] = {
    "another audience": (
        lambda c, b: forged(claims(c, b.bic, aud="https://other.example"), b.identity.auth),
        "token_audience_wrong",
    ),
    "two audiences": (
        lambda c, b: forged(claims(c, b.bic, aud=[c.url, "https://other.example"]), b.identity.auth),
        "token_claims_refused",
    ),
    "expired": (
        lambda c, b: forged(claims(c, b.bic, iat=int(time.time()) - 90, exp=int(time.time()) - 30), b.identity.auth),
        "token_expired",
    ),
    "lives too long": (
        lambda c, b: forged(claims(c, b.bic, exp=int(time.time()) + 3600), b.identity.auth),
        "token_lifetime_too_long",
    ),
    "from the future": (
        lambda c, b: forged(claims(c, b.bic, iat=int(time.time()) + 50), b.identity.auth),
        "token_not_yet_valid",
    ),
    "unknown client": (
        lambda c, b: client_assertion(key=b.identity.auth, client_id="NOBODE00", audience=c.url),
        "token_key_unknown",
    ),
    "a name that no client has": (
        lambda c, b: client_assertion(key=b.identity.auth, client_id="x\x00'; --", audience=c.url),
        "token_key_unknown",
    ),
    "another's key": (
        lambda c, b: client_assertion(key=SigningKey.generate(), client_id=b.bic, audience=c.url),
        "token_key_unknown",
    ),
    "the key that signs documents": (
        lambda c, b: client_assertion(key=b.identity.sign, client_id=b.bic, audience=c.url),
        "token_key_unknown",
    ),
    "a forged signature under a known key id": (
        lambda c, b: forged(claims(c, b.bic), SigningKey.generate(), kid=b.identity.auth.kid),
        "token_signature_bad",
    ),
    "issuer and subject differ": (
        lambda c, b: forged(claims(c, b.bic, sub=BRAVO), b.identity.auth),
        "token_claims_refused",
    ),
    "no jti": (lambda c, b: forged(claims(c, b.bic, jti=None), b.identity.auth), "token_claims_refused"),
    "a jti that can't be stored": (lambda c, b: forged(claims(c, b.bic, jti="\x00"), b.identity.auth), "jti"),
    "no expiry": (lambda c, b: forged(claims(c, b.bic, exp=None), b.identity.auth), "token_claims_refused"),
    "an access token's type": (
        lambda c, b: forged(claims(c, b.bic), b.identity.auth, typ="at+jwt"),
        "token_header_refused",
    ),
    "a key in the header": (
        lambda c, b: forged(claims(c, b.bic), b.identity.auth, jwk={"kty": "OKP"}),
        "token_header_refused",
    ),
    "the algorithm none": (
        lambda c, b: jwt.encode(
            claims(c, b.bic), None, algorithm="none", headers={"kid": b.identity.auth.kid, "typ": ASSERTION_TYPE}
        ),
        "token_algorithm_refused",
    ),
    "an HMAC with the public key": (
        lambda c, b: jwt.encode(
            claims(c, b.bic),
            b.identity.auth.x,
            algorithm="HS256",
            headers={"kid": b.identity.auth.kid, "typ": ASSERTION_TYPE},
        ),
        "token_algorithm_refused",
    ),
    "not a token": (lambda _, __: "not-a-token", "token_malformed"),
    "too large": (lambda _, __: "x" * 9_000, "token_too_large"),
}


async def test_refused_assertions(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    wrong = {}
    for name, (make, reason) in ASSERTIONS.items():
        form = fields(coordinator, ALPHA, alpha.identity.auth) | {"client_assertion": make(coordinator, alpha)}
        answer = await ask(coordinator, http, form)
        refused = (answer.status_code, answer.json().get("error")) == (401, "invalid_client")
        if not refused or reason not in answer.json()["error_description"]:
            wrong[name] = answer.text
    assert not wrong


FORMS: dict[str, tuple[Callable[[Fields], Any], int, str]] = {
    "no grant type": (lambda form: form.pop("grant_type"), 400, "invalid_request"),
    "another grant": (lambda form: form.update(grant_type="password"), 400, "unsupported_grant_type"),
    "no assertion": (lambda form: form.pop("client_assertion"), 401, "invalid_client"),
    "another assertion type": (lambda form: form.update(client_assertion_type="saml"), 400, "invalid_client"),
    "no resource": (lambda form: form.pop("resource"), 400, "invalid_target"),
    "an unknown resource": (lambda form: form.update(resource="NOBODE00"), 400, "invalid_target"),
    "a resource that can't be one": (lambda form: form.update(resource="\x00'"), 400, "invalid_target"),
    "a scope": (lambda form: form.update(scope="admin"), 400, "invalid_request"),
    "another client's id": (lambda form: form.update(client_id=BRAVO), 401, "invalid_client"),
}


async def test_refused_forms(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    wrong = {}
    for name, (change, status, error) in FORMS.items():
        form = fields(coordinator, ALPHA, alpha.identity.auth)
        change(form)
        answer = await ask(coordinator, http, form)
        if (answer.status_code, answer.json()["error"]) != (status, error):
            wrong[name] = answer.text
    assert not wrong


async def test_bodies_that_are_no_form(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    form = urlencode(fields(coordinator, ALPHA, alpha.identity.auth))
    media = "application/x-www-form-urlencoded"
    for body, media_type, error in [
        ("{}", "application/json", "invalid_request"),
        ("", media, "invalid_request"),
        ("a", media, "invalid_request"),
        ("a=%ff", media, "invalid_request"),
        (form + "&grant_type=client_credentials", media, "invalid_request"),
        (form + f"&resource={ALPHA}", media, "invalid_target"),
        ("&".join(f"a{n}=1" for n in range(30)), media, "invalid_request"),
    ]:
        answer = await http.post(f"{coordinator.url}/oauth/token", content=body, headers={"Content-Type": media_type})
        assert (answer.status_code, answer.json()["error"]) == (400, error), (body, answer.text)
    answer = await http.post(f"{coordinator.url}/oauth/token", content="a" * 20_000, headers={"Content-Type": media})
    assert answer.status_code == 413


async def test_who_reaches_whom(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    agent = await coordinator.admit_agent()
    keys = {
        ALPHA: alpha.identity.auth,
        AGENT: agent.identity.auth,
        "alice": await coordinator.client_key("alice", "operator"),
        "rita": await coordinator.client_key("rita", "auditor"),
        COORDINATOR: coordinator.base.identity.auth,
    }
    reach = {
        ALPHA: {COORDINATOR, AGENT},
        AGENT: {COORDINATOR},
        "alice": {COORDINATOR},
        "rita": {COORDINATOR},
        COORDINATOR: {AGENT},
    }
    for client_id, key in keys.items():
        for audience in (COORDINATOR, ALPHA, BRAVO, AGENT):
            answer = await ask(coordinator, http, fields(coordinator, client_id, key, audience))
            assert answer.is_success == (audience in reach[client_id]), (client_id, audience, answer.text)

    await coordinator.registry.step(BRAVO, Step.SUSPEND, by="alice", reason="test")
    answer = await ask(coordinator, http, fields(coordinator, ALPHA, alpha.identity.auth, BRAVO))
    assert answer.json()["error"] == "invalid_target"
    for audience, status in ((COORDINATOR, 200), (ALPHA, 400), (AGENT, 400)):
        answer = await ask(coordinator, http, fields(coordinator, BRAVO, bravo.identity.auth, audience))
        assert answer.status_code == status, (audience, answer.text)

    await coordinator.registry.step(BRAVO, Step.LEAVE, by="alice", reason="test")
    answer = await ask(coordinator, http, fields(coordinator, BRAVO, bravo.identity.auth))
    # Who left has no key that counts, whatever it could say with one.
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_an_applicant_gets_no_token(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    alpha = coordinator.bank(ALPHA)
    await coordinator.registry.apply(alpha.signed_application(invitation=await coordinator.invite(ALPHA)))
    answer = await ask(coordinator, http, fields(coordinator, ALPHA, alpha.identity.auth))
    assert answer.json()["error"] == "unauthorized_client"


async def test_the_client_library_gets_along_with_it(coordinator: Coordinator) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    async with coordinator.client(alpha) as bank:
        assert (await bank.get(f"{coordinator.url}/events", Events, audience=COORDINATOR)).events
    assert (await coordinator.registry.view(ALPHA)).last_seen_at is not None


async def test_sign_ins_that_fail_are_throttled(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    """Only those: a good assertion of the client that they name passes, even from the same address."""
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    form = fields(coordinator, ALPHA, alpha.identity.auth)
    assert (await ask(coordinator, http, form)).status_code == 200
    statuses = [(await ask(coordinator, http, form)).status_code for _ in range(FAILURES_AT_ONCE + 10)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    refused = await ask(coordinator, http, form)
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("too_many_requests", "1")
    for client_id, bank in ((ALPHA, alpha), (BRAVO, bravo)):
        assert (await ask(coordinator, http, fields(coordinator, client_id, bank.identity.auth))).status_code == 200
    assert (await ask(coordinator, http, form)).status_code == 429
