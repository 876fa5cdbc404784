"""Lies about what banks attested: a coordinator that holds its own key takes signatures of banks apart.

An attestation is one signature over many statements. Nothing can be taken from it, added to it or put in another place
without its root showing it; what isn't of the signature (numbers, times, what is left out whole) is held against the
rest, or said to be unproven.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attesting import Word, digest_of, proven, silent
from clearing import (
    COORDINATOR,
    CYCLE,
    ROOT,
    A,
    B,
    C,
    D,
    export,
    honest,
    refused,
    scheme,
)
from lying import attended, decoded, numbered, retold, stating, unopened, unstated
from msgspec.structs import replace

from compliance.crypto import dsse
from compliance.cycle.positions import of_statement, root_over
from compliance.export.record import AttestedPosition, CycleRecord, Equivocation, SettledStatement, UnopenedLeaf
from compliance.statements import Attestation, CarriedOver, CarryReason, PositionStatement
from compliance.verifier.findings import Finding
from compliance.verifier.verify import Report, verify_bytes


def verified(record: CycleRecord) -> Report:
    return verify_bytes(scheme().export(record), scheme().anchor)


def ab() -> PositionStatement:
    return scheme().agreed()[0]


def place_of(statement: PositionStatement) -> int:
    position = of_statement(statement)
    return next(at for at, row in enumerate(honest().positions) if row.position == position)


def with_row(at: int, *rows: AttestedPosition) -> CycleRecord:
    """Return the record with other rows in the place of a position."""
    positions = honest().positions
    return replace(honest(), positions=(*positions[:at], *rows, *positions[at + 1 :]))


def with_attestation(nth: int, /, **changes: Any) -> CycleRecord:
    """Return the record with something else beside the envelope of an attestation."""
    return replace(
        honest(),
        attestations=tuple(replace(of, **changes) if of.number == nth else of for of in honest().attestations),
    )


def signed(number: int, by: str | None = None, **changes: Any) -> CycleRecord:
    """Return the record with another document in an attestation, signed by its bank or somebody else."""
    entry = honest().attestations[number - 1]
    document = decoded(entry.envelope, Attestation)
    envelope = scheme().sign(by or document.participant, replace(document, **changes))
    return with_attestation(number, envelope=envelope)


def without_attestation(number: int) -> CycleRecord:
    """Hide an attestation with all that it alone holds; those after it move up."""
    return stating([word for at, word in enumerate(scheme().words(), 1) if at != number])


def row_of_nobody() -> CycleRecord:
    """B's attestation doesn't hold what its counterparty states, and is said to."""
    at = place_of(ab())
    row = honest().positions[at]
    record = unstated(ab(), of=(B,))
    rows = tuple(row if of.position == row.position else of for of in record.positions)
    return replace(record, positions=rows)


def other_amount() -> CycleRecord:
    """The position of A and B says another amount than the two signed."""
    row = honest().positions[place_of(ab())]
    return with_row(place_of(ab()), replace(row, position=replace(row.position, forth_minor="9999")))


def added_leaf() -> CycleRecord:
    """One position more, which A and B are both said to have attested."""
    more = replace(ab(), currency="USD")
    row = AttestedPosition(position=of_statement(more), attested=(1, 2))
    return replace(honest(), positions=(*honest().positions, row))


def reordered_root() -> CycleRecord:
    """A signed its leaves in another order than that of currency and pair."""
    word = scheme().words()[0]
    leaves = [digest_of(of) for of in word.statements][::-1]
    return signed(1, root=root_over(leaves))


def moved_unopened() -> CycleRecord:
    """D's leaf of which nothing is known stands in another place."""
    [leaf] = honest().attestations[3].unopened
    return with_attestation(4, unopened=(replace(leaf, index=0),))


def unopened_twice() -> CycleRecord:
    [leaf] = honest().attestations[3].unopened
    return with_attestation(4, unopened=(leaf, leaf))


def swapped() -> CycleRecord:
    """A's attestation is called B's, and B's A's."""
    entries = honest().attestations
    return replace(
        honest(),
        attestations=(
            replace(entries[0], envelope=entries[1].envelope),
            replace(entries[1], envelope=entries[0].envelope),
            *entries[2:],
        ),
    )


