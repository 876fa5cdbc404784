"""The registry's tables of limits: net debit caps, prefunding, bilateral limits. Queries only.

Each function works in the caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.limits import BilateralLimit, Cap, Limits, Prefunding, in_order
from gateway.federation.messages.limits import BilateralLimitView, CapView, PrefundingView


async def set_cap(conn: AsyncConnection, bic: str, currency: str, cap_minor: int) -> None:
    """Set a participant's net debit cap."""
    await conn.execute(
        text(
            "INSERT INTO caps (bic, currency, cap_minor) VALUES (:bic, :currency, CAST(CAST(:cap AS text) AS numeric))"
            " ON CONFLICT (bic, currency) DO UPDATE SET cap_minor = excluded.cap_minor"
        ),
        {"bic": bic, "currency": currency, "cap": str(cap_minor)},
    )


async def set_prefunding(conn: AsyncConnection, prefunding: Prefunding) -> None:
    """Set what a participant prefunded, and how much of it no cycle may use."""
    await conn.execute(
        text(
            "INSERT INTO prefunding (bic, currency, prefunded_minor, reserved_minor) VALUES (:bic, :currency,"
            " CAST(CAST(:prefunded AS text) AS numeric), CAST(CAST(:reserved AS text) AS numeric))"
            " ON CONFLICT (bic, currency) DO UPDATE"
            " SET prefunded_minor = excluded.prefunded_minor, reserved_minor = excluded.reserved_minor"
        ),
        {
            "bic": prefunding.participant,
            "currency": prefunding.currency,
            "prefunded": prefunding.prefunded_minor,
            "reserved": prefunding.reserved_minor,
        },
    )


async def set_bilateral_limit(
    conn: AsyncConnection, bic: str, counterparty: str, currency: str, limit_minor: int | None
) -> None:
    """Set the most that a counterparty may owe a participant net; None lifts the limit."""
    at = {"bic": bic, "counterparty": counterparty, "currency": currency}
    if limit_minor is None:
        query = "DELETE FROM bilateral_limits WHERE (bic, counterparty, currency) = (:bic, :counterparty, :currency)"
        await conn.execute(text(query), at)
        return
    await conn.execute(
        text(
            "INSERT INTO bilateral_limits (bic, counterparty, currency, limit_minor)"
            " VALUES (:bic, :counterparty, :currency, CAST(CAST(:limit AS text) AS numeric))"
            " ON CONFLICT (bic, counterparty, currency) DO UPDATE SET limit_minor = excluded.limit_minor"
        ),
        {**at, "limit": str(limit_minor)},
    )


async def take_back(conn: AsyncConnection, bic: str) -> list[tuple[str, dict[str, str]]]:
    """Set what operators granted a participant, caps and prefunding, to 0; return the events that tell of it.

    Bilateral limits stay: each is the word of the bank that grants it.
    """
    had, changes = (await views(conn, [bic]))[bic], []
    for cap in had.caps:
        await set_cap(conn, bic, cap.currency, 0)
        changes.append(("cap.changed", {"bic": bic, "currency": cap.currency, "cap_minor": "0"}))
    for prefunding in had.prefunding:
        nothing = {"currency": prefunding.currency, "prefunded_minor": "0", "reserved_minor": "0"}
        await set_prefunding(conn, Prefunding(participant=bic, **nothing))
        changes.append(("prefunding.changed", {"bic": bic, **nothing}))
    return changes


_CAPS = "SELECT bic, currency, cap_minor::text FROM caps"
_PREFUNDING = "SELECT bic, currency, prefunded_minor::text, reserved_minor::text FROM prefunding"
_BILATERAL = "SELECT bic, counterparty, currency, limit_minor::text FROM bilateral_limits"


async def in_force(conn: AsyncConnection) -> Limits:
    """Return all limits as they are now."""
    return in_order(
        Limits(
            caps=tuple(
                Cap(participant=row[0], currency=row[1], cap_minor=row[2]) for row in await conn.execute(text(_CAPS))
            ),
            prefunding=tuple(
                Prefunding(participant=row[0], currency=row[1], prefunded_minor=row[2], reserved_minor=row[3])
                for row in await conn.execute(text(_PREFUNDING))
            ),
            bilateral=tuple(
                BilateralLimit(participant=row[0], counterparty=row[1], currency=row[2], limit_minor=row[3])
                for row in await conn.execute(text(_BILATERAL))
            ),
        )
    )


@dataclass(slots=True)
class LimitViews:
    """One participant's limits as operators see them."""

    caps: list[CapView] = field(default_factory=list)
    prefunding: list[PrefundingView] = field(default_factory=list)
    bilateral: list[BilateralLimitView] = field(default_factory=list)


async def views(conn: AsyncConnection, bics: Sequence[str]) -> dict[str, LimitViews]:
    """Return the limits of these participants, by BIC."""
    by_bank: defaultdict[str, LimitViews] = defaultdict(LimitViews)
    of = {"bics": list(bics)}
    which = " WHERE bic = ANY (:bics) ORDER BY bic, currency"
    for bic, currency, cap in await conn.execute(text(_CAPS + which), of):
        by_bank[bic].caps.append(CapView(currency=currency, cap_minor=cap))
    for bic, currency, prefunded, reserved in await conn.execute(text(_PREFUNDING + which), of):
        view = PrefundingView(currency=currency, prefunded_minor=prefunded, reserved_minor=reserved)
        by_bank[bic].prefunding.append(view)
    for bic, counterparty, currency, limit in await conn.execute(text(_BILATERAL + which + ", counterparty"), of):
        granted = BilateralLimitView(counterparty=counterparty, currency=currency, limit_minor=limit)
        by_bank[bic].bilateral.append(granted)
    return by_bank
