"""`python -m participants.reconciliation`: compile the loops once, so that nobody waits for it later."""

from __future__ import annotations


def main() -> None:
    """Use every loop on a few ids; numba keeps what it compiled (`netting.kernels.compile`)."""
    import numpy as np

    from participants.reconciliation.difference import Comparison
    from participants.reconciliation.sets import RECORD_BYTES, SECRET_BYTES, IdSet, records_of, symbol_bytes

    rows = records_of(bytes([n]) * RECORD_BYTES for n in range(3))
    ours, theirs = IdSet(bytes(SECRET_BYTES), rows[:2]), IdSet(bytes(SECRET_BYTES), np.ascontiguousarray(rows[1:]))
    comparison = Comparison(ours, theirs.summary)
    while needed := comparison.next():
        comparison.take(symbol_bytes(theirs.symbols(*needed)))


if __name__ == "__main__":
    main()
