"""What a bank attests: all that it knows under one signature, what it learns later by itself, the same after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest
from bank_cycle import Side, side, until, wide_ledger
from bank_ledgers import ALFA, Bank
from scripted_coordinator import ScriptedCoordinator
from support import NewDatabase
from wide_ledger import answer, counterparties, fill, pay

from compliance.crypto import canonical, dsse
from compliance.cycle.contests import digest_of
from compliance.cycle.positions import Position, statement_of
from compliance.statements import Attestation
from gateway.federation.http.client import RemoteUnavailable
from gateway.federation.messages.attestation import AttestationSubmission, BreakNotice
from participants.cycle import reads
from participants.ledger.events import attested_subject
from participants.payments.disputes import Dispute

CYCLE = f"{datetime.now(UTC):%Y-%m-%d}-01"
OTHERS = counterparties(3)
CURRENCIES = ("EUR", "USD")
ATTESTED = "SELECT count(*) FROM event WHERE type = 'cycle.attested'"


@pytest.fixture
async def alfa(new_database: NewDatabase) -> AsyncIterator[Bank]:
    async with wide_ledger(await new_database("participants.ledger"), ALFA) as bank:
        yield bank


@pytest.fixture
async def mine(alfa: Bank) -> AsyncIterator[Side]:
    """A bank that has paid three others once in two currencies, was paid as often, and has fixed its cut."""
    await fill(alfa, OTHERS, CURRENCIES)
    async with side(alfa, CYCLE, OTHERS) as mine:
        await mine.cut(CURRENCIES, accepted=1)
        yield mine


def document(submission: AttestationSubmission) -> Attestation:
    return canonical.decode(submission.attestation.payload_bytes(), Attestation)


def missing(position: Position, revision: int) -> BreakNotice:
    """Return that the other bank has signed a revision of a pair, and this one hasn't."""
    pair = (position.low, position.high)
    return BreakNotice(pair=pair, currency=position.currency, revision=revision, kind="missing", missing_from=ALFA)


def different(position: Position) -> BreakNotice:
    pair = (position.low, position.high)
    return BreakNotice(pair=pair, currency=position.currency, revision=position.revision, kind="different")


async def test_all_pairs_are_attested_under_one_signature(mine: Side) -> None:
    await mine.attest()
    (submission,) = mine.coordinator.attestations
    signed = document(submission)
    assert (signed.statements, signed.complete, signed.screening is not None) == (6, True, True)
    assert [(p.forth_minor, p.back_minor, p.forth_last, p.back_last) for p in submission.positions] == [
        ("250", "100", 1, 1)
    ] * 6


async def test_a_bank_without_payments_attests_that(alfa: Bank) -> None:
    async with side(alfa, CYCLE, ()) as mine:
        await mine.cut(CURRENCIES, accepted=0)
        await mine.attest()
        (submission,) = mine.coordinator.attestations
        assert (document(submission).statements, document(submission).complete, submission.positions) == (0, True, ())
        mine.attesting.end(CYCLE)
        await mine.attest(1)
        assert await alfa.connection.fetchval(ATTESTED) == 1


async def test_what_was_signed_is_handed_in_again_byte_for_byte(alfa: Bank, mine: Side) -> None:
    """The bank is killed before it hears the answer; it has accepted more by the time it is back."""
    await mine.attest()
    first = mine.coordinator.attestations[0]
    await mine.attesting.stop()
    await fill(alfa, OTHERS, CURRENCIES, round_=2)
    async with side(alfa, CYCLE, OTHERS, coordinator=mine.coordinator) as again:
        await again.attest(2)
        assert msgspec.json.encode(again.coordinator.attestations[1]) == msgspec.json.encode(first)
    assert await alfa.connection.fetchval(ATTESTED) == 1


async def test_an_answer_that_is_lost_is_asked_for_again(alfa: Bank, mine: Side) -> None:
    mine.coordinator.refuses = RemoteUnavailable("the answer is lost")
    await mine.attest(2)
    first, again = mine.coordinator.attestations
    assert first == again
    assert await alfa.connection.fetchval(ATTESTED) == 1


async def test_two_nodes_of_a_bank_say_the_same(alfa: Bank, mine: Side) -> None:
    async with (
        wide_ledger(alfa.url, ALFA, key=alfa.key) as replica,
        side(replica, CYCLE, OTHERS, coordinator=mine.coordinator) as b,
    ):
        await asyncio.gather(mine.attest(2), b.attest(2))
        assert len({msgspec.json.encode(said.attestation) for said in mine.coordinator.attestations}) == 1
    assert await alfa.connection.fetchval(ATTESTED) == 1


async def test_a_contested_lane_is_attested_once_its_payments_are_known(alfa: Bank, mine: Side) -> None:
    """One receiver has accepted a payment whose answer hasn't come; no other pair waits for that."""
    cuts = mine.coordinator.cuts
    assert cuts is not None
    late = cuts.lanes[0]
    ahead = msgspec.structs.replace(late, last_sequence=2)
    mine.coordinator.cuts = msgspec.structs.replace(cuts, lanes=(ahead, *cuts.lanes[1:]))
    await mine.attest()
    (first,) = mine.coordinator.attestations
    assert (len(first.positions), document(first).complete) == (5, True)
    assert [(lane.receiver, lane.currency, lane.cut_at, lane.known_through) for lane in first.contested] == [
        (late.receiver, late.currency, 2, 1)
    ]
    sent = await pay(alfa, [late.receiver], [late.currency])
    await answer(alfa, late.receiver, sent[late.receiver], number=2)
    await mine.handed_in(2)
    (position,), second = mine.coordinator.attestations[1].positions, mine.coordinator.attestations[1]
    assert position.currency == late.currency
    assert late.receiver in (position.low, position.high)
    assert (document(second).complete, document(second).screening is not None, second.contested) == (True, True, ())


