"""What somebody looks for among payments, and the SQL that tells whether an event begins such a payment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from participants.ledger.payment import STATUS_AFTER, TRANSITIONS, Direction, Status

BEGINNINGS: dict[str, Direction] = {
    type_: "out" if type_ in ("payment.reserved", "payment.held_out") else "in"
    for before, type_ in TRANSITIONS
    if before is None
}
"""The types of first events, and which way such a payment goes."""
REFERENCES = ("end_to_end_id", "instruction_id", "uetr")


class Criteria(Struct, frozen=True, kw_only=True):
    """What is looked for; None is everything. Amounts are in minor units, times from one on until before another.

    `account` is the customer's at this bank. `batches` are ids of batches, of which `file` may be the name.
    """

    statuses: frozenset[Status] = frozenset()
    direction: Direction | None = None
    account: str | None = None
    counterparty: str | None = None
    currency: str | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    end_to_end_id: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None
    batch: str | None = None
    file: str | None = None

    @property
    def of_changes(self) -> bool:
        """Whether a time of change is asked for: then payments are found by their last events."""
        return self.updated_from is not None or self.updated_to is not None

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of MATCHES and REFUSAL_MATCHES, $1 to $14."""
        ends = [type_ for type_, status in STATUS_AFTER.items() if status in self.statuses]
        return (
            [type_ for type_, way in BEGINNINGS.items() if self.direction in (None, way)],
            ends or None,
            self.account,
            self.counterparty,
            self.currency,
            self.amount_from,
            self.amount_to,
            self.created_from,
            self.created_to,
            self.updated_from,
            self.updated_to,
            self.end_to_end_id,
            self.instruction_id,
            self.uetr,
        )


# Of `f`, a payment's first event, with `last`, its last one, and `standing`, the last that changed how it stands. What
# is cheap to look at comes first.
BESIDE = f"""
LEFT JOIN LATERAL (
    SELECT recorded_at FROM subject_event WHERE subject = f.subject AND type LIKE 'payment.%'
    ORDER BY version DESC LIMIT 1
) last ON $10::timestamptz IS NOT NULL OR $11::timestamptz IS NOT NULL
LEFT JOIN LATERAL (
    SELECT type FROM subject_event WHERE subject = f.subject
    AND type IN ({", ".join(map(repr, STATUS_AFTER))}) ORDER BY version DESC LIMIT 1
) standing ON $2::text[] IS NOT NULL
CROSS JOIN LATERAL (
    SELECT CASE f.type
        WHEN 'payment.reserved' THEN f.data WHEN 'payment.held_out' THEN f.data->'order' ELSE f.data->'terms'
    END AS terms
) said
"""  # noqa: S608 - text of ours
MATCHES = """
f.type = ANY($1::text[])
AND ($2::text[] IS NULL OR standing.type = ANY($2))
AND ($8::timestamptz IS NULL OR f.recorded_at >= $8) AND ($9::timestamptz IS NULL OR f.recorded_at < $9)
AND ($10::timestamptz IS NULL OR last.recorded_at >= $10) AND ($11::timestamptz IS NULL OR last.recorded_at < $11)
AND ($3::text IS NULL OR (strpos(f.data::text, $3) > 0 AND $3 = said.terms->>(
    CASE WHEN f.type IN ('payment.reserved', 'payment.held_out') THEN 'debtor_account' ELSE 'creditor_account' END)))
AND ($4::text IS NULL OR (strpos(f.data::text, $4) > 0
    AND $4 = coalesce(f.data->>'sender', said.terms->>'creditor_agent')))
AND ($5::text IS NULL OR (strpos(f.data::text, $5) > 0 AND said.terms->>'currency' = $5))
AND ($6::bigint IS NULL OR (said.terms->>'amount_minor')::bigint >= $6)
AND ($7::bigint IS NULL OR (said.terms->>'amount_minor')::bigint <= $7)
AND ($12::text IS NULL OR said.terms->>'end_to_end_id' = $12)
AND ($13::text IS NULL OR said.terms->>'instruction_id' = $13)
AND ($14::text IS NULL OR said.terms->>'uetr' = $14)
"""
# Of `r`, an order that was refused: it is outgoing, and has one time.
REFUSAL_MATCHES = """
'payment.reserved' = ANY($1::text[]) AND ($2::text[] IS NULL OR 'payment.refused' = ANY($2))
AND ($3::text IS NULL OR r.asked->>'debtor_account' = $3)
AND ($4::text IS NULL OR r.asked->>'creditor_agent' = $4)
AND ($5::text IS NULL OR r.asked->>'currency' = $5)
AND ($6::bigint IS NULL OR (r.asked->>'amount_minor')::bigint >= $6)
AND ($7::bigint IS NULL OR (r.asked->>'amount_minor')::bigint <= $7)
AND ($8::timestamptz IS NULL OR r.recorded_at >= $8) AND ($9::timestamptz IS NULL OR r.recorded_at < $9)
AND ($10::timestamptz IS NULL OR r.recorded_at >= $10) AND ($11::timestamptz IS NULL OR r.recorded_at < $11)
AND ($12::text IS NULL OR r.asked->>'end_to_end_id' = $12)
AND ($13::text IS NULL OR r.asked->>'instruction_id' = $13)
AND ($14::text IS NULL OR r.asked->>'uetr' = $14)
"""
