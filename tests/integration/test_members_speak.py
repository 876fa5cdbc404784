"""Who is speaking, between banks: what counts, what doesn't, and what it opens."""

from __future__ import annotations

import time

import pytest
from running_banks import Town, terms
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR

from gateway.federation.identity.tokens import client_assertion

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_assertions_that_do_not_count(town: Town) -> None:
    """What a bank says to another of who it is, wrong in each way that needs a running scheme."""
    now = int(time.time())
    house, agent = town.coordinator.base.identity, town.coordinator.bank(AGENT).identity
    alpha = town.alpha.node.identity
    rows = (
        (town.assertion(ALPHA, CARLO), 401, "token_audience_wrong"),
        (town.assertion(ALPHA, COORDINATOR), 401, "token_audience_wrong"),
        (town.assertion(ALPHA, BRAVO, now=now - 301), 401, "token_expired"),
        (town.assertion(ALPHA, BRAVO, now=now + 60), 401, "token_not_yet_valid"),
        (town.assertion(ALPHA, BRAVO, key=alpha.sign), 401, "token_key_unknown"),
        (town.assertion(ALPHA, BRAVO, key=house.auth), 401, "token_key_unknown"),
        (town.assertion(ALPHA, BRAVO, key=house.token), 401, "token_key_unknown"),
        (town.assertion(ALPHA, BRAVO, member="STRADEF0"), 401, "token_key_unknown"),
        (town.assertion(ALPHA, BRAVO, key=house.auth, member=COORDINATOR), 403, "role_not_allowed"),
        (town.assertion(ALPHA, BRAVO, key=agent.auth, member=AGENT), 403, "role_not_allowed"),
        (client_assertion(key=alpha.auth, client_id=ALPHA, audience=BRAVO), 401, "token_header_refused"),
        (client_assertion(key=alpha.auth, client_id=ALPHA, audience=town.coordinator.url), 401, "token_header_refused"),
        (town.bravo.staff_token(), 403, "role_not_allowed"),
        (town.alpha.staff_token(audience=BRAVO), 401, "token_key_unknown"),
        (town.assertion(CARLO, BRAVO), 400, "unknown_key"),
        (town.assertion(ALPHA, BRAVO), 200, None),
    )
    body = town.sealed(terms())
    for token, status, code in rows:
        answer = await town.deliver(body, token=token)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
    # Nor is it good for anything at the coordinator, or at the other bank's desk.
    for audience in (COORDINATOR, town.coordinator.url):
        headers = {"Authorization": f"Bearer {town.assertion(ALPHA, audience)}"}
        answer = await town.bravo.http.get(f"{town.coordinator.url}/events", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_header_refused")
    answer = await town.bravo.send("GET", "/payments", token=town.assertion(ALPHA, BRAVO))
    assert (answer.status_code, answer.json()["code"]) == (403, "role_not_allowed")


async def test_the_coordinator_can_not_say_that_somebody_is_a_bank(town: Town) -> None:
    """It would read what is between two banks: their lanes, and the newest payments of each."""
    token = town.member_token(ALPHA, BRAVO)
    answers = [await town.deliver(town.sealed(terms()), token=token)]
    answers.append(await town.bravo.send("GET", "/federation/lanes", token=token))
    assert [(one.status_code, one.json()["code"]) for one in answers] == [(401, "token_key_unknown")] * 2
