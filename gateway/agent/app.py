"""The settlement agent's HTTP application: ISO 20022 for the coordinator, a feed for participants, a desk for staff."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from litestar import Litestar, Request, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec.structs import replace

from compliance.bic import known_as, normal_bic
from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey
from compliance.iso20022 import NOTIFICATION_TYPE, SETTLEMENT_ANSWER_TYPE
from gateway.agent.authority import (
    AuthorityReason,
    Coordinator,
    Ruling,
    SignedRequest,
    judge,
    own_rules,
    signed_request,
)
from gateway.agent.ledger import Ledger, LedgerReason
from gateway.federation import iso20022
from gateway.federation.build import VERSION
from gateway.federation.clocks import Clocks
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteError
from gateway.federation.http.clock_watch import ClockWatch
from gateway.federation.http.connection import MESSAGE_BYTES_MAX
from gateway.federation.http.node import create_app, requires
from gateway.federation.http.paging import Page, rows_of
from gateway.federation.http.parameters import form_of
from gateway.federation.identity.tokens import Claims, TokenVerifier
from gateway.federation.membership.confirmation import keep_confirmed
from gateway.federation.membership.trust import FreshnessReason, TrustError, TrustStore
from gateway.federation.messages.base import SpelledBic
from gateway.federation.messages.settlement import (
    AccountOpening,
    Funding,
    FundingReceipt,
    SettlementAccountView,
    SettlementNotifications,
    SettlementOrder,
)
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.settings import NodeSettings, SettingsError
from gateway.federation.signers.signing import signing
from gateway.federation.storage.database import asyncpg_pool, head_revision
from gateway.federation.storage.failures import Writability
from gateway.federation.supervision import Supervised, conditions

T = TypeVar("T")

PACKAGE = "gateway.agent"
TRUST_REFRESH_S = 30
"""The agent follows no feed that tells of a newer list."""
TRUST_AGE_SECONDS_MAX = 60.0
"""To settle by. The coordinator asks, so it is there, and what it published before is known within this time."""
TRUST_RETRY_S = 1
OF_ANOTHER_LIST = frozenset(
    {
        AuthorityReason.AGENT_NOT_ACTIVE,
        AuthorityReason.REQUEST_SIGNATURE_REFUSED,
        AuthorityReason.RESULT_SIGNATURE_REFUSED,
        FreshnessReason.TRUST_LIST_TOO_OLD,
    }
)
"""What a newer trust list may change."""
NOTIFICATIONS_MAX = 500
ORDER_BYTES_MAX = MESSAGE_BYTES_MAX
"""A settlement request and the result with the digest of each pair's statement: 105 MB of 500 banks in 5 currencies."""

BicPath = Annotated[str, PathParameter(**form_of(SpelledBic))]
LINKS = {"bic": {"openAccount": "$response.body#/participant", "listAccounts": "$response.body#/0/participant"}}
"""Where what stands in paths comes from."""
AgentRequest = Request[str, Claims, Any]


