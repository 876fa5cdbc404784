"""What banks submit to a cycle: refused by the first reason that holds, answered again, kept as evidence."""

from __future__ import annotations

from typing import Any

import msgspec
from clearing_house import (
    ALFA,
    BETA,
    DELT,
    GAMA,
    NewHouse,
    anchor_of,
    events_of,
    reasons,
    refusal_of,
    refused,
    result_of,
    trade,
)
from sqlalchemy import text

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.contests import ContestedLane
from compliance.cycle.positions import ProvenStatement, verify_proven
from compliance.cycle.states import State
from compliance.statements import PositionStatement
from compliance.verifier.verify import verify_bytes as verify
from gateway.federation.messages.attestation import AttestationSubmission
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction


async def test_submissions_are_refused_by_the_first_reason_that_holds(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    opened = (await service.open_on_demand(None, by="alice")).id
    submit = service.attestation.submit_attestation
    assert await refused(submit("NOONEXX0", opened, house.submission(opened, ALFA))) == "not_a_participant"
    assert await refused(submit(ALFA, "2026-01-05-77", house.submission(opened, ALFA))) == "cycle_unknown"
    assert await refused(submit(ALFA, opened, house.submission(opened, ALFA))) == "cycle_not_attesting"
    early = service.cuts.submit(ALFA, opened, house.cut(opened, ALFA))
    assert await refused(early) == "cycle_not_cut_off"

    cycle = await house.cut_off(service)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows

    def one(statement: PositionStatement, **changes: Any) -> AttestationSubmission:
        return house.attestation(cycle, ALFA, statement, **changes)

    def changed(**flow: Any) -> AttestationSubmission:
        return one(msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, **flow), back)))

    signed = one(good).attestation
    loose = dsse.seal(b" " + signed.payload_bytes(), signed.document_type, house.identity(ALFA).sign)
    (row,) = one(good).positions
    other = house.statement("2026-01-05-77", (ALFA, BETA), "EUR")
    refusals = [
        (house.attestation("2026-01-05-77", ALFA, other), "wrong_cycle", "/attestation"),
        (one(good, participant=BETA), "wrong_pair", "/attestation"),
        (one(house.statement(cycle, (BETA, GAMA), "EUR")), "wrong_pair", "/positions/0"),
        (one(msgspec.structs.replace(good, pair=(ALFA, "ZZZZXXZ0"))), "wrong_pair", "/positions/0"),
        (one(msgspec.structs.replace(good, currency="USD")), "wrong_currency", "/positions/0"),
        (one(good, signer=SigningKey.generate()), "unknown_key", "/attestation"),
        (one(good, signer=house.identity(BETA).sign), "unknown_key", "/attestation"),
        (msgspec.structs.replace(one(good), attestation=loose), "not_canonical", "/attestation"),
        (changed(count=7), "inconsistent", "/positions/0"),
        (changed(amount_minor="9" * 30), "inconsistent", "/positions/0"),
        (one(msgspec.structs.replace(good, revision=2)), "revision_refused", "/positions/0"),
        (changed(last_sequence=3), "sequence_mismatch", "/positions/0"),
        (changed(first_sequence=2, count=1), "sequence_mismatch", "/positions/0"),
        (one(good, root="0" * 64), "not_attested", "/positions"),
        (one(good, statements=2), "not_attested", "/positions"),
        (msgspec.structs.replace(one(good), positions=()), "not_attested", "/positions"),
        (msgspec.structs.replace(one(good), positions=(msgspec.structs.replace(row, revision=100),)),
         "schema_violation", "/positions/0"),
        (msgspec.structs.replace(one(good), positions=(msgspec.structs.replace(row, back_minor="1"),)),
         "not_attested", "/positions"),
        (house.attest_rows(cycle, ALFA, [row, row]), "inconsistent", "/positions/1"),
        (msgspec.structs.replace(one(good, screening=house.screening(cycle, ALFA)), screening=None),
         "not_attested", "/screening"),
        (msgspec.structs.replace(one(good), screening=house.screening(cycle, ALFA)), "not_attested", "/screening"),
        (house.attestation(cycle, ALFA, good, screening=house.screening(cycle, BETA)), "wrong_pair", "/screening"),
        (house.attestation(cycle, ALFA, good, screening=house.screening(opened[:-2] + "77", ALFA)),
         "wrong_cycle", "/screening"),
    ]  # fmt: skip
    found = [await refusal_of(submit(ALFA, cycle, submission)) for submission, _, _ in refusals]
    assert [(one.reason, one.pointer) for one in found] == [(reason, pointer) for _, reason, pointer in refusals]
    # Nothing of what was refused is left.
    assert (await service.views.progress(cycle)).participants[0].statements == 0
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL


