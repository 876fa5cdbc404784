"""Two banks that take part in a cycle over the coordinator's HTTP API, as their nodes do."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle import positions
from compliance.statements import (
    Attestation,
    CycleCut,
    Flow,
    LaneCut,
    PositionStatement,
    ScreeningList,
    ScreeningStatement,
)
from gateway.federation.http.client import FederationClient
from gateway.federation.messages.attestation import AttestationSubmission
from gateway.federation.messages.events import Events
from tests.integration.running_coordinator import ALPHA, BRAVO, COORDINATOR, Bank, Coordinator

ROOT = "5" * 64
LANES = {(ALPHA, BRAVO): (2, "50000"), (BRAVO, ALPHA): (1, "20000")}
"""(sender, receiver) -> payments, amount in minor units."""


async def take_part(coordinator: Coordinator, banks: list[Bank], cycle: str, *, differing: bool = False) -> None:
    """Deliver every bank's cut, then its statements; with `differing` the two banks' statements contradict."""
    async with AsyncExitStack() as stack:
        clients = [(bank, await stack.enter_async_context(coordinator.client(bank))) for bank in banks]
        for bank, client in clients:
            url = f"{coordinator.url}/cycles/{cycle}/cuts"
            await client.request("PUT", url, audience=COORDINATOR, json=cut_of(bank, cycle))
        await attesting(coordinator, clients[0][1], cycle)
        for number, (bank, client) in enumerate(clients):
            url = f"{coordinator.url}/cycles/{cycle}/attestations"
            submission = submission_of(bank, cycle, amount="50001" if differing and number else "50000")
            await client.request("POST", url, audience=COORDINATOR, json=submission)


def cut_of(bank: Bank, cycle: str) -> Envelope:
    """Return a bank's signed cut."""
    lanes = tuple(
        LaneCut(sender=sender, currency="EUR", last_sequence=count)
        for (sender, receiver), (count, _) in LANES.items()
        if receiver == bank.bic
    )
    return dsse.sign(CycleCut(cycle=cycle, receiver=bank.bic, lanes=lanes), bank.identity.sign)


async def attesting(coordinator: Coordinator, client: FederationClient, cycle: str) -> None:
    """Wait on the event feed until statements are wanted."""
    cursor = 0
    while True:
        page = await client.get(
            f"{coordinator.url}/events", Events, audience=COORDINATOR, params={"after": cursor, "wait_s": 20}
        )
        if any(event.type == "cycle.attesting" and event.cycle == cycle for event in page.events):
            return
        cursor = page.next


def submission_of(bank: Bank, cycle: str, *, amount: str = "50000") -> AttestationSubmission:
    """Return all that a bank attests in a cycle, signed."""
    forth, back = (
        Flow(
            sender=sender,
            receiver=receiver,
            first_sequence=1,
            last_sequence=count,
            count=count,
            amount_minor=amount_minor,
            root=ROOT,
        )
        for (sender, receiver), (count, amount_minor) in LANES.items()
    )
    statement = PositionStatement(
        cycle=cycle,
        currency="EUR",
        pair=(ALPHA, BRAVO),
        revision=1,
        flows=(msgspec.structs.replace(forth, amount_minor=amount), back),
    )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    screening = ScreeningStatement(
        cycle=cycle,
        participant=bank.bic,
        lists=(ScreeningList(name="OFAC SDN", sha256="6" * 64, entries=17_000, imported_at=now),),
        matcher="test",
        screened=3,
        hits=0,
        released=0,
        rejected=0,
        pending=0,
    )
    rows = (positions.of_statement(statement),)
    attestation = Attestation(
        cycle=cycle,
        participant=bank.bic,
        statements=len(rows),
        root=positions.root_over(positions.digests(cycle, rows)),
        screening=canonical.digest(canonical.encode(screening)),
        complete=True,
    )
    signed = dsse.sign(attestation, bank.identity.sign)
    return AttestationSubmission(attestation=signed, positions=rows, screening=screening)
