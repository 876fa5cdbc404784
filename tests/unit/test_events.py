"""The journal of any year can be read: golden data of every event type, older forms, and later ones refused."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.commitment import ProvenLeaf
from compliance.cycle.positions import Position
from compliance.recall_reasons import RecallReason
from compliance.statements import CycleCut, Document, LaneCut
from participants.ledger import events
from participants.ledger.account_events import (
    ENTRY_TYPES,
    NOSTRO_MOVED,
    OPENINGS_MOVED,
    RENAMED,
    STATE_TYPES,
    AccountOpening,
    AccountsOpened,
    NostroMoved,
    OpeningsMoved,
    OwnEntry,
    Renamed,
    StateChanged,
)
from participants.ledger.books import Books
from participants.ledger.events import TYPES, VERSIONS, EventData, EventRow, EventUnreadableError

ID, OTHER = "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c12"
SHA = "ab" * 32
TERMS = (
    '"amount_minor":"1050","creditor_account":"b-1"%s,"creditor_name":"Berta","currency":"EUR",'
    f'"debtor_account":"a-1","debtor_name":"Anton","id":"{ID}"'
)
ORDER = "{" + TERMS % ',"creditor_agent":"BETAFRPP"' + "}"
INCOMING = f'"batch":"{SHA}"%s,"sender":"ALFADEFF"%s,"terms":' + "{" + TERMS % "" + "}"
HITS = '"hits":[{"entry":"7","list":"OFAC","listed_name":"ANTON","method":"exact","party":"debtor","score":100}]'
ENVELOPE = (
    '{"payload":"e30=","payloadType":"application/vnd.concordat.x.v1+json","signatures":[{"keyid":"k","sig":"c2ln"}]}'
)
CUT = (
    '{"cycle":"2026-10-02-01","lanes":[{"currency":"EUR","last_sequence":3,"sender":"BETAFRPP"}],"receiver":"ALFADEFF"}'
)
CUT_ENVELOPE = (
    f'{{"payload":"{b64encode(CUT.encode()).decode()}","payloadType":"application/vnd.concordat.cycle-cut.v1+json",'
    '"signatures":[{"keyid":"k","sig":"c2ln"}]}'
)
NUMBERED = f'{{"acknowledgement":"{SHA}","sequence":1}}'

OWN_ENTRY = (
    '{"account":"a-1","against":"cash","amount_minor":"700","currency":"EUR","id":"' + ID + '",'
    '"people":%s,"reference":"slip 17","text":"at the desk"}'
)
CHANGED = '{"code":"a-1","currency":"EUR","kind":"customer"%s,"people":["dora"],"reason":"asked for"%s}'

# Written by version 1 of each form, never to be changed: a later version adds its own beside them.
GOLDEN_V1 = {
    "payment.reserved": ORDER,
    "payment.held_out": "{" + HITS + ',"order":' + ORDER + "}",
    "payment.accepted": "{" + INCOMING % ("", ',"sequence":5') + "}",
    "payment.held_in": "{" + INCOMING % ("," + HITS, "") + "}",
    "payment.declined": "{" + INCOMING % (',"reason":"creditor_account_unknown"', "") + "}",
    "payment.opinion": '{"decision":"release","person":"dora","reason":"another birthday"}',
    "payment.released": '{"people":["dora","egon"]}',
    "payment.posted": NUMBERED,
    "payment.credited": '{"sequence":6}',
    "payment.refused": f'{{"acknowledgement":"{SHA}","reason":"screening_rejected"}}',
    "payment.disputed": '{"person":"dora","reason":"no such invoice"}',
    "payment.dispute_withdrawn": '{"person":"dora","reason":"found it"}',
    "payment.cancellation_requested": '{"person":"mona"}',
    "payment.cancelled": f'{{"acknowledgement":"{SHA}","reason":"cancelled_by_sender"}}',
    "payment.recall_requested": f'{{"id":"{OTHER}","person":"mona","reason":"DUPL","text":"paid twice"}}',
    "payment.recall_received": (
        f'{{"id":"{OTHER}","reason":"FRAD","recall":"{SHA}","status":"accepted","text":"a fraud"}}'
    ),
    "payment.recall_answered": (
        f'{{"acknowledgement":"{SHA}","answer":"refused","id":"{OTHER}","person":"dora","reason":"LEGL",'
        '"status":"posted","text":"frozen"}'
    ),
    "payment.returned": f'{{"by":"{OTHER}"}}',
    "payment.returned_in_part": f'{{"amount_minor":"50","by":"{OTHER}"}}',
    "payment.return_failed": f'{{"by":"{OTHER}"}}',
    "accounts.opened": '{"accounts":[{"code":"a-1","currency":"EUR","name":"Anton","opening_balance_minor":"7"}]}',
    "account.deposited": OWN_ENTRY % '["dora","egon"]',
    "account.withdrawn": OWN_ENTRY % '["dora"]',
    "account.charged": OWN_ENTRY % '["dora"]',
    "account.blocked": CHANGED % ("", ',"state":"debits_blocked"'),
    "account.unblocked": CHANGED % ("", ',"state":"open"'),
    "account.closed": CHANGED % ("", ',"state":"closed"'),
    "account.renamed": CHANGED % (',"name":"Ann Birch"', ""),
    "nostro.moved": (
        '{"against":"settlement-funding","agent":"AGNTBEB1","amount_minor":"-700","currency":"EUR",'
        '"cycle":"2026-10-02-01","entry":4,"reference":"F000000000012"}'
    ),
    "nostro.openings_moved": (
        '{"against":"settlement-funding","agent":"AGNTBEB1","amount_minor":"900","currency":"EUR","through":31}'
    ),
    "cycle.cut": f'{{"cycle":"2026-10-02-01","envelopes":[{CUT_ENVELOPE}]}}',
    "cycle.cut_signed": f'{{"cycle":"2026-10-02-01","envelopes":[{CUT_ENVELOPE}]}}',
    "cycle.attested": f'{{"cycle":"2026-10-02-01","envelopes":[{ENVELOPE},{ENVELOPE}]}}',
    "cycle.instructed": f'{{"cycle":"2026-10-02-01","instruction":{ENVELOPE}}}',
    "cycle.settled": (
        f'{{"currency":"EUR","cycle":"2026-10-02-01","finality":"{SHA}","instruction":"2026-10-02-01/ALFADEFF/EUR"}}'
    ),
    "cycle.result_shown": (
        f'{{"commitment":{ENVELOPE},"counterparty":"BETAFRPP","cycle":"2026-10-02-01",'
        f'"leaves":[{{"index":3,"leaf":"{{}}","path":["{SHA}"]}}],"reason":"result_shown_otherwise"}}'
    ),
    "cycle.proofs_required": '{"cycle":"2026-10-02-01"}',
    "cycle.break": (
        '{"counterparty":"BETAFRPP","currency":"EUR","cycle":"2026-10-02-01","kind":"different","resolved":true}'
    ),
    "exposure.limits": (
        '{"granted":[{"counterparty":"BETAFRPP","currency":"EUR","limit_minor":"9"}],'
        '"scheme":[{"currency":"EUR","limit_minor":"5"}]}'
    ),
    "exposure.ceilings": '{"ceilings":[{"currency":"EUR","limit_minor":"0"}],"person":"dora","reason":"a rumour"}',
}


GOLDEN_V2 = {
    "payment.reserved": '{"actor":"mona",' + ORDER[1:],
    "payment.held_out": '{"actor":"mona",' + HITS + ',"order":' + ORDER + "}",
    "payment.returned": f'{{"amount_minor":"1050","by":"{OTHER}"}}',
    "payment.return_failed": f'{{"amount_minor":"50","by":"{OTHER}"}}',
    "accounts.opened": GOLDEN_V1["accounts.opened"][:-1] + ',"people":["mona","nora"]}',
    "cycle.cut": f'{{"cut":{CUT},"cycle":"2026-10-02-01"}}',
    "cycle.attested": (
        f'{{"attestation":{ENVELOPE},"cycle":"2026-10-02-01","positions":[["EUR","ALFADEFF","BETAFRPP",1,1,3,2,"500",'
        f'"{SHA}",4,3,0,"0","{SHA}"]],"screening":{{"cycle":"2026-10-02-01","hits":0,"lists":[],"matcher":"m",'
        '"participant":"ALFADEFF","pending":0,"rejected":0,"released":0,"screened":3}}'
    ),
    "exposure.ceilings": (
        '{"ceilings":[{"currency":"EUR","limit_minor":"9"}],"people":["dora","egon"],"reason":"it was a rumour"}'
    ),
}
GOLDEN_V3 = {
    "accounts.opened": (
        '{"accounts":[{"against":"conversion","code":"a-1","currency":"EUR","name":"Anton","opening_balance_minor":"7"},'
        '{"code":"cash","currency":"EUR","kind":"internal","name":"Cash"}],"people":["mona","nora"]}'
    ),
}
PRESENT = GOLDEN_V1 | GOLDEN_V2 | GOLDEN_V3


def stored(kind: str, data: str, schema_version: int = 1) -> EventRow:
    return EventRow(1, ID, 1, kind, schema_version, data)


def test_every_type_has_golden_data_of_every_version() -> None:
    assert GOLDEN_V1.keys() == TYPES.keys()
    assert {kind: 3 if kind in GOLDEN_V3 else 2 if kind in GOLDEN_V2 else 1 for kind in TYPES} == VERSIONS


@pytest.mark.parametrize("kind", GOLDEN_V1)
def test_the_first_form_stays_readable(kind: str) -> None:
    assert isinstance(events.read(stored(kind, GOLDEN_V1[kind])).data, TYPES[kind])


@pytest.mark.parametrize("kind", GOLDEN_V2)
def test_the_second_form_is_read(kind: str) -> None:
    events.read(stored(kind, GOLDEN_V2[kind], 2))


@pytest.mark.parametrize("kind", PRESENT)
def test_golden_data_are_what_is_written(kind: str) -> None:
    data = events.read(stored(kind, PRESENT[kind], VERSIONS[kind])).data
    assert EventData.of(kind, data).text == PRESENT[kind]


def test_a_cut_that_was_signed_in_one_step_is_read_with_its_envelope() -> None:
    first = events.read(stored("cycle.cut", GOLDEN_V1["cycle.cut"])).data
    assert first.cut == events.read(stored("cycle.cut", GOLDEN_V2["cycle.cut"], 2)).data.cut
    assert first.cut.lanes == (LaneCut(sender="BETAFRPP", currency="EUR", last_sequence=3),)
    assert first.envelope == msgspec.json.decode(CUT_ENVELOPE, type=dsse.Envelope)
    for envelopes in ("[]", f"[{CUT_ENVELOPE},{CUT_ENVELOPE}]", f"[{ENVELOPE}]"):
        with pytest.raises(EventUnreadableError):
            events.read(stored("cycle.cut", f'{{"cycle":"2026-10-02-01","envelopes":{envelopes}}}'))


def test_what_was_signed_statement_by_statement_is_read_as_it_was() -> None:
    first = events.read(stored("cycle.attested", GOLDEN_V1["cycle.attested"])).data
    assert (first.attestation, first.positions, len(first.signed)) == (None, (), 2)
    second = events.read(stored("cycle.attested", GOLDEN_V2["cycle.attested"], 2)).data
    assert (len(second.positions), second.signed) == (1, (second.attestation,))


# --- what can't be read is never written ---------------------------------------------------------------------

ORDER_FORM = msgspec.json.decode(ORDER, type=events.PaymentOrder)
TERMS_FORM = ORDER_FORM.terms()


def taken(order: events.PaymentOrder) -> events.OrderTaken:
    return events.OrderTaken(**msgspec.structs.asdict(order), actor="mona")


BROKEN_ORDER = msgspec.structs.replace(ORDER_FORM, remittance="paid\nback")
BROKEN_TERMS = msgspec.structs.replace(TERMS_FORM, debtor_name="A\x00")
WHO: dict[str, Any] = {"sender": "ALFADEFF", "batch": SHA, "terms": TERMS_FORM}
CYCLE = "2026-10-02-01"
SIGNED = dsse.sign(CycleCut(cycle=CYCLE, receiver="ALFADEFF", lanes=()), SigningKey.generate())
POSITION = Position("EUR", "ALFADEFF", "BETAFRPP", 1, 1, 3, 2, "500", SHA, 4, 3, 0, "0", SHA)
ENTRY: dict[str, Any] = {"id": ID, "account": "a-1", "currency": "EUR", "amount_minor": "7", "against": "cash",
    "reference": "slip 17", "people": ("dora",)}  # fmt: skip
MOVED: dict[str, Any] = {"agent": "AGNTBEB1", "currency": "EUR", "against": "settlement-funding"}
CHANGE: dict[str, Any] = {"kind": "customer", "code": "a-1", "currency": "EUR", "people": ("dora",), "reason": "why"}


UNREADABLE: list[tuple[str, Document]] = [
    ("payment.reserved", taken(BROKEN_ORDER)),
    ("payment.reserved", msgspec.structs.replace(taken(ORDER_FORM), amount_minor="1000000000000000")),
    ("payment.reserved", msgspec.structs.replace(taken(ORDER_FORM), creditor_agent="betafrpp")),
    ("payment.reserved", msgspec.structs.replace(taken(ORDER_FORM), debtor_name="\ud800")),
    ("payment.reserved", TERMS_FORM),
    ("payment.held_out", events.OutgoingHeld(order=BROKEN_ORDER, hits=())),
    ("payment.accepted", events.IncomingAccepted(**WHO | {"terms": BROKEN_TERMS}, sequence=1)),
    ("payment.accepted", events.IncomingAccepted(**WHO, sequence=-1)),
    ("payment.held_in", events.IncomingHeld(**WHO | {"sender": "alfa"}, hits=())),
    ("payment.held_in", events.IncomingHeld(**WHO, hits=[])),  # type: ignore[arg-type]
    ("payment.declined", events.IncomingDeclined(**WHO | {"batch": "ab"}, reason="x")),
    ("payment.opinion", events.Opinion(person="dora", decision="maybe", reason="hm")),  # type: ignore[arg-type]
    ("payment.opinion", events.Opinion(person="dora", decision="reject", reason="")),
    ("payment.released", events.Released(people=(1, 2))),  # type: ignore[arg-type]
    ("payment.posted", events.Numbered(sequence=2**53)),
    ("payment.posted", events.Numbered(sequence=1, acknowledgement="x")),
    ("payment.credited", events.Numbered(sequence="1")),  # type: ignore[arg-type]
    ("payment.refused", events.Refused(reason="x", acknowledgement="x")),
    ("payment.refused", events.Numbered(sequence=1)),
    ("payment.disputed", events.Disputed(person="dora", reason="a\x07b")),
    ("payment.dispute_withdrawn", events.Disputed(person="dora", reason="x" * 501)),
    ("payment.cancellation_requested", events.CancellationRequested(person=1)),  # type: ignore[arg-type]
    ("payment.cancelled", events.Numbered(sequence=1)),
    ("payment.recall_requested", events.RecallRequested(id=ID, reason="XXXX")),  # type: ignore[arg-type]
    ("payment.recall_received", events.RecallReceived(id=ID, reason=RecallReason.DUPL, recall="ab", status="accepted")),
    ("payment.recall_answered", events.RecallAnswered(id=ID, answer="open", status="posted")),  # type: ignore[arg-type]
    ("payment.returned", events.Returned(by="no uuid")),
    ("payment.returned_in_part", events.Returned(by=ID, amount_minor="0")),
    ("exposure.limits", events.ExposureLimits(granted=[], scheme=())),  # type: ignore[arg-type]
    ("exposure.ceilings", events.ExposureCeilings(ceilings=(), people=("dora",), reason="a\x07b")),
    ("payment.return_failed", events.Returned(by=ID.upper())),
    ("accounts.opened", AccountsOpened(chart="nostro/x/EUR")),  # type: ignore[arg-type]
    (
        "accounts.opened",
        AccountsOpened(accounts=(AccountOpening(code="a b", currency="EUR", name="A"),)),
    ),
    *((kind, OwnEntry(**{**ENTRY, "reference": "a\nb"})) for kind in ENTRY_TYPES.values()),
    *((kind, StateChanged(**CHANGE, state="frozen")) for kind in sorted(set(STATE_TYPES.values()))),  # type: ignore[arg-type]
    (RENAMED, Renamed(**CHANGE, name="")),
    (NOSTRO_MOVED, NostroMoved(**MOVED, amount_minor="1.00", entry=1, reference="F1")),
    (OPENINGS_MOVED, OpeningsMoved(**MOVED, amount_minor="-1", through=1)),
    (
        "cycle.cut",
        events.CutFixed(
            cycle=CYCLE,
            cut=CycleCut(
                cycle=CYCLE, receiver="ALFADEFF", lanes=(LaneCut(sender="BETA", currency="EUR", last_sequence=1),)
            ),
        ),
    ),
    ("cycle.cut_signed", events.CycleDocuments(cycle="today", envelopes=(SIGNED,))),
    ("cycle.attested", events.CycleAttested(cycle=CYCLE, envelopes=[SIGNED])),  # type: ignore[arg-type]
    ("cycle.attested", events.CycleAttested(cycle=CYCLE, attestation=SIGNED, positions=[POSITION])),  # type: ignore[arg-type]
    ("cycle.attested", events.CycleDocuments(cycle=CYCLE, envelopes=(SIGNED,))),
    ("cycle.instructed", events.Instructed(cycle=CYCLE, instruction=None)),  # type: ignore[arg-type]
    ("cycle.settled", events.CycleSettled(cycle=CYCLE, currency="euro", instruction="i", finality=SHA)),
    (
        "cycle.result_shown",
        events.ResultShown(
            cycle=CYCLE, commitment=SIGNED, leaves=(ProvenLeaf(leaf="{}", index=-1, path=()),), counterparty="BETAFRPP"
        ),
    ),
    ("cycle.proofs_required", events.ProofsRequired(cycle="today")),
    ("cycle.break", events.BreakHeard(cycle=CYCLE, counterparty="beta", currency="EUR", kind="different")),
    ("no.such.type", ORDER_FORM),
]


def test_every_type_has_something_unreadable() -> None:
    assert TYPES.keys() <= {kind for kind, _ in UNREADABLE}


@pytest.mark.parametrize(("kind", "data"), UNREADABLE)
def test_what_can_not_be_read_is_not_recorded(kind: str, data: Document) -> None:
    books = Books("ALFADEFF", "AGNTBEB1")
    with pytest.raises(EventUnreadableError, match=re.escape(kind)):
        books.record(ID, 1, kind, data)
    assert (books.head, books.rows.events) == (0, [])


def test_data_of_one_type_are_not_recorded_as_another() -> None:
    books = Books("ALFADEFF", "AGNTBEB1")
    numbered = EventData.of("payment.credited", events.Numbered(sequence=1))
    with pytest.raises(EventUnreadableError, match=re.escape("payment.refused")):
        books.record(ID, 1, "payment.refused", numbered)
    assert (books.head, books.rows.events) == (0, [])


def test_an_order_from_outside_goes_through_the_same_decoder() -> None:
    (order,) = EventData.orders([ORDER.encode()], maker="mona")
    assert (order.type, canonical.encode(order.value)) == ("payment.reserved", canonical.encode(ORDER_FORM))
    assert events.held_out(order, ()) == events.OutgoingHeld(order=ORDER_FORM, hits=(), actor="mona")
    for wrong in (ORDER.replace("Anton", "An\\nton"), '{"actor":"mona",' + ORDER[1:]):
        with pytest.raises(msgspec.ValidationError):
            EventData.orders([wrong.encode()], maker="mona")


@pytest.mark.parametrize("name", ["mona", 'M"o\\na', "Mönä 𝄞", "a\nb"])
def test_who_made_an_order_stands_in_the_canonical_form_of_it(name: str) -> None:
    (made,) = EventData.orders([ORDER.encode()], maker=name)
    read = events.read(stored("payment.reserved", made.text, 2)).data
    assert events.held_out(made, ()).actor == name
    assert (read.actor, read.terms(), read.creditor_agent) == (name, TERMS_FORM, ORDER_FORM.creditor_agent)
    assert canonical.encode(read).decode() == made.text


def test_what_was_read_in_a_batch_is_written_as_if_it_were_read_once_more() -> None:
    terms = msgspec.json.decode(ORDER, type=events.PaymentOrder).terms()
    accepted = events.IncomingAccepted(sender="BETAFRPP", batch=SHA, terms=terms, sequence=7)
    numbered = events.Numbered(sequence=7, acknowledgement=SHA)
    assert EventData.of_read("payment.accepted", accepted) == EventData.of("payment.accepted", accepted)
    assert EventData.of_read("payment.posted", numbered) == EventData.of("payment.posted", numbered)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(EventUnreadableError, match=r"payment\.teleported"):
        events.read(stored("payment.teleported", "{}"))


@pytest.mark.parametrize("kind", TYPES)
def test_a_later_form_is_refused(kind: str) -> None:
    with pytest.raises(EventUnreadableError, match=f"version {VERSIONS[kind] + 1}"):
        events.read(stored(kind, PRESENT[kind], VERSIONS[kind] + 1))


@pytest.mark.parametrize("data", ['{"people":[1]}', '{"people":["dora"],"extra":1}', "{", "[]"])
def test_data_of_another_form_are_refused(data: str) -> None:
    with pytest.raises(EventUnreadableError):
        events.read(stored("payment.released", data))


def test_older_forms_climb_one_version_at_a_time() -> None:
    """As if this program were of version 4: what a step doesn't concern passes through it unchanged."""

    def split_people(data: dict[str, Any]) -> dict[str, Any]:
        return {"names": data["people"].split("+")}

    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {"people": data["names"]}

    steps = {("payment.released", 1): split_people, ("payment.released", 3): rename}
    versions = dict.fromkeys(TYPES, 4)

    def read(kind: str, data: str, version: int) -> Any:
        return events.read(stored(kind, data, version), steps, versions).data

    expected = events.Released(people=("dora", "egon"))
    assert read("payment.released", '{"people":"dora+egon"}', 1) == expected
    for version in (2, 3):
        assert read("payment.released", '{"names":["dora","egon"]}', version) == expected
    assert read("payment.released", '{"people":["dora","egon"]}', 4) == expected
    assert read("payment.refused", '{"reason":"late"}', 1) == events.Refused(reason="late")
    steps[("payment.released", 2)] = lambda data: {"names": 5}
    with pytest.raises(EventUnreadableError):
        read("payment.released", '{"people":["dora"]}', 2)


def test_subjects_are_stable() -> None:
    """Their UUIDs are in every journal, so they never change."""
    subject = events.subject_id("cycle.cut", "2026-10-02-01")
    assert subject == "33d0dbf1-97be-8ed2-bf70-6241b0ece385"
    assert events.earlier_subject(subject) == "33d0dbf1-97be-5ed2-bf70-6241b0ece385"
    assert events.is_reserved(subject)
    assert not events.is_reserved(events.earlier_subject(subject))
    assert events.subject_id("a", "b") != events.subject_id("a/b", "")
