"""What `concordat net` and `concordat gridlock` read: one document for both.

Netting needs the obligations only; what it doesn't need is accepted, because the same file is given to both commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.analysis.files import InputReason, Read, is_name, minor_units
from netting import batch
from netting.model import ObligationRefusedError


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An obligation or a queued payment. Amounts are minor units, as an integer or as digits."""

    from_: str = msgspec.field(name="from")
    to: str
    amount: int | str
    id: str | None = None
    currency: str = ""
    priority: int = 0
    sequence: int | None = None
    earliest: int | None = None
    latest: int | None = None
    held: bool = False
    split: bool = False
    link: str | None = None


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Obligations or payments (the same by two names), who may take part, and what limits the payments."""

    obligations: tuple[Entry, ...] | None = None
    payments: tuple[Entry, ...] | None = None
    participants: tuple[str, ...] | None = None
    balances: Any = None
    limits: Any = None
    default_limit: Any = None
    reserved: Any = None
    urgent: Any = None
    bilateral: Any = None
    aggregate: Any = None
    at: Any = None


ROWS = "obligations"
"""The member that a table's rows are."""

_FIELDS = {"debtor": "from", "creditor": "to"}


def entries(read: Read[Document]) -> tuple[str, Sequence[Entry]]:
    """Return the obligations or payments, with the name of their member. Raises InputRefusedError."""
    document = read.document
    if (document.obligations is None) == (document.payments is None):
        raise read.refused(
            InputReason.RECORDS_AMBIGUOUS, member="", detail='give either "obligations" or "payments", and one of them'
        )
    if document.obligations is not None:
        return "obligations", document.obligations
    return "payments", document.payments or ()


def collect(read: Read[Document]) -> batch.Batch:
    """Return the obligations as a batch, whose nets don't depend on their order. Raises InputRefusedError."""
    member, given = entries(read)
    participants = read.document.participants
    if participants is not None:
        _check_participants(read, participants)
    try:
        return batch.collect(_written(read, member, given), participants)
    except ObligationRefusedError as error:
        at = error.at if error.at is not None else 0
        shown = getattr(given[at], "from_" if error.field == "debtor" else _FIELDS.get(error.field, error.field))
        name = _FIELDS.get(error.field, error.field)
        raise read.refused(error.reason, member=member, index=at, at=name, detail=str(shown)[:100]) from error


def _check_participants(read: Read[Document], participants: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for index, name in enumerate(participants):
        _check_name(read, name, member="participants", index=index)
        if name in seen:
            raise read.refused(InputReason.PARTICIPANT_REPEATED, member="participants", index=index, detail=name)
        seen.add(name)


def _written(read: Read[Document], member: str, given: Sequence[Entry]) -> Iterator[batch.Entry]:
    """Yield the entries as netting wants them, checking what only the way of writing can have wrong."""
    good: set[str] = set()
    for index, entry in enumerate(given):
        debtor, creditor, currency = entry.from_, entry.to, entry.currency
        if debtor not in good or creditor not in good or (currency and currency not in good):
            # An obligation without a currency is of the one that has no name.
            for name, text in (("from", debtor), ("to", creditor), ("currency", currency or "-")):
                _check_name(read, text, member=member, index=index, at=name)
                good.add(text)
        if entry.id is not None:
            _check_name(read, entry.id, member=member, index=index, at="id")
        amount = minor_units(entry.amount)
        if amount is None:
            detail = repr(entry.amount)[:100]
            raise read.refused(InputReason.AMOUNT_MALFORMED, member=member, index=index, at="amount", detail=detail)
        yield entry.id, currency, debtor, creditor, amount


def _check_name(read: Read[Document], text: str, *, member: str, index: int, at: str = "") -> None:
    if not is_name(text):
        raise read.refused(InputReason.NAME_MALFORMED, member=member, index=index, at=at, detail=repr(text)[:100])
