"""The members as operators see them, and what they do to them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.statements import Bic, Sha256, Timestamp
from gateway.federation.messages.base import Answer, GivenReason, Request, open_words
from gateway.federation.messages.limits import BilateralLimitView, CapView, PrefundingView

ParticipantStatus = Annotated[str, open_words("applied", "approved", "active", "suspended", "left")]


class KeyView(Answer, frozen=True, kw_only=True):
    """A public key of a participant, with its age."""

    kid: str
    use: Annotated[str, open_words("auth", "sign", "token")]
    status: Annotated[str, open_words("active", "retired", "revoked")]
    since: Timestamp


class ParticipantView(Answer, frozen=True, kw_only=True):
    """One participant of the scheme as operators see it."""

    bic: Bic
    name: Annotated[str, Meta(max_length=140)]
    status: ParticipantStatus
    url: str
    since: Timestamp
    """When it got its present status."""
    settlement_account: str | None = None
    caps: tuple[CapView, ...] = ()
    prefunding: tuple[PrefundingView, ...] = ()
    bilateral_limits: tuple[BilateralLimitView, ...] = ()
    """Those that it grants to others."""
    keys: tuple[KeyView, ...] = ()
    last_seen_at: Timestamp | None = None


class ParticipantPage(Answer, frozen=True, kw_only=True):
    """`GET /participants`, ordered by BIC."""

    items: tuple[ParticipantView, ...]
    next: str | None = None


class Invitation(Request, frozen=True, kw_only=True):
    """`POST /participants/{bic}/invitation`: a bank may apply."""

    reason: GivenReason


class InvitationView(Answer, frozen=True, kw_only=True):
    """The code by which a bank may apply once, until it expires. It is shown this once."""

    bic: Bic
    code: str
    expires_at: Timestamp


class RulebookView(Answer, frozen=True, kw_only=True):
    """`GET /rulebook`: the digest of the rulebook that the coordinator goes by from its next start."""

    sha256: Sha256 | None = None
