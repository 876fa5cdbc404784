"""`concordat participant position`: the evidence for one pair of a cycle as a file, for whom the bank shows it to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import msgspec
import typer

from compliance.crypto.dsse import Envelope
from compliance.position_evidence import FORMAT, PositionEvidence
from compliance.terminal import shown
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
    with whole_file(target) as file:
        file.write(msgspec.json.format(msgspec.json.encode(evidence)) + b"\n")
    typer.echo(f"{shown(target)}: {target.stat().st_size:,} bytes")
    return 0


async def _attested(url: str, cycle: str) -> list[CycleAttested]:
    connection = await asyncpg.connect(dsn(url), timeout=10)
    try:
        return await reads.attested(connection, cycle)
    finally:
        await connection.close()