async def test_what_both_signed_is_shown_once_attestation_is_closed(new_house: NewHouse) -> None:
    """Until then a pair that both signed alike is told apart from one that they didn't."""
    house = await new_house()
    trade(house)
    service = house.service()

    async def refusal(bank: str = BETA) -> Refusal:
        return await refusal_of(service.views.agreed_position(cycle, (ALFA, bank), "EUR", ALFA))

    cycle = (await service.open_on_demand(None, by="alice")).id
    assert (await refusal()).reason == "attestation_open"
    await house.cut_off(service)
    for bank in (ALFA, BETA):
        await service.attestation.submit_attestation(bank, cycle, house.submission(cycle, bank))
    said, deadline_at = await refusal(), (await service.views.cycle(cycle)).deadline_at
    assert (said.reason, said.status) == ("attestation_open", 409)
    assert f"is attesting until {deadline_at:%Y-%m-%dT%H:%M:%S}" in said.detail
    await house.attest(service, cycle, (GAMA, DELT))
    assert await service.advance(cycle) is State.FINAL
    shown = await service.views.agreed_position(cycle, (ALFA, BETA), "EUR", ALFA)
    assert shown.cycle == cycle
    assert (await refusal("ZZZZXXZ0")).reason == "position_unknown"


async def test_rows_stand_in_the_order_of_the_tree(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    rows = house.submission(cycle, GAMA).positions
    for wrong, pointer in (((rows[1], rows[0], rows[2]), 1), ((rows[0], rows[2], rows[1]), 2)):
        turned = house.attest_rows(cycle, GAMA, wrong)
        refusal = await refusal_of(service.attestation.submit_attestation(GAMA, cycle, turned))
        assert (refusal.reason, refusal.pointer) == ("inconsistent", f"/positions/{pointer}")
    # In the right order, but signed in another one.
    forged = msgspec.structs.replace(house.attest_rows(cycle, GAMA, (rows[1], rows[0], rows[2])), positions=rows)
    refusal = await refusal_of(service.attestation.submit_attestation(GAMA, cycle, forged))
    assert (refusal.reason, refusal.pointer) == ("not_attested", "/positions")


async def test_a_statement_that_does_not_fit_costs_its_own_pair(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    submit = service.attestation.submit_attestation
    whole = house.submission(cycle, ALFA)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows
    misfit = msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, last_sequence=3, count=3), back))
    strange = msgspec.structs.replace(good, currency="USD")
    nobody = msgspec.structs.replace(good, pair=(ALFA, "ZZZZXXZ0"))
    delt = house.statement(cycle, (ALFA, DELT), "EUR")
    contested = ContestedLane(receiver=GAMA, currency="EUR", cut_at=7, known_through=0)
    mixed = house.attestation(
        cycle, ALFA, misfit, delt, nobody, strange, screening=house.screening(cycle, ALFA), complete=True,
        contested=[contested],
    )  # fmt: skip
    answer = await submit(ALFA, cycle, mixed)
    assert (answer.stored, answer.agreed, answer.breaks) == (1, 0, ())
    assert [(r.pointer, r.reason, r.counterparty, r.currency) for r in answer.refused] == [
        ("/positions/0", "sequence_mismatch", BETA, "EUR"),
        ("/positions/2", "wrong_pair", "ZZZZXXZ0", "EUR"),
        ("/positions/3", "wrong_currency", BETA, "USD"),
        ("/contested/0", "sequence_mismatch", GAMA, "EUR"),
    ]
    # The same again gets the same answer, and the bank still is waited for.
    assert await submit(ALFA, cycle, mixed) == answer
    assert (await service.views.progress(cycle)).participants[0].attested_at is None
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    assert await service.advance(cycle) is State.ATTESTING
    # Mended in time; a statement that was refused was never the bank's word, so this is no equivocation.
    assert (await submit(ALFA, cycle, whole)).agreed == 3
    assert await service.advance(cycle) is State.FINAL
    # Afterwards too: what was taken in is answered again, and the rest comes too late.
    late = await submit(ALFA, cycle, mixed)
    assert (late.stored, late.agreed, late.breaks) == (0, 1, ())
    assert [(r.pointer, r.reason) for r in late.refused] == [
        (f"/positions/{number}", "deadline_passed") for number in (0, 2, 3)
    ]
    verify(await service.export(cycle), anchor_of(house))


