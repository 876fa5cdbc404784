"""HTTP: participants, their life cycle, limits, settlement accounts and keys; the trust list."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter
from litestar.types import ControllerRouterHandler

from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import Reader, View, part_of
from compliance.cycle.limits import Prefunding
from compliance.statements import BIC_PATTERN, CURRENCY_PATTERN
from gateway.coordinator.registry.lifecycle import RegistryReason, Step
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.sight import Caller, reader_of, shows
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.http.node import requires
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.membership.documents import SettlementAccountChange
from gateway.federation.messages.limits import BilateralLimitChange, CapChange, PrefundingChange
from gateway.federation.messages.participants import (
    Invitation,
    InvitationView,
    ParticipantPage,
    ParticipantView,
    StatusChange,
)
from gateway.federation.problems import Refusal

BicPath = Annotated[str, PathParameter(pattern=BIC_PATTERN)]
CurrencyPath = Annotated[str, PathParameter(pattern=CURRENCY_PATTERN)]
StepPath = Annotated[Step, PathParameter(description="What happens to the participant.")]

_OPERATOR = requires("operator")
_MEMBER = requires("participant", "agent", "coordinator")
_LIMITING = requires("operator", "participant")
_READER = shows(View.PARTICIPANTS)


class ParticipantController(Controller):
    path = "/participants"
    tags = ["participants"]  # noqa: RUF012 - Litestar's own attribute

    @get("/", **_READER, operation_id="listParticipants")
    async def page(
        self, request: Caller, registry: NamedDependency[Registry], page: NamedDependency[Page]
    ) -> ParticipantPage:
        """List the participants by BIC. A participant sees limits and accounts of its own only, and no applicants."""
        found = await registry.page(after=page.text() or "", limit=page.limit + 1)
        reader = await reader_of(request)
        items = tuple(_part(reader, item) for item in found[: page.limit] if _is_shown(reader, item))
        return ParticipantPage(
            items=items, next=encode_cursor(found[page.limit - 1].bic) if len(found) > page.limit else None
        )

    @get("/{bic:str}", **_READER, operation_id="getParticipant")
    async def facts(self, request: Caller, bic: BicPath, registry: NamedDependency[Registry]) -> ParticipantView:
        """Show one participant; an applicant is unknown to all but operators and itself."""
        view, reader = await registry.view(bic), await reader_of(request)
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
        return await registry.invite(bic, by=request.auth.sub, reason=data.reason)

    @post("/{bic:str}/keys", guards=[_MEMBER], opt=WHILE_INACTIVE, status_code=200, operation_id="changeKey")
    async def change_key(
        self,
        request: Caller,
        bic: BicPath,
        data: JSONBody[Envelope],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Add or replace a key: a `KeyChange`, signed by an active sign key of the member and by the new key."""
        return await registry.change_key(bic, data, caller=request.auth.sub)

    @post("/{bic:str}/{step:str}", guards=[_OPERATOR], status_code=200, operation_id="moveParticipant")
    async def step(
        self,
        request: Caller,
        bic: BicPath,
        step: StepPath,
        data: JSONBody[StatusChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Approve, activate, suspend a participant, or let it leave."""
        return await registry.step(bic, step, by=request.auth.sub, reason=data.reason)

    @put("/{bic:str}/caps/{currency:str}", guards=[_OPERATOR], operation_id="setCap")
    async def set_cap(
        self,
        request: Caller,
        bic: BicPath,
        currency: CurrencyPath,
        data: JSONBody[CapChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Set a net debit cap; it counts from the next netting on."""
        return await registry.set_cap(bic, currency, int(data.cap_minor), by=request.auth.sub, reason=data.reason)

    @put("/{bic:str}/prefunding/{currency:str}", guards=[_OPERATOR], operation_id="setPrefunding")
    async def set_prefunding(
        self,
        request: Caller,
        bic: BicPath,
        currency: CurrencyPath,
        data: JSONBody[PrefundingChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Set what a participant prefunded beside its cap; it counts from the next netting on."""
        prefunding = Prefunding(
            participant=bic,
            currency=currency,
            prefunded_minor=data.prefunded_minor,
            reserved_minor=data.reserved_minor,
        )
        return await registry.set_prefunding(prefunding, by=request.auth.sub, reason=data.reason)

    @put(
        "/{bic:str}/bilateral-limits/{counterparty:str}/{currency:str}",
        guards=[_LIMITING],
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
        """Set the most that a counterparty may owe a participant net; a participant sets its own limits."""
        caller = request.auth
        if caller.role == "participant" and caller.sub != bic:
            raise Refusal(RegistryReason.NOT_YOURS, "a participant sets its own limits only")
        limit = None if data.limit_minor is None else int(data.limit_minor)
        return await registry.set_bilateral_limit(bic, counterparty, currency, limit, by=caller.sub, reason=data.reason)

    @put("/{bic:str}/settlement-account", guards=[_OPERATOR], operation_id="setSettlementAccount")
    async def set_settlement_account(
        self,
        request: Caller,
        bic: BicPath,
        data: JSONBody[SettlementAccountChange],
        registry: NamedDependency[Registry],
    ) -> ParticipantView:
        """Set where a participant settles."""
        return await registry.set_settlement_account(bic, data.settlement, by=request.auth.sub, reason=data.reason)


@get("/trust-list", opt={"public": True}, tags=["trust"], operation_id="getTrustList")
async def trust_list(registry: NamedDependency[Registry]) -> Envelope:
    """Show the trust list in force as members of 0.2 read it: without the times of keys."""
    return await registry.trust_list(dated=False)


@get("/v2/trust-list", opt={"public": True}, tags=["trust"], operation_id="getDatedTrustList")
async def dated_trust_list(registry: NamedDependency[Registry]) -> Envelope:
    """Show the trust list in force, signed by the coordinator."""
    return await registry.trust_list()


@get("/trust-list/confirmation", opt={"public": True}, tags=["trust"], operation_id="confirmTrustList")
async def trust_list_confirmation(registry: NamedDependency[Registry]) -> Envelope:
    """Show the coordinator's signed word which trust list is the newest now, and until when it counts."""
    return await registry.trust_list_confirmation()


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
]
