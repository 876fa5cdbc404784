"""The settlement agent's HTTP application: ISO 20022 for the coordinator, a feed for participants, a desk for staff."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from litestar import Litestar, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, JSONBody, QueryParameter, RawBody

from compliance.crypto.keys import VerifyingKey
from compliance.statements import Bic
from gateway.agent.ledger import Ledger, LedgerReason
from gateway.federation import iso20022
from gateway.federation.clocks import Clocks
from gateway.federation.http.client import FederationClient, MemberIdentity
from gateway.federation.http.clock_watch import ClockWatch
from gateway.federation.http.node import create_app, requires
from gateway.federation.identity.tokens import Claims, TokenVerifier
from gateway.federation.iso20022 import MessageReason, MessageRefused
from gateway.federation.membership.confirmation import keep_confirmed
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.settlement import (
    AccountOpening,
    Funding,
    FundingReceipt,
    SettlementAccountView,
    SettlementNotifications,
)
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.settings import NodeSettings, SettingsError
from gateway.federation.storage.database import asyncpg_pool, head_revision
from gateway.federation.storage.failures import Writability
from gateway.federation.supervision import Supervised, conditions

PACKAGE = "gateway.agent"
TRUST_REFRESH_S = 30
"""The agent follows no feed that tells of a newer list."""
TRUST_RETRY_S = 1
NOTIFICATIONS_MAX = 500
_XML_MEDIA_TYPES = frozenset({iso20022.MEDIA_TYPE, "text/xml"})

AgentRequest = Request[str, Claims, Any]


class Agent:
    """The running agent: whom it trusts and, between `start` and `stop`, its books."""

    def __init__(self, settings: NodeSettings, database_url: str) -> None:
        if settings.anchor is None or settings.coordinator_url is None:
            raise SettingsError("CONCORDAT_ANCHOR and CONCORDAT_COORDINATOR_URL: the agent settles for a coordinator")
        self._settings = settings
        self._database_url = database_url
        self._coordinator_url = settings.coordinator_url
        self._identity = MemberIdentity(settings.bic, settings.keys_dir)
        self._trust = TrustStore.open(settings.anchor, path=settings.trust_list_path)
        self.verifier = TokenVerifier(settings.bic, self._token_key, staff_issuer=settings.url)
        self._revision = head_revision(PACKAGE)
        self._trust_task = Supervised("trust-list-refresh", self._keep_trust_list)
        self._clocks = Clocks(settings.bic)
        self._clock_watch = ClockWatch(self._clocks, self._other_members)
        self._pool: Any = None
        self._writability = Writability()

    @property
    def bic(self) -> str:
        return self._settings.bic

    @property
    def ledger(self) -> Ledger:
        return Ledger(self._pool, self.bic, self._writability)

    async def start(self, _: Litestar) -> None:
        self._pool = await asyncpg_pool(
            self._database_url,
            application_name="concordat agent",
            statement_seconds=self._settings.statement_seconds,
        )
        self._trust_task.start()
        self._clock_watch.start()

    async def stop(self, _: Litestar) -> None:
        await self._clock_watch.stop()
        await self._trust_task.stop()
        await self._pool.close()

    async def ready(self) -> dict[str, str]:
        """Return the state of the database and of the trust list; raises Refusal (503) when one is missing."""
        await self._writability.require_in(self._pool)
        revision = await self._pool.fetchval("SELECT version_num FROM alembic_version")
        if revision != self._revision:
            raise Refusal(ServiceReason.NOT_READY, f"the schema is at revision {revision}", retry_after_s=5)
        if not self._trust.loaded:
            raise Refusal(ServiceReason.NOT_READY, "no trust list yet", retry_after_s=TRUST_RETRY_S)
        return {
            "database": f"revision {revision}",
            "trust_list": f"version {self._trust.current.version}",
            "clocks": self._clocks.condition(),
            **conditions([self._trust_task, self._clock_watch.task]),
        }

    def _other_members(self) -> list[tuple[str, str]]:
        """Return whom to ask for the time, once there is a trust list."""
        return self._trust.others(self.bic) if self._trust.loaded else []

    def _token_key(self, issuer: str, kid: str) -> VerifyingKey | None:
        """Return the key of our own issuer, which vouches for our staff, or of the coordinator's."""
        if issuer == self._settings.url:
            own = self._identity.token.verifying_key
            return own if own.kid == kid else None
        if self._trust.loaded:
            self._trust.require_fresh()
        return self._trust.token_key(issuer, kid)

    async def _keep_trust_list(self) -> None:
        """Keep the trust list fresh. While the coordinator is away, the one we have counts until it expires."""
        async with FederationClient(self.bic, self._identity.auth, self._coordinator_url) as client:
            await keep_confirmed(
                self._trust, client, member=self.bic, on_newer=self.verifier.forget, every_s=TRUST_REFRESH_S
            )


