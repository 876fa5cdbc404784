"""What a bank attested in a cycle, pair by pair, and the evidence for one pair that another party may be shown."""

from __future__ import annotations

import asyncio

from litestar import get
from litestar.di import NamedDependency

from compliance.bic import normal_bic
from compliance.cycle.positions import ProvenStatement, statement_of
from compliance.statements import PositionStatement
from gateway.federation.http.paging import Key, Page, rows_of
from gateway.federation.problems import Refusal, RefusalReason
from participants.api.guards import SEES_CYCLES, BicPath, CurrencyPath, CyclePath, Node
from participants.api.views import RequestReason
from participants.cycle import attestations, reads
from participants.ledger.events import CycleAttested
from participants.node import BankNode


class PositionReason(RefusalReason):
    """Why a bank shows no evidence for a pair."""

    POSITION_UNKNOWN = "position_unknown", 404
    """It attested nothing of the pair in that cycle and currency; or it signed that statement by itself, before there
    were attestations, and `listAttestations` shows it."""


@get("/cycles/{cycle:str}/positions", guards=SEES_CYCLES, tags=["cycles"], operation_id="listPositions")
async def list_positions(cycle: CyclePath, node: Node, part: NamedDependency[Page]) -> list[PositionStatement]:
    """List what this bank attested in a cycle: the newest statement of each pair and currency.

    One in which this bank has cut nothing off is 404 `cycle_unknown`.
    """
    attested = await _attested(node, cycle)
    newest = sorted(attestations.newest(attested).values(), key=lambda position: position.key)
    return rows_of(part, [statement_of(cycle, position) for position in newest], _key)


@get(
    "/cycles/{cycle:str}/positions/{counterparty:str}/{currency:str}",
    guards=SEES_CYCLES,
    tags=["cycles"],
    operation_id="getPositionEvidence",
)
async def get_position_evidence(
    cycle: CyclePath, counterparty: BicPath, currency: CurrencyPath, node: Node
) -> ProvenStatement:
    """Show the newest statement of one pair with what proves it: this bank's attestation, and the path to its root.

    Whoever is shown that learns nothing of this bank's other pairs but how many there are.
    """
    attested = await _attested(node, cycle)
    pair = {"bank": node.bic, "counterparty": normal_bic(counterparty), "currency": currency}
    try:
        return await asyncio.to_thread(attestations.shown_of, attested, cycle, **pair)
    except LookupError as error:
        raise Refusal(PositionReason.POSITION_UNKNOWN, error.args[0]) from None


async def _attested(node: BankNode, cycle: str) -> list[CycleAttested]:
    """Return what this bank attested in a cycle. Raises Refusal `cycle_unknown`."""
    async with node.pool.acquire() as connection:
        attested = await reads.attested(connection, cycle)
        if not attested and not await reads.took_part(connection, cycle):
            raise Refusal(RequestReason.CYCLE_UNKNOWN, f"this bank has cut nothing off for a cycle {cycle}")
    return attested


def _key(statement: PositionStatement) -> Key:
    return (statement.currency, *statement.pair)


POSITION_HANDLERS = [list_positions, get_position_evidence]
