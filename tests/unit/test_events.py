"""The journal of any year can be read: golden data of every event type, older forms, and later ones refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from participants.ledger import events
from participants.ledger.events import SCHEMA_VERSION, TYPES, EventRow, EventUnreadableError

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
NUMBERED = f'{{"acknowledgement":"{SHA}","sequence":1}}'

# Written by schema version 1, never to be changed: a later version adds its own beside them.
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
    "payment.returned": f'{{"by":"{OTHER}"}}',
    "payment.return_failed": f'{{"by":"{OTHER}"}}',
    "accounts.opened": '{"accounts":[{"code":"a-1","currency":"EUR","name":"Anton","opening_balance_minor":"7"}]}',
    "nostro.funded": '{"amount_minor":"-500","currency":"EUR","person":"dora","reason":"end of day"}',
    "cycle.cut": f'{{"cycle":"2026-10-02-01","envelopes":[{ENVELOPE}]}}',
    "cycle.attested": f'{{"cycle":"2026-10-02-01","envelopes":[{ENVELOPE},{ENVELOPE}]}}',
    "cycle.instructed": f'{{"cycle":"2026-10-02-01","instruction":{ENVELOPE}}}',
    "cycle.settled": (
        f'{{"currency":"EUR","cycle":"2026-10-02-01","finality":"{SHA}","instruction":"2026-10-02-01/ALFADEFF/EUR"}}'
    ),
}


def stored(kind: str, data: str, schema_version: int = 1) -> EventRow:
    return EventRow(1, ID, 1, kind, schema_version, data)


def test_every_type_has_golden_data() -> None:
    assert GOLDEN_V1.keys() == TYPES.keys()


@pytest.mark.parametrize("kind", GOLDEN_V1)
def test_the_first_form_stays_readable(kind: str) -> None:
    assert isinstance(events.read(stored(kind, GOLDEN_V1[kind])), TYPES[kind])


@pytest.mark.skipif(SCHEMA_VERSION != 1, reason="version 1 isn't the present form any more")
@pytest.mark.parametrize("kind", GOLDEN_V1)
def test_golden_data_are_what_is_written(kind: str) -> None:
    assert events.encode(events.read(stored(kind, GOLDEN_V1[kind]))) == GOLDEN_V1[kind]


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(EventUnreadableError, match=r"payment\.teleported"):
        events.read(stored("payment.teleported", "{}"))


def test_a_later_form_is_refused() -> None:
    with pytest.raises(EventUnreadableError, match="version 2"):
        events.read(stored("payment.released", GOLDEN_V1["payment.released"], SCHEMA_VERSION + 1))


@pytest.mark.parametrize("data", ['{"people":[1]}', '{"people":["dora"],"extra":1}', "{", "[]"])
def test_data_of_another_form_are_refused(data: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        events.read(stored("payment.released", data))


def test_older_forms_climb_one_version_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this program were of version 4: what a step doesn't concern passes through it unchanged."""
    monkeypatch.setattr(events, "SCHEMA_VERSION", 4)

    def split_people(data: dict[str, Any]) -> dict[str, Any]:
        return {"names": data["people"].split("+")}

    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {"people": data["names"]}

    steps = {("payment.released", 1): split_people, ("payment.released", 3): rename}
    expected = events.Released(people=("dora", "egon"))
    assert events.read(stored("payment.released", '{"people":"dora+egon"}', 1), steps) == expected
    for version in (2, 3):
        assert events.read(stored("payment.released", '{"names":["dora","egon"]}', version), steps) == expected
    assert events.read(stored("payment.released", '{"people":["dora","egon"]}', 4), steps) == expected
    assert events.read(stored("payment.refused", '{"reason":"late"}', 1), steps) == events.Refused(reason="late")
    with pytest.raises(msgspec.ValidationError):
        events.read(
            stored("payment.released", '{"people":["dora"]}', 2),
            {("payment.released", 3): rename} | {("payment.released", 2): lambda data: {"names": 5}},
        )


def test_subjects_are_stable() -> None:
    """Their UUIDs are in every journal, so they never change."""
    assert events.subject_id("cycle.cut", "2026-10-02-01") == "33d0dbf1-97be-5ed2-bf70-6241b0ece385"
    assert events.subject_id("a", "b") != events.subject_id("a/b", "")