def stated_of_others() -> CycleRecord:
    """D attested a position of A and B."""
    return stating([*scheme().words(), Word(D, (ab(),))])


def hidden_as_unknown() -> CycleRecord:
    """A's statement for B is called unknown, though it is B's as well."""
    return unopened(ab(), of=(A,))


def screening_swapped() -> CycleRecord:
    """B's screening is another one than it attested."""
    other = scheme().screening(B, screened=99)
    kept = tuple(of for of in honest().screenings if of.participant != B)
    participants = attended(B, screening=digest_of(other).hex()).participants
    return replace(honest(), screenings=(*kept, other), participants=participants)


def screening_of_before() -> CycleRecord:
    """B attested two screenings, and the first one is said to count."""
    words = [*scheme().words(), Word(B, (), scheme().screening(B, screened=4))]
    return stating(words)


def screening_nobody_named() -> CycleRecord:
    return replace(honest(), screenings=(*honest().screenings, scheme().screening(A, screened=50)))


def incomplete(bank: str) -> CycleRecord:
    """Return the record of a bank that never signed that it had stated all."""
    return stating(word._replace(complete=False) if word.bank == bank else word for word in scheme().words())


def idle_between(*incomplete_banks: str) -> CycleRecord:
    """Return the record without D's unknown leaf and without an earlier statement of A and D, who have nothing new."""
    words = (
        word._replace(unknown=(), complete=word.complete and word.bank not in incomplete_banks)
        for word in scheme().words()
    )
    return replace(stating(words), settled=())


def unnumbered() -> CycleRecord:
    """The second attestation is left out, and its number with it."""
    left = tuple(of for of in honest().attestations if of.number != 2)
    rows = tuple(
        replace(row, attested=rest)
        for row in honest().positions
        if (rest := tuple(number for number in row.attested if number != 2))
    )
    return replace(honest(), attestations=left, positions=rows)


def twice_in_one() -> CycleRecord:
    """A attests two revisions of one pair at once."""
    again = replace(ab(), revision=2)
    words = scheme().words()
    words[0] = words[0]._replace(statements=(*words[0].statements, again))
    return stating(words)


