"""Having the trust list confirmed: the coordinator is asked for it again and again, however long it is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

from gateway.federation.http.client import FederationClient, RemoteError
from gateway.federation.membership.trust import TrustError, TrustReason, TrustStore
from gateway.federation.telemetry import REGISTRY

CONFIRM_SECONDS = 45.0
"""Who was suspended, and which key was revoked, is known within a minute where the event feed is behind."""
CONFIRMATIONS_PER_AGE = 4
"""How often at least while a list grows too old."""
LOOK_SECONDS = 5.0
"""How often the list's age is looked at."""
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 5.0

CONFIRMED_AT = Gauge(
    "concordat_trust_list_confirmed_timestamp_seconds",
    "When the coordinator last confirmed the trust list that this member holds; 0 if it never did.",
    ("member",),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


async def keep_confirmed(
    trust: TrustStore,
    client: FederationClient,
    *,
    member: str,
    on_newer: Callable[[], None],
    every_s: float = CONFIRM_SECONDS,
) -> None:
    """Ask for the trust list for ever, and call `on_newer` for each newer one.

    What goes wrong is logged where it begins, where the list becomes too old to pay by, and where it is over.
    """
    CONFIRMED_AT.labels(member).set_function(lambda: trust.confirmed_at)
    every_s = min(every_s, trust.age_seconds_max / CONFIRMATIONS_PER_AGE)
    retry_s, failing, stale = RETRY_SECONDS_MIN, False, False
    while True:
        pause_s = min(every_s, LOOK_SECONDS)
        # By the clock that says how old the list is: a machine that was suspended asks as soon as it goes on.
        if trust.age_s() >= every_s:
            try:
                if await trust.refresh(client):
                    on_newer()
                # Somebody may answer with what the coordinator said long ago.
                if not trust.fresh:
                    raise TrustError(TrustReason.UNCONFIRMED, "what was answered says nothing of today")
                if failing:
                    log.info("trust list confirmed again", version=trust.current.version)
                retry_s, failing, stale = RETRY_SECONDS_MIN, False, False
            except (RemoteError, TrustError) as error:
                if not failing:
                    log.warning("trust list not confirmed", error=str(error)[:200])
                if not stale and trust.loaded and not trust.fresh:
                    log.error("trust list too old: no payment to or from another bank", age_s=round(trust.age_s()))
                    stale = True
                failing, pause_s, retry_s = True, retry_s, min(retry_s * 2, RETRY_SECONDS_MAX)
        # Members that lost the coordinator together don't come back at the same moment.
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.0))  # noqa: S311 - no secret
