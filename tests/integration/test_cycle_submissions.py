"""What banks submit to a cycle: refused by the first reason that holds, answered again, kept as evidence."""

from __future__ import annotations

from collections.abc import Coroutine
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
    refused,
    result_of,
    trade,
)

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.states import State
from compliance.statements import PositionStatement
from compliance.verifier.verify import verify_bytes as verify
from gateway.federation.messages.attestation import ContestedLane, StatementSubmission


async def test_submissions_are_refused_by_the_first_reason_that_holds(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    opened = (await service.open_on_demand(None, by="alice")).id
    submit = service.attestation.submit_statements
    assert await refused(submit("NOONEXX0", opened, house.submission(opened, ALFA))) == "not_a_participant"
    assert await refused(submit(ALFA, "2026-01-05-77", house.submission(opened, ALFA))) == "cycle_unknown"
    assert await refused(submit(ALFA, opened, house.submission(opened, ALFA))) == "cycle_not_attesting"
    early = service.attestation.submit_cut(ALFA, opened, house.cut(opened, ALFA))
    assert await refused(early) == "cycle_not_cut_off"

    cycle = await house.cut_off(service)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows

    def one(statement: PositionStatement, signer: str = ALFA) -> Coroutine[Any, Any, Any]:
        return submit(ALFA, cycle, StatementSubmission(statements=(house.sign(signer, statement),)))

    def changed(**flow: Any) -> PositionStatement:
        return msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, **flow), back))

    stranger = dsse.sign(good, SigningKey.generate())
    loose = dsse.seal(b" " + msgspec.json.encode(good), house.sign(ALFA, good).document_type, house.identity(ALFA).sign)
    refusals = [
        (one(msgspec.structs.replace(good, cycle="2026-01-05-77")), "wrong_cycle"),
        (one(house.statement(cycle, (BETA, GAMA), "EUR")), "wrong_pair"),
        (one(msgspec.structs.replace(good, currency="USD")), "wrong_currency"),
        (submit(ALFA, cycle, StatementSubmission(statements=(stranger,))), "unknown_key"),
        (one(good, BETA), "unknown_key"),
        (submit(ALFA, cycle, StatementSubmission(statements=(loose,))), "not_canonical"),
        (one(changed(count=7)), "inconsistent"),
        (one(changed(amount_minor="9" * 30)), "inconsistent"),
        (one(msgspec.structs.replace(good, revision=2)), "revision_refused"),
        (one(changed(last_sequence=3)), "sequence_mismatch"),
        (one(changed(first_sequence=2, count=1)), "sequence_mismatch"),
    ]
    assert [await refused(work) for work, _ in refusals] == [reason for _, reason in refusals]
    # Nothing of what was refused is left.
    assert (await service.views.progress(cycle)).participants[0].statements == 0


async def test_a_statement_that_does_not_fit_costs_its_own_pair(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    submit = service.attestation.submit_statements
    whole = house.submission(cycle, ALFA)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows
    misfit = msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, last_sequence=3, count=3), back))
    strange = msgspec.structs.replace(good, currency="USD")
    forged = dsse.sign(house.statement(cycle, (ALFA, GAMA), "EUR"), SigningKey.generate())
    noise = msgspec.structs.replace(forged, payload="AAAA")
    delt = house.sign(ALFA, house.statement(cycle, (ALFA, DELT), "EUR"))
    contested = ContestedLane(receiver=GAMA, currency="EUR", cut_at=7, known_through=0)
    mixed = StatementSubmission(
        statements=(house.sign(ALFA, misfit), delt, house.sign(ALFA, strange), forged, noise),
        screening=house.screening(cycle, BETA),
        contested=(contested,),
    )
    answer = await submit(ALFA, cycle, mixed)
    assert [(v.counterparty, v.currency, v.status) for v in answer.verdicts] == [(DELT, "EUR", "stored")]
    assert {(r.pointer, r.reason, r.counterparty, r.currency) for r in answer.refused} == {
        ("/statements/0", "sequence_mismatch", BETA, "EUR"),
        ("/statements/2", "wrong_currency", BETA, "USD"),
        ("/statements/3", "unknown_key", GAMA, "EUR"),
        ("/statements/4", "unknown_key", None, None),
        ("/screening", "unknown_key", None, None),
        ("/contested/0", "sequence_mismatch", GAMA, "EUR"),
    }
    assert len(answer.refused) == 6
    # The same again gets the same answer, and the bank still is waited for.
    assert await submit(ALFA, cycle, mixed) == answer
    assert (await service.views.progress(cycle)).participants[0].attested_at is None
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    assert await service.advance(cycle) is State.ATTESTING
    # Mended in time; a statement that was refused was never the bank's word, so this is no equivocation.
    assert len((await submit(ALFA, cycle, whole)).verdicts) == 3
    assert await service.advance(cycle) is State.FINAL
    # Afterwards too: what was taken in is answered again, and the rest comes too late.
    late = await submit(ALFA, cycle, mixed)
    assert {v.status for v in late.verdicts} == {"agreed"}
    assert [(r.pointer, r.reason) for r in late.refused] == [
        (f"/statements/{number}", "deadline_passed") for number in (0, 2, 4)
    ]
    verify(await service.export(cycle), anchor_of(house))


async def test_pairs_that_fit_settle_although_others_never_do(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    whole = house.submission(cycle, ALFA)
    good = house.statement(cycle, (ALFA, BETA), "EUR")
    forth, back = good.flows
    misfit = msgspec.structs.replace(good, flows=(msgspec.structs.replace(forth, last_sequence=3, count=3), back))
    others = tuple(e for e in whole.statements if e.payload != house.sign(ALFA, good).payload)
    submission = msgspec.structs.replace(whole, statements=(*others, house.sign(ALFA, misfit)))
    answer = await service.attestation.submit_statements(ALFA, cycle, submission)
    assert (len(answer.verdicts), len(answer.refused)) == (2, 1)
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
    whole = house.submission(cycle, ALFA)
    lie = house.sign(ALFA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    more = house.sign(ALFA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=6))
    both = msgspec.structs.replace(whole, statements=(*whole.statements, lie, more))
    for _ in range(2):
        answer = await service.attestation.submit_statements(ALFA, cycle, both)
        assert len(answer.verdicts) == 3
        assert [(part.reason, part.counterparty) for part in answer.refused] == [("equivocation", BETA)] * 2
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 1
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))


async def test_the_same_submission_again_gets_the_same_answer(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))
    first = await house.attest(service, cycle, [ALFA])
    assert await house.attest(service, cycle, [ALFA]) == first
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    await service.advance(cycle)
    # Even when the cycle is over: the answer may have been lost.
    again = await house.attest(service, cycle, [ALFA])
    assert {verdict.status for verdict in again[ALFA]} == {"agreed"}
    await service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))


async def test_two_different_statements_of_one_revision_are_kept_as_evidence(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA])
    other = house.sign(ALFA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    lie = StatementSubmission(statements=(other,), complete=False)
    for _ in range(2):
        assert await refused(service.attestation.submit_statements(ALFA, cycle, lie)) == "equivocation"
    house.pay(BETA, ALFA, "EUR", 1)
    assert await refused(service.attestation.submit_cut(ALFA, cycle, house.cut(cycle, ALFA))) == "equivocation"
    house.lanes[BETA, ALFA, "EUR"].pop()
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 2
    await house.attest(service, cycle, [BETA, GAMA, DELT])
    assert await service.advance(cycle) is State.FINAL
    verify(await service.export(cycle), anchor_of(house))
