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
    refused,
    trade,
)

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.states import State
from compliance.statements import PositionStatement
from compliance.verifier.verify import verify_bytes as verify
from gateway.federation.messages.attestation import StatementSubmission


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
    loose = dsse.seal(b" " + msgspec.json.encode(good), house.sign(ALFA, good).payloadType, house.identity(ALFA).sign)
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
