"""camt.054.001.08, BankToCustomerDebitCreditNotification: one entry on a participant's settlement account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from gateway.federation.iso20022 import values, xml
from gateway.federation.iso20022.framing import Header, frame, unframe
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.xml import Field, Money, Node

DEFINITION = "camt.054.001.08"

_ACCOUNT = Field(
    "Acct",
    (
        Field("Id", (Field("Othr", (Field("Id", re.compile(r"[A-Za-z0-9./-]{1,34}")),)),)),
        Field("Ccy", re.compile(r"[A-Z]{3}")),
        Field("Ownr", (Field("Id", (Field("OrgId", (Field("AnyBIC", values.BIC),)),)),)),
    ),
)
_ENTRY = Field(
    "Ntry",
    (
        Field("Amt", values.ANY_TEXT, amount=True),
        Field("CdtDbtInd", values.DIRECTION),
        Field("Sts", (Field("Cd", re.compile("BOOK")),)),
        Field("BookgDt", (Field("DtTm", values.DATE_TIME),)),
        Field("ValDt", (Field("Dt", values.DATE),)),
        Field("AcctSvcrRef", values.TEXT_35),
        Field(
            "BkTxCd",
            (
                Field(
                    "Domn",
                    (
                        Field("Cd", values.CODE),
                        Field("Fmly", (Field("Cd", values.CODE), Field("SubFmlyCd", values.CODE))),
                    ),
                ),
            ),
        ),
        Field(
            "NtryDtls",
            (
                Field(
                    "TxDtls",
                    (
                        Field(
                            "Refs",
                            (Field("MsgId", values.TEXT_35), Field("ClrSysRef", values.TEXT_35)),
                        ),
                    ),
                ),
            ),
            least=0,
        ),
    ),
)
_PROFILE = Field(
    "BkToCstmrDbtCdtNtfctn",
    (
        Field("GrpHdr", (Field("MsgId", values.TEXT_35), Field("CreDtTm", values.DATE_TIME))),
        Field(
            "Ntfctn",
            (
                Field("Id", values.TEXT_35),
                Field("ElctrncSeqNb", values.COUNT),
                Field("CreDtTm", values.DATE_TIME),
                _ACCOUNT,
                _ENTRY,
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Notification:
    """A booked entry. `amount` is in minor units: positive was credited, negative debited.

    `sequence` numbers the entries of the account without a gap, from 1. `settlement` and `cycle` name the
    settlement request behind the entry; a funding has neither.
    """

    message_id: str
    created_at: datetime
    sender: str
    participant: str
    account: str
    sequence: int
    currency: str
    amount: int
    reference: str
    booked_at: datetime
    value_date: date
    settlement: str | None = None
    cycle: str | None = None


def notification(entry: Notification) -> bytes:
    """Return the message that tells a participant of an entry on its account. Raises `MessageRefused`.

    That is for an amount of zero or of more than 18 digits, or a currency that ISO 4217 doesn't have.
    """
    header = Header(entry.sender, entry.participant, entry.message_id, entry.created_at)
    refs: list[Node] = [("MsgId", entry.settlement), ("ClrSysRef", entry.cycle)]
    entry_nodes: list[Node] = [
        ("Amt", Money(values.write_amount(abs(entry.amount), entry.currency), entry.currency)),
        ("CdtDbtInd", "CRDT" if entry.amount > 0 else "DBIT"),
        ("Sts", [("Cd", "BOOK")]),
        ("BookgDt", [("DtTm", values.write_time(entry.booked_at))]),
        ("ValDt", [("Dt", entry.value_date.isoformat())]),
        ("AcctSvcrRef", entry.reference),
        ("BkTxCd", _transaction_code(entry.amount)),
        ("NtryDtls", [("TxDtls", [("Refs", refs)])] if entry.settlement and entry.cycle else None),
    ]
    account: list[Node] = [
        ("Id", [("Othr", [("Id", entry.account)])]),
        ("Ccy", entry.currency),
        ("Ownr", [("Id", [("OrgId", [("AnyBIC", entry.participant)])])]),
    ]
    created_at = values.write_time(entry.created_at)
    notification_nodes: list[Node] = [
        ("Id", entry.message_id),
        ("ElctrncSeqNb", str(entry.sequence)),
        ("CreDtTm", created_at),
        ("Acct", account),
        ("Ntry", entry_nodes),
    ]
    group: list[Node] = [("MsgId", entry.message_id), ("CreDtTm", created_at)]
    return frame(header, DEFINITION, ("BkToCstmrDbtCdtNtfctn", [("GrpHdr", group), ("Ntfctn", notification_nodes)]))


def _transaction_code(amount: int) -> list[Node]:
    """Return the ISO bank transaction code: payments, miscellaneous credit or debit operation."""
    family = "MCOP" if amount > 0 else "MDOP"
    return [("Domn", [("Cd", "PMNT"), ("Fmly", [("Cd", family), ("SubFmlyCd", "OTHR")])])]


def read_notification(data: bytes) -> Notification:
    """Read a notification of one entry. Raises `MessageRefused`."""
    header, content = unframe(data, DEFINITION, _PROFILE)
    body = xml.each(content, "Ntfctn")[0]
    amount = xml.each(body, "Ntry/Amt")[0]
    currency = str(amount.attrib["Ccy"])
    if xml.required(body, "Acct/Ccy") != currency:
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "an entry in another currency than its account")
    if xml.required(body, "Acct/Ownr/Id/OrgId/AnyBIC") != header.receiver:
        raise MessageRefused(MessageReason.HEADER_MISMATCH, "addressed to another than the owner of the account")
    minor = values.read_amount(amount.text or "", currency, pointer="/Ntfctn/Ntry/Amt")
    return Notification(
        message_id=header.message_id,
        created_at=header.created_at,
        sender=header.sender,
        participant=header.receiver,
        account=xml.required(body, "Acct/Id/Othr/Id"),
        sequence=int(xml.required(body, "ElctrncSeqNb")),
        currency=currency,
        amount=minor if xml.required(body, "Ntry/CdtDbtInd") == "CRDT" else -minor,
        reference=xml.required(body, "Ntry/AcctSvcrRef"),
        booked_at=values.read_time(xml.required(body, "Ntry/BookgDt/DtTm"), pointer="/Ntfctn/Ntry/BookgDt"),
        value_date=values.read_date(xml.required(body, "Ntry/ValDt/Dt"), pointer="/Ntfctn/Ntry/ValDt"),
        settlement=xml.value(body, "Ntry/NtryDtls/TxDtls/Refs/MsgId"),
        cycle=xml.value(body, "Ntry/NtryDtls/TxDtls/Refs/ClrSysRef"),
    )
