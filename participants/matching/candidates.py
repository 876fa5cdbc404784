"""Open rows that a pass without references may put together: which have a reference, and what they must share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from participants.matching.pairing import Matching, Rows
from participants.matching.references import Integers, numbered
from participants.matching.rules import References


def allowed(matching: Matching, references: References) -> Iterator[tuple[Integers, Integers]]:
    """Yield open rows of A and of B that may be put together, as often as there are ways for them to.

    Two references that aren't equal say that two rows are different payments; so unless the rules say otherwise rows
    without any are taken first, and then those of one side without and of the other with one.
    """
    if references is References.ANY:
        yield matching.a.open, matching.b.open
        return
    for a_has, b_has in ((False, False), (True, False), (False, True)):
        chosen_a, chosen_b = _having(matching.a, a_has), _having(matching.b, b_has)
        if len(chosen_a) and len(chosen_b):
            yield chosen_a, chosen_b


def _having(rows: Rows, has: bool) -> Integers:
    known = rows.column("reference").is_not_null().to_numpy()
    chosen: Integers = rows.open[known if has else ~known]
    return chosen


def shared_keys(matching: Matching, a: Integers, b: Integers) -> tuple[Integers, Integers]:
    """Return a number for what rows must share: the currency and, where both tables have it, the account."""
    keys_a, keys_b = matching.a.currency[a].astype(np.int64), matching.b.currency[b].astype(np.int64)
    if matching.a.table.has("account") and matching.b.table.has("account"):
        # A row without an account shares that with others without.
        accounts_a, accounts_b, _ = numbered(matching.a.column("account", a), matching.b.column("account", b))
        keys_a, keys_b = keys_a + (accounts_a << 16), keys_b + (accounts_b << 16)
    return keys_a, keys_b


def in_order(rows: Rows, chosen: Integers) -> Integers:
    """Return rows in an order of what they say, which is the file's only where nothing tells two apart."""
    names = ["currency", "amount", "value_date", "reference", "text", "account", "cycle", "status"]
    told_apart = [name for name in names if rows.table.has(name)]
    frame = pl.DataFrame({"row": chosen}).with_columns(rows.column(name, chosen).alias(name) for name in told_apart)
    return frame.sort(*told_apart, "row")["row"].to_numpy()
