"""What every bank does in a cycle goes a short way, and says what the long way says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from clearing_house import rulebook
from running_coordinator import AGENT, COORDINATOR, Coordinator, running_coordinator

from gateway.coordinator.hot_path import HotPath
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.rates import Rates
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.messages.cycles import Cycle
from tests.conftest import NewDatabase
from tests.simulated_banks import Bank, Banks, Connection

COUNT = 4
LONG = {"Content-Type": "application/json;  charset=utf-8"}
"""A way to write it that is as good and that the short way doesn't know."""


@dataclass
class House:
    coordinator: Coordinator
    banks: Banks
    operator: Connection
    rates: Rates
    long_way: list[str] = field(default_factory=list)
    """The requests that the application was given."""

    async def ask(
        self, bank: Bank, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request of a bank; a body is JSON unless the headers say otherwise."""
        said = {"Authorization": f"Bearer {bank.connection.token()}"}
        if body is not None:
            said["Content-Type"] = "application/json"
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await client.request(
                method, self.coordinator.url + path, content=body, headers={**said, **(headers or {})}
            )

    async def both(
        self, bank: Bank, method: str, path: str, body: bytes | None = None
    ) -> tuple[httpx.Response, httpx.Response]:
        """Send a request the short way and then the long way; return both answers."""
        self.long_way.clear()
        short = await self.ask(bank, method, path, body)
        assert self.long_way == []
        if body is None:
            long = await self.ask(bank, method, path, b"{}", {"Content-Length": "2"})
        else:
            long = await self.ask(bank, method, path, body, LONG)
        assert len(self.long_way) == 1
        return short, long


def alike(short: httpx.Response, long: httpx.Response) -> Any:
    assert (short.status_code, short.json()) == (long.status_code, long.json())
    assert short.headers["content-type"] == long.headers["content-type"]
    assert short.headers.keys() == long.headers.keys()
    return short.json()


@pytest.fixture
async def house(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[House]:
    long_way: list[str] = []
    rates: list[Rates] = []

    def watched(edge: Any) -> Any:
        short = edge._app
        assert isinstance(short, HotPath)
        application = short._app

        async def noting(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and not scope["path"].startswith("/health"):
                long_way.append(scope["path"])
            await application(scope, receive, send)

        short._app = noting
        rates.append(short._callers)
        return edge

    url = await new_database("gateway.coordinator")
    rules = rulebook(currencies=("EUR",))
    async with running_coordinator(url, tmp_path, rulebook=rules, wrap=watched) as running:
        await running.admit_agent()
        key = await running.client_key("alice", "operator")
        banks = Banks.of(
            COUNT,
            currencies=["EUR"],
            url=running.url,
            coordinator=COORDINATOR,
            token_key=running.base.identity.token,
            coordinator_key=running.base.identity.sign.verifying_key,
        )
        for bank in banks.banks:
            await running.registry.admit(
                bank.application(AGENT), kind="participant", caps_minor={}, by="test", reason="set up"
            )

        def token() -> str:
            return issue_access_token(
                key=running.base.identity.token,
                issuer=running.url,
                subject="alice",
                audience=COORDINATOR,
                client_id="alice",
                role="operator",
                signed_in_by=key.kid,
            )

        operator = Connection(running.url, token)
        yield House(running, banks, operator, rates[0], long_way)
        operator.close()
        banks.close()


async def test_a_whole_cycle_by_both_ways(house: House) -> None:
    operator, banks = house.operator, house.banks.banks
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    after = await operator.newest()
    bodies = house.banks.prepare(cycle, payments=3)
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    for bank, body in zip(banks[:-1], bodies, strict=False):
        alike(*await house.both(bank, "PUT", f"/cycles/{cycle}/cuts", body.cut))
    assert (await house.ask(banks[-1], "PUT", f"/cycles/{cycle}/cuts", bodies[-1].cut)).is_success
    await operator.event("cycle.attesting", cycle, after)
    for bank in banks:
        cuts = alike(*await house.both(bank, "GET", f"/cycles/{cycle}/cuts"))
        assert (cuts["complete"], len(cuts["lanes"]), len(cuts["delivered"])) == (True, COUNT - 1, COUNT)
    path = f"/cycles/{cycle}/attestations"
    for number, (bank, body) in enumerate(zip(banks[:-1], bodies, strict=False)):
        verdict = alike(*await house.both(bank, "POST", path, body.attestation))
        assert verdict == {"stored": COUNT - 1 - number, "agreed": number}
    last = await house.ask(banks[-1], "POST", path, bodies[-1].attestation)
    assert last.json() == {"stored": 0, "agreed": COUNT - 1}
    await operator.event("cycle.instructed", cycle, after)
    for bank in banks:
        [instruction] = alike(*await house.both(bank, "GET", f"/cycles/{cycle}/instructions"))
        assert instruction["payloadType"].startswith("application/vnd.concordat.instruction.v1")
        events = alike(*await house.both(bank, "GET", f"/events?after={after}&wait_s=0&limit=100"))
        assert [event["type"] for event in events["events"]][-1] in ("cycle.instructed", "cycle.settled", "cycle.final")


async def test_what_comes_too_late_or_is_of_another_bank_is_refused_as_ever(house: House) -> None:
    operator, banks = house.operator, house.banks.banks
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    [first, second, *_] = house.banks.prepare(cycle, payments=3)
    path = f"/cycles/{cycle}/attestations"

    early = await house.ask(banks[0], "POST", path, first.attestation)
    assert (early.status_code, early.json()["code"]) == (409, "cycle_not_attesting")

    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    foreign = await house.ask(banks[0], "PUT", f"/cycles/{cycle}/cuts", second.cut)
    refused_long = await house.ask(banks[0], "PUT", f"/cycles/{cycle}/cuts", second.cut, LONG)
    assert foreign.status_code == refused_long.status_code == 422
    assert foreign.json()["code"] == refused_long.json()["code"] == "unknown_key"

    unknown = await house.ask(banks[0], "GET", "/cycles/2020-01-01-01/instructions")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "cycle_unknown")


async def test_who_has_no_access_has_none_by_the_short_way(house: House) -> None:
    bank, other = house.banks.banks[:2]
    issued = {
        "key": house.coordinator.base.identity.token,
        "issuer": house.coordinator.url,
        "subject": bank.bic,
        "audience": COORDINATOR,
        "client_id": bank.bic,
        "signed_in_by": bank.auth.kid,
    }

    async def status(token: str) -> tuple[int, str]:
        answer = await house.ask(other, "GET", "/events?after=0", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json().get("code", "")

    assert await status(issue_access_token(**issued, role="participant")) == (200, "")
    assert await status("nonsense") == (401, "token_malformed")
    limited = issue_access_token(**issued, role="participant", scope="read")
    assert await status(limited) == (403, "scope_not_allowed")
    assert await status(issue_access_token(**issued, role="operator")) == (401, "token_withdrawn")
    cuts = await house.ask(other, "GET", "/cycles/2020-01-01-01/cuts", headers={"Authorization": "Bearer x"})
    assert cuts.status_code == 401
    # One that is suspended sees what it has to settle, and no cuts.
    await house.coordinator.registry.step(bank.bic, Step.SUSPEND, by="test", reason="set up")
    for _ in range(200):  # the coordinator asks its registry again within a second
        seen = await house.ask(bank, "GET", "/cycles/2020-01-01-01/cuts")
        if seen.status_code != 404:
            break
        await asyncio.sleep(0.1)
    assert (seen.status_code, seen.json()["code"]) == (403, "member_not_active")


async def test_what_is_there_twice_is_refused_whichever_way(house: House) -> None:
    operator, bank = house.operator, house.banks.banks[0]
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    [body, *_] = house.banks.prepare(cycle, payments=3)
    attestation = body.attestation
    written = json.loads(attestation)
    rows = json.dumps(written["positions"], separators=(",", ":")).encode()
    screening = json.dumps(written["screening"]).encode()
    for repeated in (
        attestation[:-1] + b',"positions":' + rows + b"}",
        attestation[:-1] + b',"positions":[]}',
        attestation[:-1] + b',"screening":' + screening + b"}",
        attestation.replace(b'"cycle":', b'"cycle":"2020-01-01-01","cycle":', 1),
    ):
        answer = await house.ask(bank, "POST", f"/cycles/{cycle}/attestations", repeated)
        assert (answer.status_code, "is repeated" in answer.text) == (400, True), answer.text
    cut = body.cut[:-1] + b',"payload":""}'
    assert "is repeated" in (await house.ask(bank, "PUT", f"/cycles/{cycle}/cuts", cut)).text


async def test_a_request_counts_once_whichever_way_it_goes(house: House) -> None:
    bank = house.banks.banks[0]
    path = "/cycles/2020-01-01-01"
    house.rates._clock = lambda: 0.0  # nothing comes back meanwhile
    levels: list[float] = []
    for method, of_cycle, body, headers in (
        ("GET", "cuts", None, {}),
        ("GET", "cuts", b"{}", {}),
        ("PUT", "cuts", b"nonsense", {}),
        ("PUT", "cuts", b"nonsense", LONG),
        ("POST", "attestations", b"{}", {}),
        ("POST", "attestations", b"{}", {"Content-Type": "text/plain"}),
    ):
        assert not (await house.ask(bank, method, f"{path}/{of_cycle}", body, headers)).is_success
        levels.append(house.rates._buckets[bank.bic][0])
    assert levels == [levels[0] - number for number in range(len(levels))]


async def test_a_row_that_is_none_is_told_whichever_way_and_costs_no_other_bank(house: House) -> None:
    operator, banks = house.operator, house.banks.banks
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    after = await operator.newest()
    bodies = list(house.banks.prepare(cycle, payments=3))
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    for bank, body in zip(banks, bodies, strict=False):
        assert (await house.ask(bank, "PUT", f"/cycles/{cycle}/cuts", body.cut)).is_success
    await operator.event("cycle.attesting", cycle, after)
    path, good = f"/cycles/{cycle}/attestations", bodies[0].attestation
    deep = good.replace(b'"positions":[[', b'"positions":[[' + b"[" * 5_000, 1)
    for faulty, status in (
        (good.replace(b'"EUR"', b'"\xff"', 1), 400),
        (good.replace(b'"EUR"', b'""', 1), 422),
        (good.replace(b'",1,', b'",0,', 1), 422),
        (deep, 400),
    ):
        assert faulty != good
        # What comes at the same moment is read together.
        answers = await asyncio.gather(
            house.ask(banks[0], "POST", path, faulty),
            *(
                house.ask(bank, "POST", path, body.attestation)
                for bank, body in zip(banks[1:-1], bodies[1:-1], strict=False)
            ),
        )
        long = await house.ask(banks[0], "POST", path, faulty, LONG)
        told = [{**answer.json(), "instance": ""} for answer in (answers[0], long)]
        assert [answers[0].status_code, long.status_code] == [status, status], told
        assert told[0] == told[1]
        assert [answer.status_code for answer in answers[1:]] == [200] * (COUNT - 2)
