"""The kernels of `netting.loss_allocation.clearing_vector`: what each bank pays on each of its debts."""

from __future__ import annotations

from typing import Any

from netting.kernels.compile import toolchain

kernel, ints = toolchain(__name__)

_ATTEMPTS = 5
_FEW = 3
_HALF = 2**31


@kernel
def proportion(part: int, weight: int, whole: int, base: int) -> int:
    """Return part · weight // whole for part ≤ 2 · whole, digit by digit, so that nothing exceeds 3 · whole · base."""
    if weight < base:
        return part * weight // whole
    power = 1
    while power <= weight // base:
        power *= base
    quotient = 0
    remainder = 0
    while power > 0:
        digit = weight // power
        weight -= digit * power
        remainder = remainder * base + part * digit
        quotient = quotient * base + remainder // whole
        remainder %= whole
        power //= base
    return quotient


@kernel
def compare(a: int, b: int, c: int, d: int) -> int:
    """Return the sign of a/b − c/d for positive numbers: by products where they fit, else by Euclid's steps."""
    if a < _HALF and b < _HALF and c < _HALF and d < _HALF:
        a *= d
        c *= b
        return (1 if a > c else 0) - (1 if a < c else 0)
    while True:
        quotient = a // b
        other_quotient = c // d
        if quotient != other_quotient:
            return 1 if quotient > other_quotient else -1
        a -= quotient * b
        c -= other_quotient * d
        if a == 0 or c == 0:
            return (1 if a > 0 else 0) - (1 if c > 0 else 0)
        a, b, c, d = d, c, b, a


@kernel
def before(debt: int, rival: int, amount: Any, paid: Any) -> bool:
    """Return whether debt `one` gets the next unit before `other`: the greater amount/(paid + 1), then the first."""
    sign = compare(amount[debt], paid[debt] + 1, amount[rival], paid[rival] + 1)
    return sign > 0 or (sign == 0 and debt < rival)


@kernel
def sink(heap: Any, size: int, at: int, amount: Any, paid: Any) -> None:
    """Restore the heap below `at`."""
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and before(heap[child + 1], heap[child], amount, paid):
            child += 1
        if not before(heap[child], heap[at], amount, paid):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@kernel
def share(total: int, whole: int, first: int, end: int, amount: Any, paid: Any, heap: Any, base: int) -> None:
    """Share `total` < `whole` over the debts first..end, whose amounts sum to `whole`, by the greatest quotients.

    The whole parts of amount · (total + more) / whole are what the method has given when it has shared their sum.
    So look for a `more` with which they sum to `total`, or to a little less, and give the rest one by one.
    """
    size = end - first
    more = size // 2
    for attempt in range(_ATTEMPTS):
        if attempt == _ATTEMPTS - 1:
            more = 0
        units_left = total
        for debt in range(first, end):
            paid[debt] = proportion(total + more, amount[debt], whole, base)
            units_left -= paid[debt]
        if 0 <= units_left <= _FEW:
            break
        more = min(size, max(0, more + units_left))
    if units_left == 0:
        return
    for at in range(size):
        heap[at] = first + at
    for at in range(size // 2 - 1, -1, -1):
        sink(heap, size, at, amount, paid)
    for _ in range(units_left):
        paid[heap[0]] += 1
        sink(heap, size, 0, amount, paid)


@kernel
def clear(
    start: Any, creditor: Any, amount: Any, cash: Any, paid: Any, failing_round: Any, room: int, work_max: int
) -> Any:
    """Fill `paid` with the greatest clearing payments and `fell` with the round each bank falls in; return the work.

    The debts of bank i are start[i]..start[i + 1], `paid` is `amount` to begin with and `fell` zero. All banks of
    a round are judged by what the round before left, so no order of banks plays a part. The work is counted in debts
    gone through; it is negative if `work_max` was reached first, and then `paid` isn't an answer.
    """
    count = len(start) - 1
    owed = ints(count)
    received = ints(count)
    pays = ints(count)
    marked = ints(count)
    active = ints(count)
    falling = ints(count)
    longest = 0
    for bank in range(count):
        for debt in range(start[bank], start[bank + 1]):
            owed[bank] += amount[debt]
            received[creditor[debt]] += amount[debt]
        pays[bank] = owed[bank]
        active[bank] = bank
        if start[bank + 1] - start[bank] > longest:
            longest = start[bank + 1] - start[bank]
    heap = ints(longest)
    active_count = count
    turn = 0
    work = 0
    while active_count > 0:
        turn += 1
        falling_count = 0
        for at in range(active_count):
            bank = active[at]
            marked[bank] = 0
            if cash[bank] + received[bank] < pays[bank]:
                pays[bank] = cash[bank] + received[bank]
                falling[falling_count] = bank
                falling_count += 1
                if failing_round[bank] == 0:
                    failing_round[bank] = turn
        active_count = 0
        for at in range(falling_count):
            bank = falling[at]
            first = start[bank]
            end = start[bank + 1]
            work += end - first
            if work > work_max:
                return -work
            for debt in range(first, end):
                received[creditor[debt]] -= paid[debt]
            base = 2
            while base <= room // owed[bank] // 4:
                base *= 2
            share(pays[bank], owed[bank], first, end, amount, paid, heap, base)
            for debt in range(first, end):
                payee = creditor[debt]
                received[payee] += paid[debt]
                if marked[payee] == 0:
                    marked[payee] = 1
                    active[active_count] = payee
                    active_count += 1
    return work
