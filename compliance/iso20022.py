"""ISO 20022 messages as evidence: what is signed of them, and as much of them as can be checked without the agent.

A message is signed as the bytes that it is: it is the payload of a DSSE envelope, under a payload type of its own, so
that it stays valid XML and one kind of message never passes for another.

`gateway.federation.iso20022` reads messages against closed profiles before any money moves. Here they are history: read
with the same suspicion, for what a verifier compares and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lxml import etree

SETTLEMENT_REQUEST_TYPE = "application/vnd.concordat.pacs.029.001.02+xml"
"""From the coordinator to the settlement agent."""
SETTLEMENT_ANSWER_TYPE = "application/vnd.concordat.pacs.002.001.10+xml"
"""From the settlement agent to the coordinator."""
NOTIFICATION_TYPE = "application/vnd.concordat.camt.054.001.08+xml"
"""From the settlement agent to a participant."""

NO_MOVEMENT = "NO-MOVEMENT"
"""The reference of a settlement in which every net is zero: there is nothing to ask the agent for."""

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_HEAD = "{urn:iso:std:iso:20022:tech:xsd:head.001.001.02}"
_REQUEST = "{urn:iso:std:iso:20022:tech:xsd:pacs.029.001.02}"
_ANSWER = "{urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10}"


class MessageError(ValueError):
    """A message that doesn't say what it must."""


@dataclass(frozen=True, slots=True)
class RequestedSettlement:
    """What a pacs.029 asks for: movements in minor units by participant and currency, a credit being positive."""

    sender: str
    receiver: str
    message_id: str
    cycle: str
    value_date: str
    movements: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class AnsweredSettlement:
    """What a pacs.002 answers to which message; reference and time where it settled, the reason where it refused."""

    sender: str
    receiver: str
    message_id: str
    settled: bool
    reason: str | None
    reference: str | None
    settled_at: datetime | None


INSUFFICIENT_FUNDS = "AM04"
"""ISO 20022 external status reason: the agent's accounts don't cover the debits."""


def request_id(cycle: str, attempt: int) -> str:
    """Return the id by which the agent knows a request: one for each attempt of each cycle."""
    return f"{cycle}-{attempt}"


def read_request(data: bytes) -> RequestedSettlement:
    """Read a settlement request. Raises MessageError."""
    root = _root(data)
    movements: dict[tuple[str, str], int] = {}
    for record in root.iter(f"{_REQUEST}MvmntRcrd"):
        participant = _text(record, *_path(_REQUEST, "Ptcpt/Id/OrgId/AnyBIC"))
        amount = _only(record, *_path(_REQUEST, "Amt/Amt"))
        key = (participant, str(amount.get("Ccy")))
        if key in movements:
            raise MessageError(f"{' '.join(key)} moves twice")
        credit = _text(record, *_path(_REQUEST, "Amt/CdtDbt")) == "CRDT"
        # All decimals of the currency are written, so without its point an amount is a number of minor units.
        digits = (amount.text or "").replace(".", "", 1)
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise MessageError(f"{' '.join(key)} moves no amount")
        movements[key] = int(digits) if credit else -int(digits)
    request = _path(_REQUEST, "Document/MulSttlmReq")
    return RequestedSettlement(
        *_parties(root),
        message_id=_text(root, *request, *_path(_REQUEST, "GrpHdr/MsgId")),
        cycle=_text(root, *request, *_path(_REQUEST, "SttlmReq/SttlmCycl")),
        # The header's business processing date, at midnight.
        value_date=_text(root, *_path(_HEAD, "AppHdr/BizPrcgDt"))[:10],
        movements=movements,
    )


def read_answer(data: bytes) -> AnsweredSettlement:
    """Read the answer to a settlement request. Raises MessageError."""
    root = _root(data)
    report = _only(root, *_path(_ANSWER, "Document/FIToFIPmtStsRpt"))
    status = _text(report, *_path(_ANSWER, "OrgnlGrpInfAndSts/GrpSts"))
    settled = status == "ACSC"
    reference, at, reason = None, None, None
    if status == "RJCT":
        reason = _text(report, *_path(_ANSWER, "OrgnlGrpInfAndSts/StsRsnInf/Rsn/Cd"))
    if settled:
        reference = _text(report, *_path(_ANSWER, "TxInfAndSts/ClrSysRef"))
        time = _text(report, *_path(_ANSWER, "TxInfAndSts/FctvIntrBkSttlmDt/DtTm"))
        try:
            at = datetime.fromisoformat(time)
        except ValueError as error:
            raise MessageError(f"settled at no time: {time[:40]!r}") from error
    return AnsweredSettlement(
        *_parties(root),
        message_id=_text(report, *_path(_ANSWER, "OrgnlGrpInfAndSts/OrgnlMsgId")),
        settled=settled,
        reason=reason,
        reference=reference,
        settled_at=at,
    )


def _root(data: bytes) -> Any:
    """Parse a message that has no document type declaration and so no entities."""
    if len(data) > MESSAGE_BYTES_MAX or b"<!DOCTYPE" in data:
        raise MessageError("too large, or with a document type declaration")
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise MessageError(f"not well-formed: {error.msg}") from error
    return root


def _parties(root: Any) -> tuple[str, str]:
    """Return sender and receiver."""
    header = _only(root, f"{_HEAD}AppHdr")
    sender, receiver = (_text(header, *_path(_HEAD, f"{name}/FIId/FinInstnId/BICFI")) for name in ("Fr", "To"))
    return sender, receiver


def _path(namespace: str, names: str) -> list[str]:
    return [namespace + name for name in names.split("/")]


def _only(element: Any, *names: str) -> Any:
    """Return the element at a path, which is there once at every step."""
    for name in names:
        matching = element.findall(name)
        if len(matching) != 1:
            raise MessageError(f"{len(matching)} times {name.rpartition('}')[2]} instead of once")
        element = matching[0]
    return element


def _text(element: Any, *names: str) -> str:
    return str(_only(element, *names).text or "")
