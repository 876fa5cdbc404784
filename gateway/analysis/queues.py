"""An analyst's queue: payments that wait and their limits, read from documents and made ready to be resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gateway.analysis.documents import (
    Document,
    Entry,
    LimitsDocument,
    Units,
    check_name,
    check_participants,
    entries,
    units,
)
from gateway.analysis.files import InputReason, InputRefusedError, SourceDocument
from netting.model import AMOUNT_MAX
from netting.queue import Account, Aggregate, Limits, Payment, QueueReason, QueueRefusedError, canonical_queue


class AccountRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of a table of limits: what a participant has and may do in a currency."""

    participant: str
    currency: str = ""
    balance: Units | None = None
    limit: Units | None = None
    reserved: Units | None = None


class LimitsFile(LimitsDocument, frozen=True, forbid_unknown_fields=True):
    """A file of limits: a table of accounts, or the members of a document without its payments."""

    accounts: tuple[AccountRow, ...] | None = None


ROWS = "accounts"
"""The member that the rows of a table of limits are."""
UNLIMITED = "unlimited"
"""How a table says null."""

_FIELDS = {
    QueueReason.DUPLICATE_ID: "id",
    QueueReason.SELF_PAYMENT: "to",
    QueueReason.AMOUNT_NOT_POSITIVE: "amount",
    QueueReason.AMOUNT_OVERFLOW: "amount",
    QueueReason.WINDOW_EMPTY: "latest",
    QueueReason.LINK_UNKNOWN: "link",
    QueueReason.LINK_CYCLE: "link",
    QueueReason.LINK_SPLIT: "link",
    QueueReason.RATE_MISSING: "currency",
    QueueReason.SUM_OVERFLOW: "amount",
}


