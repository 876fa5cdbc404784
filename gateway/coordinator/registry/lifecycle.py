"""The life of a member as a table: applied → approved → active ⇄ suspended → left.

Pure: no database, no clock. `gateway.coordinator.registry.registry` loads, asks here, stores and publishes.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from gateway.federation.problems import Refusal, RefusalReason


class Status(StrEnum):
    APPLIED = "applied"
    APPROVED = "approved"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"


class Step(StrEnum):
    """What an operator does with a member."""

    APPROVE = "approve"
    ACTIVATE = "activate"
    SUSPEND = "suspend"
    LEAVE = "leave"


# An active participant leaves by way of suspension, so that a last cycle without it comes in between.
TRANSITIONS: dict[tuple[Status, Step], Status] = {
    (Status.APPLIED, Step.APPROVE): Status.APPROVED,
    (Status.APPLIED, Step.LEAVE): Status.LEFT,
    (Status.APPROVED, Step.ACTIVATE): Status.ACTIVE,
    (Status.APPROVED, Step.LEAVE): Status.LEFT,
    (Status.ACTIVE, Step.SUSPEND): Status.SUSPENDED,
    (Status.SUSPENDED, Step.ACTIVATE): Status.ACTIVE,
    (Status.SUSPENDED, Step.LEAVE): Status.LEFT,
}


class RegistryReason(RefusalReason):
    """Why the registry refuses, in order of precedence."""

    PARTICIPANT_UNKNOWN = "participant_unknown", 404
    PARTICIPANT_EXISTS = "participant_exists", 409
    BIC_NOT_NORMAL = "bic_not_normal", 422
    """It applies under a BIC with XXX; it belongs to the scheme under the one without."""
    NOT_YOURS = "not_yours", 403
    SIGNATURE_REFUSED = "signature_refused", 422
    KEY_REFUSED = "key_refused", 422
    """No public key of Ed25519 that only one can sign for: not canonical, off the curve, or of small order."""
    INVITATION_REFUSED = "invitation_refused", 403
    """The application has no code that is good for its BIC; nothing else is said."""
    KEYS_INCOMPLETE = "keys_incomplete", 422
    KEY_KNOWN = "key_known", 409
    KEY_UNKNOWN = "key_unknown", 409
    NAME_TAKEN = "name_taken", 409
    """An operator or auditor is known by another spelling of the same name."""
    CLIENT_UNKNOWN = "client_unknown", 404
    """No operator or auditor of that name has access."""
    OPERATORS_TOO_FEW = "operators_too_few", 409
    """Two operators must remain, or nobody could decide anything."""
    FOUR_EYES_NEEDED = "four_eyes_needed", 403
    """Two operators decide this: one proposes it, another confirms."""
    ACT_MALFORMED = "act_malformed", 422
    """The terms of what is proposed aren't those of its kind."""
    RULEBOOK_IN_FORCE = "rulebook_in_force", 409
    """There is nothing to agree on: this rulebook is the one that cycles go by."""
    ACCOUNT_TAKEN = "account_taken", 409
    CURRENCY_UNKNOWN = "currency_unknown", 422
    STEP_ILLEGAL = "step_illegal", 409
    ACTIVATION_INCOMPLETE = "activation_incomplete", 409
    SETTLEMENT_UNDER_WAY = "settlement_under_way", 409
    """The settlement agent was asked to settle a cycle, and nobody else can say whether it did."""
    MEMBER_INACTIVE = "member_inactive", 409
    DAY_CLOSED = "day_closed", 409
    """The currency is closed on that day already: by its calendar, or by the word of operators."""
    DAY_OPEN = "day_open", 409
    """Nobody declared that day closed."""
    DAY_UNDER_WAY = "day_under_way", 409
    """The day is over, or a cycle of that value date has taken the currency in and isn't final."""
    DAY_SETTLED = "day_settled", 409
    """A cycle of that value date has settled the currency."""
    BEFORE_DIFFERS = "act_before_differs"
    """What the act says that it changes from isn't what stands: look again, and propose it anew."""
    TRUST_LIST_MISSING = "trust_list_missing", 503
    """The coordinator isn't set up yet."""


def next_status(status: Status, step: Step) -> Status:
    """Return the status after a step; raises Refusal `step_illegal` for one that the table doesn't have."""
    try:
        return TRANSITIONS[status, step]
    except KeyError:
        legal = sorted(s for was, s in TRANSITIONS if was is status)
        detail = f"cannot {step} a participant that is {status}; possible: {', '.join(legal) or 'nothing'}"
        raise Refusal(RegistryReason.STEP_ILLEGAL, detail) from None


def require_complete(*, key_uses: Collection[str], settlement_account: bool) -> None:
    """Refuse to activate a participant that could neither sign nor settle."""
    missing = [f"an active {use} key" for use in ("auth", "sign") if use not in key_uses]
    if not settlement_account:
        missing.append("a settlement account")
    if missing:
        raise Refusal(RegistryReason.ACTIVATION_INCOMPLETE, f"missing {' and '.join(missing)}")
