"""Why a cycle leaves a pair for a later one: a closed set."""

from __future__ import annotations

from enum import StrEnum


class CarryReason(StrEnum):
    """Why a pair is carried over, in order of precedence: what its attestation ended with, then what netting found."""

    PARTICIPANT_SUSPENDED = "participant_suspended"
    """One of its banks is suspended."""
    CUT_MISSING = "cut_missing"
    """One of its banks delivered no cut in time."""
    NOT_ATTESTED = "not_attested"
    """One of its banks, or both, didn't sign in time, and no two statements of theirs differ."""
    BREAK = "break"
    """Its banks signed different statements and didn't mend it in time."""
    PARTICIPANT_DEFAULT = "participant_default"
    """One of its banks is in default, and the cycle was netted again without it."""
    BILATERAL_LIMIT = "bilateral_limit"
    """One of its banks would owe the other more than that one lets it."""
    NET_DEBIT_CAP = "net_debit_cap"
    """With it a bank would owe more than its cap and prefunding let it."""


MENDABLE = frozenset({CarryReason.NOT_ATTESTED, CarryReason.BREAK})
"""What the banks of a pair may still mend while the cycle attests."""

BY_NETTING = frozenset({CarryReason.PARTICIPANT_DEFAULT, CarryReason.BILATERAL_LIMIT, CarryReason.NET_DEBIT_CAP})
"""Why a pair is carried over that matched: these are found by `net_cycle`, which looks at such pairs anew each time."""
