"""Reading files of statements: 10,000 entries in each format, checked, beside the least that a program could do."""

from __future__ import annotations

import csv
import gc
import io
import re
import time
from collections.abc import Callable

from lxml import etree

from participants.statements.reading import read
from tests.benchmarks.rows import Row

ENTRIES = 10_000
ROUNDS = 5


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; higher is better in entries a second."""
    return [
        _row("camt.053 read and checked", _camt(), etree.fromstring, "lxml's parse alone"),
        _row("MT940 read and checked", _mt940(), _split, "its fields split, no more"),
        _row("BAI2 read and checked", _bai2(), _split, "its fields split, no more"),
        _row("CSV read and checked", _csv(), _dicts, "csv.DictReader"),
    ]


def _row(what: str, data: bytes, peer: Callable[[bytes], object], peer_name: str) -> Row:
    """Read by turns with the peer, in processor time, so that a busy moment of the machine hits neither."""
    assert sum(len(statement.entries) for statement in read(data)) == ENTRIES
    times = [(_seconds(read, data), _seconds(peer, data)) for _ in range(ROUNDS)]
    ours, theirs = (ENTRIES / min(column) for column in zip(*times, strict=True))
    return {
        "what": what,
        "ours": ours,
        "peer": theirs,
        "peer_name": peer_name,
        "unit": "entries/s",
        "note": f"{len(data) / 1e6:.1f} MB, best of {ROUNDS} in processor time",
    }


def _seconds(work: Callable[[bytes], object], data: bytes) -> float:
    gc.collect()
    began = time.process_time()
    work(data)
    return max(time.process_time() - began, 1e-6)


def _split(data: bytes) -> object:
    return re.split(r"[:,\n]", data.decode())


def _dicts(data: bytes) -> object:
    return list(csv.DictReader(io.StringIO(data.decode())))


def _camt() -> bytes:
    def balance(code: str, amount: int) -> str:
        return (
            f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="CHF">{amount}.00</Amt>'
            "<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-11-27</Dt></Dt></Bal>"
        )

    entries = "\n".join(
        f'<Ntry>\n<NtryRef>{n}</NtryRef>\n<Amt Ccy="CHF">1.00</Amt>\n<CdtDbtInd>CRDT</CdtDbtInd>\n'
        "<Sts><Cd>BOOK</Cd></Sts>\n"
        "<BookgDt><Dt>2026-11-27</Dt></BookgDt>\n<ValDt><Dt>2026-11-27</Dt></ValDt>\n"
        f"<AcctSvcrRef>R{n:08}</AcctSvcrRef>\n"
        "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>\n"
        f"<NtryDtls><TxDtls>\n<Refs><InstrId>I{n:08}</InstrId><EndToEndId>E{n:08}</EndToEndId></Refs>\n"
        f'<Amt Ccy="CHF">1.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>\n<RltdPties><Dbtr><Pty><Nm>Debtor {n}</Nm></Pty></Dbtr>'
        "<DbtrAcct><Id><IBAN>CH2909000000250094239</IBAN></Id></DbtrAcct></RltdPties>\n"
        "<RltdAgts><DbtrAgt><FinInstnId><BICFI>POFICHBEXXX</BICFI></FinInstnId></DbtrAgt></RltdAgts>\n"
        f"<RmtInf><Ustrd>Invoice {n}</Ustrd></RmtInf>\n</TxDtls></NtryDtls>\n</Ntry>"
        for n in range(ENTRIES)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">'
        "<BkToCstmrStmt><GrpHdr><MsgId>M</MsgId></GrpHdr><Stmt><Id>S</Id><ElctrncSeqNb>5</ElctrncSeqNb>"
        "<Acct><Id><IBAN>CH2909000000250094239</IBAN></Id><Ccy>CHF</Ccy></Acct>"
        f"{balance('OPBD', 0)}{balance('CLBD', ENTRIES)}{entries}</Stmt></BkToCstmrStmt></Document>"
    ).encode()


def _mt940() -> bytes:
    entries = "\n".join(
        f":61:2611271127C1,00NTRFREF{n:08}//BANK{n:08}\n:86:166?00GUTSCHRIFT?109310?20EREF+E{n:08}?21SVWZ+Rechnung {n}"
        "?30BYLADEMM?31DE99700500000000012345\n?32Finanzamt Muenchen"
        for n in range(ENTRIES)
    )
    opening, closing = ":60F:C261126EUR0,00", f":62F:C261127EUR{ENTRIES},00"
    return f":20:S\n:25:12345678/1020304050\n:28C:5/1\n{opening}\n{entries}\n{closing}\n-\n".encode()


def _bai2() -> bytes:
    entries = "\n".join(f"16,195,100,V,261127,,BANK{n:08},CUST{n:08},INCOMING\n88,WIRE {n}" for n in range(ENTRIES))
    total = ENTRIES * 200
    return (
        "01,122099999,123456789,261127,0200,1,80,,2/\n02,031001234,122099999,1,261127,2359,USD,2/\n"
        f"03,0123456789,USD,010,0,,,015,{ENTRIES * 100},,/\n{entries}\n49,{total},{ENTRIES * 2 + 2}/\n"
        f"98,{total},1,{ENTRIES * 2 + 4}/\n99,{total},1,{ENTRIES * 2 + 6}/\n"
    ).encode()


def _csv() -> bytes:
    rows = "\n".join(
        f'A-1,2026-11-27,1.00,EUR,E{n:08},Debtor {n},"Invoice {n}, November",{n + 1}.00' for n in range(ENTRIES)
    )
    return f"account,value_date,amount,currency,end_to_end_id,counterparty,text,balance\n{rows}\n".encode()
