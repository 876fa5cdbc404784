"""The totals of settled cycles in memory: exact, by pair, and as they were when somebody asked."""

from __future__ import annotations

from threading import Thread

from gateway.coordinator.cycles.flow_history import FlowHistory

AB, AC, BC = (("EUR", "AAAADEFF", "BBBBFRPP"), ("EUR", "AAAADEFF", "CCCCNL2A"), ("EUR", "BBBBFRPP", "CCCCNL2A"))
CYCLES = {"1": [(AB, 5), (AC, 10**37)], "2": [(AB, 7), (BC, 0)], "3": [(BC, 2**63)]}


def test_totals_are_exact_and_who_holds_them_sees_nothing_of_later_cycles() -> None:
    history = FlowHistory()
    assert dict(history.past()) == {}
    history.add("1", CYCLES["1"])
    history.add("2", CYCLES["2"])
    before = history.past()
    assert dict(before) == {AB: [5, 7], AC: [10**37], BC: [0]}
    history.add("3", CYCLES["3"])
    assert dict(history.past()) == {AB: [5, 7], AC: [10**37], BC: [0, 2**63]}
    assert before[BC] == [0]
    assert before.get(("JPY", *AB[1:]), ()) == ()


def test_pairs_keep_their_places_whoever_adds_cycles() -> None:
    history = FlowHistory()
    pairs = [("EUR", f"A{number:03}DEFF", "ZZZZDEFF") for number in range(500)]
    threads = [
        Thread(target=history.add, args=(str(of), [(pair, of) for pair in pairs[of:] + pairs[:of]])) for of in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    past = history.past()
    assert len(past) == 500
    assert all(sorted(totals) == list(range(20)) for totals in past.values())
