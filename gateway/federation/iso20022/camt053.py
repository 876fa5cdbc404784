"""camt.053.001.08, BankToCustomerStatement: what an account opened with, its entries, and what it closed with.

A bare `Document`: it goes to whoever owns the account, who has no BIC that a header could name. It isn't read here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from gateway.federation.iso20022 import schemas, values, xml
from gateway.federation.iso20022.xml import Money, Node

DEFINITION = "camt.053.001.08"
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Za-z0-9]{1,30}")
_OTHER_ID_MAX = 34
_NAME_MAX, _ACCOUNT_NAME_MAX, _REFERENCE_MAX = 140, 70, 35
# What XML 1.0 has no way to write.
_UNWRITABLE = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class StatementParty:
    """The other side of an entry. `agent` is its bank's BIC."""

    agent: str | None = None
    account: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """A booked entry. `amount` is in minor units: positive was credited to the account, negative debited.

    `transaction` is its code (domain, family, sub-family); `reference` the bank's own, `transaction_id` that of the
    payment, `external_reference` that of what the bank booked, or the payer's own.
    """

    amount: int
    booked_at: datetime
    value_date: date
    reference: str
    transaction: tuple[str, str, str]
    transaction_id: str | None = None
    external_reference: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None
    party: StatementParty | None = None
    text: str | None = None
    returns: str | None = None
    return_reason: str | None = None
    """Which payment it gives back, and why: a code of ISO 20022."""


@dataclass(frozen=True, slots=True)
class AccountStatement:
    """An account of a bank over a period. Balances are in minor units, positive where the owner has money.

    `final` says that nothing can come into the period any more: then the closing balance is booked for good.
    """

    id: str
    created_at: datetime
    begins_at: datetime
    ends_at: datetime
    day: date | None
    bank: str
    account: str
    account_number: int
    name: str
    currency: str
    opening: int
    closing: int
    final: bool
    entries: Sequence[StatementEntry]


def account_statement(statement: AccountStatement) -> bytes:
    """Return a statement as a message.

    Raises `MessageRefused` for a balance or an amount of more than 18 digits, or a currency that ISO 4217 doesn't have.
    """
    currency = statement.currency
    credited = [entry.amount for entry in statement.entries if entry.amount > 0]
    debited = [-entry.amount for entry in statement.entries if entry.amount < 0]
    created_at = values.write_time(statement.created_at)
    nodes: list[Node] = [
        ("Id", statement.id),
        ("CreDtTm", created_at),
        (
            "FrToDt",
            [("FrDtTm", values.write_time(statement.begins_at)), ("ToDtTm", values.write_time(statement.ends_at))],
        ),
        ("Acct", _account(statement)),
        ("Bal", _balance("OPBD", statement.opening, statement, at=statement.begins_at)),
        ("Bal", _balance("CLBD" if statement.final else "ITBD", statement.closing, statement, at=statement.ends_at)),
        (
            "TxsSummry",
            [("TtlCdtNtries", _total(credited, currency)), ("TtlDbtNtries", _total(debited, currency))],
        ),
        *(("Ntry", _entry(entry, currency)) for entry in statement.entries),
    ]
    group: list[Node] = [("MsgId", statement.id), ("CreDtTm", created_at)]
    document: Node = ("Document", [("BkToCstmrStmt", [("GrpHdr", group), ("Stmt", nodes)])])
    return xml.serialise(xml.build(schemas.NAMESPACE_PREFIX + DEFINITION, document))


def _account(statement: AccountStatement) -> list[Node]:
    fits = statement.account if len(statement.account) <= _OTHER_ID_MAX else str(statement.account_number)
    return [
        ("Id", _account_id(fits)),
        ("Ccy", statement.currency),
        ("Nm", _text(statement.name, _ACCOUNT_NAME_MAX)),
        ("Ownr", [("Nm", _text(statement.name, _NAME_MAX))]),
        ("Svcr", _bank(statement.bank)),
    ]


