"""What no signature covers is stored by nobody: each taker refuses junk beside a good signature, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from running_coordinator import ALPHA, BRAVO, COORDINATOR, Bank, Coordinator, on_demand, running_coordinator
from support import with_junk

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Receipt
from gateway.federation.http.client import FederationClient
from gateway.federation.membership.documents import KEY_CHANGE_TYPE, KeyChange
from gateway.federation.messages.cycles import Cycle, OpenCycle
from tests.conftest import NewDatabase
from tests.console.banks import attesting, cut_of, submission_of


class Desk:
    """A bank that sends documents to the coordinator as it likes."""

    def __init__(self, coordinator: Coordinator, bank: Bank, client: FederationClient, http: httpx.AsyncClient) -> None:
        self.coordinator, self.bank, self.client, self.http = coordinator, bank, client, http

    async def send(self, method: str, path: str, body: Any) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {await self.client.token(COORDINATOR)}",
            "Content-Type": "application/json",
        }
        return await self.http.request(
            method, self.coordinator.url + path, content=msgspec.json.encode(body), headers=headers
        )

    async def only_takes_it_bare(self, method: str, path: str, envelope: Envelope, wrap: Any = None) -> None:
        """Send an envelope with all kinds of junk, all refused, and then as it is, taken."""
        body = wrap or (lambda one: one)
        for junk, reason in with_junk(envelope, second=self.bank.identity.auth):
            answer = await self.send(method, path, body(junk))
            assert answer.status_code == 422, answer.text
            code, detail = answer.json()["code"], answer.json()["detail"]
            assert reason == code or (code == "signature_refused" and detail.startswith(reason)), answer.text
        answer = await self.send(method, path, body(envelope))
        assert answer.is_success, answer.text


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=on_demand()) as one:
        yield one


async def test_cuts_statements_screening_and_receipts(coordinator: Coordinator) -> None:
    banks = await coordinator.admit(ALPHA, BRAVO, caps_minor={"EUR": 10**6})
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(await coordinator.operator("alice"))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        clients = [await stack.enter_async_context(coordinator.client(bank)) for bank in banks]
        alpha, bravo = (Desk(coordinator, b, c, http) for b, c in zip(banks, clients, strict=True))
        url = f"{coordinator.url}/cycles"
        cycle = (await alice.post(url, Cycle, audience=COORDINATOR, json=OpenCycle())).id
        await alice.post(f"{url}/{cycle}/cut-off", Cycle, audience=COORDINATOR)
        for desk in (alpha, bravo):
            await desk.only_takes_it_bare("PUT", f"/cycles/{cycle}/cuts", cut_of(desk.bank, cycle))
        await attesting(coordinator, clients[0], cycle)

        whole = submission_of(alpha.bank, cycle)
        await alpha.only_takes_it_bare(
            "POST",
            f"/cycles/{cycle}/attestations",
            whole.attestation,
            lambda one: msgspec.structs.replace(whole, attestation=one),
        )
        receipt = Receipt(instruction=f"{cycle}/{ALPHA}/EUR", participant=ALPHA, sha256="0" * 64)
        signed = dsse.sign(receipt, alpha.bank.identity.sign)
        for junk, reason in with_junk(signed, second=alpha.bank.identity.auth):
            answer = await alpha.send("POST", "/instructions/acknowledgements", junk)
            assert (answer.status_code, answer.json()["code"]) == (422, reason)
        answer = await alpha.send("POST", "/instructions/acknowledgements", signed)
        assert answer.json()["code"] == "instruction_unknown"


async def test_applications_and_key_changes(coordinator: Coordinator) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        (alpha,) = await coordinator.admit(ALPHA)
        async with coordinator.client(alpha) as client:
            desk = Desk(coordinator, alpha, client, http)
            application = coordinator.bank(BRAVO).signed_application(invitation=await coordinator.invite(BRAVO))
            await desk.only_takes_it_bare("POST", "/participants", application)
            new = SigningKey.generate()
            change = KeyChange(member=ALPHA, use="sign", x=new.x)
            path = f"/participants/{ALPHA}/keys"
            # A key change carries two: the member's word, and the new key's.
            signed = dsse.sign(change, alpha.identity.sign, new, payload_type=KEY_CHANGE_TYPE)
            await desk.only_takes_it_bare("POST", path, signed)
