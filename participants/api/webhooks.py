"""HTTP: where the bank's events are sent."""

from __future__ import annotations

from uuid import UUID

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.federation.http.paging import Page, rows_of
from participants.api.guards import KEEPS_WEBHOOKS, SEES_WEBHOOKS, ConcordatRequest, Node
from participants.feed.public import timestamp
from participants.webhooks.messages import ReplayRequest, WebhookRequest, WebhookSecret, WebhookView
from participants.webhooks.store import Webhook


@post("/webhooks", guards=KEEPS_WEBHOOKS, tags=["events"], operation_id="addWebhook")
async def add_webhook(data: JSONBody[WebhookRequest], node: Node, request: ConcordatRequest) -> WebhookSecret:
    """Send events to an address from now on, or from a cursor on; its secret is shown this once.

    An address is taken whose host the node's settings name. Asked again under the same id it is 409 `webhook_exists`;
    if the answer with the secret was lost, change the secret.
    """
    webhook, secret = await node.webhooks.add(data, by=request.auth.sub)
    return WebhookSecret(webhook=_view(webhook), secret=secret)


@get("/webhooks", guards=SEES_WEBHOOKS, tags=["events"], operation_id="listWebhooks")
async def list_webhooks(node: Node, part: NamedDependency[Page]) -> list[WebhookView]:
    """List where events are sent, and how far each place has them. There are 64 at most."""
    return rows_of(part, map(_view, await node.webhooks.every()), lambda row: (row.id,))


@get("/webhooks/{webhook_id:uuid}", guards=SEES_WEBHOOKS, tags=["events"], operation_id="getWebhook")
async def get_webhook(webhook_id: FromPath[UUID], node: Node) -> WebhookView:
    """Show one webhook as it stands."""
    return _view(await node.webhooks.get(str(webhook_id)))


@delete("/webhooks/{webhook_id:uuid}", guards=KEEPS_WEBHOOKS, tags=["events"], operation_id="deleteWebhook")
async def delete_webhook(webhook_id: FromPath[UUID], node: Node) -> None:
    """Send nothing there any more, and forget it."""
    await node.webhooks.delete(str(webhook_id))


@post(
    "/webhooks/{webhook_id:uuid}/secret",
    guards=KEEPS_WEBHOOKS,
    status_code=HTTP_200_OK,
    tags=["events"],
    operation_id="changeWebhookSecret",
)
async def change_secret(webhook_id: FromPath[UUID], node: Node) -> WebhookSecret:
    """Change the secret and show the new one, this once; for a day messages are signed under both."""
    webhook, secret = await node.webhooks.rotate(str(webhook_id))
    return WebhookSecret(webhook=_view(webhook), secret=secret)


@post(
    "/webhooks/{webhook_id:uuid}/replay",
    guards=KEEPS_WEBHOOKS,
    status_code=HTTP_200_OK,
    tags=["events"],
    operation_id="replayWebhook",
)
async def replay_webhook(webhook_id: FromPath[UUID], data: JSONBody[ReplayRequest], node: Node) -> WebhookView:
    """Begin again after an event; what was disabled is sent to again."""
    return _view(await node.webhooks.replay(str(webhook_id), data.after))


def _view(webhook: Webhook) -> WebhookView:
    failing = webhook.state == "failing"
    since, until = webhook.failing_since, webhook.previous_secret_until
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        types=webhook.types,
        account=webhook.account,
        created_at=timestamp(webhook.created_at),
        created_by=webhook.created_by,
        state=webhook.state,
        cursor=webhook.cursor,
        failures=webhook.failures,
        failing_since=None if since is None else timestamp(since),
        last_error=webhook.last_error,
        next_attempt_at=timestamp(webhook.next_attempt_at) if failing else None,
        disabled=webhook.disabled,
        previous_secret_until=None if until is None else timestamp(until),
    )


HANDLERS = [add_webhook, list_webhooks, get_webhook, delete_webhook, change_secret, replay_webhook]
