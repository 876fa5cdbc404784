"""Operators' decisions as signatures, rule by rule: whose word counts, and over what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action
from compliance.decisions import (
    CYCLE_KINDS,
    DecisionError,
    DecisionFault,
    answer,
    cycle_act,
    four_eyes_met,
    lines,
    operator_keys,
    propose,
    shown,
)
from compliance.statements import Act, ActKind, OperatorDecision, OperatorKey, OperatorRegister

HOUSE, CYCLE, AT = "CNCDXXC0", "2026-03-02-01", "2026-03-02T10:00:00Z"
ALICE, BOB, THIEF = (SigningKey.generate() for _ in range(3))
ACT = cycle_act(Action.APPROVE, CYCLE, result="1" * 64)


def entry(name: str, key: SigningKey, **changes: str) -> OperatorKey:
    fields = {"name": name, "role": "operator", "kid": key.kid, "alg": "Ed25519", "x": key.x, "status": "active"}
    return OperatorKey(**{**fields, **changes})  # type: ignore[arg-type]


def keys_of(*entries: OperatorKey) -> object:
    return operator_keys((OperatorRegister(coordinator=HOUSE, version=1, operators=entries),))


KEYS = keys_of(entry("alice", ALICE), entry("bob", BOB))
PROPOSED = propose(ACT, ALICE, operator="alice", coordinator=HOUSE, reason="checked", at=AT)


def said(key: SigningKey, **changes: object) -> Envelope:
    """Return bob's confirmation, with changes, signed by a key."""
    honest = answer(ACT, PROPOSED, BOB, operator="bob", coordinator=HOUSE, confirm=True, reason=None, at=AT)
    document = dsse.verify(honest, OperatorDecision, {BOB.kid: BOB.verifying_key})
    return dsse.sign(replace(document, **changes), key)


def fault(proposed: Envelope, confirmed: Envelope, act: Act = ACT, keys: object = KEYS) -> DecisionFault:
    with pytest.raises(DecisionError) as caught:
        four_eyes_met(act, proposed, confirmed, keys, coordinator=HOUSE)  # type: ignore[arg-type]
    return caught.value.fault


def test_two_operators_over_one_act() -> None:
    first, second = four_eyes_met(ACT, PROPOSED, said(BOB), KEYS, coordinator=HOUSE)  # type: ignore[arg-type]
    assert (first.document.operator, second.document.operator) == ("alice", "bob")
    assert second.document.proposal == first.sha256
    assert first.document.shown == second.document.shown == shown(ACT)


def test_every_action_on_a_cycle_has_a_kind() -> None:
    assert set(CYCLE_KINDS) == set(Action)
    assert len(set(CYCLE_KINDS.values())) == len(Action)


@pytest.mark.parametrize(
    ("confirmed", "expected"),
    [
        (lambda: said(THIEF), DecisionFault.SIGNATURE_REFUSED),
        (lambda: said(ALICE), DecisionFault.SIGNATURE_REFUSED),
        (lambda: said(THIEF, operator="mallory"), DecisionFault.OPERATOR_UNKNOWN),
        (lambda: said(BOB, operator="alice"), DecisionFault.SIGNATURE_REFUSED),
        (lambda: said(BOB, coordinator="OTHRXXC0"), DecisionFault.OTHER_COORDINATOR),
        (lambda: said(BOB, action="reject"), DecisionFault.OTHER_ACTION),
        (lambda: said(BOB, action="propose"), DecisionFault.OTHER_ACTION),
        (lambda: said(BOB, kind=ActKind.CYCLE_RELEASE), DecisionFault.OTHER_ACT),
        (lambda: said(BOB, subject="2026-03-02-02"), DecisionFault.OTHER_ACT),
        (lambda: said(BOB, shown="2" * 64), DecisionFault.OTHER_ACT),
        (lambda: said(BOB, proposal="2" * 64), DecisionFault.OTHER_PROPOSAL),
        (lambda: said(BOB, proposal=None), DecisionFault.OTHER_PROPOSAL),
        (lambda: said(ALICE, operator="alice"), DecisionFault.MAKER_IS_CHECKER),
        (lambda: dsse.seal(b"{}", "application/vnd.concordat.decision.v1+json", BOB), DecisionFault.SIGNATURE_REFUSED),
        (lambda: replace(said(BOB), signatures=said(BOB).signatures * 2), DecisionFault.SIGNATURE_REFUSED),
    ],
)
def test_a_confirmation_that_doesnt_count(confirmed: Callable[[], Envelope], expected: DecisionFault) -> None:
    assert fault(PROPOSED, confirmed()) is expected


def test_what_is_done_is_what_was_signed() -> None:
    """Neither another result, nor another cycle, nor another action takes the two signatures."""
    for act in (
        cycle_act(Action.APPROVE, CYCLE, result="2" * 64),
        cycle_act(Action.APPROVE, CYCLE, result=None),
        cycle_act(Action.APPROVE, "2026-03-02-02", result="1" * 64),
        cycle_act(Action.RELEASE, CYCLE, result="1" * 64),
        cycle_act(Action.UNWIND, CYCLE, result="1" * 64, participants=["ALPHDEF0"]),
    ):
        assert fault(PROPOSED, said(BOB), act) is DecisionFault.OTHER_ACT


@pytest.mark.parametrize("alias", ["Alice", "\uff41lice", "ali\u200bce"])
def test_another_spelling_is_the_same_person(alias: str) -> None:
    keys = keys_of(entry("alice", ALICE), entry(alias, BOB))
    assert fault(PROPOSED, said(BOB, operator=alias), keys=keys) is DecisionFault.MAKER_IS_CHECKER


def test_one_key_under_two_names_is_one_person() -> None:
    keys = keys_of(entry("alice", ALICE), entry("bob", ALICE))
    assert fault(PROPOSED, said(ALICE), keys=keys) is DecisionFault.MAKER_IS_CHECKER


def test_whose_keys_decide() -> None:
    for changes in ({"status": "removed"}, {"role": "auditor"}):
        keys = keys_of(entry("alice", ALICE), entry("bob", BOB, **changes))
        assert fault(PROPOSED, said(BOB), keys=keys) is DecisionFault.OPERATOR_UNKNOWN
    with pytest.raises(ValueError, match="thumbprint"):
        keys_of(entry("bob", BOB, kid=ALICE.kid))


def test_an_act_is_shown_from_what_to_what() -> None:
    act = Act(
        kind=ActKind.CAP,
        subject="ALFADEFF",
        terms={"currency": "EUR", "cap_minor": "9", "reserved_minor": "0"},
        before={"cap_minor": "5", "status": "active"},
    )
    assert lines(act) == ("cap_minor: from 5 to 9", "currency: EUR", "reserved_minor: 0", "status: active now")


def test_an_act_without_a_value_before_is_what_it_was() -> None:
    """What operators signed under earlier releases has the digest that it had."""
    act = Act(kind=ActKind.MEMBER_SUSPEND, subject="ALFADEFF")
    assert canonical.encode(act) == b'{"kind":"member.suspend","subject":"ALFADEFF"}'
