"""A bank's node: its parts, put together, started and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from compliance.bic import HEAD_OFFICE, known_as, normal_bic
from compliance.crypto.keys import VerifyingKey
from gateway.federation.clocks import Clocks
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteError
from gateway.federation.http.clock_watch import ClockWatch
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.identity.tokens import Claims, TokenVerifier
from gateway.federation.membership.confirmation import keep_confirmed
from gateway.federation.membership.institution import member_assertions
from gateway.federation.membership.trust import TrustError, TrustStore
from gateway.federation.problems import Refusal
from gateway.federation.settings import NodeSettings, SettingsError
from gateway.federation.sharing import in_slices
from gateway.federation.storage.database import asyncpg_pool, check_schema, create_engine
from gateway.federation.storage.sessions import connect
from gateway.federation.supervision import Supervised
from participants.access.sign_in import SignIn
from participants.continuity.continuity import Continuity
from participants.continuity.watermark import Watermark
from participants.cycle.follower import Follower
from participants.cycle.nostro import NostroBooking
from participants.cycle.settlement_account import SettlementAccount
from participants.cycle.value_dates import own_days
from participants.feed.feed import Feed
from participants.ledger import MIGRATIONS
from participants.ledger.events import PaymentOrder
from participants.ledger.partitions import Partitions
from participants.ledger.store import payments_here
from participants.ledger.writer import Ledger
from participants.payments.backlog import Backlog
from participants.payments.batches import Batch, Known, SubmitBatch, named_batches, paid_earlier, require_maker, tried
from participants.payments.exposures import ExposureWatch
from participants.payments.inbound import Inbound
from participants.payments.orders import (
    CheckedOrder,
    OrderOutcome,
    OrderReason,
    ReadableOrder,
    SubmitOrders,
    creditor_refusal,
    replayed,
)
from participants.payments.outbound import Outbound
from participants.payments.recall_desk import RecallDesk
from participants.payments.screening import Screener
from participants.payments.unsettled import UnsettledWatch
from participants.reconciliation.reconciliations import Reconciliations
from participants.roles import PeerReason, Role
from participants.search.terms import Terms
from participants.watch import Outage
from participants.webhooks.signing import WebhookSecrets
from participants.webhooks.targets import Targets
from participants.webhooks.webhooks import Webhooks

TRUST_RETRY_SECONDS_MAX = 5.0
KEPT_LIST_SECONDS = 2.0
"""How long a start waits for a newer trust list where there is one already."""
FEED_CONNECTIONS = 2
"""Of those who ask for events, and as many of the webhooks."""
SUBMITTED_ITEMS_MAX = 512
"""So many orders of a request go to the ledger's writer as one command."""

log = structlog.get_logger(__name__)


