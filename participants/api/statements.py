"""HTTP: balance and statement of an account, as JSON, CSV and camt.053."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Annotated, cast
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from gateway.federation.http.answer_headers import FILE_NAME
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.iso20022 import camt053
from gateway.federation.iso20022.reasons import MessageRefused
from gateway.federation.problems import Refusal
from participants import account_statements
from participants.account_statements import Entry, Period, Statement, StatementReason
from participants.api.guards import SEES_ACCOUNTS, AccountPath, Node
from participants.api.messages import AccountBalance, StatementEntry, StatementPage
from participants.api.routes import instant
from participants.feed.public import timestamp
from participants.ledger.account_events import ENTRY_TYPES

MESSAGE_ENTRIES_MAX = 50_000
"""Entries of one camt.053, some 50 MB of it."""
CSV = "text/csv"
XML = "application/xml"
CSV_COLUMNS = (
    "version", "booked_at", "value_at", "event_type", "amount_minor", "balance_minor", "currency", "reference",
    "external_reference", "counterparty", "counterparty_account", "counterparty_name", "text", "returns",
    "return_reason", "end_to_end_id", "instruction_id", "uetr", "payment_id", "account",
)  # fmt: skip
# What OWASP names of CSV injection, the wide forms included. No text of ours holds a tab or a line break.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")

Day = Annotated[
    date | None, QueryParameter(name="date", description="A day of the bank's time zone, such as 2026-11-27.")
]
Exact = Annotated[
    bool,
    QueryParameter(description="For programs: texts as they are, without a `'` before formulas."),
]
From = Annotated[
    str | None,
    QueryParameter(name="from", format="date-time", description="RFC 3339 instant that the period begins at."),
]
To = Annotated[
    str | None,
    QueryParameter(name="to", format="date-time", description="RFC 3339 instant that the period ends before."),
]


@get("/accounts/{account_id:int}/balance", guards=SEES_ACCOUNTS, tags=["books"], operation_id="getBalance")
async def get_balance(
    account_id: AccountPath,
    node: Node,
    at: Annotated[
        str | None, QueryParameter(format="date-time", description="RFC 3339 instant; now if left out.")
    ] = None,
) -> AccountBalance:
    """Show where an account stood at an instant."""
    moment = None if at is None else instant(at)
    async with node.pool.acquire() as connection:
        account = await account_statements.account(connection, account_id)
        standing = await account_statements.standing_at(connection, account_id, moment)
    return AccountBalance(
        account=account.id,
        kind=account.kind,
        code=account.code,
        currency=account.currency,
        at=timestamp(moment or datetime.now(UTC)),
        balance_minor=str(standing.balance),
        version=standing.posting,
        event_sequence=standing.event,
    )


@get("/accounts/{account_id:int}/statement", guards=SEES_ACCOUNTS, tags=["books"], operation_id="getStatement")
async def get_statement(
    account_id: AccountPath,
    node: Node,
    page: NamedDependency[Page],
    day: Day = None,
    begins: From = None,
    ends: To = None,
) -> StatementPage:
    """Show an account over a day (`date`) or a period (`from`, `to`): opening balance, entries, closing balance."""
    after = page.number()
    statement = await _statement(node, account_id, day, begins, ends)
    async with node.pool.acquire() as connection:
        entries = await account_statements.entries(connection, statement, after=after, limit=page.limit)
    more = bool(entries) and entries[-1].posting < statement.closing.posting
    return StatementPage(
        account=statement.account.id,
        kind=statement.account.kind,
        code=statement.account.code,
        currency=statement.account.currency,
        name=statement.account.name,
        begins_at=timestamp(statement.period.begins_at),
        ends_at=timestamp(statement.period.ends_at),
        final=statement.final,
        opening_balance_minor=str(statement.opening.balance),
        closing_balance_minor=str(statement.closing.balance),
        debits=statement.totals.debits,
        debited_minor=str(statement.totals.debited),
        credits=statement.totals.credits,
        credited_minor=str(statement.totals.credited),
        entries=tuple(map(_entry, entries)),
        next=encode_cursor(entries[-1].posting) if more else None,
    )


@get(
    "/accounts/{account_id:int}/statement/csv",
    guards=SEES_ACCOUNTS,
    media_type=CSV,
    tags=["books"],
    operation_id="getStatementAsCsv",
    response_headers=[FILE_NAME],
)
async def get_statement_csv(
    account_id: AccountPath,
    node: Node,
    day: Day = None,
    begins: From = None,
    ends: To = None,
    exact: Exact = False,
) -> Response[bytes]:
    """Show a statement as CSV (RFC 4180): a row for the opening balance, each entry, the closing balance.

    Amounts are numbers, debits positive. A text that begins as a formula of a spreadsheet comes after a `'`, so that it
    stays one when people open the file; with `exact=true` it is as it was written, for programs.
    """
    statement = await _statement(node, account_id, day, begins, ends)
    stream = Stream(_csv(node, statement, exact=exact), media_type=CSV, headers=_named(statement, "csv"))
    return cast(Response[bytes], stream)


@get(
    "/accounts/{account_id:int}/statement/camt053",
    guards=SEES_ACCOUNTS,
    media_type=XML,
    tags=["books"],
    operation_id="getStatementAsMessage",
    response_headers=[FILE_NAME],
)
async def get_statement_camt053(
    account_id: AccountPath, node: Node, day: Day = None, begins: From = None, ends: To = None
) -> Response[bytes]:
    """Show a statement as camt.053.001.08, one Document; at most 50,000 entries, else 422 `statement_too_long`."""
    statement = await _statement(node, account_id, day, begins, ends)
    if (count := statement.totals.debits + statement.totals.credits) > MESSAGE_ENTRIES_MAX:
        raise Refusal(StatementReason.STATEMENT_TOO_LONG, f"{count} entries, and a message holds {MESSAGE_ENTRIES_MAX}")
    entries = [entry async for page in account_statements.all_entries(node.pool, statement) for entry in page]
    try:
        # Beside the event loop, where everybody's payments go through.
        zone = node.settings.time_zone
        message = await asyncio.to_thread(camt053.account_statement, _message(node.bic, zone, statement, entries))
    except MessageRefused as refused:
        raise Refusal(StatementReason.STATEMENT_UNWRITABLE, str(refused)) from refused
    return Response(message, media_type=XML, headers=_named(statement, "xml"))


async def _statement(node: Node, account_id: int, day: date | None, begins: str | None, ends: str | None) -> Statement:
    period = _period(day, begins, ends, node.settings.time_zone)
    async with node.pool.acquire() as connection:
        return await account_statements.statement(connection, account_id, period)


def _period(day: date | None, begins: str | None, ends: str | None, zone: ZoneInfo) -> Period:
    """Return the period that is asked for. Raises Refusal `period_malformed`, `instant_malformed`."""
    if day is not None and begins is None and ends is None:
        try:
            return Period.of_day(day, zone)
        except OverflowError:
            raise Refusal(StatementReason.PERIOD_MALFORMED, f"no day with a next one: {day}") from None
    if day is None and begins is not None and ends is not None:
        period = Period(instant(begins), instant(ends))
        if period.begins_at < period.ends_at:
            return period
    raise Refusal(StatementReason.PERIOD_MALFORMED, "a statement is of a date, or from an instant to a later one")


def _entry(entry: Entry) -> StatementEntry:
    return StatementEntry(
        version=entry.posting,
        event_sequence=entry.event,
        event_type=entry.type,
        payment_id=entry.payment_id,
        booked_at=timestamp(entry.booked_at),
        value_at=timestamp(entry.value_at),
        amount_minor=str(entry.amount),
        balance_minor=str(entry.balance),
        reference=entry.reference,
        external_reference=entry.external_reference,
        counterparty=entry.counterparty,
        counterparty_account=entry.counterparty_account,
        counterparty_name=entry.counterparty_name,
        text=entry.text,
        returns=entry.returns,
        return_reason=entry.return_reason,
        end_to_end_id=entry.end_to_end_id,
        instruction_id=entry.instruction_id,
        uetr=entry.uetr,
    )


def _named(statement: Statement, ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{_id(statement)}.{ending}"'}


def _id(statement: Statement) -> str:
    """Return a statement's id: the account's number with the day, or the events that it begins after and ends with."""
    day = statement.period.day
    if day is not None:
        return f"{statement.account.id}-{day:%Y%m%d}"
    return f"{statement.account.id}-{statement.opening.event}-{statement.closing.event}"[:35]


async def _csv(node: Node, statement: Statement, *, exact: bool) -> AsyncIterator[str]:
    currency = statement.account.currency
    begins, ends = timestamp(statement.period.begins_at), timestamp(statement.period.ends_at)
    opening = ("", begins, "", "opening balance", "", statement.opening.balance, currency)
    yield _rows([CSV_COLUMNS, opening])
    async for page in account_statements.all_entries(node.pool, statement):
        yield _rows([_row(entry, statement, exact=exact) for entry in page])
    name = "closing balance" if statement.final else "balance so far"
    yield _rows([("", ends, "", name, "", statement.closing.balance, currency)])


def _row(entry: Entry, statement: Statement, *, exact: bool) -> tuple[object, ...]:
    currency = statement.account.currency
    texts = (
        entry.reference,
        entry.external_reference,
        entry.counterparty,
        entry.counterparty_account,
        entry.counterparty_name,
        entry.text,
        entry.returns,
        entry.return_reason,
        entry.end_to_end_id,
        entry.instruction_id,
        entry.uetr,
        entry.payment_id,
        statement.account.code,
    )
    booked, value = timestamp(entry.booked_at), timestamp(entry.value_at)
    return (
        entry.posting,
        booked,
        value,
        entry.type,
        entry.amount,
        entry.balance,
        currency,
        *(text or "" if exact else inert(text or "") for text in texts),
    )


def inert(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, also one that leaves spaces out."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _rows(rows: list[tuple[object, ...]]) -> str:
    lines = io.StringIO()
    width = len(CSV_COLUMNS)
    csv.writer(lines).writerows((*row, *[""] * (width - len(row))) for row in rows)
    return lines.getvalue()


def _message(bank: str, zone: ZoneInfo, statement: Statement, entries: list[Entry]) -> camt053.AccountStatement:
    return camt053.AccountStatement(
        id=_id(statement),
        created_at=datetime.now(UTC),
        begins_at=statement.period.begins_at,
        ends_at=statement.period.ends_at,
        day=statement.period.day,
        bank=bank,
        account=statement.account.code,
        account_number=statement.account.id,
        name=statement.account.name,
        currency=statement.account.currency,
        opening=-statement.opening.balance,
        closing=-statement.closing.balance,
        final=statement.final,
        entries=[
            camt053.StatementEntry(
                amount=-entry.amount,
                booked_at=entry.booked_at,
                value_date=entry.value_at.astimezone(zone).date(),
                reference=str(entry.event),
                transaction=_transaction(entry),
                transaction_id=None if entry.reference is None else entry.reference.replace("-", "")[:35],
                external_reference=entry.external_reference or entry.end_to_end_id,
                instruction_id=entry.instruction_id,
                uetr=entry.uetr,
                party=camt053.StatementParty(entry.counterparty, entry.counterparty_account, entry.counterparty_name),
                text=entry.text,
                returns=entry.returns,
                return_reason=entry.return_reason,
            )
            for entry in entries
        ],
    )


_TRANSACTIONS = {
    ENTRY_TYPES["deposit"]: ("PMNT", "CNTR", "CDPT"),
    ENTRY_TYPES["withdrawal"]: ("PMNT", "CNTR", "CWDL"),
    ENTRY_TYPES["fee"]: ("ACMT", "MDOP", "CHRG"),
}


def _transaction(entry: Entry) -> tuple[str, str, str]:
    """Return the ISO bank transaction code of an entry: what is about a payment is a credit transfer."""
    if entry.direction is not None:
        return "PMNT", "RCDT" if entry.direction == "in" else "ICDT", "OTHR"
    return _TRANSACTIONS.get(entry.type, ("PMNT", "MCOP" if entry.amount < 0 else "MDOP", "OTHR"))


STATEMENT_HANDLERS = [get_balance, get_statement, get_statement_csv, get_statement_camt053]
