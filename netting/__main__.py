"""`python -m netting`: compile the kernels once, so that nobody waits for it later.

Small instances of every kind are worked on; numba keeps what it compiled (`netting.kernels.compile`).
"""

from __future__ import annotations

from netting.kernels.compile import is_complete, load, mark_complete


def main() -> None:
    """Compile every kernel that isn't yet, or is out of date."""
    if not is_complete():
        _use_every_kernel()
        mark_complete()


def _use_every_kernel() -> None:
    import numpy as np

    from netting import flow, zero_sum
    from netting.batch import Batch
    from netting.figures import bilateral, multilateral
    from netting.gridlock import resolve
    from netting.liquidity.branch import Branching
    from netting.liquidity.instance import instance_of
    from netting.loss_allocation import clearing_vector
    from netting.queue import Limits, Payment, canonical_queue

    payments = [Payment(f"T{n}", f"B{n % 7}", f"B{(n * 3 + 1) % 11 + 7}", n * 7919 % 997 + 1) for n in range(200)]
    payments += [Payment(f"U{n}", f"B{n % 11 + 7}", f"B{n % 7}", n * 6007 % 991 + 1) for n in range(200)]
    limits = Limits(default_cap=300)
    resolve(payments, limits, work=1)
    search = Branching(instance_of(canonical_queue(payments, limits), limits))
    for _ in range(3):
        search.step()
    amounts = np.arange(1, 4, dtype=np.int64)
    flow.solve([0, 1, 2], [1, 2, 0], [1, 2, 3], None, [0, 0, 0], compiled=True)
    for kind in (np.int16, np.int32):
        banks = np.array([0, 1, 2], kind)
        batch = Batch(("EUR",), ("A", "B", "C"), np.zeros(3, np.int16), banks, np.roll(banks, 1), amounts)
        multilateral(batch)
        bilateral(batch)
    for name in ("netting.kernels.zero_sum", "netting.kernels.clearing_vector"):
        load(name, compiled=True)
    zero_sum.groups([-11, -23, -41, -3, -7, -90, 5, 13, 16, 2, 50, 89])
    debts = 20_000
    clearing_vector.clear_edges(range(0, debts + 1, debts // 2), [1, 0] * (debts // 2), [1] * debts, [0, 0])


if __name__ == "__main__":
    main()