class BankNode:
    """Everything a bank's node runs on: ledger, trust list, senders, follower, screening."""

    ledger: Ledger
    sign_in: SignIn
    pool: asyncpg.Pool
    outbound: Outbound
    inbound: Inbound
    recalls: RecallDesk
    reconciliations: Reconciliations
    continuity: Continuity
    follower: Follower
    settlement_account: SettlementAccount
    screener: Screener
    exposures: ExposureWatch
    backlog: Backlog
    feed: Feed
    webhooks: Webhooks
    unsettled: UnsettledWatch
    terms: Terms
    partitions: Partitions
    agents: dict[str, OrderReason | None]
    head_offices: dict[str, str]
    """Banks that the scheme knows under a BIC with XXX, by its normal form."""

    def __init__(self, settings: NodeSettings, database_url: str) -> None:
        if settings.anchor is None:
            raise SettingsError("CONCORDAT_ANCHOR: expected the file of the scheme's trust anchor, found nothing")
        if settings.coordinator_url is None:
            raise SettingsError("CONCORDAT_COORDINATOR_URL: expected the coordinator's base URL, found nothing")
        self.settings = settings
        self.bic = settings.bic
        self.database_url = database_url
        self.trust = TrustStore.open(
            settings.anchor, path=settings.trust_list_path, age_seconds_max=settings.trust_list_age_seconds_max
        )
        self.identity = MemberIdentity(settings.bic, settings.keys_dir, self.trust.anchor.scheme)
        self.coordinator = self.trust.anchor.bic
        self._staff_key = self.identity.token.verifying_key
        self.verifier = TokenVerifier(
            settings.bic,
            self._token_key,
            staff_issuer=settings.url,
            staff_roles=tuple(Role),
            members=self.trust,
            withdrawn=lambda claims: self.sign_in.withdrawn(claims),
        )
        auth, coordinator_url = self.identity.auth, settings.coordinator_url
        self.client = FederationClient(settings.bic, auth, coordinator_url)
        # Other banks are called without the coordinator's help, so it may be away.
        self.peers = FederationClient(
            settings.bic, auth, coordinator_url, token_source=member_assertions(auth, settings.bic)
        )
        self._days = own_days(settings.rulebook)
        self.trust_task = Supervised("trust-list-refresh", self._keep_trust_list)
        self.clocks = Clocks(settings.bic)
        self.clock_watch = ClockWatch(self.clocks, lambda: self.trust.others(self.bic))
        self.agents = {}
        self.stopping = asyncio.Event()
        """Set once the node drains: whoever waits for news then goes with what he has."""
        self.waits_for: Callable[[str], None] = lambda _: None
        """Told what a start waits for."""
        self.head_offices = {}

    def _token_key(self, issuer: str, kid: str) -> VerifyingKey | None:
        """Tokens are of the bank's own issuer alone: nobody else says who may see its books."""
        return self._staff_key if (issuer, kid) == (self.settings.url, self._staff_key.kid) else None

    async def admit(self, claims: Claims, opt: Mapping[str, Any]) -> None:
        """Refuse another bank that isn't active, but where a route takes it even so. Raises Refusal."""
        if claims.role != "participant":
            return
        member = self.trust.member(claims.sub)
        status = "unknown" if member is None else member.status
        if status != "active" and not (status == "suspended" and WHILE_INACTIVE.items() <= opt.items()):
            raise Refusal(PeerReason.SENDER_NOT_ACTIVE, f"{claims.sub} is {status}")

    async def start(self) -> None:
        """Start every part. Waits for the first trust list if there is none yet."""
        await self._trust_list()
        engine = create_engine(self.database_url, pool_size=1)
        try:
            await check_schema(engine, MIGRATIONS)
        finally:
            await engine.dispose()
        self.pool = await asyncpg_pool(
            self.database_url,
            max_size=6,
            application_name=f"concordat {self.bic}",
            statement_seconds=self.settings.statement_seconds,
        )
        outage = Outage()
        self.sign_in = SignIn(
            self.pool,
            outage,
            bank=self.bic,
            issuer=self.settings.url,
            scheme=self.trust.anchor.scheme,
            key=self.identity.token,
            forget=self.verifier.forget,
        )
        await self.sign_in.start()
        # Apart from the pool that payments go by, however many hear of them.
        self._feed_pool, self._webhook_pool = [
            await asyncpg_pool(
                self.database_url,
                max_size=FEED_CONNECTIONS,
                application_name=f"concordat {self.bic} {what}",
                statement_seconds=self.settings.statement_seconds,
            )
            for what in ("feed", "webhooks")
        ]
        self.feed = Feed(self._webhook_pool, self.stopping, clients=self._feed_pool)
        self.webhooks = Webhooks(
            bank=self.bic,
            pool=self._webhook_pool,
            feed=self.feed,
            secrets=WebhookSecrets(self.settings.keys_dir),
            targets=Targets(self.settings.webhook_hosts, self.settings.webhook_networks),
        )
        self.ledger = Ledger(self._connect, bank=self.bic, agent=self._agent(), funding=self.settings.funding_account)
        await self.ledger.start()
        self.screener = Screener(self.pool, self.bic)
        await self.screener.start()
        self.exposures = ExposureWatch(self.bic, self.pool, outage)
        self.unsettled = UnsettledWatch(self.bic, self.pool, outage)
        self.terms = Terms(self._feed_pool)
        self.partitions = Partitions(self._feed_pool)
        self.continuity = Continuity(
            bank=self.bic,
            coordinator=self.coordinator,
            key=self.identity.sign.verifying_key,
            ledger=self.ledger,
            pool=self.pool,
            trust=self.trust,
            client=self.client,
            peers=self.peers,
            watermark=Watermark(self.settings.data_dir / "ledger-seen.json"),
        )
        await self.continuity.start()
        self.inbound = Inbound(
            bank=self.bic,
            ledger=self.ledger,
            pool=self.pool,
            trust=self.trust,
            signer=self.identity.sign,
            screener=self.screener,
            agree_with=self.continuity.agree_with,
        )
        self.outbound = Outbound(
            bank=self.bic,
            ledger=self.ledger,
            pool=self.pool,
            trust=self.trust,
            client=self.peers,
            signer=self.identity.sign,
            agree_with=self.continuity.agree_with,
        )
        self.recalls = RecallDesk(
            bank=self.bic,
            ledger=self.ledger,
            pool=self.pool,
            trust=self.trust,
            client=self.peers,
            signer=self.identity.sign,
        )
        self.reconciliations = Reconciliations(
            bank=self.bic,
            pool=self.pool,
            trust=self.trust,
            client=self.peers,
            signer=self.identity.sign,
            outage=outage,
            ask_again=lambda counterparty, payments: self.outbound.wake(counterparty, payments=payments),
        )
        self.backlog = Backlog(self.bic, self.pool, outage, held_elsewhere=self.outbound.held_elsewhere)
        self.settlement_account = SettlementAccount(
            bank=self.bic,
            agent=self._agent(),
            pool=self.pool,
            trust=self.trust,
            client=self.client,
            peers=self.peers,
            trust_changed=self._trust_changed,
            nostro=NostroBooking(self.pool, self.ledger),
        )
        self.follower = Follower(
            bank=self.bic,
            coordinator=self.coordinator,
            ledger=self.ledger,
            pool=self.pool,
            trust=self.trust,
            client=self.client,
            signer=self.identity.sign,
            outbound=self.outbound,
            screener=self.screener,
            peers=self.peers,
            agree=self.continuity.agree_with_coordinator,
            cut_kept=self.continuity.remember,
            trust_changed=self._trust_changed,
            settled=self.settlement_account.wake,
            days=self._days,
            broken=self.reconciliations.look_into,
        )
        self._trust_changed()
        self.clock_watch.start()
        self.outbound.start()
        self.recalls.start()
        self.reconciliations.start()
        self.follower.start()
        self.exposures.task.start()
        self.backlog.task.start()
        self.feed.start()
        self.webhooks.start()
        self.unsettled.task.start()
        self.terms.task.start()
        self.partitions.task.start()
        self.settlement_account.start()
        self.trust_task.start()

    async def stop(self) -> None:
        """Stop taking part, write what was submitted, let go of everything."""
        await self.sign_in.task.stop()
        await self.trust_task.stop()
        await self.backlog.task.stop()
        await self.exposures.task.stop()
        await self.webhooks.stop()
        await self.feed.stop()
        await self.unsettled.task.stop()
        await self.terms.task.stop()
        await self.partitions.task.stop()
        await self.settlement_account.task.stop()
        await self.follower.stop()
        await self.reconciliations.stop()
        await self.recalls.stop()
        await self.outbound.stop()
        await self.continuity.stop()
        await self.clock_watch.stop()
        await self.ledger.stop()
        await self.peers.close()
        await self.client.close()
        await self._feed_pool.close()
        await self._webhook_pool.close()
        await self.pool.close()

    def names_otherwise(self, orders: Sequence[ReadableOrder]) -> bool:
        """Tell whether an order names a bank by another BIC than the scheme does."""
        return any(order.value.creditor_agent in self.head_offices for order in orders)

    def addressed(self, order: PaymentOrder) -> PaymentOrder:
        """Return an order with its bank as the scheme names it."""
        known_as = self.head_offices.get(order.creditor_agent)
        return order if known_as is None else replace(order, creditor_agent=known_as)

    async def submit(self, orders: Sequence[ReadableOrder]) -> list[OrderOutcome]:
        """Decide orders of the bank's own customers, each for itself; return when that is durable.

        Many are decided a part at a time, so that the first are being written while the next are decided.
        """
        await self.screener.prepare([order.value for order in orders])
        checked = await in_slices(self.check, orders)
        parts = range(0, len(checked), SUBMITTED_ITEMS_MAX)
        outcomes = await self.ledger.submit_each(
            [SubmitOrders(checked[start : start + SUBMITTED_ITEMS_MAX]) for start in parts]
        )
        return [outcome for part in outcomes for outcome in part]

    async def submit_few(self, orders: Sequence[ReadableOrder]) -> list[OrderOutcome]:
        """Do what `submit` does of orders that are a slice of work at most, and wait for nobody else's."""
        await self.screener.prepare([order.value for order in orders])
        return await self.ledger.submit(SubmitOrders(self.check(orders)))

    async def submit_batch(
        self, orders: Sequence[ReadableOrder], batch: Batch | None, *, atomic: bool, dry_run: bool
    ) -> list[OrderOutcome]:
        """Decide orders of a batch, or say how they would be decided; return when what was decided is durable."""
        await self.screener.prepare([order.value for order in orders])
        earlier: Mapping[str, str] = {}
        if batch is not None:
            async with self.pool.acquire() as connection:
                await require_maker(connection, batch)
                earlier = await paid_earlier(connection, self.bic, [order.value for order in orders])
        new = [order for order in orders if order.value.id not in earlier]
        checked = await in_slices(self.check, new)
        if dry_run:
            async with self.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                agent = self.ledger.books.agent
                decided = await tried(connection, checked, bank=self.bic, agent=agent, atomic=atomic)
        else:
            known = []
            if batch is not None and earlier:
                numbered = list(zip(orders, batch.lines, strict=True))
                known = [Known(earlier[o.value.id], line) for o, line in numbered if o.value.id in earlier]
                lines = [line for order, line in numbered if order.value.id not in earlier]
                batch = msgspec.structs.replace(batch, lines=lines)
            decided = await self.ledger.submit(SubmitBatch(checked, batch=batch, atomic=atomic, known=known))
        if batch is None:
            return decided
        async with self.pool.acquire() as connection:
            outcomes = iter(await named_batches(connection, decided))
            paid, _ = await payments_here(connection, earlier.values()) if earlier else ({}, None)
        return [
            replayed(id_, paid.get(earlier[id_])) if (id_ := order.value.id) in earlier else next(outcomes)
            for order in orders
        ]

    def check(self, orders: Sequence[ReadableOrder]) -> list[CheckedOrder]:
        """Screen orders and look up the banks they go to: all that is decided before the books."""
        hits_for, banks, unknown = self.screener.hits_for, self.agents, OrderReason.CREDITOR_AGENT_UNKNOWN
        return [
            CheckedOrder(
                order,
                hits_for(order.value),
                banks.get(order.value.creditor_agent, unknown) or creditor_refusal(order.value),
            )
            for order in orders
        ]

    async def _connect(self) -> asyncpg.Connection:
        return await connect(
            self.database_url,
            application_name=f"concordat {self.bic} ledger",
            statement_seconds=self.settings.statement_seconds,
        )

    async def _keep_trust_list(self) -> None:
        await keep_confirmed(self.trust, self.client, member=self.bic, on_newer=self._trust_changed)

    async def _trust_list(self) -> None:
        """Fetch the trust list; go on with the kept one if the coordinator is away, wait if there is none."""
        delay = 0.1
        while True:
            try:
                async with asyncio.timeout(KEPT_LIST_SECONDS if self.trust.loaded else None):
                    await self.trust.refresh(self.client)
                return
            except (RemoteError, TrustError, TimeoutError) as error:
                if self.trust.loaded:
                    log.warning("coordinator away, going on with the kept trust list", error=str(error)[:200])
                    return
                self.waits_for(f"waiting for the first trust list: {str(error)[:200]}")
                log.warning(
                    "waiting for the first trust list: the coordinator gives none yet",
                    coordinator=self.settings.coordinator_url,
                    error=str(error)[:200],
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, TRUST_RETRY_SECONDS_MAX)

    def _agent(self) -> str:
        """Return the settlement agent's BIC."""
        agents = [m.bic for m in self.trust.current.members if m.kind == "agent" and m.status == "active"]
        if len(agents) != 1:
            raise SettingsError(f"the trust list names {len(agents)} active settlement agents; expected one")
        return agents[0]

    def _trust_changed(self) -> None:
        """Take up who may be paid from the trust list."""
        agents: dict[str, OrderReason | None] = {}
        for member in self.trust.current.members:
            if member.kind == "participant":
                active = member.status == "active"
                agents[member.bic] = None if active else OrderReason.CREDITOR_AGENT_NOT_ACTIVE
        agents[self.bic] = OrderReason.CREDITOR_AGENT_IS_SELF
        self.agents = agents
        self.head_offices = {
            bic.removesuffix(HEAD_OFFICE): bic
            for bic in agents
            if known_as(normal_bic(bic), agents) == bic != normal_bic(bic)
        }
        self.verifier.forget()
