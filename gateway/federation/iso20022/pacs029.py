"""pacs.029.001.02, MultilateralSettlementRequest: the net movements of one cycle.

One message is one cycle, and one `SttlmReq` holds its movements in all currencies: ISO 20022 makes the request
the unit that settles, so what must settle all or nothing is in one. What the XML Schema doesn't check is checked
here: the number of movements, the control sum (left out where it has more digits than ISO 20022 can write, and only
there), and debits equal to credits in each currency. The value date is
the header's business processing date, for the message has no field of its own for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from gateway.federation.iso20022 import values, xml
from gateway.federation.iso20022.framing import Header, frame, unframe
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.xml import Element, Field, Money, Node

DEFINITION = "pacs.029.001.02"

_PARTY = (Field("Id", (Field("OrgId", (Field("AnyBIC", values.BIC),)),)),)
_MOVEMENT = Field(
    "MvmntRcrd",
    (
        Field("Id", values.TEXT_35),
        Field("SeqNb", values.COUNT, least=0),
        Field("Amt", (Field("Amt", values.ANY_TEXT, amount=True), Field("CdtDbt", values.DIRECTION))),
        Field("Ptcpt", _PARTY),
    ),
    least=2,
    most=None,
)
_PROFILE = Field(
    "MulSttlmReq",
    (
        Field(
            "GrpHdr",
            (
                Field("MsgId", values.TEXT_35),
                Field("CreDtTm", values.DATE_TIME),
                Field("NbOfSttlmReqs", values.COUNT),
                Field("CtrlSum", values.ANY_TEXT, least=0),
                Field("SttlmInf", (Field("SttlmMtd", values.CODE),), least=0),
            ),
        ),
        Field(
            "SttlmReq",
            (
                Field("InstrId", values.TEXT_35),
                Field("SttlmCycl", values.TEXT_35),
                Field("NbOfMvmntRcrds", values.COUNT),
                _MOVEMENT,
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True, order=True)
class Movement:
    """One participant's net in one currency, in minor units: positive is a credit to the participant."""

    participant: str
    currency: str
    amount: int


@dataclass(frozen=True, slots=True)
class SettlementRequest:
    """A cycle to settle. `movements` are never zero, at most one per participant and currency."""

    message_id: str
    created_at: datetime
    sender: str
    receiver: str
    cycle: str
    value_date: date
    movements: tuple[Movement, ...]


def settlement_request(
    *,
    message_id: str,
    created_at: datetime,
    sender: str,
    receiver: str,
    cycle: str,
    value_date: date,
    movements: Sequence[Movement],
) -> bytes:
    """Return the message that asks `receiver` to settle a cycle. The same arguments give the same bytes.

    Movements of zero are left out, debits come first. Raises `MessageRefused` for what no agent would take: a
    participant twice in a currency, debits that differ from credits, nothing to settle.
    """
    # Debits first: the order in which they are to be posted.
    moving = sorted((m for m in movements if m.amount), key=lambda m: (m.amount > 0, m.currency, m.participant))
    _check_movements(moving)
    records = [_movement_node(number, movement) for number, movement in enumerate(moving, start=1)]
    header = Header(sender, receiver, message_id, created_at, value_date)
    group: list[Node] = [
        ("MsgId", message_id),
        ("CreDtTm", values.write_time(created_at)),
        ("NbOfSttlmReqs", "1"),
        ("CtrlSum", values.write_control_sum((m.amount, m.currency) for m in moving)),
        ("SttlmInf", [("SttlmMtd", "CLRG")]),
    ]
    request: list[Node] = [
        ("InstrId", message_id),
        ("SttlmCycl", cycle),
        ("NbOfMvmntRcrds", str(len(moving))),
        *records,
    ]
    return frame(header, DEFINITION, ("MulSttlmReq", [("GrpHdr", group), ("SttlmReq", request)]))


