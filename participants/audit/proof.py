"""`concordat participant proof`: what this bank was shown of a cycle's result, for whoever wants to verify it again."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import typer

from compliance.crypto import canonical
from compliance.statements import ResultCommitment
from compliance.terminal import shown
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.postgres import dsn
from participants.cycle import reads
from participants.ledger import DATABASE, MIGRATIONS
from participants.ledger.events import ResultShown


def run_proof(settings: NodeSettings, cycle: str) -> int:
    """Print, as JSON lines, what was shown of a cycle's result, and whether it is believed; exit code 1 if it isn't.

    Each holds the coordinator's signed commitment and the lines under its root, also what a counterparty was shown
    otherwise. The roots go to stderr, to be compared with the one that `concordat verify` names.
    """
    from gateway.federation.commands.own_database import own_database

    with own_database(settings, DATABASE, MIGRATIONS) as url:
        results = asyncio.run(_kept(url, cycle))
    for proof in results:
        commitment = canonical.decode(proof.commitment.payload_bytes(), ResultCommitment)
        to = proof.counterparty or settings.bic
        judgement = proof.reason or "believed"
        typer.echo(shown(f"{to}: edition {commitment.edition}, root {commitment.root}: {judgement}"), err=True)
        typer.echo(shown(msgspec.json.encode(proof).decode()))
    if not results:
        typer.echo(shown(f"{settings.bic} was shown nothing of the result of {cycle}"), err=True)
    return 0 if results and all(proof.reason is None for proof in results) else 1


async def _kept(url: str, cycle: str) -> list[ResultShown]:
    connection = await asyncpg.connect(dsn(url), timeout=10)
    try:
        return await reads.shown_results(connection, cycle)
    finally:
        await connection.close()
