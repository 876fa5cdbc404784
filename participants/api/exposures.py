"""HTTP: what others owe the bank and may owe it, for its own people, who set its ceilings."""

from __future__ import annotations

from litestar import get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from compliance.bic import normal_bic
from gateway.federation.http.paging import Page, rows_of
from participants import bookkeeping
from participants.api import views
from participants.api.guards import KEEPS_ACCOUNTS, SEES_ACCOUNTS, BicPath, ConcordatRequest, CurrencyPath, Node
from participants.api.messages import CeilingChange, CeilingView, ExposureView
from participants.ledger import store
from participants.ledger.ceilings import Ceiling
from participants.node import BankNode


@get("/exposures", guards=SEES_ACCOUNTS, tags=["exposure"], operation_id="listExposures")
async def list_exposures(node: Node, part: NamedDependency[Page]) -> list[ExposureView]:
    """List what each counterparty owes before it is settled, the most that it may, and who set that."""
    async with node.pool.acquire() as connection:
        exposures = await views.exposures(connection)
    return rows_of(part, exposures, lambda row: (row.counterparty, row.currency))


@get("/ceilings", guards=SEES_ACCOUNTS, tags=["exposure"], operation_id="listCeilings")
async def list_ceilings(node: Node, part: NamedDependency[Page]) -> list[CeilingView]:
    """List this bank's own ceilings of what others may owe it."""
    async with node.pool.acquire() as connection:
        ceilings = views.ceilings((await store.read_limits(connection)).ceilings)
    return rows_of(part, ceilings, lambda row: (row.currency, row.counterparty or ""))


@put("/ceilings/{currency:str}", guards=KEEPS_ACCOUNTS, tags=["exposure"], operation_id="setCeilingForAll")
async def set_ceiling_for_all(
    currency: CurrencyPath, data: JSONBody[CeilingChange], node: Node, request: ConcordatRequest
) -> list[CeilingView]:
    """Set the most that any counterparty may owe that has no ceiling of its own, and list all ceilings.

    What lets others owe more is refused with 409 `ceiling_needs_second_person`, until another person asks for the very
    same within a week, and no ceiling has changed meanwhile.
    """
    return await _set_ceiling(node, None, currency, data, person=request.auth.sub)


@put("/ceilings/{currency:str}/{counterparty:str}", guards=KEEPS_ACCOUNTS, tags=["exposure"], operation_id="setCeiling")
async def set_ceiling(
    currency: CurrencyPath,
    counterparty: BicPath,
    data: JSONBody[CeilingChange],
    node: Node,
    request: ConcordatRequest,
) -> list[CeilingView]:
    """Set the most that a counterparty may owe, and list all ceilings. What it owes already stays.

    What lets it owe more is refused with 409 `ceiling_needs_second_person`, until another person asks for the very same
    within a week, and no ceiling has changed meanwhile.
    """
    bank = normal_bic(counterparty)
    return await _set_ceiling(node, node.head_offices.get(bank, bank), currency, data, person=request.auth.sub)


async def _set_ceiling(
    node: BankNode, counterparty: str | None, currency: str, change: CeilingChange, *, person: str
) -> list[CeilingView]:
    ceiling = Ceiling(counterparty, currency, change.limit_minor)
    ceilings = await bookkeeping.set_ceiling(node.ledger, node.pool, ceiling, person=person, reason=change.reason)
    return views.ceilings(ceilings)


HANDLERS = [list_exposures, list_ceilings, set_ceiling_for_all, set_ceiling]
