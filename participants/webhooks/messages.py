"""What is said of webhooks, and what a webhook says."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import force_setattr

from compliance.iban import SPELLED_ACCOUNT_PATTERN, normal_account
from compliance.statements import Count, Timestamp
from gateway.federation.messages.base import Answer, Request, Uuid, open_words
from participants.feed.messages import EventType, LedgerEvent

URL_CHARS_MAX = 2_048
MESSAGE_TYPE = "ledger.events"


class WebhookRequest(Request, frozen=True, kw_only=True):
    """Where to send events: all after `after`, or those of some types, or of one account. The client makes the id."""

    id: Uuid
    url: Annotated[str, Meta(min_length=1, max_length=URL_CHARS_MAX)]
    types: Annotated[tuple[EventType, ...], Meta(max_length=32)] = ()
    """All, where none is named."""
    account: Annotated[str, Meta(pattern=SPELLED_ACCOUNT_PATTERN)] | None = None
    after: Count | None = None
    """Left out: what happens from now on."""

    def __post_init__(self) -> None:
        if self.account is not None:
            force_setattr(self, "account", normal_account(self.account))


class ReplayRequest(Request, frozen=True, kw_only=True):
    """After which event to begin again."""

    after: Count


class WebhookView(Answer, frozen=True, kw_only=True):
    """A webhook, and how far its place has the events: those up to `cursor`.

    `disabled` says why nothing is sent any more; a replay begins again.
    """

    id: Uuid
    url: str
    types: tuple[str, ...] = ()
    account: str | None = None
    created_at: Timestamp
    created_by: str
    state: Annotated[str, open_words("active", "failing", "disabled")]
    cursor: Count
    failures: Count = 0
    failing_since: Timestamp | None = None
    last_error: str | None = None
    next_attempt_at: Timestamp | None = None
    disabled: str | None = None
    previous_secret_until: Timestamp | None = None


class WebhookSecret(Answer, frozen=True, kw_only=True):
    """A webhook with the secret that signs what it sends from now on. It is shown this once."""

    webhook: WebhookView
    secret: str


class SentEvents(Answer, frozen=True, kw_only=True):
    """The events of one message, in their order; `next` is the cursor after them."""

    events: tuple[LedgerEvent, ...]
    next: Count


class WebhookMessage(Answer, frozen=True, kw_only=True, omit_defaults=False):
    """The body of one message. `timestamp` is when the last of its events was recorded."""

    type: str = MESSAGE_TYPE
    timestamp: Timestamp
    data: SentEvents
