"""A bank's webhooks: what its people do with them, and sending what is due.

One message after the other goes to each place, of up to 100 events, and the next one only when it was taken; so order
holds, and a place that is slow or away holds up no other. A message that was tried is the same when it is tried again.

| answer | then |
|---|---|
| 2xx | the next message |
| 410 | disabled: the place wants nothing any more |
| anything else, or none | the same again, after 5 s, doubled each time up to 12 h; disabled after three days of it |

What is disabled keeps its cursor, and a replay begins again from any.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import asyncpg
import httpcore
import msgspec
import structlog
from prometheus_client import Counter, Gauge

from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY
from participants.feed.feed import LOOK_SECONDS, Feed, FeedReason, Selection
from participants.feed.messages import EventType, LedgerEvent
from participants.webhooks import signing
from participants.webhooks.messages import SentEvents, WebhookMessage, WebhookRequest
from participants.webhooks.signing import WebhookSecrets
from participants.webhooks.store import WEBHOOKS_MAX, Webhook, WebhookTable
from participants.webhooks.targets import Targets, WebhookClient

MESSAGE_EVENTS_MAX = 100
WAIT_SECONDS = 2.0
"""For news, before a lease is renewed: a replay is noticed then, whichever node it was asked of."""
LOOK_AT_TABLE_SECONDS = 1.0
RETRY_SECONDS_MIN = 5.0
FIRST_GENERATIONS = 1 << 30
RETRY_SECONDS_MAX = 12 * 3_600.0
GIVE_UP_SECONDS = 3 * 86_400.0
OVERLAP_SECONDS = 86_400.0
"""For how long a secret that was changed signs beside the new one."""
ERROR_CHARS_MAX = 200
GONE = 410
CLIENT_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

ATTEMPTS = Counter("concordat_webhook_attempts", "Messages sent to webhooks.", ("outcome",), registry=REGISTRY)
WEBHOOKS = Gauge("concordat_webhooks", "Webhooks by how they are.", ("bank", "state"), registry=REGISTRY)

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger(__name__)


class WebhookReason(RefusalReason):
    """Why nothing is done with a webhook, in order of precedence."""

    WEBHOOK_UNKNOWN = "webhook_unknown", 404
    WEBHOOK_EXISTS = "webhook_exists", 409
    """There is one under this id. If its secret wasn't received, change it."""
    TOO_MANY_WEBHOOKS = "too_many_webhooks", 409
    """There are 64."""
    WEBHOOK_CHANGED = "webhook_changed", 409
    """Somebody else has changed its secret at the same moment."""
    WEBHOOK_KEY_MISSING = "webhook_key_missing", 503
    """There is no `webhooks.key` in this node's key directory: `concordat participant init`, run again, makes it."""
    WEBHOOK_KEY_DIFFERS = "webhook_key_differs", 503
    """The key in this node's key directory isn't the one that the webhook's secret is of."""


