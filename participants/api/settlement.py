"""What a bank's own people see of its settlement account, and say of it."""

from __future__ import annotations

from typing import Annotated

from litestar import get, put
from litestar.params import JSONBody, QueryParameter

from gateway.federation.problems import Refusal, RefusalReason
from participants.api import views
from participants.api.guards import KEEPS_ACCOUNTS, SEES_ACCOUNTS, AccountPath, ConcordatRequest, Node
from participants.api.messages import MovementPage, SettlementAccountState, StatedReason


class MovementReason(RefusalReason):
    """Why a bank's node refuses what its people say of a movement."""

    MOVEMENT_UNKNOWN = "movement_unknown", 404


@get("/settlement-account", guards=SEES_ACCOUNTS, tags=["settlement"], operation_id="getSettlementAccount")
async def get_settlement_account(node: Node) -> SettlementAccountState:
    """Show whether what moved on this bank's account at the settlement agent is what it was instructed with."""
    return views.settlement_account(node.settlement_account)


@get("/settlement-account/movements", guards=SEES_ACCOUNTS, tags=["settlement"], operation_id="listMovements")
async def list_movements(
    node: Node,
    after: Annotated[int, QueryParameter(ge=0, le=2**62, description="`next` of the page before.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=500)] = 100,
) -> MovementPage:
    """List what moved on this bank's settlement account, oldest first, as the agent signed it."""
    async with node.pool.acquire() as connection:
        return await views.movements(connection, node.settlement_account.agent, after, limit)


@put(
    "/settlement-account/movements/{movement:int}/explanation",
    guards=KEEPS_ACCOUNTS,
    tags=["settlement"],
    operation_id="explainMovement",
)
async def explain_movement(
    request: ConcordatRequest, movement: AccountPath, data: JSONBody[StatedReason], node: Node
) -> SettlementAccountState:
    """Say why this bank knows of a movement that no instruction explains; the first word stands, with who gave it."""
    if not await node.settlement_account.explain(movement, reason=data.reason, by=request.auth.sub):
        raise Refusal(MovementReason.MOVEMENT_UNKNOWN, f"no movement {movement}")
    return views.settlement_account(node.settlement_account)


SETTLEMENT_HANDLERS = [get_settlement_account, list_movements, explain_movement]
