"""What a bank finds wrong with the result that it was shown."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import SigningKey
from compliance.cycle.commitment import commit
from compliance.cycle.limits import Limits
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import of_statement
from compliance.cycle.result import instructions, net_cycle
from compliance.statements import (
    CarriedOver,
    CarryReason,
    Flow,
    NettingResult,
    PositionStatement,
    SettlementInstruction,
)
from participants.cycle import shown_result
from participants.cycle.shown_result import Comparison, check_shown, compare, missing
from participants.cycle.statements import InstructionReason, check_instruction
from tests.unit.result_lies import Lie, all_of, with_net, with_statement, without

KEY = SigningKey.generate()
KEYS = {KEY.kid: KEY.verifying_key}
CYCLE = "2026-01-05-01"
A, B, C = "ALFADEFF", "BETAFRPP", "GAMAITRR"


def statement(low: str, high: str, forth: int, back: int) -> PositionStatement:
    flows = tuple(
        Flow(
            sender=sender,
            receiver=receiver,
            first_sequence=1,
            last_sequence=1,
            count=1,
            amount_minor=str(amount),
            root="0" * 64,
        )
        for sender, receiver, amount in ((low, high, forth), (high, low, back))
    )
    return PositionStatement(cycle=CYCLE, currency="EUR", pair=(low, high), revision=1, flows=flows)  # type: ignore[arg-type]


STATEMENTS = {
    canonical.digest(canonical.encode(one)): one
    for one in (statement(A, B, 70, 10), statement(A, C, 5, 25), statement(B, C, 9, 1))
}
POSITIONS = {sha256: of_statement(one) for sha256, one in STATEMENTS.items()}
OWN = {sha256: one for sha256, one in POSITIONS.items() if A in (one.low, one.high)}
HONEST = net_cycle(
    cycle=CYCLE,
    value_date="2026-01-05",
    rulebook_sha256="0" * 64,
    statements=list(POSITIONS.items()),
    limits=Limits(),
    liquidity=LiquidityRule(mode="optimal", work=1000),
    carried_over=(),
).result


def shown(result: NettingResult, bank: str = A, **hidden: Any) -> shown_result.ShownResult:
    commitment = commit(dsse.sign(result, KEY))
    signed = dsse.sign(commitment.document, KEY)
    leaves = [one for one in commitment.shown_to(bank) if not hidden.get("hide", lambda _: False)(one)]
    return shown_result.read(signed, leaves, KEYS)


def instruction(result: NettingResult = HONEST, bank: str = A) -> SettlementInstruction:
    sha256 = canonical.digest(canonical.encode(result))
    (one,) = (one for one in instructions(result, POSITIONS.items(), sha256, "AGNTXXC0") if one.participant == bank)
    return one


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (lambda honest: honest, None),
        (without((A, B), say=None), InstructionReason.NOT_IN_RESULT),
        (without((A, B), say=CarryReason.BREAK), InstructionReason.NOT_IN_RESULT),
        (with_statement((A, B), "ab" * 32), InstructionReason.NOT_IN_RESULT),
        (with_net(A, net_minor="-39"), InstructionReason.POSITION_DIFFERS),
        (with_net(A, receives_minor="36"), InstructionReason.POSITION_DIFFERS),
        (with_net(A, pays_minor="74"), InstructionReason.POSITION_DIFFERS),
        (lambda honest: replace(honest, results=()), InstructionReason.POSITION_DIFFERS),
        (
            lambda honest: replace(honest, results=honest.results + with_net(A, net_minor="0")(honest).results),
            InstructionReason.POSITION_DIFFERS,
        ),
        (
            lambda honest: replace(
                honest, carried_over=(CarriedOver(pair=(A, B), currency="EUR", reason=CarryReason.BREAK),)
            ),
            InstructionReason.NOT_IN_RESULT,
        ),
        (
            lambda honest: replace(
                honest, statements=honest.statements + with_statement((A, B), "0" * 64)(honest).statements
            ),
            InstructionReason.NOT_IN_RESULT,
        ),
    ],
)
def test_an_instruction_follows_from_what_its_bank_is_shown(lie: Lie, found: InstructionReason | None) -> None:
    """The instruction is the honest one, made to name the result that is lied about."""
    result = lie(HONEST)
    named = replace(instruction(), result=canonical.digest(canonical.encode(result)))
    assert check_instruction(named, bank=A, cycle=CYCLE, own=OWN) is None
    assert check_shown(named, shown(result), bank=A, own=OWN) is found


def test_an_instruction_is_of_the_result_that_is_proven() -> None:
    other = replace(HONEST, value_date="2026-01-06")
    assert check_shown(instruction(), shown(other), bank=A, own=OWN) is InstructionReason.RESULT_DIFFERS


def test_a_pair_that_was_signed_is_settled_or_carried_over() -> None:
    silent = without((A, B), say=None)(HONEST)
    named = instruction(with_net(A, receives_minor="25", pays_minor="5", net_minor="20")(silent))
    view = shown(with_net(A, receives_minor="25", pays_minor="5", net_minor="20")(silent))
    assert check_shown(named, view, bank=A, own=OWN) is InstructionReason.PAIR_LEFT_OUT
    said = all_of(
        without((A, B), say=CarryReason.BREAK), with_net(A, receives_minor="25", pays_minor="5", net_minor="20")
    )(HONEST)
    assert check_shown(instruction(said), shown(said), bank=A, own=OWN) is None


def test_a_bank_with_a_position_is_instructed() -> None:
    assert missing(shown(HONEST), bank=A, own=OWN.values(), instructed={"EUR"}) == {}
    alone = missing(shown(HONEST), bank=A, own=OWN.values(), instructed=())
    assert alone == {"EUR": InstructionReason.NOT_INSTRUCTED}
    nothing = replace(HONEST, statements=(), results=())
    assert missing(shown(nothing), bank=A, own=OWN.values(), instructed=()) == {"EUR": InstructionReason.PAIR_LEFT_OUT}


def test_a_line_that_stands_nowhere_isn_t_read() -> None:
    commitment = commit(dsse.sign(HONEST, KEY))
    signed = dsse.sign(commitment.document, KEY)
    first, *_ = commitment.shown_to(A)
    for forged in (
        replace(first, leaf=first.leaf.replace("EUR", "USD")),
        replace(first, leaf="{}"),
    ):
        with pytest.raises(EvidenceError):
            shown_result.read(signed, [forged], KEYS)
    for envelope in (dsse.sign(commitment.document, SigningKey.generate()), dsse.sign(HONEST, KEY)):
        with pytest.raises(EvidenceError):
            shown_result.read(envelope, [first], KEYS)


BOTH = replace(HONEST, carried_over=without((A, B), say=CarryReason.BREAK)(HONEST).carried_over)
"""It says that the pair settles, and that it is carried over."""


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (shown(HONEST), shown(HONEST, B), Comparison.ALIKE),
        (shown(HONEST), shown(without((A, B), say=CarryReason.BREAK)(HONEST), B), Comparison.CONTRADICTORY),
        (shown(HONEST), shown(with_net(C, net_minor="0")(HONEST), B), Comparison.CONTRADICTORY),
        (
            shown(BOTH, hide=lambda one: one.line.carried_over is not None),
            shown(BOTH, B, hide=lambda one: one.line.settles is not None),
            Comparison.CONTRADICTORY,
        ),
        (shown(HONEST), shown(HONEST, B, hide=lambda one: one.line.settles is not None), Comparison.LACKING),
        (
            shown(HONEST),
            shown(replace(HONEST, edition=2, supersedes="0" * 64), B),
            Comparison.UNRELATED,
        ),
        (shown(HONEST), shown(replace(HONEST, cycle="2026-01-05-02"), B), Comparison.UNRELATED),
    ],
)
def test_the_banks_of_a_pair_compare(
    ours: shown_result.ShownResult, theirs: shown_result.ShownResult, found: Comparison
) -> None:
    assert compare(ours, theirs, (A, B)) is found
    assert compare(theirs, ours, (B, A)) is found