@dataclass
class _XmlOperation(Operation):
    """An operation whose request body is an XML document."""

    def __post_init__(self) -> None:
        body = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
        self.request_body = RequestBody(content={iso20022.MEDIA_TYPE: body}, required=True)


@post(
    "/messages",
    guards=[requires("coordinator")],
    request_max_body_size=iso20022.MESSAGE_BYTES_MAX,
    status_code=200,
    media_type=iso20022.MEDIA_TYPE,
    operation_class=_XmlOperation,
    tags=["settlement"],
    operation_id="settle",
)
async def post_message(
    request: AgentRequest, body: RawBody, agent: NamedDependency[Agent], ledger: NamedDependency[Ledger]
) -> Response[bytes]:
    """Settle a cycle: pacs.029 in, pacs.002 out, both with their head.001 in a BusinessMessage.

    All debits before any credit, all or nothing, final once answered; the same message id gets the same answer.
    """
    if request.content_type[0] not in _XML_MEDIA_TYPES:
        raise Refusal(ServiceReason.UNSUPPORTED_MEDIA_TYPE, f"a message is {iso20022.MEDIA_TYPE}")
    asked_for = await asyncio.to_thread(iso20022.read_settlement_request, body)
    if asked_for.receiver != agent.bic:
        raise MessageRefused(MessageReason.HEADER_MISMATCH, f"addressed to {asked_for.receiver}, not to {agent.bic}")
    if asked_for.sender != request.auth.sub:
        raise MessageRefused(MessageReason.HEADER_MISMATCH, "the sender isn't who calls")
    return Response(await ledger.settle(asked_for, body), media_type=iso20022.MEDIA_TYPE)


@get("/notifications", guards=[requires("participant")], tags=["accounts"], operation_id="listNotifications")
async def get_notifications(
    request: AgentRequest,
    ledger: NamedDependency[Ledger],
    after: Annotated[int, QueryParameter(ge=0, le=2**62, description="`next` of the page before.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=NOTIFICATIONS_MAX)] = 100,
) -> SettlementNotifications:
    """List the caller's notifications (camt.054) after a cursor, oldest first. They are kept for good."""
    return await ledger.notifications(request.auth.sub, after=after, limit=limit)


@get("/accounts", guards=[requires("staff")], tags=["accounts"], operation_id="listAccounts")
async def get_accounts(ledger: NamedDependency[Ledger]) -> tuple[SettlementAccountView, ...]:
    """List all accounts."""
    return await ledger.accounts()


@get("/accounts/{bic:str}", guards=[requires("participant", "staff")], tags=["accounts"], operation_id="getAccounts")
async def get_account(
    request: AgentRequest, bic: FromPath[Bic], ledger: NamedDependency[Ledger]
) -> tuple[SettlementAccountView, ...]:
    """List the accounts of one participant, by currency. A participant sees its own only."""
    if request.auth.role == "participant" and request.auth.sub != bic:
        raise Refusal(LedgerReason.NOT_YOURS, "a participant sees its own accounts")
    return await ledger.accounts(bic)


@post("/accounts", guards=[requires("staff")], tags=["accounts"], operation_id="openAccount")
async def post_account(
    request: AgentRequest, data: JSONBody[AccountOpening], ledger: NamedDependency[Ledger]
) -> SettlementAccountView:
    """Open an account. The same opening again answers with the account as it is."""
    return await ledger.open_account(data, by=request.auth.sub)


@post("/accounts/{bic:str}/funding", guards=[requires("staff")], tags=["accounts"], operation_id="fundAccount")
async def post_funding(
    request: AgentRequest, bic: FromPath[Bic], data: JSONBody[Funding], ledger: NamedDependency[Ledger]
) -> FundingReceipt:
    """Move central money to an account, or back. The same funding again answers with the same receipt."""
    return await ledger.fund(bic, data, by=request.auth.sub)


def build_app(settings: NodeSettings, database_url: str) -> Litestar:
    """Return the agent's application over a migrated database. Raises ConfigurationError."""
    iso20022.require_schemas(*iso20022.DEFINITIONS)
    agent = Agent(settings, database_url)
    return create_app(
        title="Concordat settlement agent",
        version=version("concordat"),
        route_handlers=[post_message, get_notifications, get_accounts, get_account, post_account, post_funding],
        verifier=agent.verifier,
        ready=agent.ready,
        on_startup=[agent.start],
        on_shutdown=[agent.stop],
        dependencies={
            "agent": Provide(lambda: agent, sync_to_thread=False),
            "ledger": Provide(lambda: agent.ledger, sync_to_thread=False),
        },
        limits=settings.limits,
    )
