"""The outcome of a cycle: caps, zero positions, order, and refusals of input that no cycle can have."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.cycle.limits import BilateralLimit, Cap, Limits, Prefunding
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import Position, of_statement, statement_of
from compliance.cycle.result import InconsistentInputError, inconsistency, instructions, net_cycle
from compliance.statements import CarriedOver, Flow, NettingResult, PositionStatement

CYCLE = "2026-03-02-01"
ROOT = "0" * 64
A, B, C = "AAAADEFF", "BBBBFRPP", "CCCCNL2A"
OPTIMAL, FIFO = LiquidityRule(mode="optimal", work=10_000), LiquidityRule(mode="fifo", work=10_000)


def flow(sender: str, receiver: str, amount: int) -> Flow:
    count = 1 if amount else 0
    return Flow(
        sender=sender,
        receiver=receiver,
        first_sequence=1,
        last_sequence=count,
        count=count,
        amount_minor=str(amount),
        root=ROOT,
    )


def statement(first: str, second: str, forth: int, back: int, currency: str = "EUR") -> tuple[str, Position]:
    document = PositionStatement(
        cycle=CYCLE,
        currency=currency,
        pair=(first, second),
        revision=1,
        flows=(flow(first, second, forth), flow(second, first, back)),
    )
    return canonical.digest(canonical.encode(document)), of_statement(document)


def cap(participant: str, minor: int, currency: str = "EUR") -> Cap:
    return Cap(participant=participant, currency=currency, cap_minor=str(minor))


def prefunding(participant: str, minor: int, reserved: int = 0) -> Prefunding:
    return Prefunding(participant=participant, currency="EUR", prefunded_minor=str(minor), reserved_minor=str(reserved))


def net(
    statements: list[tuple[str, Position]],
    limits: Limits | None = None,
    carried_over: tuple[CarriedOver, ...] = (),
    rule: LiquidityRule = OPTIMAL,
) -> NettingResult:
    return net_cycle(
        cycle=CYCLE,
        value_date="2026-03-02",
        rulebook_sha256=ROOT,
        statements=statements,
        limits=limits or Limits(),
        liquidity=rule,
        carried_over=carried_over,
    ).result


def nets(result: NettingResult) -> dict[tuple[str, str], int]:
    return {(r.currency, p.participant): int(p.net_minor) for r in result.results for p in r.positions}


def test_nets_each_currency_on_its_own() -> None:
    result = net([statement(A, B, 100, 30), statement(B, C, 50, 0), statement(A, C, 0, 7, "USD")])
    assert nets(result) == {("EUR", A): -70, ("EUR", B): 20, ("EUR", C): 50, ("USD", A): 7, ("USD", C): -7}
    assert [
        (r.currency, r.obligations, r.gross_minor, r.bilateral_minor, r.settlement_minor, r.saving_minor)
        for r in result.results
    ] == [("EUR", 3, "180", "120", "70", "110"), ("USD", 1, "7", "7", "7", "0")]


def test_the_order_of_input_does_not_matter() -> None:
    statements = [statement(A, B, 100, 30), statement(B, C, 50, 0), statement(A, C, 9, 7)]
    carried = (
        CarriedOver(pair=(A, B), currency="USD", reason="break"),
        CarriedOver(pair=(B, C), currency="CHF", reason="break"),
    )
    limits = Limits(caps=(cap(A, 60),))
    results = {
        canonical.encode(net(list(order), limits, carry))
        for order in itertools.permutations(statements)
        for carry in (carried, carried[::-1])
    }
    assert len(results) == 1


def test_a_cap_carries_a_pair_over() -> None:
    result = net([statement(A, B, 100, 30), statement(B, C, 50, 0)], Limits(caps=(cap(A, 69),)))
    assert [(c.pair, c.reason) for c in result.carried_over] == [((A, B), "net_debit_cap")]
    assert [s.pair for s in result.statements] == [(B, C)]
    assert nets(result) == {("EUR", B): -50, ("EUR", C): 50}


@pytest.mark.parametrize(
    ("held", "included"),
    [
        ((prefunding(A, 69),), False),
        ((prefunding(A, 70),), True),
        ((prefunding(A, 80, 11),), False),
        ((prefunding(A, 80, 10),), True),
    ],
)
def test_prefunding_widens_a_cap_by_what_is_not_reserved(held: tuple[Prefunding, ...], included: bool) -> None:
    result = net([statement(A, B, 100, 30)], Limits(caps=(cap(A, 0),), prefunding=held))
    assert bool(result.statements) is included


def test_prefunding_without_a_cap_limits_nothing() -> None:
    result = net([statement(A, B, 100, 30)], Limits(prefunding=(prefunding(A, 0, 5),)))
    assert len(result.statements) == 1


@pytest.mark.parametrize(("limit", "included"), [(69, False), (70, True)])
def test_a_bilateral_limit_is_granted_by_who_is_owed(limit: int, included: bool) -> None:
    def granted(by: str, to: str) -> Limits:
        one = BilateralLimit(participant=by, counterparty=to, currency="EUR", limit_minor=str(limit))
        return Limits(bilateral=(one,))

    # A owes B 70.
    result = net([statement(A, B, 100, 30), statement(B, C, 50, 0)], granted(B, A))
    carried = [] if included else [((A, B), "bilateral_limit")]
    assert [(c.pair, c.reason) for c in result.carried_over] == carried
    assert len(net([statement(A, B, 100, 30)], granted(A, B)).statements) == 1


def test_two_limits_for_one_thing_are_refused() -> None:
    with pytest.raises(InconsistentInputError, match="two limits for cap"):
        net([statement(A, B, 1, 0)], Limits(caps=(cap(A, 1), cap(A, 2))))


def test_a_pair_that_owes_nothing_is_included_and_instructed_with_zero() -> None:
    statements = [statement(A, B, 0, 0)]
    result = net(statements)
    assert nets(result) == {("EUR", A): 0, ("EUR", B): 0}
    assert result.results[0].obligations == 0
    assert [i.net_minor for i in instructions(result, statements, ROOT, "AGNTXXC0")] == ["0", "0"]


def test_an_instruction_adds_up_line_by_line() -> None:
    statements = [statement(A, B, 100, 30), statement(B, C, 50, 0), statement(A, C, 9, 7)]
    result = net(statements)
    made = instructions(result, statements, ROOT, "AGNTXXC0")
    assert [i.id for i in made] == [f"{CYCLE}/{p}/EUR" for p in (A, B, C)]
    for instruction in made:
        total = sum(int(line.receives_minor) - int(line.pays_minor) for line in instruction.lines)
        assert total == int(instruction.net_minor) == nets(result)["EUR", instruction.participant]
        assert [line.counterparty for line in instruction.lines] == sorted({A, B, C} - {instruction.participant})


def test_no_pair_gives_an_empty_result() -> None:
    result = net([])
    assert (result.statements, result.results, result.carried_over) == ((), (), ())
    assert instructions(result, [], ROOT, "AGNTXXC0") == []


def test_an_instruction_needs_its_statement() -> None:
    result = net([statement(A, B, 1, 0)])
    with pytest.raises(InconsistentInputError, match="isn't given"):
        instructions(result, [], ROOT, "AGNTXXC0")


@pytest.mark.parametrize(
    ("statements", "carried", "message"),
    [
        ([statement(A, B, 1, 0), statement(A, B, 2, 0)], (), "appears twice"),
        ([statement(A, B, 1, 0)], (CarriedOver(pair=(A, B), currency="EUR", reason="break"),), "carried over"),
        ([], (CarriedOver(pair=(A, B), currency="EUR", reason="break"),) * 2, "carried over"),
        ([statement(B, A, 1, 0)], (), "alphabetical"),
        ([(ROOT, replace(statement(A, B, 1, 0)[1], forth_count=2))], (), "counts 2 of 1"),
    ],
)
def test_input_that_no_cycle_has_is_refused(
    statements: list[tuple[str, Position]], carried: tuple[CarriedOver, ...], message: str
) -> None:
    with pytest.raises(InconsistentInputError, match=message):
        net(statements, carried_over=carried)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sender": C}, "belongs"),
        ({"first_sequence": 0}, "runs from"),
        ({"first_sequence": 5}, "runs from"),
        ({"count": 2}, "counts 2 of 1"),
        ({"count": 0}, "in 0 payments"),
        ({"amount_minor": "0"}, "in 1 payments"),
    ],
)
def test_a_statement_that_contradicts_itself(changes: dict[str, object], message: str) -> None:
    document = statement_of(CYCLE, statement(A, B, 5, 5)[1])
    broken = replace(document, flows=(replace(document.flows[0], **changes), document.flows[1]))
    assert message in (inconsistency(broken) or "")
    assert inconsistency(document) is None


def again(statements: list[tuple[str, Position]], *defaulted: str, limits: Limits | None = None) -> NettingResult:
    return net_cycle(
        cycle=CYCLE,
        value_date="2026-03-02",
        rulebook_sha256=ROOT,
        statements=statements,
        limits=limits or Limits(),
        liquidity=OPTIMAL,
        carried_over=[],
        edition=2,
        supersedes=ROOT,
        defaulted=defaulted,
    ).result


def test_a_default_carries_its_pairs_over_and_makes_room_for_what_limits_left_out() -> None:
    statements = [statement(A, B, 100, 0), statement(A, C, 0, 60), statement(B, C, 60, 0)]
    limits = Limits(caps=(cap(C, 0),))
    first = net(statements, limits)
    assert [(one.pair, one.reason) for one in first.carried_over] == []
    second = again(statements, A, A, limits=limits)
    assert (second.edition, second.supersedes, second.defaulted) == (2, ROOT, (A,))
    assert [(one.pair, one.reason) for one in second.carried_over] == [
        ((A, B), "participant_default"),
        ((A, C), "participant_default"),
    ]
    assert [one.pair for one in second.statements] == [(B, C)]
    assert {one.id for one in instructions(second, statements, ROOT, "AGNTXXS0")} == {
        f"{CYCLE}/{B}/EUR/2",
        f"{CYCLE}/{C}/EUR/2",
    }


def test_a_first_edition_supersedes_nothing_and_leaves_nobody_out() -> None:
    for changes in ({"edition": 1}, {"supersedes": None}, {"edition": 1, "supersedes": None, "defaulted": (A,)}):
        given = {"edition": 2, "supersedes": ROOT, "defaulted": (), **changes}
        with pytest.raises(InconsistentInputError, match="edition"):
            net_cycle(
                cycle=CYCLE,
                value_date="2026-03-02",
                rulebook_sha256=ROOT,
                statements=[statement(A, B, 1, 0)],
                limits=Limits(),
                liquidity=OPTIMAL,
                carried_over=[],
                **given,  # type: ignore[arg-type]
            )
