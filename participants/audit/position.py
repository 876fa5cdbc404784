"""`concordat participant position`: the evidence for one pair of a cycle as a file, for whom the bank shows it to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import msgspec
import typer

from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.position_evidence import FORMAT, PositionEvidence, verify_position
from compliance.terminal import shown
from compliance.trust import Anchor, AnchorError
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteError
from gateway.federation.messages.attestation import AgreedPosition
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.postgres import database, dsn
from gateway.federation.storage.whole_file import whole_file
from participants.cycle import attestations, reads
from participants.ledger import DATABASE
from participants.ledger.events import CycleAttested


def run_position(settings: NodeSettings, cycle: str, counterparty: str, currency: str, out: Path | None) -> int:
    """Write what this bank attested of a pair last, and what proves it; exit code 1 if it attested nothing of it."""
    target = out or Path(f"{cycle}-{counterparty}-{currency}.json")
    with database(settings, DATABASE) as url:
        attested = asyncio.run(_attested(url, cycle))
    low, high = sorted((settings.bic, counterparty))
    proven = attestations.proven(attested, (currency, low, high))
    if proven is None:
        typer.echo(shown(f"{settings.bic} attested nothing of {counterparty} in {currency} in {cycle}"), err=True)
        return 1
    trust_list = msgspec.json.decode(settings.trust_list_path.read_bytes(), type=Envelope)
    evidence = PositionEvidence(format=FORMAT, proven=proven, trust_list=trust_list)
    evidence = asyncio.run(_with_theirs(settings, evidence, cycle, counterparty, currency))
    with whole_file(target) as file:
        file.write(msgspec.json.format(msgspec.json.encode(evidence)) + b"\n")
    signed = settings.bic if evidence.counterparty is None else f"{settings.bic} and {counterparty}"
    typer.echo(f"{shown(target)}: {target.stat().st_size:,} bytes, signed by {shown(signed)}")
    return 0


async def _with_theirs(
    settings: NodeSettings, evidence: PositionEvidence, cycle: str, counterparty: str, currency: str
) -> PositionEvidence:
    """Add the same statement under the other bank's attestation, if the coordinator shows it and it verifies."""
    url, anchor_path = settings.coordinator_url, settings.anchor
    if url is None or anchor_path is None:
        return evidence
    auth = MemberIdentity(settings.bic, settings.keys_dir).auth
    path = f"/cycles/{cycle}/positions/{settings.bic}/{counterparty}/{currency}"
    try:
        anchor = Anchor.read(anchor_path)
        async with FederationClient(settings.bic, auth, url) as client:
            agreed = await client.get(url + path, AgreedPosition, audience=anchor.bic)
        theirs = agreed.proven[0 if counterparty < settings.bic else 1]
        both = msgspec.structs.replace(evidence, counterparty=theirs)
        verify_position(both, anchor)
    except (RemoteError, AnchorError, EvidenceError, OSError) as error:
        typer.echo(f"without what {shown(counterparty)} signed: {shown(error)}", err=True)
        return evidence
    return both


async def _attested(url: str, cycle: str) -> list[CycleAttested]:
    connection = await asyncpg.connect(dsn(url), timeout=10)
    try:
        return await reads.attested(connection, cycle)
    finally:
        await connection.close()