@dataclass(frozen=True, slots=True)
class Queue:
    """Payments that are resolved together, and their limits. `currency` is None if they are in several."""

    currency: str | None
    payments: tuple[Payment, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Queues:
    """What a file says: one queue, or one for each currency where no rates make them comparable.

    `at` is the moment that the file names.
    """

    parts: tuple[Queue, ...]
    at: int | None


def collect_queues(source: SourceDocument[Document], limits_source: SourceDocument[LimitsFile] | None = None) -> Queues:
    """Return what the file says, with the limits that it or the other file names. Raises InputRefusedError."""
    member, records = entries(source)
    if limits_source is not None:
        _check_once(source, limits_source)
    stated: SourceDocument[Any] = source if limits_source is None else limits_source
    payments = tuple(_payments(source, member, records))
    currencies = sorted({payment.currency for payment in payments})
    limits_reader = LimitsReader(stated, currencies)
    limits = limits_reader.limits()
    try:
        ordered = canonical_queue(payments, limits)
    except QueueRefusedError as error:
        raise _placed(error, source, member, payments, limits_reader) from error
    at: int | None = stated.document.at
    if limits.aggregate is not None or len(currencies) < 2:
        return Queues((Queue(currencies[0] if len(currencies) == 1 else None, ordered, limits),), at)
    _check_links(source, member, payments)
    return Queues(
        tuple(
            Queue(
                currency,
                tuple(payment for payment in ordered if payment.currency == currency),
                _of_currency(limits, currency),
            )
            for currency in currencies
        ),
        at,
    )


def _check_once(source: SourceDocument[Document], limits_source: SourceDocument[LimitsFile]) -> None:
    """Refuse limits in the file of payments too, and in a document of limits the member that only a table has."""
    if limits_source.member is None and limits_source.document.accounts is not None:
        raise limits_source.refused(InputReason.FIELD_INVALID, member=ROWS, detail="not a member that is known")
    nothing = LimitsDocument()
    for name in LimitsDocument.__struct_fields__:
        if getattr(source.document, name) != getattr(nothing, name):
            raise source.refused(InputReason.MEMBER_REPEATED, member=name, detail="the other file has the limits")


def _payments(source: SourceDocument[Document], member: str, records: Iterable[Entry]) -> Iterator[Payment]:
    """Yield the payments, checking what only the way of writing can have wrong."""
    good_names: set[str] = set()
    for index, entry in enumerate(records):
        if entry.id is None:
            detail = "a payment that waits needs one"
            raise source.refused(InputReason.FIELD_INVALID, member=member, index=index, at="id", detail=detail)
        names = (("id", entry.id), ("from", entry.from_), ("to", entry.to), ("currency", entry.currency or "-"))
        for name, text in (*names, ("link", entry.link if entry.link is not None else "-")):
            if text not in good_names:
                check_name(source, text, member=member, index=index, at=name)
                good_names.add(text)
        amount = entry.amount
        if not isinstance(amount, int):
            amount = units(source, amount, member=member, index=index, at="amount")
        yield Payment(
            entry.id,
            entry.from_,
            entry.to,
            amount,
            entry.currency,
            priority=entry.priority,
            sequence=entry.sequence or 0,
            earliest=entry.earliest,
            latest=entry.latest,
            held=entry.held,
            split=entry.split,
            link=entry.link,
        )


class LimitsReader:
    """Reads the limits of a document, and remembers where each stands by the name that netting gives it."""

    def __init__(self, source: SourceDocument[Any], currencies: list[str]) -> None:
        self.source = source
        self.places: dict[str, tuple[str, int | None, str]] = {}
        self._document: LimitsDocument = source.document
        self._currencies = currencies or [""]
        self._participants: frozenset[str] | None = None

    def limits(self) -> Limits:
        document = self._document
        self._take_participants()
        table = self._table()
        default = document.default_limit
        self.places["default cap"] = ("default_limit", None, "")
        return Limits(
            balances={**self._amounts("balances", " balance"), **table["balance"]},
            caps={**self._caps(), **table["limit"]},
            default_cap=0
            if default is msgspec.UNSET
            else None
            if default is None
            else self._units(default, "default_limit"),
            reserved={**self._amounts("reserved", " reserved"), **table["reserved"]},
            urgent=document.urgent or 0,
            bilateral=self._bilateral(),
            aggregate=self._aggregate(),
            participants=self._participants,
        )

    def liquidity(self) -> dict[Account, int]:
        """Return the balances alone, as money that may be used: refuse a negative one."""
        self._take_participants()
        balances = self._amounts("balances", " balance")
        for (name, currency), amount in sorted(balances.items()):
            if 0 <= amount <= AMOUNT_MAX:
                continue
            reason = QueueReason.LIMIT_NEGATIVE if amount < 0 else QueueReason.AMOUNT_OVERFLOW
            place, _, at = self.places[f"{name}/{currency} balance"]
            detail = "what may be used isn't negative" if amount < 0 else "it has more than 38 digits"
            raise self.source.refused(reason, member=place, at=at, detail=detail)
        return balances

    def _take_participants(self) -> None:
        participants = self._document.participants
        if participants is not None:
            check_participants(self.source, participants)
            self._participants = frozenset(participants)

    def _units(self, text: Units, member: str, at: str = "") -> int:
        return units(self.source, text, member=member, at=at)

    def _amounts(self, member: str, suffix: str) -> dict[Account, int]:
        """Return amounts by account. One without a currency is refused where it could be in several."""
        amounts: dict[Account, int] = {}
        for name, value in (getattr(self._document, member) or {}).items():
            self._check_participant(name, member)
            if not isinstance(value, dict) and len(self._currencies) > 1:
                detail = "there are several currencies: give it for each"
                raise self.source.refused(InputReason.FIELD_INVALID, member=member, at=name, detail=detail)
            by_currency = value if isinstance(value, dict) else {self._currencies[0]: value}
            for currency, amount in by_currency.items():
                place = f"{member}.{name}" if isinstance(value, dict) else member
                amounts[name, currency] = self._account(name, currency, amount, place, value, suffix)
        return amounts

    def _caps(self) -> dict[Account, int | None]:
        """Return caps by account; one without a currency holds for each."""
        caps: dict[Account, int | None] = {}
        for name, value in (self._document.limits or {}).items():
            self._check_participant(name, "limits")
            by_currency = value if isinstance(value, dict) else dict.fromkeys(self._all_currencies(), value)
            for currency, cap in by_currency.items():
                place = f"limits.{name}" if isinstance(value, dict) else "limits"
                caps[name, currency] = None if cap is None else self._account(name, currency, cap, place, value, " cap")
        return caps

    def _account(self, name: str, currency: str, amount: Units, place: str, value: object, suffix: str) -> int:
        at = currency if isinstance(value, dict) else name
        check_name(self.source, currency or "-", member=place, at=at)
        self.places[f"{name}/{currency}{suffix}"] = (place, None, at)
        return self._units(amount, place, at)

    def _all_currencies(self) -> list[str]:
        aggregate = self._document.aggregate
        return sorted({*self._currencies, *(aggregate.rates if aggregate is not None else ())})

    def _table(self) -> dict[str, dict[Account, Any]]:
        """Return balances, limits and reserved amounts of a table's rows, by column."""
        columns: dict[str, dict[Account, Any]] = {"balance": {}, "limit": {}, "reserved": {}}
        rows: tuple[AccountRow, ...] = getattr(self._document, ROWS, None) or ()
        accounts: set[Account] = set()
        for index, row in enumerate(rows):
            self._check_participant(row.participant, ROWS, index=index, at="participant")
            check_name(self.source, row.currency or "-", member=ROWS, index=index, at="currency")
            currency = row.currency
            if not currency and "" not in self._currencies:
                if len(self._currencies) > 1:
                    detail = "there are several currencies: give it for each"
                    raise self.source.refused(
                        InputReason.FIELD_INVALID, member=ROWS, index=index, at="currency", detail=detail
                    )
                currency = self._currencies[0]
            account = row.participant, currency
            if account in accounts:
                detail = "/".join(part for part in account if part)
                raise self.source.refused(InputReason.MEMBER_REPEATED, member=ROWS, index=index, detail=detail)
            accounts.add(account)
            for column, suffix in (("balance", " balance"), ("limit", " cap"), ("reserved", " reserved")):
                units_written: Units | None = getattr(row, column)
                if column == "limit" and units_written == UNLIMITED:
                    columns[column][account] = None
                elif units_written is not None:
                    self.places["/".join(account) + suffix] = (ROWS, index, column)
                    columns[column][account] = units(self.source, units_written, member=ROWS, index=index, at=column)
        return columns

    def _bilateral(self) -> dict[tuple[str, str, str], int]:
        limits: dict[tuple[str, str, str], int] = {}
        pairs: set[tuple[str, str, str | None]] = set()
        # What is said of one currency goes before what is said of all.
        entries_in_order = sorted(
            enumerate(self._document.bilateral or ()), key=lambda entry: entry[1].currency is not None
        )
        for index, entry in entries_in_order:
            for at, name in (("from", entry.from_), ("to", entry.to)):
                self._check_participant(name, "bilateral", index=index, at=at)
            if (entry.from_, entry.to, entry.currency) in pairs:
                detail = f"{entry.from_} to {entry.to} is there twice"
                raise self.source.refused(InputReason.MEMBER_REPEATED, member="bilateral", index=index, detail=detail)
            pairs.add((entry.from_, entry.to, entry.currency))
            limit = units(self.source, entry.limit, member="bilateral", index=index, at="limit")
            for currency in self._all_currencies() if entry.currency is None else [entry.currency]:
                check_name(self.source, currency or "-", member="bilateral", index=index, at="currency")
                limits[entry.from_, entry.to, currency] = limit
                self.places[f"{entry.from_}/{entry.to}/{currency} bilateral limit"] = ("bilateral", index, "limit")
        return limits

    def _aggregate(self) -> Aggregate | None:
        aggregate = self._document.aggregate
        if aggregate is None:
            return None
        for name in aggregate.limits:
            self._check_participant(name, "aggregate.limits")
        return Aggregate(
            rates=self._named(aggregate.rates, "rates", " rate"),
            haircuts_ppm=self._named(aggregate.haircuts_ppm, "haircuts_ppm", " haircut"),
            limits=self._named(aggregate.limits, "limits", " aggregate limit"),
        )

    def _named(self, members: Mapping[str, Units | None], member: str, suffix: str) -> dict[str, int]:
        amounts: dict[str, int] = {}
        for name, units_written in members.items():
            place = f"aggregate.{member}"
            check_name(self.source, name or "-", member=place, at=name)
            self.places[f"{name}{suffix}"] = (place, None, name)
            if units_written is not None:
                amounts[name] = self._units(units_written, place, name)
        return amounts

    def _check_participant(self, name: str, member: str, *, index: int | None = None, at: str = "") -> None:
        check_name(self.source, name, member=member, index=index, at=at or name)
        if self._participants is not None and name not in self._participants:
            raise self.source.refused(
                QueueReason.UNKNOWN_PARTICIPANT, member=member, index=index, at=at or name, detail=name if at else ""
            )


def _placed(
    error: QueueRefusedError,
    source: SourceDocument[Document],
    member: str,
    payments: tuple[Payment, ...],
    limits_reader: LimitsReader,
) -> InputRefusedError:
    """Return netting's refusal with its place in the file."""
    places = [at for at, payment in enumerate(payments) if payment.id == error.place]
    overflow = error.reason is QueueReason.AMOUNT_OVERFLOW
    if overflow and places and payments[places[0]].amount <= AMOUNT_MAX:
        places = []
    if error.reason is QueueReason.LIMIT_NEGATIVE or not places:
        place, index, at = limits_reader.places.get(error.place, (error.place, None, ""))
        return limits_reader.source.refused(error.reason, member=place, index=index, at=at, detail=error.detail)
    index = places[1] if error.reason is QueueReason.DUPLICATE_ID else places[0]
    at = _FIELDS.get(error.reason, "")
    if error.reason is QueueReason.UNKNOWN_PARTICIPANT:
        participants = limits_reader.source.document.participants
        at = "to" if payments[index].debtor in participants else "from"
    return source.refused(error.reason, member=member, index=index, at=at, detail=f"{error.place}: {error.detail}")


def _check_links(source: SourceDocument[Document], member: str, payments: tuple[Payment, ...]) -> None:
    """Refuse legs in different currencies where no rates say what they are worth together."""
    currency = {payment.id: payment.currency for payment in payments}
    for index, payment in enumerate(payments):
        if payment.link is not None and currency[payment.link] != payment.currency:
            detail = f'{payment.id} is linked to {payment.link} of another currency: "aggregate" must give rates'
            raise source.refused(QueueReason.RATE_MISSING, member=member, index=index, at="link", detail=detail)


def _of_currency(limits: Limits, currency: str) -> Limits:
    return replace(
        limits,
        balances={key: value for key, value in limits.balances.items() if key[1] == currency},
        caps={key: value for key, value in limits.caps.items() if key[1] == currency},
        reserved={key: value for key, value in limits.reserved.items() if key[1] == currency},
        bilateral={key: value for key, value in limits.bilateral.items() if key[2] == currency},
    )