class Agent:
    """The running agent: whom it trusts and, between `start` and `stop`, its books."""

    def __init__(self, settings: NodeSettings, database_url: str, now: Callable[[], datetime]) -> None:
        if settings.anchor is None or settings.coordinator_url is None:
            raise SettingsError("CONCORDAT_ANCHOR and CONCORDAT_COORDINATOR_URL: the agent settles for a coordinator")
        self._settings = settings
        self._now = now
        self._database_url = database_url
        self._coordinator_url = settings.coordinator_url
        self._rules = own_rules(settings.rulebook)
        self._trust = TrustStore.open(
            settings.anchor, path=settings.trust_list_path, age_seconds_max=TRUST_AGE_SECONDS_MAX
        )
        self._identity = MemberIdentity(settings.bic, settings.keys_dir, self._trust.anchor.scheme)
        self.verifier = TokenVerifier(settings.bic, self._token_key, staff_issuer=settings.url, members=self._trust)
        self._client = FederationClient(self.bic, self._identity.auth, self._coordinator_url)
        self._revision = head_revision(PACKAGE)
        self._trust_task = Supervised("trust-list-refresh", self._keep_trust_list)
        self._clocks = Clocks(settings.bic)
        self._clock_watch = ClockWatch(self._clocks, self._other_members)
        self._pool: Any = None
        self._writability = Writability()

    def known_as(self, bic: str) -> str:
        """Return the BIC by which the scheme knows the institution of a BIC as people spell it."""
        members = self._trust.current.members if self._trust.loaded else ()
        return known_as(normal_bic(bic), {member.bic for member in members})

    @property
    def bic(self) -> str:
        return self._settings.bic

    @property
    def ledger(self) -> Ledger:
        return Ledger(self._pool, self.bic, self._writability)

    async def settle(self, order: SettlementOrder, evidence: bytes) -> bytes:
        """Answer an order: what was answered before, or by what its documents say. Raises Refusal, MessageRefused.

        What was answered isn't judged again: operators and keys may be others by now, and money has moved.
        """
        asked = await self._by_newest_list(lambda: self._asked(order))
        answer = await self.ledger.answered(asked.request)
        if answer is not None:
            return answer
        ruling = await self._by_newest_list(lambda: self._judged(order, asked))
        return await self.ledger.settle(ruling, evidence)

    async def _by_newest_list(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what goes by the trust list, again by a newer one if that may change a refusal."""
        try:
            return await work()
        except Refusal as refused:
            if refused.reason not in OF_ANOTHER_LIST:
                raise
            try:
                await self._trust.refresh(self._client)
            except (RemoteError, TrustError):
                raise refused from None
            self.verifier.forget()
            return await work()

    async def _asked(self, order: SettlementOrder) -> SignedRequest:
        self._trust.require_fresh()
        return await asyncio.to_thread(signed_request, order.request, coordinator=self._coordinator, agent=self.bic)

    async def _judged(self, order: SettlementOrder, asked: SignedRequest) -> Ruling:
        self._trust.require_fresh()
        own = self._trust.member(self.bic)
        if own is None or own.status != "active":
            said = "not on the trust list" if own is None else own.status
            raise Refusal(AuthorityReason.AGENT_NOT_ACTIVE, f"{self.bic} is {said}", retry_after_s=TRUST_RETRY_S)
        return await asyncio.to_thread(
            judge, order, asked, coordinator=self._coordinator, own=self._rules, at=self._now()
        )

    @property
    def _coordinator(self) -> Coordinator:
        bic = self._trust.anchor.bic
        return Coordinator(
            bic=bic, active=self._trust.signing_keys(bic), known=self._trust.signing_keys(bic, retired=True)
        )

    async def signed(self, message: bytes, payload_type: str) -> Envelope:
        """Sign a message as it is."""
        signer = self._identity.sign
        return await signing(lambda: dsse.seal(message, payload_type, signer), signer)

    async def signed_page(self, page: SettlementNotifications) -> SettlementNotifications:
        """Sign each notification of a page."""
        signer = self._identity.sign

        def sign() -> SettlementNotifications:
            signed = tuple(
                replace(notification, signed=dsse.seal(notification.document.encode(), NOTIFICATION_TYPE, signer))
                for notification in page.notifications
            )
            return replace(page, notifications=signed)

        return await signing(sign, signer)

    def require_own_word(self, claims: Claims) -> None:
        """Let an active participant in by its own assertion, and nobody in its name. Raises Refusal.

        The coordinator issues tokens in anybody's name, and what is on an account is the bank's and ours.
        """
        if claims.iss != claims.sub:
            raise Refusal(LedgerReason.ASSERTION_NEEDED, "a participant says itself who it is, by its `auth` key")
        member = self._trust.member(claims.sub)
        if member is None or member.status != "active":
            raise Refusal(LedgerReason.MEMBER_NOT_ACTIVE, f"{claims.sub} is no active participant")

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
        await self._client.close()
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
            "trust_list": f"version {self._trust.current.version}, confirmed {self._trust.age_s():.0f} s ago",
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
        await keep_confirmed(
            self._trust, self._client, member=self.bic, on_newer=self.verifier.forget, every_s=TRUST_REFRESH_S
        )


@post(
    "/settlements",
    guards=[requires("coordinator")],
    request_max_body_size=ORDER_BYTES_MAX,
    status_code=200,
    tags=["settlement"],
    operation_id="settle",
    opt={"shared": True},  # the one coordinator's, whose orders for several cycles may come at once
)
async def post_settlement(
    request: AgentRequest,
    data: JSONBody[SettlementOrder],
    agent: NamedDependency[Agent],
) -> Envelope:
    """Settle a cycle: a signed pacs.029 with what entitles the coordinator to it in, a signed pacs.002 out.

    All debits before any credit, all or nothing, final once answered; the same message id gets the same answer.
    """
    answer = await agent.settle(data, await request.body())
    return await agent.signed(answer, SETTLEMENT_ANSWER_TYPE)


@get("/notifications", guards=[requires("participant")], tags=["accounts"], operation_id="listNotifications")
async def get_notifications(
    request: AgentRequest,
    agent: NamedDependency[Agent],
    ledger: NamedDependency[Ledger],
    after: Annotated[int, QueryParameter(ge=0, le=2**62, description="`next` of the page before.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=NOTIFICATIONS_MAX)] = 100,
) -> SettlementNotifications:
    """List the caller's notifications (camt.054) after a cursor, oldest first, each signed. They are kept for good."""
    agent.require_own_word(request.auth)
    page = await ledger.notifications(request.auth.sub, after=after, limit=limit)
    return await agent.signed_page(page)


@get("/accounts", guards=[requires("staff")], tags=["accounts"], operation_id="listAccounts")
async def get_accounts(ledger: NamedDependency[Ledger], part: NamedDependency[Page]) -> list[SettlementAccountView]:
    """List all accounts."""
    return rows_of(part, await ledger.accounts(), lambda row: (row.participant, row.currency))


@get("/accounts/{bic:str}", guards=[requires("participant", "staff")], tags=["accounts"], operation_id="getAccounts")
async def get_account(
    request: AgentRequest,
    bic: BicPath,
    agent: NamedDependency[Agent],
    ledger: NamedDependency[Ledger],
    part: NamedDependency[Page],
) -> list[SettlementAccountView]:
    """List the accounts of one participant, by currency. A participant sees its own only."""
    bic = agent.known_as(bic)
    if request.auth.role == "participant":
        agent.require_own_word(request.auth)
        if request.auth.sub != bic:
            raise Refusal(LedgerReason.NOT_YOURS, "a participant sees its own accounts")
    return rows_of(part, await ledger.accounts(bic), lambda row: (row.participant, row.currency))


@post("/accounts", guards=[requires("staff")], tags=["accounts"], operation_id="openAccount")
async def post_account(
    request: AgentRequest,
    data: JSONBody[AccountOpening],
    agent: NamedDependency[Agent],
    ledger: NamedDependency[Ledger],
) -> SettlementAccountView:
    """Open an account. The same opening again answers with the account as it is."""
    opening = replace(data, participant=agent.known_as(data.participant))
    return await ledger.open_account(opening, by=request.auth.sub)


@post("/accounts/{bic:str}/funding", guards=[requires("staff")], tags=["accounts"], operation_id="fundAccount")
async def post_funding(
    request: AgentRequest,
    bic: BicPath,
    data: JSONBody[Funding],
    agent: NamedDependency[Agent],
    ledger: NamedDependency[Ledger],
) -> FundingReceipt:
    """Move central money to an account, or back. The same funding again answers with the same receipt."""
    return await ledger.fund(agent.known_as(bic), data, by=request.auth.sub)


def build_app(
    settings: NodeSettings, database_url: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Litestar:
    """Return the agent's application over a migrated database. `now` is its clock. Raises ConfigurationError."""
    iso20022.require_schemas(*iso20022.DEFINITIONS)
    agent = Agent(settings, database_url, now)
    return create_app(
        title="Concordat settlement agent",
        version=VERSION,
        route_handlers=[post_settlement, get_notifications, get_accounts, get_account, post_account, post_funding],
        verifier=agent.verifier,
        ready=agent.ready,
        on_startup=[agent.start],
        on_shutdown=[agent.stop],
        dependencies={
            "agent": Provide(lambda: agent, sync_to_thread=False),
            "ledger": Provide(lambda: agent.ledger, sync_to_thread=False),
        },
        limits=settings.limits,
        links=LINKS,
    )
