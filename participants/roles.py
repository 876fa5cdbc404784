"""What a bank's own people may do at its node: one role in a token, and none of them is all of them."""

from __future__ import annotations

from enum import StrEnum

from gateway.federation.problems import RefusalReason


class Role(StrEnum):
    """What somebody does at the bank. The bank's own issuer says so in each token, and nobody else can."""

    ORDERS = "orders"
    """Orders, returns and contests payments."""
    SCREENING = "screening"
    """Decides on payments that screening holds."""
    LISTS = "lists"
    """Imports sanctions lists."""
    ACCOUNTS = "accounts"
    """Keeps accounts: opens, blocks and closes them, makes entries; sets ceilings of what others may owe."""
    EVENTS = "events"
    """Hears what happens in the books, and says where it is sent: the bank's core system."""
    READ = "read"
    """Reads the books, all of them or those of its scope: the bank's auditors and its regulator. It changes nothing."""


class Scope(StrEnum):
    """A part of the books that a `read` token may be narrowed to."""

    PAYMENTS = "payments"
    """Payments and holds."""
    ACCOUNTS = "accounts"
    """Accounts, postings and balances, and what others owe."""
    CYCLES = "cycles"
    """Lanes, and what the bank signed and verified in cycles."""
    LISTS = "lists"
    """Which sanctions lists are in force."""


class PeerReason(RefusalReason):
    """Why another bank that says who it is isn't heard."""

    SENDER_NOT_ACTIVE = "sender_not_active", 403
    """It is approved only, suspended, or has left. Suspended, it compares results nevertheless: it settles by them."""