def retry_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row, before it is varied."""
    return min(RETRY_SECONDS_MIN * 2.0 ** min(failures, 32), RETRY_SECONDS_MAX)


def selection_of(types: Sequence[str], account: str | None) -> Selection:
    """Return what a webhook is to hear."""
    return Selection(frozenset(map(EventType, types)) or frozenset(EventType), account)


def message_of(webhook: Webhook, events: Sequence[LedgerEvent], through: int) -> tuple[str, bytes]:
    """Return the id and the body of a message: both are the same however often it is made."""
    body = WebhookMessage(timestamp=events[-1].at, data=SentEvents(events=tuple(events), next=through))
    return f"msg_{webhook.id.replace('-', '')}_{webhook.replays}_{through}", _encode(body)


class Webhooks:
    """A bank's webhooks, at one of its nodes. `start` before use."""

    def __init__(self, *, bank: str, pool: asyncpg.Pool, feed: Feed, secrets: WebhookSecrets, targets: Targets) -> None:
        self.task = Supervised("webhooks", self._run)
        self._bank = bank
        self._feed = feed
        self._secrets = secrets
        self._targets = targets
        self._table = WebhookTable(pool, uuid4())
        self._client = WebhookClient(targets)
        self._senders: dict[str, Supervised] = {}
        self._changed = asyncio.Event()
        self._disabled: list[str] = []
        self._condition = "none"

    def start(self) -> None:
        self.task.start()

    async def stop(self) -> None:
        """Let what is being sent be, and let another node take over."""
        await self.task.stop()
        await asyncio.gather(*(sender.stop() for sender in self._senders.values()))
        try:
            await self._table.let_go()
        except Exception as error:
            if failure_of(error) is None:
                raise
        await self._client.close()

    def condition(self) -> str:
        """Tell how they are, for the node's readiness."""
        return self._condition

    @property
    def disabled(self) -> bool:
        """Whether some place isn't sent to any more."""
        return bool(self._disabled)

    # --- for people ------------------------------------------------------------------------------------

    async def add(self, request: WebhookRequest, *, by: str) -> tuple[Webhook, str]:
        """Add a webhook and return it with its secret. Raises Refusal."""
        self._targets.require(request.url)
        after = await self._cursor(request.after)
        # A webhook that is added again under the same id has another secret.
        generation = 1 + secrets.randbelow(FIRST_GENERATIONS)
        secret = self._secret(request.id, generation)
        webhook = await self._table.add(
            request.id,
            url=request.url,
            types=sorted(set(request.types)),
            account=request.account,
            by=by,
            generation=generation,
            sha256=hashlib.sha256(secret).digest(),
            cursor=after,
        )
        if webhook is None:
            if await self._table.get(request.id) is not None:
                raise Refusal(WebhookReason.WEBHOOK_EXISTS, f"there is a webhook {request.id}", pointer="/id")
            raise Refusal(WebhookReason.TOO_MANY_WEBHOOKS, f"there are {WEBHOOKS_MAX} webhooks")
        self._changed.set()
        return webhook, signing.shown(secret)

    async def every(self) -> list[Webhook]:
        return await self._table.every()

    async def get(self, id_: str) -> Webhook:
        """Return a webhook. Raises Refusal WEBHOOK_UNKNOWN."""
        return _known(await self._table.get(id_), id_)

    async def delete(self, id_: str) -> None:
        """Forget a webhook. Raises Refusal WEBHOOK_UNKNOWN."""
        if not await self._table.delete(id_):
            _known(None, id_)
        self._changed.set()

    async def rotate(self, id_: str) -> tuple[Webhook, str]:
        """Change a webhook's secret; the one before signs beside it for a day. Raises Refusal."""
        webhook = await self.get(id_)
        secret = self._secret(id_, webhook.secret_generation + 1)
        rotated = await self._table.rotate(webhook, hashlib.sha256(secret).digest(), OVERLAP_SECONDS)
        if rotated is None:
            raise Refusal(WebhookReason.WEBHOOK_CHANGED, "its secret was changed at the same moment")
        return rotated, signing.shown(secret)

    async def replay(self, id_: str, after: int) -> Webhook:
        """Send again what follows an event, also where nothing was sent any more. Raises Refusal."""
        webhook = _known(await self._table.replay(id_, await self._cursor(after)), id_)
        self._changed.set()
        return webhook

    async def _cursor(self, after: int | None) -> int:
        """Return where to begin: by itself with what happens from now on. Raises Refusal CURSOR_AHEAD."""
        head = await self._feed.head()
        if after is not None and after > head:
            raise Refusal(FeedReason.CURSOR_AHEAD, f"the journal ends with event {head}", pointer="/after")
        return head if after is None else after

    def _secret(self, id_: str, generation: int) -> bytes:
        try:
            return self._secrets.secret(id_, generation)
        except FileNotFoundError as error:
            detail = "no webhooks.key; `concordat participant init`, run again, makes what is missing"
            raise Refusal(WebhookReason.WEBHOOK_KEY_MISSING, detail) from error
        except (OSError, ValueError) as error:
            raise Refusal(WebhookReason.WEBHOOK_KEY_DIFFERS, f"no key of webhooks here: {error}") from error

    # --- sending ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a sender for each webhook that is sent to, and tell how they all are."""
        while True:
            self._changed.clear()
            try:
                webhooks = await self._table.every()
            except Exception as error:
                # A failing database is told of elsewhere, and this goes on when it is back.
                if failure_of(error) is None:
                    raise
            else:
                await self._keep_senders({webhook.id for webhook in webhooks if webhook.disabled is None})
                self._tell(webhooks)
            try:
                async with asyncio.timeout(LOOK_AT_TABLE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _keep_senders(self, ids: set[str]) -> None:
        for id_ in self._senders.keys() - ids:
            await self._senders.pop(id_).stop()
        for id_ in ids - self._senders.keys():
            self._senders[id_] = Supervised("webhook", partial(self._send, id_))
            self._senders[id_].start()

    async def _send(self, id_: str) -> None:
        """Send what is due, message after message, whenever this node has the lease."""
        while True:
            try:
                webhook = await self._table.lease(id_)
                again = webhook is not None and await self._send_next(webhook)
            except Exception as error:
                if failure_of(error) is None:
                    raise
                again = False
            await asyncio.sleep(0 if again else LOOK_AT_TABLE_SECONDS)

    async def _send_next(self, webhook: Webhook) -> bool:
        """Send one message, waiting for news where there is nothing to send; False where a pause is due."""
        selection = selection_of(webhook.types, webhook.account)
        through = webhook.batch_through
        page = await self._feed.read(
            after=webhook.cursor,
            limit=MESSAGE_EVENTS_MAX,
            selection=selection,
            wait_s=WAIT_SECONDS if through is None else 0,
            through=through,
        )
        if not page.events:
            # All of it was of other types or accounts.
            return page.next == webhook.cursor or await self._table.delivered(webhook, page.next)
        through = page.next if through is None else through
        # As it is after the wait: its secret may be another by now.
        begun = await self._table.begin(webhook, through)
        if begun is None:
            return False
        webhook = begun
        error, status, again_s = await self._attempt(webhook, page.events, through)
        if error is None:
            ATTEMPTS.labels("taken").inc()
            moved = await self._table.delivered(webhook, through)
            if len(page.events) < MESSAGE_EVENTS_MAX:
                await asyncio.sleep(LOOK_SECONDS)
            return moved
        ATTEMPTS.labels("failed").inc()
        disabled = _disabled(webhook, status)
        wait_s = max(retry_seconds(webhook.failures) * random.uniform(0.8, 1.0), min(again_s or 0, RETRY_SECONDS_MAX))  # noqa: S311
        await self._table.failed(webhook, error=error[:ERROR_CHARS_MAX], again_s=wait_s, disabled=disabled)
        about = {"webhook": webhook.id, "failures": webhook.failures + 1, "error": error[:ERROR_CHARS_MAX]}
        if disabled is None:
            log.warning("webhook not taken", retry_s=round(wait_s, 1), **about)
        else:
            log.error("webhook disabled", reason=disabled, **about)
        return False

    async def _attempt(
        self, webhook: Webhook, events: Sequence[LedgerEvent], through: int
    ) -> tuple[str | None, int | None, int | None]:
        """Send a message once; return what went wrong, the answer's status, and when it asks to be tried again."""
        message, body = message_of(webhook, events, through)
        try:
            secrets = [self._secret(webhook.id, generation) for generation in webhook.generations()]
            if hashlib.sha256(secrets[0]).digest() != webhook.secret_sha256:
                raise Refusal(WebhookReason.WEBHOOK_KEY_DIFFERS, "the secret is of another node's key")
            headers = signing.headers(secrets, message, int(time.time()), body)
            status, again_s = await self._client.post(webhook.url, headers, body)
        except (OSError, TimeoutError, *CLIENT_ERRORS, Refusal) as error:
            return f"{type(error).__name__}: {error}".removesuffix(": "), None, None
        return (None if 200 <= status < 300 else f"answered {status}"), status, again_s

    def _tell(self, webhooks: Sequence[Webhook]) -> None:
        states = [webhook.state for webhook in webhooks]
        for state in ("active", "failing", "disabled"):
            WEBHOOKS.labels(self._bank, state).set(states.count(state))
        self._disabled = [webhook.id for webhook in webhooks if webhook.state == "disabled"]
        parts = [
            f"{webhook.id} {webhook.disabled or f'failing since {webhook.failing_since:%Y-%m-%dT%H:%M:%SZ}'}"
            for webhook in webhooks
            if webhook.state != "active"
        ]
        active = f"{states.count('active')} active"
        self._condition = "; ".join([active, *parts]) if webhooks else "none"


def _known(webhook: Webhook | None, id_: str) -> Webhook:
    if webhook is None:
        raise Refusal(WebhookReason.WEBHOOK_UNKNOWN, f"no webhook {id_}")
    return webhook


def _disabled(webhook: Webhook, status: int | None) -> str | None:
    """Return why a webhook isn't to be tried any more after one more failure; None if it is."""
    if status == GONE:
        return "gone"
    since = webhook.failing_since
    given_up = since is not None and (datetime.now(UTC) - since).total_seconds() > GIVE_UP_SECONDS
    return "not taken for three days" if given_up else None