def _movement_node(number: int, movement: Movement) -> Node:
    amount = Money(values.write_amount(abs(movement.amount), movement.currency), movement.currency)
    return (
        "MvmntRcrd",
        [
            ("Id", str(number)),
            ("SeqNb", str(number)),
            ("Amt", [("Amt", amount), ("CdtDbt", "CRDT" if movement.amount > 0 else "DBIT")]),
            ("Ptcpt", [("Id", [("OrgId", [("AnyBIC", movement.participant)])])]),
        ],
    )


def read_settlement_request(data: bytes) -> SettlementRequest:
    """Read a settlement request and check all that the XML Schema leaves open. Raises `MessageRefused`."""
    header, content = unframe(data, DEFINITION, _PROFILE)
    if header.value_date is None:
        raise MessageRefused(MessageReason.ELEMENT_MISSING, "the value date is missing", pointer="/AppHdr/BizPrcgDt")
    request = xml.each(content, "SttlmReq")[0]
    movements = [_read_movement(record, number) for number, record in enumerate(xml.each(request, "MvmntRcrd"), 1)]
    _check_duplicates(movements)
    if xml.required(content, "GrpHdr/NbOfSttlmReqs") != "1":
        raise MessageRefused(MessageReason.MOVEMENT_COUNT_WRONG, "the message holds one request, and says otherwise")
    if xml.required(request, "NbOfMvmntRcrds") != str(len(movements)):
        raise MessageRefused(MessageReason.MOVEMENT_COUNT_WRONG, f"the request holds {len(movements)} movements")
    control_sum = xml.value(content, "GrpHdr/CtrlSum")
    if not values.control_sum_agrees(control_sum, [(m.amount, m.currency) for m in movements]):
        raise MessageRefused(MessageReason.CONTROL_SUM_WRONG, "not the sum of the movements", pointer="/GrpHdr/CtrlSum")
    _check_balance(movements)
    return SettlementRequest(
        message_id=header.message_id,
        created_at=values.read_time(xml.required(content, "GrpHdr/CreDtTm"), pointer="/GrpHdr/CreDtTm"),
        sender=header.sender,
        receiver=header.receiver,
        cycle=xml.required(request, "SttlmCycl"),
        value_date=header.value_date,
        movements=tuple(movements),
    )


def _read_movement(record: Element, number: int) -> Movement:
    pointer = f"/SttlmReq/MvmntRcrd[{number}]/Amt"
    amount = xml.each(record, "Amt/Amt")[0]
    currency = str(amount.attrib["Ccy"])
    minor = values.read_amount(amount.text or "", currency, pointer=pointer)
    return Movement(
        participant=xml.required(record, "Ptcpt/Id/OrgId/AnyBIC"),
        currency=currency,
        amount=minor if xml.required(record, "Amt/CdtDbt") == "CRDT" else -minor,
    )


def _check_movements(movements: Sequence[Movement]) -> None:
    _check_duplicates(movements)
    if len(movements) < 2:
        raise MessageRefused(MessageReason.MOVEMENT_COUNT_WRONG, "a settlement has at least two movements")
    _check_balance(movements)


def _check_duplicates(movements: Sequence[Movement]) -> None:
    keys: set[tuple[str, str]] = set()
    for number, movement in enumerate(movements, start=1):
        key = (movement.participant, movement.currency)
        if key in keys:
            detail = f"{movement.participant} has two movements in {movement.currency}"
            raise MessageRefused(MessageReason.DUPLICATE_MOVEMENT, detail, pointer=f"/SttlmReq/MvmntRcrd[{number}]")
        keys.add(key)


def _check_balance(movements: Sequence[Movement]) -> None:
    totals: defaultdict[str, int] = defaultdict(int)
    for movement in movements:
        totals[movement.currency] += movement.amount
    for currency, total in sorted(totals.items()):
        if total:
            raise MessageRefused(MessageReason.DEBITS_CREDITS_DIFFER, f"debits differ from credits in {currency}")