async def test_what_is_contested_is_signed_and_handed_in_again_as_it_was(alfa: Bank, mine: Side) -> None:
    """The bank is killed before it hears the answer, and knows more by the time it is back."""
    cuts = mine.coordinator.cuts
    assert cuts is not None
    late = cuts.lanes[0]
    ahead = msgspec.structs.replace(late, last_sequence=2)
    mine.coordinator.cuts = msgspec.structs.replace(cuts, lanes=(ahead, *cuts.lanes[1:]))
    await mine.attest()
    first = mine.coordinator.attestations[0]
    assert document(first).contested == digest_of(first.contested) is not None
    await mine.attesting.stop()
    sent = await pay(alfa, [late.receiver], [late.currency])
    await answer(alfa, late.receiver, sent[late.receiver], number=2)
    async with side(alfa, CYCLE, OTHERS, coordinator=mine.coordinator) as again:
        await again.attest(3)
    assert mine.coordinator.attestations[1] == first
    assert document(mine.coordinator.attestations[2]).contested is None


async def test_breaks_are_answered_together_by_what_is_new(mine: Side) -> None:
    await mine.attest()
    first = mine.coordinator.attestations[0].positions
    mine.coordinator.breaks = [missing(first[0], 2), missing(first[1], 1), different(first[2]), missing(first[3], 3)]
    mine.attesting.look_again(CYCLE)
    await mine.handed_in(2)
    mended = mine.coordinator.attestations[1]
    assert [(p.key, p.revision) for p in mended.positions] == [(first[0].key, 2), (first[3].key, 3)]
    assert (document(mended).complete, document(mended).screening) == (False, None)


async def test_a_dispute_is_left_out_of_the_next_revision(alfa: Bank, mine: Side) -> None:
    await mine.attest()
    stated = mine.coordinator.attestations[0].positions[0]
    payment = await alfa.connection.fetchval(
        "SELECT e.payment_id::text FROM lane_entry e JOIN lane l ON l.id = e.lane_id"
        " WHERE l.receiver = $1 AND l.sender = $2 AND l.currency = $3",
        ALFA,
        stated.low,
        stated.currency,
    )
    (await alfa.ledger.submit(Dispute(payment, "dora", "not ours"))).or_refuse()
    mine.coordinator.breaks = [different(stated)]
    mine.attesting.look_again()
    await mine.handed_in(2)
    (renewed,) = mine.coordinator.attestations[1].positions
    assert (renewed.revision, renewed.forth_count, renewed.forth_minor, renewed.back_minor) == (2, 0, "0", "100")
    # The same break, told of again, gives nothing new to say.
    mine.attesting.look_again()
    mine.coordinator.breaks = [different(stated), missing(mine.coordinator.attestations[0].positions[1], 2)]
    mine.attesting.look_again()
    await mine.handed_in(3)
    assert [p.revision for p in mine.coordinator.attestations[2].positions] == [2]
    assert mine.coordinator.attestations[2].positions[0].key != stated.key


async def test_a_revision_whose_answer_was_lost_is_handed_in_again(alfa: Bank, mine: Side) -> None:
    await mine.attest()
    first = mine.coordinator.attestations[0].positions
    mine.coordinator.breaks = [missing(first[0], 2)]
    mine.coordinator.refuses = RemoteUnavailable("the answer is lost")
    mine.attesting.look_again()
    await mine.handed_in(3)
    assert mine.coordinator.attestations[1] == mine.coordinator.attestations[2]
    await mine.attesting.stop()
    async with side(alfa, CYCLE, OTHERS, coordinator=mine.coordinator) as again:
        await again.attest(5)
        assert again.coordinator.attestations[3:5] == mine.coordinator.attestations[:2]
    assert await alfa.connection.fetchval(ATTESTED) == 2


async def test_a_cycle_that_a_release_before_has_signed_is_not_attested_again(alfa: Bank, mine: Side) -> None:
    position = Position("EUR", ALFA, "BETAFRPP", 1, 1, 1, 1, "5", "0" * 64, 1, 0, 0, "0", "0" * 64)
    envelope = msgspec.json.encode(dsse.sign(statement_of(CYCLE, position), alfa.key)).decode()
    await alfa.connection.execute(
        "WITH head AS (UPDATE ledger_head SET sequence = sequence + 1 RETURNING sequence)"
        " INSERT INTO event (sequence, subject, version, type, schema_version, data)"
        " SELECT sequence, $1::uuid, 1, 'cycle.attested', 1, $2::json FROM head",
        attested_subject(CYCLE),
        f'{{"cycle":"{CYCLE}","envelopes":[{envelope}]}}',
    )
    mine.attesting.begin(CYCLE)
    (task,) = mine.attesting.tasks
    await until(lambda: task.condition() == "done")
    assert mine.coordinator.attestations == []
    assert list((await reads.signed_positions(alfa.connection, CYCLE)).values()) == [position]


async def test_a_bank_that_the_house_knows_nothing_new_of_says_nothing(alfa: Bank) -> None:
    coordinator = ScriptedCoordinator(CYCLE, ALFA, alfa.key.verifying_key)
    async with side(alfa, CYCLE, OTHERS, coordinator=coordinator) as mine:
        mine.attesting.begin(CYCLE)
        (task,) = mine.attesting.tasks
        await until(lambda: task.condition() == "done")
    assert coordinator.attestations == []
