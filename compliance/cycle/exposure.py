"""How much one bank may owe another before it is settled, where neither the bank nor the scheme says anything. Pure."""

from __future__ import annotations

UNSTATED_MINOR = 100_000_000_000
"""In every currency. For rulebooks adopted before there was such a rule, and for a bank that has heard of none."""
