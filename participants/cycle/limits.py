"""The limits in force at the coordinator, taken up into the ledger: at the start, and whenever they have changed."""

from __future__ import annotations

import time

import structlog

from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.messages.limits import ExposureLimitsView
from participants.cycle.coordinator import Coordinator
from participants.ledger.ceilings import RecordLimits, in_order
from participants.ledger.events import ExposureLimit, ExposureLimits
from participants.ledger.writer import Ledger

PATH = "/exposure-limits"
NOT_FOUND = 404
TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 30.0

log = structlog.get_logger(__name__)


class AgreedLimits:
    """What the bank granted others at the coordinator, and the scheme's default. The ledger keeps what was heard."""

    def __init__(self, coordinator: Coordinator, ledger: Ledger) -> None:
        self._coordinator = coordinator
        self._ledger = ledger
        self._known = False
        self._ask_at = 0.0

    def changed(self) -> None:
        """Note that they are others than before."""
        self._known, self._ask_at = False, 0.0

    async def take_up(self) -> None:
        """Ask for them and keep them, unless they are known. What the coordinator doesn't answer is asked for later.

        Cycles are followed meanwhile. Raises what the ledger does.
        """
        if self._known or time.monotonic() < self._ask_at:
            return
        try:
            view = await self._coordinator.get(PATH, ExposureLimitsView, timeout_s=TIMEOUT_SECONDS)
        except RemoteError as error:
            # A coordinator of an earlier release has nothing to say of it, now or later.
            self._ask_at = time.monotonic() + RETRY_SECONDS
            self._known = isinstance(error, RemoteProblem) and error.status == NOT_FOUND
            log.warning("limits not heard, the ledger keeps those that it has", error=str(error)[:200])
            return
        scheme = (ExposureLimit(currency=line.currency, limit_minor=line.limit_minor) for line in view.scheme)
        granted = (
            ExposureLimit(currency=line.currency, limit_minor=line.limit_minor, counterparty=line.counterparty)
            for line in view.granted
        )
        limits = ExposureLimits(scheme=in_order(scheme), granted=in_order(granted))
        if await self._ledger.submit(RecordLimits(limits)):
            log.info("limits taken up", granted=len(limits.granted))
        self._known = True
