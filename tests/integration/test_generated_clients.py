"""Clients that `openapi-python-client` makes of what each node serves do real work against it, without a warning."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from litestar import Litestar
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType
from running_banks import Town, order
from support import uuid7

from gateway.agent.app import build_app
from gateway.federation.identity.tokens import issue_access_token
from tests.agent_harness import ALFA, BETA, Desk, Scheme
from tests.conftest import Live, NewDatabase

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What isn't JSON is bytes to whoever calls, whatever is in them.
BYTES = {"application/zip": "application/octet-stream", "application/xml": "application/octet-stream"}


class Generated:
    """A generated package, and a client of it that calls a node."""

    def __init__(self, package: str, url: str, token: str) -> None:
        self._package = package
        client = self._module("client").AuthenticatedClient
        self._client = client(base_url=url, token=token, timeout=httpx.Timeout(60), httpx_args={"trust_env": False})

    def model(self, name: str, **said: Any) -> Any:
        return getattr(self._module("models"), name)(**said)

    def call(self, operation: str, *args: Any, **said: Any) -> Any:
        """Ask for "tag.operation", and return what was answered as the client reads it."""
        return self._module(f"api.{operation}").sync(*args, client=self._client, **said)

    def pages(self, operation: str, **said: Any) -> Iterator[Any]:
        """Yield the pages of a list."""
        page = self.call(operation, **said)
        yield page
        while page.next_:
            page = self.call(operation, cursor=page.next_, **said)
            yield page

    def is_problem(self, answer: Any) -> bool:
        return isinstance(answer, self._module("models").Problem)

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self._package}.{name}")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that packages are found in."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_made_client")]:
        del sys.modules[name]


async def generated(service: str, url: str, token: str, directory: Path) -> Generated:
    """Make a client of what a node serves."""
    package = f"{service}_made_client"
    async with httpx.AsyncClient(trust_env=False) as http:
        served = (await http.get(f"{url}/schema/openapi.json")).raise_for_status().json()
    source = directory / f"{service}.json"
    source.write_text(json.dumps(served), "utf-8")
    config = Config.from_sources(
        config_file=ConfigFile(post_hooks=[], content_type_overrides=BYTES),
        meta_type=MetaType.NONE,
        document_source=source,
        file_encoding="utf-8",
        overwrite=False,
        output_path=directory / package,
    )
    errors = await asyncio.to_thread(generate, config=config)
    assert [(error.header, error.detail) for error in errors] == []
    return Generated(package, url, token)


async def test_a_client_of_a_bank_pays_and_reads(town: Town, directory: Path) -> None:
    bank = await generated("bank", town.alpha.settings.url, town.alpha.staff_token(role="orders"), directory)

    def work() -> None:
        orders = [order(100 + number) for number in range(3)]
        for said in orders:
            outcome = bank.call("payments.submit_payment", body=bank.model("OrderRequest", **said))
            assert (outcome.id, outcome.status) == (said["id"], "reserved")
        assert bank.call("payments.get_payment", orders[0]["id"]).amount_minor == "100"
        listed = [item.id for page in bank.pages("payments.list_payments", limit=2) for item in page.items]
        assert listed[:3] == [said["id"] for said in reversed(orders)]
        wrong = {**orders[0], "id": uuid7(), "currency": "eur", "creditor_agent": "BRCH"}
        refused = bank.call("payments.submit_payment", body=bank.model("OrderRequest", **wrong))
        assert bank.is_problem(refused)
        assert (refused.status, refused.code) == (400, "validation_failed")
        assert {error.pointer for error in refused.errors} == {"/currency", "/creditor_agent"}
        unknown = bank.call("payments.get_payment", uuid7())
        assert (unknown.status, unknown.code) == (404, "payment_unknown")

    await asyncio.to_thread(work)


async def test_a_client_of_the_coordinator_runs_cycles(town: Town, directory: Path) -> None:
    url = town.coordinator.url
    claims = {"issuer": url, "audience": town.coordinator.settings.bic, "role": "operator"}
    token = issue_access_token(key=town.coordinator.base.identity.token, subject="alice", client_id="alice", **claims)
    await town.coordinator.client_key("alice", "operator")
    house = await generated("coordinator", url, token, directory)

    def work() -> None:
        listed = [item.bic for page in house.pages("participants.list_participants", limit=1) for item in page.items]
        assert set(town.banks) <= set(listed)
        cycle = house.call("cycles.open_cycle", body=house.model("OpenCycle"))
        assert house.call("cycles.get_cycle", cycle.id).state == "open"
        assert house.call("cycles.cut_off_cycle", cycle.id).id == cycle.id
        unknown = house.call("cycles.get_cycle", "2001-01-01-01")
        assert house.is_problem(unknown)
        assert (unknown.status, unknown.code) == (404, "cycle_unknown")

    await asyncio.to_thread(work)


async def test_a_client_of_the_settlement_agent_funds(
    new_database: NewDatabase, live: Live, tmp_path: Path, directory: Path
) -> None:
    database = await new_database("gateway.agent")
    scheme = Scheme(tmp_path)

    def build(url: str) -> Litestar:
        return build_app(scheme.settings(url, database), database)

    url = await asyncio.to_thread(live, build)
    staff = Desk(scheme, url).staff.http.headers["Authorization"].removeprefix("Bearer ")
    agent = await generated("agent", url, staff, directory)

    def work() -> None:
        for bic in (ALFA, BETA):
            agent.call("accounts.open_account", body=agent.model("AccountOpening", participant=bic, currency="EUR"))
        funding = agent.model("Funding", id=uuid7(), currency="EUR", amount_minor="500")
        assert agent.call("accounts.fund_account", ALFA, body=funding).balance_minor == "500"
        accounts = agent.call("accounts.list_accounts")
        assert {account.participant: account.balance_minor for account in accounts} == {ALFA: "500", BETA: "0"}
        taken = agent.model("Funding", id=uuid7(), currency="EUR", amount_minor="-501")
        refused = agent.call("accounts.fund_account", ALFA, body=taken)
        assert agent.is_problem(refused)
        assert refused.status in (409, 422)
        assert "insufficient" in refused.code or "short" in refused.code, refused.code

    await asyncio.to_thread(work)
