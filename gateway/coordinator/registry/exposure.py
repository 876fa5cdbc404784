"""HTTP: what others may owe a bank before it is settled, for that bank's ledger to keep."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from gateway.coordinator.registry.registry import Registry
from gateway.federation.http.node import requires
from gateway.federation.messages.limits import ExposureLimitsView


@get("/exposure-limits", guards=[requires("participant")], tags=["participants"], operation_id="getExposureLimits")
async def exposure_limits(request: Request[Any, Any, Any], registry: NamedDependency[Registry]) -> ExposureLimitsView:
    """Show the bilateral limits that the caller granted, and the scheme's default for whom it granted none."""
    return await registry.exposure_limits(request.auth.sub)


route_handlers: list[ControllerRouterHandler] = [exposure_limits]