async def test_pairs_that_fit_settle_although_others_never_do(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows
    misfit = msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, last_sequence=3, count=3), back))
    others = [house.statement(cycle, pair, currency) for pair, currency in house.pairs(ALFA) if BETA not in pair]
    submission = house.attestation(cycle, ALFA, misfit, *others, screening=house.screening(cycle, ALFA), complete=True)
    answer = await service.attestation.submit_attestation(ALFA, cycle, submission)
    assert (answer.stored, len(answer.refused)) == (2, 1)
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {("EUR", (ALFA, BETA)): "not_attested"}
    verify(await service.export(cycle), anchor_of(house))


async def test_a_lie_beside_good_statements_is_kept_as_evidence_and_they_count(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    first = house.attestation(cycle, ALFA, house.statement(cycle, (ALFA, BETA), "EUR"))
    await service.attestation.submit_attestation(ALFA, cycle, first)
    lying = house.submission(cycle, ALFA, wrong_by={((ALFA, BETA), "EUR"): 5})
    for _ in range(2):
        answer = await service.attestation.submit_attestation(ALFA, cycle, lying)
        assert answer.stored == 2
        assert [(part.reason, part.counterparty) for part in answer.refused] == [("equivocation", BETA)]
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 1
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_who_agrees_by_contradicting_itself_agrees_on_nothing(new_house: NewHouse) -> None:
    """What the other bank stated is no word of one that has signed something else."""
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    theirs = house.submission(cycle, BETA, wrong_by={((ALFA, BETA), "EUR"): 5})
    await service.attestation.submit_attestation(BETA, cycle, theirs)
    both = house.submission(cycle, ALFA, wrong_by={((ALFA, BETA), "EUR"): 5}, hits=1)
    answer = await service.attestation.submit_attestation(ALFA, cycle, both)
    assert [(part.reason, part.counterparty) for part in answer.refused] == [("equivocation", BETA)]
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {("EUR", (ALFA, BETA)): "break"}
    verify(await service.export(cycle), anchor_of(house))


async def test_the_same_submission_again_gets_the_same_answer(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await service.cuts.submit(ALFA, cycle, house.cut(cycle, ALFA))
    first = await house.attest(service, cycle, [ALFA])
    assert await house.attest(service, cycle, [ALFA]) == first
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    await service.advance(cycle)
    # Even when the cycle is over: the answer may have been lost.
    again = await house.attest(service, cycle, [ALFA])
    assert (again[ALFA].stored, again[ALFA].agreed, again[ALFA].refused) == (0, 3, ())
    await service.cuts.submit(ALFA, cycle, house.cut(cycle, ALFA))
    other = house.submission(cycle, ALFA, hits=1)
    assert await refused(service.attestation.submit_attestation(ALFA, cycle, other)) == "deadline_passed"
    whole = house.submission(cycle, ALFA)
    (row, *rows) = whole.positions
    forged = msgspec.structs.replace(whole, positions=(msgspec.structs.replace(row, back_minor="1"), *rows))
    assert await refused(service.attestation.submit_attestation(ALFA, cycle, forged)) == "not_attested"


async def test_two_different_statements_of_one_revision_are_kept_as_evidence(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA])
    lie = house.attestation(cycle, ALFA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    for _ in range(2):
        assert await refused(service.attestation.submit_attestation(ALFA, cycle, lie)) == "equivocation"
    # Each of the two is proven by itself: the attestation, the statement, and its way to the root.
    key = house.identity(ALFA).sign.verifying_key
    async with transaction(house.engine) as conn:
        rows = await conn.execute(text("SELECT first::text, second::text FROM equivocations"))
        proofs = [msgspec.json.decode(document, type=ProvenStatement) for document in rows.one()]
    stated = [verify_proven(proof, {key.kid: key})[1] for proof in proofs]
    assert [(s.pair, s.revision) for s in stated] == [((ALFA, BETA), 1)] * 2
    assert stated[0] != stated[1]
    house.pay(BETA, ALFA, "EUR", 1)
    assert await refused(service.cuts.submit(ALFA, cycle, house.cut(cycle, ALFA))) == "equivocation"
    house.lanes[BETA, ALFA, "EUR"].pop()
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 2
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))
