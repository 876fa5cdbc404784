"""What `concordat net`, `clear`, `advise` and `gridlock` read: one document for all.

Netting needs the obligations only; what a command doesn't need is accepted, because all are given the same file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from gateway.analysis.files import InputReason, SourceDocument, is_name, minor_units, read_records
from gateway.federation.money import EXPONENTS
from netting import batch
from netting.model import ObligationRefusedError

Units = int | str
"""Minor units, as an integer or as digits."""
ByAccount = dict[str, Units | dict[str, Units]]
"""By participant, or by participant and currency."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An obligation or a queued payment.

    `link` is the id of a payment that settles together with this one, `time` since when it has been owed.
    """

    from_: str = msgspec.field(name="from")
    to: str
    amount: Units
    id: str | None = None
    currency: str = ""
    priority: int = 0
    sequence: int | None = None
    earliest: int | None = None
    latest: int | None = None
    held: bool = False
    split: bool = False
    link: str | None = None
    time: int | str | None = None


class Between(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that one participant may pay another net; in every currency, if none is named."""

    from_: str = msgspec.field(name="from")
    to: str
    limit: Units
    currency: str | None = None


class AggregateLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a minor unit of each currency is worth, and how far below zero each may be over all of them."""

    rates: dict[str, Units]
    haircuts_ppm: dict[str, Units] = {}
    limits: dict[str, Units | None] = {}


class LimitsDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What limits the payments, and who may take part. Null is without limit; what is absent isn't given."""

    participants: tuple[str, ...] | None = None
    balances: ByAccount | None = None
    limits: dict[str, Units | dict[str, Units | None] | None] | None = None
    default_limit: Units | msgspec.UnsetType | None = msgspec.UNSET
    reserved: ByAccount | None = None
    urgent: int | None = None
    bilateral: tuple[Between, ...] | None = None
    aggregate: AggregateLimits | None = None
    at: int | None = None


class Document(LimitsDocument, frozen=True, forbid_unknown_fields=True):
    """Obligations or payments (the same by two names), and what limits them."""

    obligations: tuple[Entry, ...] | None = None
    payments: tuple[Entry, ...] | None = None


_FIELDS = {"debtor": "from", "creditor": "to"}


def read_document(
    file: str,
    *,
    form: str | None = None,
    credit_notes: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> SourceDocument[Document]:
    """Read a file of obligations or payments; a table's rows are obligations. Raises InputRefusedError.

    With `credit_notes` a negative amount is the same debt the other way round.
    """
    source = read_records(file, Document, rows="obligations", row_kind=Entry, form=form, progress=progress)
    if not credit_notes:
        return source
    document = source.document
    turned = {
        member: tuple(map(_turned, records))
        for member, records in (("obligations", document.obligations), ("payments", document.payments))
        if records is not None
    }
    return dataclasses.replace(source, document=structs.replace(document, **turned))


def _turned(entry: Entry) -> Entry:
    amount = minor_units(entry.amount)
    if amount is None or amount >= 0:
        return entry
    return structs.replace(entry, from_=entry.to, to=entry.from_, amount=-amount)


def entries(source: SourceDocument[Document]) -> tuple[str, Sequence[Entry]]:
    """Return the obligations or payments, with the name of their member. Raises InputRefusedError."""
    document = source.document
    if (document.obligations is None) == (document.payments is None):
        raise source.refused(
            InputReason.RECORDS_AMBIGUOUS, member="", detail='give either "obligations" or "payments", and one of them'
        )
    if document.obligations is not None:
        return "obligations", document.obligations
    return "payments", document.payments or ()


def collect(source: SourceDocument[Document]) -> batch.Batch:
    """Return the obligations as a batch, whose nets don't depend on their order. Raises InputRefusedError."""
    member, records = entries(source)
    participants = source.document.participants
    if participants is not None:
        check_participants(source, participants)
    try:
        return batch.collect(_batch_entries(source, member, records), participants)
    except ObligationRefusedError as error:
        at = error.at if error.at is not None else 0
        shown = getattr(records[at], "from_" if error.field == "debtor" else _FIELDS.get(error.field, error.field))
        name = _FIELDS.get(error.field, error.field)
        raise source.refused(error.reason, member=member, index=at, at=name, detail=str(shown)[:100]) from error


def check_participants(source: SourceDocument[Any], participants: tuple[str, ...]) -> None:
    """Refuse a name that is there twice or can't be one."""
    names: set[str] = set()
    for index, name in enumerate(participants):
        check_name(source, name, member="participants", index=index)
        if name in names:
            raise source.refused(InputReason.PARTICIPANT_REPEATED, member="participants", index=index, detail=name)
        names.add(name)


def _batch_entries(source: SourceDocument[Document], member: str, records: Sequence[Entry]) -> Iterator[batch.Entry]:
    """Yield the entries as netting wants them, checking what only the way of writing can have wrong."""
    good: set[str] = set()
    for index, entry in enumerate(records):
        debtor, creditor, currency = entry.from_, entry.to, entry.currency
        if debtor not in good or creditor not in good or (currency and currency not in good):
            # An obligation without a currency is of the one that has no name.
            for name, text in (("from", debtor), ("to", creditor), ("currency", currency or "-")):
                check_name(source, text, member=member, index=index, at=name)
                good.add(text)
        if entry.id is not None:
            check_name(source, entry.id, member=member, index=index, at="id")
        amount = entry.amount
        if not isinstance(amount, int):
            amount = units(source, amount, member=member, index=index, at="amount")
        yield entry.id, currency, debtor, creditor, amount


def units(
    source: SourceDocument[Any], text_or_number: Units, *, member: str, index: int | None = None, at: str = ""
) -> int:
    """Return an amount in minor units; raise InputRefusedError for a text that isn't one."""
    amount = minor_units(text_or_number)
    if amount is None:
        detail = repr(text_or_number)[:100]
        raise source.refused(InputReason.AMOUNT_MALFORMED, member=member, index=index, at=at, detail=detail)
    return amount


def check_name(source: SourceDocument[Any], text: str, *, member: str, index: int | None = None, at: str = "") -> None:
    """Refuse what can't name a bank, a currency or an obligation."""
    if at == "currency" and text.upper() != text and text.upper() in EXPONENTS:
        detail = f"{text!a} is written {text.upper()}"
        raise source.refused(InputReason.NAME_MALFORMED, member=member, index=index, at=at, detail=detail)
    if not is_name(text):
        raise source.refused(InputReason.NAME_MALFORMED, member=member, index=index, at=at, detail=repr(text)[:100])
