"""Who comes by a name that may be nobody's is let in nowhere: not at a bank, not at the coordinator.

Nor at the agent, as `test_security_log` shows at a process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from running_banks import Town, order
from running_coordinator import ALPHA, COORDINATOR

from compliance.crypto.keys import SigningKey, b64url, unb64url
from gateway.federation.identity.tokens import issue_access_token

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTY = {
    "nothing to see": "\u200b",
    "a zero": "dora\x00",
    "a line break": "dora\nforged",
    "a line separator": "dora\u2028forged",
    "no width": "do\u200bra",
    "right to left": "\u202earod",
    "two scripts": "d\u043era",
    "a private letter": "dora\ue000",
}
OPENING = {"accounts": [{"code": "a-odd", "currency": "EUR", "name": "x", "opening_balance_minor": "5"}]}
CEILING = {"limit_minor": "5", "reason": "because"}
REFUSED = (401, "token_subject_refused")


@pytest.mark.parametrize("kind", FAULTY)
async def test_a_bank_lets_nobody_in_by_it(town: Town, kind: str) -> None:
    """Before anything is done, proposed or recorded, on the fast path as on the other."""
    alpha, subject = town.alpha, FAULTY[kind]
    proposals, events = await alpha.get("/proposals"), await alpha.node.pool.fetchval("SELECT count(*) FROM event")
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/accounts", OPENING),
        ("PUT", "/ceilings/EUR", CEILING),
        ("POST", "/payments", order(10)),
        ("POST", "/payments/batch", {"payments": [order(10)]}),
        ("GET", "/payments", None),
    ]
    for method, path, body in requests:
        for plain in (False, True):
            answer = await alpha.send(method, path, body, subject=subject, plain=plain)
            assert (answer.status_code, answer.json()["code"]) == REFUSED, (method, path)
    assert await alpha.get("/proposals") == proposals
    assert await alpha.node.pool.fetchval("SELECT count(*) FROM event") == events


@pytest.mark.parametrize("kind", FAULTY)
async def test_the_coordinator_lets_nobody_in_by_it(town: Town, kind: str) -> None:
    """Whoever has its `token` key can write the token; it isn't taken."""
    house, subject = town.coordinator, FAULTY[kind]
    key, url = house.base.identity.token, house.url
    token = issue_access_token(
        key=key, issuer=url, subject=subject, audience=COORDINATOR, client_id=subject, role="operator"
    )
    for method, path in (("GET", "/participants"), ("POST", "/cycles"), ("POST", f"/participants/{ALPHA}/invitation")):
        body = {"reason": "r"} if method == "POST" else None
        headers = {"Authorization": f"Bearer {token}"}
        answer = await town.alpha.http.request(method, url + path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == REFUSED, (method, path)


async def test_half_of_a_letter_is_no_name(town: Town) -> None:
    """JSON can write half of a surrogate pair; a token that does is none."""
    alpha = town.alpha
    key = alpha.node.identity.token
    assert isinstance(key, SigningKey)
    said = alpha.staff_token("dora", role="accounts").split(".")[1]
    claims = json.loads(unb64url(said))
    head = b64url(json.dumps({"alg": key.algorithm.jws, "kid": key.kid, "typ": "at+jwt"}).encode())
    signed = f"{head}.{b64url(json.dumps({**claims, 'sub': chr(0xD800)}).encode())}"
    token = f"{signed}.{b64url(key.sign(signed.encode()))}"
    answer = await alpha.send("POST", "/accounts", OPENING, token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_malformed")