LIES: dict[str, tuple[Callable[[], CycleRecord], Finding]] = {
    # Leaves.
    "a position that one bank's attestation doesn't hold": (row_of_nobody, Finding.ATTESTATION_DIFFERS),
    "a position with another amount": (other_amount, Finding.ATTESTATION_DIFFERS),
    "a leaf is dropped": (lambda: with_row(place_of(ab())), Finding.ATTESTATION_DIFFERS),
    "a leaf is dropped of one bank": (
        lambda: with_row(place_of(ab()), replace(honest().positions[place_of(ab())], attested=(1,))),
        Finding.ATTESTATION_DIFFERS,
    ),
    "a leaf is added": (added_leaf, Finding.ATTESTATION_DIFFERS),
    "leaves in another order": (reordered_root, Finding.ATTESTATION_DIFFERS),
    "an unknown leaf in another place": (moved_unopened, Finding.ATTESTATION_DIFFERS),
    "an unknown leaf twice": (unopened_twice, Finding.ATTESTATION_DIFFERS),
    "an unknown leaf is dropped": (lambda: with_attestation(4, unopened=()), Finding.ATTESTATION_DIFFERS),
    "an unknown leaf more": (
        lambda: with_attestation(1, unopened=(UnopenedLeaf(index=2, sha256=ROOT),)),
        Finding.ATTESTATION_DIFFERS,
    ),
    "an unknown leaf in the place of a position": (
        lambda: replace(
            with_row(place_of(ab()), replace(honest().positions[place_of(ab())], attested=(2,))),
            attestations=with_attestation(1, unopened=(UnopenedLeaf(index=0, sha256=ROOT),)).attestations,
        ),
        Finding.ATTESTATION_DIFFERS,
    ),
    "a statement that is there is called unknown": (hidden_as_unknown, Finding.ATTESTATION_DIFFERS),
    "two revisions of a pair in one attestation": (twice_in_one, Finding.ATTESTATION_DIFFERS),
    "a position of an attestation that there isn't": (
        lambda: with_row(place_of(ab()), replace(honest().positions[place_of(ab())], attested=(1, 2, 77))),
        Finding.ATTESTATION_DIFFERS,
    ),
    "a position of one attestation twice": (
        lambda: with_row(place_of(ab()), replace(honest().positions[place_of(ab())], attested=(1, 1, 2))),
        Finding.ATTESTATION_DIFFERS,
    ),
    "a position of no attestation": (
        lambda: with_row(place_of(ab()), replace(honest().positions[place_of(ab())], attested=())),
        Finding.FORMAT_VIOLATION,
    ),
    "a position that no statement can say": (
        lambda: with_row(
            place_of(ab()),
            replace(honest().positions[0], position=replace(honest().positions[place_of(ab())].position, currency="€")),
        ),
        Finding.FORMAT_VIOLATION,
    ),
    "a position twice": (
        lambda: replace(honest(), positions=(*honest().positions, honest().positions[0])),
        Finding.FORMAT_VIOLATION,
    ),
    # What is signed.
    "another root": (lambda: signed(1, COORDINATOR, root=ROOT), Finding.SIGNATURE_REFUSED),
    "a root over other leaves, by the bank": (lambda: signed(1, root=ROOT), Finding.ATTESTATION_DIFFERS),
    "another count, by the bank": (lambda: signed(1, statements=7), Finding.ATTESTATION_DIFFERS),
    "someone else signed it": (lambda: signed(1, B), Finding.SIGNATURE_REFUSED),
    "someone else's attestation": (swapped, Finding.DOCUMENT_OUT_OF_PLACE),
    "in another bank's name": (lambda: signed(1, A, participant=B), Finding.SIGNATURE_REFUSED),
    "of another cycle": (lambda: signed(1, cycle="2026-03-02-02"), Finding.WRONG_CYCLE),
    "of another scheme": (
        lambda: with_attestation(
            1,
            envelope=replace(
                honest().attestations[0].envelope,
                payloadType=dsse.named_type(honest().attestations[0].envelope.payloadType, "another"),
            ),
        ),
        Finding.SIGNATURE_REFUSED,
    ),
    "a statement of two other banks": (stated_of_others, Finding.DOCUMENT_OUT_OF_PLACE),
    "an attestation twice": (
        lambda: stating([*scheme().words(), scheme().words()[0]]),
        Finding.SIGNED_TWICE,
    ),
    "a number is missing": (unnumbered, Finding.FORMAT_VIOLATION),
    "a number twice": (lambda: with_attestation(2, number=1), Finding.FORMAT_VIOLATION),
    # Screening and the last word.
    "another screening than was attested": (screening_swapped, Finding.SIGNATURE_REFUSED),
    "a screening that nobody attested": (screening_nobody_named, Finding.SIGNATURE_REFUSED),
    "an earlier screening is said to count": (screening_of_before, Finding.PARTICIPANTS_DIFFER),
    "an attested screening is hidden": (
        lambda: replace(honest(), screenings=honest().screenings[1:]),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "a bank is said to have stated all": (lambda: incomplete(B), Finding.PARTICIPANTS_DIFFER),
    "the word that it stated all is put into a bank's mouth": (
        lambda: signed(1, COORDINATOR, complete=True),
        Finding.SIGNATURE_REFUSED,
    ),
    "an idle pair of which one bank may have more": (lambda: idle_between(A), Finding.PAIR_LEFT_OUT),
    "an idle pair of which one bank has an unknown leaf": (
        lambda: replace(honest(), settled=()),
        Finding.PAIR_LEFT_OUT,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_an_attestation_is_refused(lie: str) -> None:
    tell, finding = LIES[lie]
    error = refused(scheme().export(tell()))
    assert error.finding is finding, error
    assert len(error.detail) > 20


# --- what is proven -------------------------------------------------------------------------------------------


def test_an_unknown_leaf_is_told() -> None:
    assert any("leaves of attestations" in said and ": 1;" in said for said in verified(honest()).unproven)


def test_two_complete_attestations_show_that_a_pair_has_nothing_new() -> None:
    """No earlier statement is asked for then, and none is of use where one of the two banks left it open."""
    report = verified(idle_between())
    assert not any("pairs without new payments" in said for said in report.unproven)
    late = replace(idle_between(D), participants=attended(D, attested_at=None).participants)
    error = refused(scheme().export(late))
    assert (error.step, error.finding) == (6, Finding.PAIR_LEFT_OUT)


def test_an_earlier_statement_that_was_signed_alone() -> None:
    """The earlier cycle was one of before there were attestations."""
    alone = tuple(SettledStatement(alone=scheme().sign(bank, scheme().settled())) for bank in (A, D))
    assert verified(replace(honest(), settled=alone)).state == "final"
    both = replace(honest().settled[0], alone=alone[0].alone)
    for forged in ((both, honest().settled[1]), (SettledStatement(), honest().settled[1])):
        error = refused(scheme().export(replace(honest(), settled=forged)))
        assert (error.step, error.finding) == (5, Finding.FORMAT_VIOLATION)


def test_an_attestation_that_repeats_a_statement() -> None:
    """A bank may attest again what it attested: it says the same."""
    assert verified(stating([*scheme().words(), Word(A, (ab(),))])).state == "final"


def test_a_bank_that_contradicts_itself_within_its_attestations() -> None:
    """B states what A does, and then what C tells it to: the first counts, and the accusation has both."""
    other = replace(ab(), flows=scheme().statement(A, B, 5, 5).flows)
    words = [*scheme().words(), Word(B, (other,))]
    hidden = [*words[:-1], Word(B, (), unknown=(other,))]
    proofs = (
        proven(scheme().sign, CYCLE, words[1], ab()),
        proven(scheme().sign, CYCLE, words[-1], other),
    )
    accused = Equivocation(participant=B, proven=proofs)
    record = replace(stating(hidden), equivocations=(*honest().equivocations, accused))
    assert verified(retold(record)).state == "final"
    # Once somebody else states it too, its position is known.
    record = replace(stating([*words, Word(A, (other,))]), equivocations=record.equivocations)
    assert refused(scheme().export(retold(record))).finding is Finding.DOCUMENT_OUT_OF_PLACE


def test_a_revision_that_came_too_early_counts_for_nobody_who_signed_it_then() -> None:
    """A signs revision 3 before there is a second; C signs it in its turn. The pair agreed at the second one."""
    [second] = [of for of in scheme().agreed() if of.revision == 2]
    third = replace(second, revision=3)
    words = scheme().words()
    early = [*words[:4], Word(A, (), unknown=(third,)), *words[4:]]
    assert verified(stating(early)).state == "final"
    error = refused(scheme().export(stating([*words[:4], Word(A, (third,)), *words[4:]])))
    assert (error.step, error.finding) == (6, Finding.DOCUMENT_OUT_OF_PLACE)


# --- what can't be shown --------------------------------------------------------------------------------------


def test_a_hidden_attestation_costs_its_own_pair_and_nothing_shows_it() -> None:
    """The second attestations of A and C are hidden, by which they mended a break: their pair is carried over.

    Nobody but the two can show it, by what they signed and were answered; the pair isn't lost, it waits.
    """
    words = [word for word in scheme().words() if not any(of.revision == 2 for of in word.statements)]
    lied = scheme().record(words=words, carried=[CarriedOver(pair=(A, C), currency="EUR", reason=CarryReason.BREAK)])
    events = [e for e in lied.events if not e.data.get("resolved")]
    assert verified(replace(lied, events=numbered(tuple(events)))).state == "final"


def test_what_two_banks_state_alike_and_the_coordinator_calls_unknown_is_told() -> None:
    """Whether it was refused to both rightly, the archive can't say: the position isn't there. They can."""
    words = [
        word._replace(statements=silent([word], ab())[0].statements, unknown=(*word.unknown, ab()))
        if word.bank in (A, B) and ab() in word.statements
        else word
        for word in scheme().words()
    ]
    lied = scheme().record(
        words=words, carried=[CarriedOver(pair=(A, B), currency="EUR", reason=CarryReason.NOT_ATTESTED)]
    )
    report = verified(lied)
    assert any(f"the same in attestations of both its banks: 1, as of {A} and {B}" in said for said in report.unproven)


def test_an_export_tells_how_many_signatures_it_rests_on() -> None:
    report = verify_bytes(export(), scheme().anchor)
    assert "12 statements under 7 attestations" in report.steps[4].detail
