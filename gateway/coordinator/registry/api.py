"""HTTP: participants, the limits that they grant and their keys; the trust list and the register of operators.

What operators change they propose, and another one confirms: `gateway.coordinator.cycles.api`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from litestar.types import ControllerRouterHandler

from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import View, part_of, readers
from compliance.statements import BIC_PATTERN, CURRENCY_PATTERN
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.coordinator.registry.registry import Registry
from gateway.federation.http.node import requires
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.messages.limits import BilateralLimitChange
from gateway.federation.messages.participants import ParticipantPage, ParticipantView
from gateway.federation.problems import Refusal

BicPath = Annotated[str, PathParameter(pattern=BIC_PATTERN)]
CurrencyPath = Annotated[str, PathParameter(pattern=CURRENCY_PATTERN)]

_MEMBER = requires("participant", "agent", "coordinator")
_PARTICIPANT = requires("participant")
_OVERSEER = requires(*readers(View.OPERATORS), "agent")
_READER = requires(*readers(View.PARTICIPANTS))


class ParticipantController(Controller):
    path = "/participants"
    tags = ["participants"]  # noqa: RUF012 - Litestar's own attribute

    @get("/", guards=[_READER], operation_id="listParticipants")
    async def page(
        self, request: Request[Any, Any, Any], registry: NamedDependency[Registry], page: NamedDependency[Page]
    ) -> ParticipantPage:
        """List the participants by BIC. A participant sees limits and accounts of its own only."""
        participants = await registry.page(after=page.text() or "", limit=page.limit + 1)
        items = tuple(_seen_by(request, item) for item in participants[: page.limit])
        return ParticipantPage(
            items=items, next=encode_cursor(items[-1].bic) if len(participants) > page.limit else None
        )

    @get("/{bic:str}", guards=[_READER], operation_id="getParticipant")
    async def facts(
        self, request: Request[Any, Any, Any], bic: BicPath, registry: NamedDependency[Registry]
    ) -> ParticipantView:
        """Show one participant."""
        return _seen_by(request, await registry.view(bic))

    @post("/", opt={"public": True}, operation_id="applyAsParticipant")
    async def apply(self, data: JSONBody[Envelope], registry: NamedDependency[Registry]) -> ParticipantView:
        """Apply for membership: an `Application`, signed by the sign key that it offers."""
        return await registry.apply(data)

    @post("/{bic:str}/keys", guards=[_MEMBER], status_code=200, operation_id="changeKey")
    async def change_key(
        self,
        request: Request[Any, Any, Any],
        bic: BicPath,
        data: JSONBody[Envelope],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Add or replace a key: a `KeyChange`, signed by an active sign key of the member and by the new key."""
        return await registry.change_key(bic, data, caller=request.auth.sub)

    @put(
        "/{bic:str}/bilateral-limits/{counterparty:str}/{currency:str}",
        guards=[_PARTICIPANT],
        operation_id="setBilateralLimit",
    )
    async def set_bilateral_limit(
        self,
        request: Request[Any, Any, Any],
        bic: BicPath,
        counterparty: BicPath,
        currency: CurrencyPath,
        data: JSONBody[BilateralLimitChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Set the most that a counterparty may owe a participant net. Operators propose it, as they do every limit."""
        caller = request.auth
        if caller.sub != bic:
            raise Refusal(RegistryReason.NOT_YOURS, "a participant sets its own limits only")
        limit = None if data.limit_minor is None else int(data.limit_minor)
        return await registry.set_bilateral_limit(bic, counterparty, currency, limit, by=caller.sub, reason=data.reason)


@get("/trust-list", opt={"public": True}, tags=["trust"], operation_id="getTrustList")
async def trust_list(registry: NamedDependency[Registry]) -> Envelope:
    """Show the trust list in force, signed by the coordinator."""
    return await registry.trust_list()


@get("/operators", guards=[_OVERSEER], tags=["trust"], operation_id="getOperators")
async def operators(registry: NamedDependency[Registry]) -> Envelope:
    """Show who operates the clearing house, by which keys: the register in force, signed by the coordinator."""
    return await registry.operators()


def _seen_by(request: Request[Any, Any, Any], view: ParticipantView) -> ParticipantView:
    """Return as much of a participant as the caller may know."""
    if part_of(View.LIMITS, role=request.auth.role, name=request.auth.sub) in (None, view.bic):
        return view
    return msgspec.structs.replace(
        view, settlement_account=None, caps=(), prefunding=(), bilateral_limits=(), last_seen_at=None
    )


route_handlers: list[ControllerRouterHandler] = [ParticipantController, trust_list, operators]
