"""A key counts for what the log took in while it did: nothing of before it was enrolled, or after it was replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from clearing import (
    AGENT,
    AT,
    BANKS,
    COORDINATOR,
    CYCLE,
    B,
    D,
    chained,
    honest,
    in_format_3,
    published,
    refused,
    scheme,
)
from msgspec.structs import replace

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.export.record import CycleRecord
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE
from compliance.statements import DATED_TRUST_LIST_TYPE, TrustKey
from compliance.verifier.findings import Finding
from compliance.verifier.verify import verify_bytes

OLD, NEW = ({bic: SigningKey.generate() for bic in (*BANKS, AGENT)} for _ in range(2))


def key(of: SigningKey, status: str = "active", **times: str) -> TrustKey:
    return TrustKey(kid=of.kid, alg="Ed25519", x=of.x, use="sign", status=status, **times)  # type: ignore[arg-type]


def trust_list(version: int, keys: dict[str, tuple[TrustKey, ...]]) -> Envelope:
    """Return the scheme's list with other keys for some members, dated."""
    listed = scheme().trust_list(version)
    members = tuple(replace(m, keys=keys.get(m.bic, m.keys)) for m in listed.members)
    return dsse.sign(replace(listed, members=members), scheme().keys[COORDINATOR], payload_type=DATED_TRUST_LIST_TYPE)


def resigned(envelope: Envelope, by: SigningKey) -> Envelope:
    return dsse.seal(envelope.payload_bytes(), envelope.document_type, by)


def by_keys(record: CycleRecord, bic: str, keys: dict[str, SigningKey]) -> CycleRecord:
    """Return the record with what one member signed in some files signed by other keys."""
    own = scheme().keys[bic].kid

    def signed(name: str, envelopes: Iterable[Envelope]) -> tuple[Envelope, ...]:
        return tuple(resigned(e, keys[name]) if e.signatures[0].keyid == own else e for e in envelopes)

    files = ("cuts", "statements", "signed_screenings", "receipts")
    record = replace(record, **{name: signed(name, getattr(record, name)) for name in files if name in keys})
    if "attestations" in keys:
        envelopes = signed("attestations", (entry.envelope for entry in record.attestations))
        entries = zip(record.attestations, envelopes, strict=True)
        record = replace(record, attestations=tuple(replace(entry, envelope=envelope) for entry, envelope in entries))
    return record


def published_before(record: CycleRecord, place: str, *lists: Envelope) -> CycleRecord:
    """Return the record with its lists: the first in force at the opening, the others published before an event."""
    kept = [event for event in record.events if event.type != "trust_list.published"]
    at = next(number for number, event in enumerate(kept) if event.type == place and event.cycle == CYCLE)
    publications = [
        replace(kept[at], type=kind, cycle=cycle, data=data, audience=None) for kind, cycle, data in published(lists)
    ]
    first = record.events[0].id
    events = (*kept[:at], *publications, *kept[at:])
    return replace(
        record,
        trust_lists=lists,
        events=chained(replace(event, id=first + number) for number, event in enumerate(events)),
    )


def rotated(
    bic: str, place: str, *, ends: str = "retired", alone: bool = False, **told: str
) -> tuple[CycleRecord, Callable[..., CycleRecord]]:
    """Return the record in which a member's key is replaced before an event, and what signs its files anew."""
    old, new = OLD[bic], NEW[bic]
    after = key(old, ends, **(told or {"retired": {"not_after": AT}, "revoked": {"revoked_at": AT}}[ends]))
    record = published_before(
        in_format_3(honest()) if alone else honest(),
        place,
        trust_list(1, {bic: (key(old, not_before="2026-01-01T00:00:00Z"),)}),
        trust_list(2, {bic: (after, key(new, not_before=AT))}),
    )
    return record, lambda **files: by_keys(record, bic, {name: (old, new)[which] for name, which in files.items()})


FIRST, SECOND = 0, 1


def verified(record: CycleRecord) -> str:
    return verify_bytes(scheme().export(record), scheme().anchor).state


def by_all(cuts: int, attested: int, receipts: int) -> dict[str, int]:
    """Return which keys sign what a bank signs, in the files of both formats."""
    files = dict.fromkeys(("attestations", "statements", "signed_screenings"), attested)
    return {"cuts": cuts, **files, "receipts": receipts}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("ends", ["retired", "revoked"])
def test_a_key_rotated_in_mid_cycle(ends: str, alone: bool) -> None:
    """What came before is signed by the old key, what came after by the new one."""
    _, signed = rotated(B, "cycle.attesting", ends=ends, alone=alone)
    assert verified(signed(**by_all(FIRST, SECOND, SECOND))) == "final"
    _, signed = rotated(B, "cycle.instructed", ends=ends, alone=alone)
    assert verified(signed(**by_all(FIRST, FIRST, SECOND))) == "final"


@pytest.mark.parametrize("alone", [False, True])
def test_a_key_rotated_while_the_cycle_attests(alone: bool) -> None:
    """No event tells of a single attestation, so both keys count in the state in which it came."""
    for which in (FIRST, SECOND):
        _, signed = rotated(B, "cycle.matched", alone=alone)
        assert verified(signed(**by_all(FIRST, which, SECOND))) == "final"


