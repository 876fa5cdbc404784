"""pacs.002.001.10, FIToFIPaymentStatusReport: the settlement agent's answer to a settlement request.

Status codes are those of the ISO 20022 external code set: ACSC (settled), RJCT (refused, nothing was posted),
PDNG (not decided yet). Reasons likewise, AM04 being insufficient funds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, cast

from gateway.federation.iso20022 import pacs029, values, xml
from gateway.federation.iso20022.framing import Header, frame, unframe
from gateway.federation.iso20022.pacs029 import SettlementRequest
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.xml import Field, Node

DEFINITION = "pacs.002.001.10"
LINE_CHARACTERS_MAX = 105

Status: TypeAlias = Literal["ACSC", "RJCT", "PDNG"]

_STATUS = re.compile("ACSC|RJCT|PDNG")
_REASON = Field(
    "StsRsnInf",
    (
        Field("Rsn", (Field("Cd", values.CODE),)),
        Field("AddtlInf", values.TEXT_105, least=0, most=None),
    ),
    least=0,
)
_PROFILE = Field(
    "FIToFIPmtStsRpt",
    (
        Field("GrpHdr", (Field("MsgId", values.TEXT_35), Field("CreDtTm", values.DATE_TIME))),
        Field(
            "OrgnlGrpInfAndSts",
            (
                Field("OrgnlMsgId", values.TEXT_35),
                Field("OrgnlMsgNmId", values.TEXT_35),
                Field("OrgnlCreDtTm", values.DATE_TIME, least=0),
                Field("GrpSts", _STATUS),
                _REASON,
            ),
        ),
        Field(
            "TxInfAndSts",
            (
                Field("OrgnlInstrId", values.TEXT_35),
                Field("TxSts", _STATUS),
                Field("FctvIntrBkSttlmDt", (Field("DtTm", values.DATE_TIME),), least=0),
                Field("ClrSysRef", values.TEXT_35, least=0),
            ),
            least=0,
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """An answer. `reference` and `settled_at` come with ACSC, a reason with RJCT.

    `reason_text` has one line per fact, such as one participant's shortfall.
    """

    message_id: str
    created_at: datetime
    sender: str
    receiver: str
    original_message_id: str
    status: Status
    reason_code: str | None = None
    reason_text: str | None = None
    reference: str | None = None
    settled_at: datetime | None = None


def status_report(
    *,
    message_id: str,
    created_at: datetime,
    request: SettlementRequest,
    status: Status,
    reason_code: str | None = None,
    reason_text: str | None = None,
    reference: str | None = None,
    settled_at: datetime | None = None,
) -> bytes:
    """Return the answer to a settlement request, from the one it was addressed to. Raises `MessageRefused`.

    That is for a status without what must come with it. Lines of the reason are cut at 105 characters.
    """
    _check(status, reason_code, reference, settled_at)
    header = Header(request.receiver, request.sender, message_id, created_at)
    reason: list[Node] | None = None
    if reason_code is not None:
        lines = (reason_text or "").splitlines()
        reason = [("Rsn", [("Cd", reason_code)]), *(("AddtlInf", line[:LINE_CHARACTERS_MAX]) for line in lines)]
    original: list[Node] = [
        ("OrgnlMsgId", request.message_id),
        ("OrgnlMsgNmId", pacs029.DEFINITION),
        ("OrgnlCreDtTm", values.write_time(request.created_at)),
        ("GrpSts", status),
        ("StsRsnInf", reason),
    ]
    transaction: list[Node] = [
        ("OrgnlInstrId", request.message_id),
        ("TxSts", status),
        ("FctvIntrBkSttlmDt", [("DtTm", values.write_time(settled_at))] if settled_at else None),
        ("ClrSysRef", reference),
    ]
    group: list[Node] = [("MsgId", message_id), ("CreDtTm", values.write_time(created_at))]
    document: Node = (
        "FIToFIPmtStsRpt",
        [("GrpHdr", group), ("OrgnlGrpInfAndSts", original), ("TxInfAndSts", transaction)],
    )
    return frame(header, DEFINITION, document)


def read_status(data: bytes) -> StatusReport:
    """Read an answer to a settlement request. Raises `MessageRefused`."""
    header, content = unframe(data, DEFINITION, _PROFILE)
    group = "OrgnlGrpInfAndSts"
    if xml.required(content, f"{group}/OrgnlMsgNmId") != pacs029.DEFINITION:
        raise MessageRefused(MessageReason.VALUE_MALFORMED, f"not an answer to a {pacs029.DEFINITION}")
    status = cast(Status, xml.required(content, f"{group}/GrpSts"))
    if xml.value(content, "TxInfAndSts/TxSts") not in (None, status):
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "a settlement has one status, this answer gives two")
    lines = [line.text or "" for line in xml.each(content, f"{group}/StsRsnInf/AddtlInf")]
    settlement_time = xml.value(content, "TxInfAndSts/FctvIntrBkSttlmDt/DtTm")
    report = StatusReport(
        message_id=header.message_id,
        created_at=header.created_at,
        sender=header.sender,
        receiver=header.receiver,
        original_message_id=xml.required(content, f"{group}/OrgnlMsgId"),
        status=status,
        reason_code=xml.value(content, f"{group}/StsRsnInf/Rsn/Cd"),
        reason_text="\n".join(lines) or None,
        reference=xml.value(content, "TxInfAndSts/ClrSysRef"),
        settled_at=values.read_time(settlement_time) if settlement_time else None,
    )
    _check(report.status, report.reason_code, report.reference, report.settled_at)
    return report


def _check(status: Status, reason_code: str | None, reference: str | None, settled_at: datetime | None) -> None:
    """Hold a status against what must come with it: a settlement has its reference and time, a rejection its reason."""
    if (status == "ACSC") != (reference is not None and settled_at is not None):
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "ACSC, and only ACSC, comes with a reference and a time")
    if (status == "RJCT") != (reason_code is not None):
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "RJCT, and only RJCT, comes with a reason")
