"""HTTP: participants, the limits that they grant and their keys; the trust list and the register of operators.

What operators change they propose, and another one confirms: `gateway.coordinator.cycles.api`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler

from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import Reader, View, part_of, readers
from compliance.statements import CurrencyCode
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.sight import Caller, reader_of, shows
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.http.node import requires
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.base import SpelledBic
from gateway.federation.messages.calendar import CalendarView
from gateway.federation.messages.limits import BilateralLimitChange
from gateway.federation.messages.participants import (
    Invitation,
    InvitationView,
    ParticipantPage,
    ParticipantView,
    RulebookView,
)
from gateway.federation.problems import Refusal

BicPath = Annotated[str, PathParameter(**form_of(SpelledBic))]
CurrencyPath = Annotated[str, PathParameter(**form_of(CurrencyCode))]

CALENDAR_DAYS_MAX = 400

_MEMBER = requires("participant", "agent", "coordinator")
_OPERATOR = requires("operator")
_PARTICIPANT = requires("participant")
_OVERSEER = requires(*readers(View.OPERATORS))
_KNOWS_OPERATORS = requires(*readers(View.OPERATORS), "agent")
_READER = shows(View.PARTICIPANTS)


class ParticipantController(Controller):
    path = "/participants"
    tags = ["participants"]  # noqa: RUF012 - Litestar's own attribute

    @get("/", **_READER, operation_id="listParticipants")
    async def page(
        self, request: Caller, registry: NamedDependency[Registry], page: NamedDependency[Page]
    ) -> ParticipantPage:
        """List the participants by BIC. A participant sees limits and accounts of its own only, and no applicants."""
        views = await registry.page(after=page.text() or "", limit=page.limit + 1)
        reader = await reader_of(request)
        items = tuple(_part(reader, item) for item in views[: page.limit] if _is_shown(reader, item))
        return ParticipantPage(
            items=items, next=encode_cursor(views[page.limit - 1].bic) if len(views) > page.limit else None
        )

    @get("/{bic:str}", **_READER, operation_id="getParticipant")
    async def facts(self, request: Caller, bic: BicPath, registry: NamedDependency[Registry]) -> ParticipantView:
        """Show one participant; an applicant is unknown to all but operators and itself."""
        view, reader = await registry.view(await registry.known_as(bic)), await reader_of(request)
        if not _is_shown(reader, view):
            raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, f"no participant {bic}")
        return _part(reader, view)

    @post("/", opt={"public": True}, operation_id="applyAsParticipant")
    async def apply(self, data: JSONBody[Envelope], registry: NamedDependency[Registry]) -> ParticipantView:
        """Apply for membership: an `Application` of a bank that was invited, signed by the sign key that it offers."""
        return await registry.apply(data)

    @post("/{bic:str}/invitation", guards=[_OPERATOR], status_code=200, operation_id="invite")
    async def invite(
        self,
        request: Caller,
        bic: BicPath,
        data: JSONBody[Invitation],
        registry: NamedDependency[Registry],
    ) -> InvitationView:
        """Make the one-time code by which a bank may apply. It is shown this once; an earlier one counts no more."""
        return await registry.invite(await registry.known_as(bic), by=request.auth.sub, reason=data.reason)

    @post("/{bic:str}/keys", guards=[_MEMBER], opt=WHILE_INACTIVE, status_code=200, operation_id="changeKey")
    async def change_key(
        self,
        request: Caller,
        bic: BicPath,
        data: JSONBody[Envelope],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Add or replace a key: a `KeyChange`, signed by an active sign key of the member and by the new key."""
        return await registry.change_key(await registry.known_as(bic), data, caller=request.auth.sub)

    @put(
        "/{bic:str}/bilateral-limits/{counterparty:str}/{currency:str}",
        guards=[_PARTICIPANT],
        operation_id="setBilateralLimit",
    )
    async def set_bilateral_limit(
        self,
        request: Caller,
        bic: BicPath,
        counterparty: BicPath,
        currency: CurrencyPath,
        data: JSONBody[BilateralLimitChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Set the most that a counterparty may owe a participant net. Operators propose it, as they do every limit."""
        caller = request.auth
        bic, counterparty = await registry.known_as(bic), await registry.known_as(counterparty)
        if caller.sub != bic:
            raise Refusal(RegistryReason.NOT_YOURS, "a participant sets its own limits only")
        limit = None if data.limit_minor is None else int(data.limit_minor)
        return await registry.set_bilateral_limit(bic, counterparty, currency, limit, by=caller.sub, reason=data.reason)


@get("/trust-list", opt={"public": True}, tags=["trust"], operation_id="getTrustList")
async def trust_list(registry: NamedDependency[Registry]) -> Envelope:
    """Show the trust list in force in the form of 0.1: without the times of keys."""
    return await registry.trust_list(dated=False)


@get("/v2/trust-list", opt={"public": True}, tags=["trust"], operation_id="getDatedTrustList")
async def dated_trust_list(registry: NamedDependency[Registry]) -> Envelope:
    """Show the trust list in force, signed by the coordinator."""
    return await registry.trust_list()


@get("/trust-list/confirmation", opt={"public": True}, tags=["trust"], operation_id="confirmTrustList")
async def trust_list_confirmation(registry: NamedDependency[Registry]) -> Envelope:
    """Show the coordinator's signed word which trust list is the newest now, and until when it counts."""
    return await registry.trust_list_confirmation()


@get("/rulebook", guards=[_OVERSEER], tags=["trust"], operation_id="getRulebook")
async def rulebook(registry: NamedDependency[Registry]) -> RulebookView:
    """Show which rulebook two operators agreed on last, and the coordinator goes by from its next start."""
    return await registry.rulebook()


@get("/operators", guards=[_KNOWS_OPERATORS], tags=["trust"], operation_id="getOperators")
async def operators(registry: NamedDependency[Registry]) -> Envelope:
    """Show who operates the clearing house, by which keys: the register in force, signed by the coordinator."""
    return await registry.operators()


@get("/calendar", **_READER, tags=["calendar"], operation_id="getCalendar")
async def calendar(
    registry: NamedDependency[Registry],
    days: Annotated[int, QueryParameter(ge=1, le=CALENDAR_DAYS_MAX, description="How many, from today on.")] = 31,
) -> CalendarView:
    """Show on which days to come which currencies don't settle, and why."""
    return await registry.calendar(days)


def _is_shown(reader: Reader, view: ParticipantView) -> bool:
    """Tell whether a reader may know of a participant: of those that aren't in the trust list operators alone do."""
    if view.status != "applied":
        return True
    return reader.sees(View.APPLICANTS) and part_of(View.APPLICANTS, role=reader.role, name=reader.name) in (
        None,
        view.bic,
    )


def _part(reader: Reader, view: ParticipantView) -> ParticipantView:
    """Return as much of a participant as a reader may know."""
    if part_of(View.LIMITS, role=reader.role, name=reader.name) in (None, view.bic):
        return view
    return msgspec.structs.replace(
        view, settlement_account=None, caps=(), prefunding=(), bilateral_limits=(), last_seen_at=None
    )


route_handlers: list[ControllerRouterHandler] = [
    ParticipantController,
    trust_list,
    dated_trust_list,
    trust_list_confirmation,
    rulebook,
    operators,
    calendar,
]
