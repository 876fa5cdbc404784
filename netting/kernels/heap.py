"""A binary heap of nodes, nearest first, that knows the place of each node, so that a distance can be lowered."""

from __future__ import annotations

from collections.abc import MutableSequence

from netting.kernels.compile import toolchain

kernel, _ = toolchain(__name__)

Vector = MutableSequence[int]


@kernel
def rise(heap: Vector, place: Vector, distance: Vector, at: int) -> None:
    """Move the entry `at` of the heap up to where it belongs: nearest first, then the lower number."""
    x = heap[at]
    while at > 0:
        above = (at - 1) // 2
        y = heap[above]
        if distance[y] < distance[x] or (distance[y] == distance[x] and y < x):
            break
        heap[at], place[y] = y, at
        at = above
    heap[at], place[x] = x, at


@kernel
def sink(heap: Vector, place: Vector, distance: Vector, count: int) -> None:
    """Take out the first entry of the heap; `heap[count]`, the last one, finds its place among the others."""
    x = heap[count]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= count:
            break
        y = heap[below]
        if below + 1 < count:
            z = heap[below + 1]
            if distance[z] < distance[y] or (distance[z] == distance[y] and z < y):
                below, y = below + 1, z
        if distance[x] < distance[y] or (distance[x] == distance[y] and x < y):
            break
        heap[at], place[y] = y, at
        at = below
    heap[at], place[x] = x, at
