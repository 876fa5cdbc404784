"""HTTP: what both banks of a pair signed alike, each under its own attestation."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.types import ControllerRouterHandler

from compliance.cycle.audience import View, part_of
from compliance.statements import CurrencyCode
from gateway.coordinator.cycles.api import Caller, CyclePath, Cycles
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.sight import shows
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.attestation import AgreedPosition
from gateway.federation.messages.base import SpelledBic

BicPath = Annotated[str, PathParameter(**form_of(SpelledBic))]
CurrencyPath = Annotated[str, PathParameter(**form_of(CurrencyCode))]


@get(
    "/cycles/{cycle:str}/positions/{bic:str}/{counterparty:str}/{currency:str}",
    **shows(View.POSITIONS),
    tags=["cycles"],
    operation_id="getAgreedPosition",
)
async def agreed_position(
    request: Caller,
    cycle: CyclePath,
    bic: BicPath,
    counterparty: BicPath,
    currency: CurrencyPath,
    cycles: Cycles,
    registry: NamedDependency[Registry],
) -> AgreedPosition:
    """Show the statement that both banks of a pair signed, as each proves it; a participant sees its own pairs.

    There is one once the attestation is closed. It shows nothing of the other pairs of either bank but how many it
    stated at once.
    """
    viewer = part_of(View.POSITIONS, role=request.auth.role, name=request.auth.sub)
    banks = await registry.known_as(bic), await registry.known_as(counterparty)
    return await cycles.views.agreed_position(cycle, banks, currency, viewer)


route_handlers: list[ControllerRouterHandler] = [agreed_position]
