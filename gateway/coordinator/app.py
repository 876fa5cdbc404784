"""The coordinator's application: its services put together, and the node around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.crypto.keys import VerifyingKey
from gateway.coordinator.access.sign_in import token_service
from gateway.coordinator.access.standing import Standing
from gateway.coordinator.cycles import api as cycles_api
from gateway.coordinator.cycles import evidence_api
from gateway.coordinator.cycles.driver import Driver
from gateway.coordinator.cycles.kernels import may_be_needed
from gateway.coordinator.cycles.schedule import Schedule
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.cycles.settlement import HttpSettlementClient
from gateway.coordinator.hot_path import HotPath
from gateway.coordinator.log import api as log_api
from gateway.coordinator.log.feed import EventFeed
from gateway.coordinator.registry import api as registry_api
from gateway.coordinator.registry import exposure as registry_exposure
from gateway.coordinator.registry import members
from gateway.coordinator.registry.lifecycle import Status
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.access.api import members_endpoint
from gateway.federation.build import VERSION
from gateway.federation.clocks import Clocks
from gateway.federation.http.client import AccessToken, FederationClient, MemberIdentity
from gateway.federation.http.clock_watch import ClockWatch
from gateway.federation.http.edge import Authentication
from gateway.federation.http.node import create_app
from gateway.federation.identity.tokens import TOKEN_LIFETIME_MAX_S, KeyLookup, TokenVerifier, issue_access_token
from gateway.federation.membership.documents import Application
from gateway.federation.membership.institution import offered
from gateway.federation.settings import NodeSettings
from gateway.federation.signers.signing import signing
from gateway.federation.storage.database import check_schema, create_engine, transaction
from gateway.federation.storage.failures import Writability
from gateway.federation.supervision import conditions

PACKAGE = "gateway.coordinator"
DECIDING_SECONDS_MAX = 15.0
"""What is attested is matched within the transaction that closes attestation: seconds, with hundreds of banks."""


@dataclass(frozen=True, kw_only=True)
class CoordinatorCore:
    """The coordinator's keys, rulebook, database and registry: what all its services use. Belongs to one event loop."""

    settings: NodeSettings
    identity: MemberIdentity
    rulebook: Rulebook
    engine: AsyncEngine
    registry: Registry

    @classmethod
    def open(cls, settings: NodeSettings, database_url: str, rulebook: Rulebook) -> CoordinatorCore:
        """Open the keys and the database; nothing is read or written yet."""
        identity = MemberIdentity.of_coordinator(settings.bic, settings.keys_dir)
        engine = create_engine(
            database_url,
            application_name="concordat coordinator",
            statement_seconds=settings.statement_seconds,
            idle_in_transaction_seconds=DECIDING_SECONDS_MAX,
        )
        registry = Registry(engine, signer=identity.sign, issuer=settings.url, rulebook=rulebook)
        return cls(settings=settings, identity=identity, rulebook=rulebook, engine=engine, registry=registry)

    async def register_itself(self, name: str) -> None:
        """Enter the coordinator in its own registry, unless it is there."""
        await self.registry.initialise(own_application(self.settings, self.identity, name))

    async def own_token(self, audience: str) -> AccessToken:
        """Issue an access token for the coordinator itself, as a `FederationClient`'s token source."""
        token = await signing(
            lambda: issue_access_token(
                key=self.identity.token,
                issuer=self.settings.url,
                subject=self.settings.bic,
                audience=audience,
                client_id=self.settings.bic,
                role="coordinator",
            ),
            self.identity.token,
        )
        return AccessToken(access_token=token, expires_in=TOKEN_LIFETIME_MAX_S)


def own_application(settings: NodeSettings, identity: MemberIdentity, name: str) -> Application:
    """Return the coordinator as a member of its own scheme."""
    keys = (
        offered("auth", identity.auth),
        offered("sign", identity.sign),
        offered("token", identity.token),
    )
    return Application(bic=settings.bic, name=name, url=settings.url, keys=keys)


