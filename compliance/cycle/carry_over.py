"""What follows from the reason for which a pair is carried over."""

from __future__ import annotations

from compliance.statements import CarryReason

MENDABLE = frozenset({CarryReason.CUT_CONTESTED, CarryReason.NOT_ATTESTED, CarryReason.BREAK})
"""What the banks of a pair may still mend while the cycle attests."""

BY_NETTING = frozenset({CarryReason.PARTICIPANT_DEFAULT, CarryReason.BILATERAL_LIMIT, CarryReason.NET_DEBIT_CAP})
"""Why a pair is carried over that matched: these are found by `net_cycle`, which looks at such pairs anew each time."""
