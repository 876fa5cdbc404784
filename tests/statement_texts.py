"""Small statements in every format, right as they stand, for tests to make wrong."""

from __future__ import annotations

import pytest

from participants.statements.reading import read
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Statement

MT940 = """\
:20:STATEMENT
:25:DE89370400440532013000
:28C:5/1
:60F:C261126EUR1000,00
:61:2611271127D12,50NTRFINV-1//B-1
:86:166?00GUTSCHRIFT?20EREF+E2E-1?21SVWZ+Rent?30BYLADEMM?31DE12500105170648489890?32Ada?33 Rossi
:61:261127C7,5NTRFNONREF
:62F:C261127EUR995,00
-
"""
MT942 = """\
:20:REPORT
:25:DE89370400440532013000
:28C:7/1
:34F:EUR0,
:13D:2611271815+0100
:61:2611271127D12,50NTRFINV-1
:61:261127C7,5NTRFINV-2
:61:261127C1,NTRFINV-3
:90D:1EUR12,50
:90C:2EUR8,50
-
"""
BAI2 = """\
01,122099999,123456789,261127,0200,1,80,,2/
02,031001234,122099999,1,261127,2359,USD,2/
03,0123456789,USD,010,100000,,,015,97500,,/
88,100,2500,1,,400,5000,1,/
16,195,2500,V,261128,,BANK1,CUST1,INCOMING, WIRE
88,FROM A/B
16,495,5000,Z,BANK2,,OUTGOING/
49,212500,6/
98,212500,1,8/
99,212500,1,10/
"""
CSV = """\
account,value_date,amount,currency,end_to_end_id,counterparty,text,balance
A-1,2026-11-27,-12.50,EUR,E2E-1,Ada Rossi,"rent, November",987.50
A-1,2026-11-28,7.50,EUR,E2E-2,,,995.00
"""

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
ACCOUNT = "<Acct><Id><IBAN>DE89370400440532013000</IBAN></Id><Ccy>EUR</Ccy></Acct>"


def balance(code: str, amount: str, *, currency: str = "EUR", sign: str = "CRDT", day: str = "2026-11-27") -> str:
    return (
        f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="{currency}">{amount}</Amt>'
        f"<CdtDbtInd>{sign}</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>"
    )


def entry(
    amount: str = "7.50", sign: str = "CRDT", *, currency: str = "EUR", details: str = "", status: str = "BOOK"
) -> str:
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts>'
        "<BookgDt><Dt>2026-11-27</Dt></BookgDt><ValDt><DtTm>2026-11-27T10:00:00+01:00</DtTm></ValDt>"
        f"<BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd>{details}</Ntry>"
    )


def statement(content: str, *, number: int | None = 5, name: str = "Stmt", extra: str = "") -> str:
    numbered = "" if number is None else f"<ElctrncSeqNb>{number}</ElctrncSeqNb>"
    return f"<{name}><Id>S-{number}</Id>{extra}{numbered}{ACCOUNT}{content}</{name}>"


def document(*statements: str, namespace: str = NAMESPACE, body: str = "BkToCstmrStmt", header: str = "") -> bytes:
    group = f"<GrpHdr><MsgId>M-1</MsgId><CreDtTm>2026-11-27T20:00:00Z</CreDtTm>{header}</GrpHdr>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{namespace}"><{body}>\n{group}\n'
        + "\n".join(statements)
        + f"\n</{body}></Document>\n"
    ).encode()


CAMT = document(
    statement(balance("OPBD", "1000.00") + balance("CLBD", "995.00") + entry("12.50", "DBIT") + entry("7.50"))
)
EVERY_FORMAT = {
    "MT940": MT940.encode(),
    "MT942": MT942.encode(),
    "BAI2": BAI2.encode(),
    "CSV": CSV.encode(),
    "camt": CAMT,
}


def refused(data: bytes | str) -> StatementRefused:
    """Return why a file isn't read."""
    with pytest.raises(StatementRefused) as caught:
        read(data.encode() if isinstance(data, str) else data)
    return caught.value


def outcome(data: bytes | str) -> tuple[str, int, str]:
    """Return reason, line and field of a file that isn't read."""
    refusal = refused(data)
    return refusal.reason.value, refusal.place.line, refusal.place.field


def only(data: bytes | str) -> Statement:
    """Return the statement of a file that has one."""
    statements = read(data.encode() if isinstance(data, str) else data)
    assert len(statements) == 1
    return statements[0]
