"""Correlation ids are random UUIDs, whichever thread begins one."""

from __future__ import annotations

import threading
from uuid import UUID

from gateway.federation import correlation


def test_no_two_are_alike() -> None:
    begun: list[str] = []

    def begin_many() -> None:
        begun.extend([correlation.begin() for _ in range(2_000)])

    threads = [threading.Thread(target=begin_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(begun)) == len(begun) == 16_000
    assert {UUID(one).version for one in begun} == {4}


def test_a_proposed_one_is_taken_if_it_is_well_formed() -> None:
    assert correlation.begin("a-proposed-id") == correlation.current() == "a-proposed-id"
    assert UUID(correlation.begin("no good\n"))