LIES: dict[str, Callable[[], CycleRecord]] = {
    "an attestation by a key that was revoked before the cycle attested": lambda: rotated(
        B, "cycle.attesting", ends="revoked"
    )[1](**by_all(FIRST, FIRST, SECOND)),
    "an attestation by a key that was replaced before the cycle attested": lambda: rotated(B, "cycle.attesting")[1](
        **by_all(FIRST, FIRST, SECOND)
    ),
    "statements by a key that was revoked before the cycle attested": lambda: rotated(
        B, "cycle.attesting", ends="revoked", alone=True
    )[1](cuts=FIRST, statements=FIRST, signed_screenings=SECOND, receipts=SECOND),
    "statements by a key that was replaced before the cycle attested": lambda: rotated(
        B, "cycle.attesting", alone=True
    )[1](cuts=FIRST, statements=FIRST, signed_screenings=SECOND, receipts=SECOND),
    "a screening by a revoked key": lambda: rotated(B, "cycle.attesting", ends="revoked", alone=True)[1](
        cuts=FIRST, statements=SECOND, signed_screenings=FIRST, receipts=SECOND
    ),
    "a cut by a key that was enrolled after": lambda: rotated(B, "cycle.matched")[1](**by_all(SECOND, SECOND, SECOND)),
    "an attestation by a key that was enrolled after": lambda: rotated(B, "cycle.instructed")[1](
        **by_all(FIRST, SECOND, SECOND)
    ),
    "statements by a key that was enrolled after": lambda: rotated(B, "cycle.instructed", alone=True)[1](
        cuts=FIRST, statements=SECOND, signed_screenings=FIRST, receipts=SECOND
    ),
    "a receipt by a key that was replaced before there were instructions": lambda: rotated(B, "cycle.instructed")[1](
        **by_all(FIRST, FIRST, FIRST)
    ),
    "a retired key that the list calls good for another year": lambda: rotated(
        B, "cycle.attesting", ends="retired", not_after="2027-01-01T00:00:00Z"
    )[1](**by_all(FIRST, FIRST, SECOND)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_key_that_does_not_count_any_more_or_not_yet(lie: str) -> None:
    error = refused(scheme().export(LIES[lie]()))
    assert (error.step, error.finding) == (5, Finding.SIGNATURE_REFUSED)
    assert "no key of BBBBFRPP on it counted when it can have come" in error.detail


def test_a_cut_comes_when_participants_json_says() -> None:
    """B's key was enrolled while cuts were taken in, but ten minutes after its cut is said to have come."""
    _, signed = rotated(B, "cycle.attesting")
    record = signed(**by_all(SECOND, SECOND, SECOND))
    assert verified(record) == "final"
    enrolled = next(event.id for event in record.events if event.type == "trust_list.published")
    later = "2026-03-02T09:10:00.000000Z"
    events = chained(replace(event, at=later) if event.id >= enrolled else event for event in record.events)
    error = refused(scheme().export(replace(record, events=events)))
    assert (error.step, error.finding) == (5, Finding.SIGNATURE_REFUSED)


def test_the_agent_s_answer_by_a_key_of_before() -> None:
    record, _ = rotated(AGENT, "cycle.instructed")
    settlement = record.settlements[0]
    assert settlement.answer is not None

    def answered(by: SigningKey) -> CycleRecord:
        answer = dsse.seal(settlement.answer.payload_bytes(), SETTLEMENT_ANSWER_TYPE, by)  # type: ignore[union-attr]
        return replace(record, settlements=(replace(settlement, answer=answer),))

    assert verified(answered(NEW[AGENT])) == "final"
    error = refused(scheme().export(answered(OLD[AGENT])))
    assert (error.step, error.finding) == (10, Finding.SIGNATURE_REFUSED)


def test_what_was_settled_in_an_earlier_cycle_stays_signed() -> None:
    """D has another key by now. What it signed last week was signed by the one of then."""
    old, new = OLD[D], NEW[D]
    ended = key(old, "retired", not_before="2026-01-01T00:00:00Z", not_after="2026-02-28T00:00:00Z")
    lists = (trust_list(1, {D: (ended, key(new))}), trust_list(2, {D: (ended, key(new))}))
    record = published_before(honest(), "cycle.cut_off", *lists)
    signed = by_keys(record, D, dict.fromkeys(("cuts", "attestations", "receipts"), new))
    accusation = signed.equivocations[0]
    assert accusation.proven is not None
    proofs = [replace(of, attestation=resigned(of.attestation, new)) for of in accusation.proven]
    settled = [
        replace(of, proven=replace(of.proven, attestation=resigned(of.proven.attestation, old)))  # type: ignore[union-attr]
        for of in signed.settled
        if of.proven is not None and of.proven.attestation.signatures[0].keyid == scheme().keys[D].kid
    ]
    others = [of for of in signed.settled if of.proven.attestation.signatures[0].keyid != scheme().keys[D].kid]  # type: ignore[union-attr]
    assert len(settled) == len(others) == 1
    record = replace(
        signed,
        settled=(*settled, *others),
        equivocations=(replace(accusation, proven=(proofs[0], proofs[1])),),
    )
    assert verified(record) == "final"
