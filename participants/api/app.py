"""A bank's application: the node behind its HTTP API."""

from __future__ import annotations

from functools import partial

from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp

from gateway.federation.access.api import staff_endpoint
from gateway.federation.build import VERSION
from gateway.federation.http.node import create_app
from gateway.federation.settings import NodeSettings
from participants import readiness
from participants.api.accounts import ACCOUNT_HANDLERS
from participants.api.cancellations import CANCELLATION_HANDLERS
from participants.api.holds import HOLD_HANDLERS
from participants.api.hot_path import HotPath
from participants.api.payments import PAYMENT_HANDLERS
from participants.api.positions import POSITION_HANDLERS
from participants.api.recalls import RECALL_HANDLERS
from participants.api.reconciliations import RECONCILIATION_HANDLERS
from participants.api.routes import ROUTE_HANDLERS
from participants.api.settlement import SETTLEMENT_HANDLERS
from participants.api.statements import STATEMENT_HANDLERS
from participants.node import BankNode

HANDLERS = [
    *ROUTE_HANDLERS,
    *PAYMENT_HANDLERS,
    *CANCELLATION_HANDLERS,
    *RECALL_HANDLERS,
    *HOLD_HANDLERS,
    *ACCOUNT_HANDLERS,
    *STATEMENT_HANDLERS,
    *SETTLEMENT_HANDLERS,
    *POSITION_HANDLERS,
    *RECONCILIATION_HANDLERS,
]
"""Every operation of a bank."""
TRAFFIC = ("submitPayment", "submitPayments", "receivePayments")
"""Payments: the journal has each of them, with who ordered or sent it."""
LINKS = {
    "payment_id": {
        "submitPayment": "$response.body#/id",
        "listPayments": "$response.body#/items/0/id",
        "listHolds": "$response.body#/0/id",
    },
    "batch_id": {"submitPayments": "$request.body#/id"},
    "account_id": {"listAccounts": "$response.body#/items/0/id"},
    "entry_id": {"makeEntry": "$response.body#/id"},
    "webhook_id": {"addWebhook": "$response.body#/webhook/id", "listWebhooks": "$response.body#/0/id"},
    "movement": {"listMovements": "$response.body#/movements/0/id"},
    "cycle": {"listMovements": "$response.body#/movements/0/cycle"},
    "currency": {"listExposures": "$response.body#/0/currency", "listCeilings": "$response.body#/0/currency"},
    "reconciliation_id": {"reconcile": "$response.body#/id", "listReconciliations": "$response.body#/items/0/id"},
    "session_id": {"openSet": "$response.body#/session"},
    "counterparty": {"listExposures": "$response.body#/0/counterparty"},
}
"""Where what stands in paths comes from."""


def bank_app(settings: NodeSettings, database_url: str) -> Litestar:
    """Return a bank's application; the node starts and stops with it."""
    node = BankNode(settings, database_url)

    def wrap(app: ASGIApp) -> ASGIApp:
        return HotPath(app, node)

    app = create_app(
        title="Concordat participant",
        version=VERSION,
        route_handlers=[*staff_endpoint(), *HANDLERS],
        verifier=node.verifier,
        ready=partial(readiness.ready, node),
        admission=node.admit,
        on_startup=[node.start],
        on_shutdown=[node.stop],
        dependencies={
            "node": Provide(lambda: node, sync_to_thread=False),
            "tokens": Provide(lambda: node.sign_in.tokens, sync_to_thread=False),
        },
        limits=settings.limits,
        wrap=wrap,
        traffic=TRAFFIC,
        links=LINKS,
    )
    app.state.node = node
    node.stopping = app.state.stopping
    node.waits_for = app.state.readiness.waits_for
    return app