def _account_id(account: str) -> list[Node]:
    if _IBAN.fullmatch(account) and _remainder(account) == 1:
        return [("IBAN", account)]
    return [("Othr", [("Id", account)])]


def _remainder(iban: str) -> int:
    """Return what ISO 7064 checks an IBAN by (MOD 97-10): 1 where its check digits are right."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97


def _bank(bic: str) -> list[Node]:
    return [("FinInstnId", [("BICFI", bic)])]


def _balance(code: str, amount: int, statement: AccountStatement, *, at: datetime) -> list[Node]:
    day = statement.day
    return [
        ("Tp", [("CdOrPrtry", [("Cd", code)])]),
        ("Amt", _money(abs(amount), statement.currency)),
        ("CdtDbtInd", "DBIT" if amount < 0 else "CRDT"),
        ("Dt", [("DtTm", values.write_time(at)) if day is None else ("Dt", day.isoformat())]),
    ]


def _total(amounts: Sequence[int], currency: str) -> list[Node]:
    total = sum(amounts)
    return [("NbOfNtries", str(len(amounts))), ("Sum", _money(total, currency).text)]


def _entry(entry: StatementEntry, currency: str) -> list[Node]:
    domain, family, sub_family = entry.transaction
    return [
        ("Amt", _money(abs(entry.amount), currency)),
        ("CdtDbtInd", "CRDT" if entry.amount > 0 else "DBIT"),
        ("Sts", [("Cd", "BOOK")]),
        ("BookgDt", [("DtTm", values.write_time(entry.booked_at))]),
        ("ValDt", [("Dt", entry.value_date.isoformat())]),
        ("AcctSvcrRef", entry.reference),
        ("BkTxCd", [("Domn", [("Cd", domain), ("Fmly", [("Cd", family), ("SubFmlyCd", sub_family)])])]),
        ("NtryDtls", [("TxDtls", _details(entry))]),
    ]


def _details(entry: StatementEntry) -> list[Node]:
    refs: list[Node] = [
        ("AcctSvcrRef", entry.reference),
        ("InstrId", None if entry.instruction_id is None else _text(entry.instruction_id, _REFERENCE_MAX)),
        ("EndToEndId", None if entry.external_reference is None else _text(entry.external_reference, _REFERENCE_MAX)),
        ("UETR", entry.uetr),
        ("TxId", entry.transaction_id),
    ]
    party = entry.party
    return [
        ("Refs", refs),
        ("RltdPties", None if party is None else _parties(party, credited=entry.amount > 0)),
        ("RltdAgts", None if party is None or party.agent is None else _agents(party.agent, entry.amount > 0)),
        ("RmtInf", None if not entry.text else [("Ustrd", _text(entry.text, _NAME_MAX))]),
        ("RtrInf", None if entry.returns is None else _return(entry.returns, entry.return_reason)),
    ]


def _return(payment: str, reason: str | None) -> list[Node]:
    return [("Rsn", None if reason is None else [("Cd", reason)]), ("AddtlInf", payment)]


def _parties(party: StatementParty, *, credited: bool) -> list[Node] | None:
    role = "Dbtr" if credited else "Cdtr"
    name = party.name and _text(party.name, _NAME_MAX)
    known = party.account if party.account and len(party.account) <= _OTHER_ID_MAX else None
    nodes: list[Node] = [
        (role, [("Pty", [("Nm", name)])] if name else None),
        (f"{role}Acct", [("Id", _account_id(known))] if known else None),
    ]
    return nodes if name or known else None


def _agents(bic: str, credited: bool) -> list[Node]:
    return [("DbtrAgt" if credited else "CdtrAgt", _bank(bic))]


def _money(amount: int, currency: str) -> Money:
    if amount == 0:
        # Written as the least amount is, which checks the currency.
        return Money(re.sub("[0-9]", "0", values.write_amount(1, currency)), currency)
    return Money(values.write_amount(amount, currency), currency)


def _text(text: str, characters_max: int) -> str:
    return _UNWRITABLE.sub("?", text)[:characters_max]