LINKS = {
    "cycle": {
        "openCycle": "$response.body#/id",
        "getCurrentCycle": "$response.body#/id",
        "listCycles": "$response.body#/items/0/cycle/id",
    },
    "proposal": {
        "propose": "$response.body#/id",
        "proposeAct": "$response.body#/id",
        "listPendingProposals": "$response.body#/proposals/0/id",
    },
    "bic": {"listParticipants": "$response.body#/items/0/bic"},
    "counterparty": {"listParticipants": "$response.body#/items/1/bic"},
}
"""Where what stands in paths comes from."""


def build(settings: NodeSettings, database_url: str, rulebook: Rulebook, *, name: str) -> Litestar:
    """Return the coordinator's application on a migrated database."""
    core = CoordinatorCore.open(settings, database_url, rulebook)
    clocks = Clocks(settings.bic)
    tokens = token_service(
        core.engine, issuer=settings.url, scheme=core.identity.scheme, key=core.identity.token, clocks=clocks
    )
    # Members sign in here every few minutes, and say what time it is by that; so nobody has to be asked.
    clock_watch = ClockWatch(clocks, tuple)
    feed = EventFeed(core.engine, database_url)
    standing = Standing(core.engine)
    core.registry.changed = standing.forget
    writability = Writability()
    writability.watch(core.engine)

    to_agent = FederationClient(settings.bic, core.identity.auth, settings.url, token_source=core.own_token)
    cycles = CycleService(
        core.engine,
        bic=settings.bic,
        signer=core.identity.sign,
        rulebook=rulebook,
        agent=HttpSettlementClient(to_agent, core.registry.settlement_agent),
        order_bytes_max=settings.order_bytes_max,
        registry=core.registry,
    )
    driver, schedule = Driver(cycles), Schedule(cycles, rulebook)

    async def ready() -> dict[str, str]:
        tasks = conditions([driver.task, feed.task, schedule.task, clock_watch.task])
        await writability.require(core.engine)
        return {
            "database": await check_schema(core.engine, PACKAGE),
            "timetable": schedule.condition(),
            "clocks": clocks.condition(),
            **tasks,
        }

    async def start(app: Litestar) -> None:
        await check_schema(core.engine, PACKAGE)
        await core.register_itself(name)
        async with transaction(core.engine) as conn:
            if may_be_needed(len(await members.participants(conn, Status.ACTIVE))):
                cycles.kernels.start()
        feed.start(app.state.stopping)
        driver.start()
        schedule.start()
        clock_watch.start()

    async def stop(_: Litestar) -> None:
        await clock_watch.stop()
        await schedule.stop()
        await driver.stop()
        await cycles.kernels.stop()
        await feed.stop()
        await to_agent.close()
        await core.engine.dispose()

    def provide(service: Any) -> Provide:
        return Provide(lambda: service, sync_to_thread=False)

    verifier = TokenVerifier(settings.bic, _own_token_key(core))

    def shorten(app: ASGIApp, routes: Litestar, authentication: Authentication) -> ASGIApp:
        return HotPath(app, routes, authentication, verifier=verifier, standing=standing, feed=feed, cycles=cycles)

    app = create_app(
        title="Concordat coordinator",
        version=VERSION,
        route_handlers=[
            *members_endpoint(),
            *registry_api.route_handlers,
            *registry_exposure.route_handlers,
            *log_api.route_handlers,
            *cycles_api.route_handlers,
            *evidence_api.route_handlers,
        ],
        verifier=verifier,
        admission=standing.require,
        ready=ready,
        on_startup=[start],
        on_shutdown=[stop],
        dependencies={
            "registry": provide(core.registry),
            "tokens": provide(tokens),
            "events": provide(feed),
            "cycles": provide(cycles),
        },
        limits=settings.limits,
        links=LINKS,
        shorten=shorten,
    )
    app.state.standing = standing
    return app


def _own_token_key(core: CoordinatorCore) -> KeyLookup:
    """Return the lookup of keys whose access tokens the coordinator takes: its own, and no other issuer's."""
    key = core.identity.token.verifying_key

    def lookup(issuer: str, kid: str) -> VerifyingKey | None:
        return key if (issuer, kid) == (core.settings.url, key.kid) else None

    return lookup
