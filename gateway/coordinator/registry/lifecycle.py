"""The life of a member as a table: applied → approved → active ⇄ suspended → left.

Pure: no database, no clock. `gateway.coordinator.registry.registry` loads, asks here, stores and publishes.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from gateway.federation.http.problems import Refusal


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


class RegistryReason(StrEnum):
    """Why the registry refuses, in order of precedence."""

    PARTICIPANT_UNKNOWN = "participant_unknown"
    PARTICIPANT_EXISTS = "participant_exists"
    NOT_YOURS = "not_yours"
    SIGNATURE_REFUSED = "signature_refused"
    KEYS_INCOMPLETE = "keys_incomplete"
    KEY_KNOWN = "key_known"
    KEY_UNKNOWN = "key_unknown"
    ACCOUNT_TAKEN = "account_taken"
    CURRENCY_UNKNOWN = "currency_unknown"
    STEP_ILLEGAL = "step_illegal"
    ACTIVATION_INCOMPLETE = "activation_incomplete"
    MEMBER_INACTIVE = "member_inactive"


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
