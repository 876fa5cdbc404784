"""The certificate of an upper bound, as a document: what proves how much at most could settle in a currency.

The search for what settles is a tree. At its root nothing is decided; the two nodes below another decide one pair of
banks: it settles, or it doesn't. A leaf names a multiplier for each limit, which prove that no selection below it is
worth more than the bound. Every selection is below some leaf, so that is a bound for all. The arithmetic, which checks
it without searching, is in `netting.liquidity.certificate`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from compliance.statements import Bic, Count, CurrencyCode, Document, TotalAmount


class CertificateNode(Document, frozen=True, kw_only=True):
    """A node of the tree: below `parent` (-1 for the root) the `pair` settles or doesn't.

    `bound_minor` is what a selection below is worth at most, None where nothing fits. `multipliers` are those of the
    limits, in units of 1/scale: of the net debits in the order of the participants, then of the bilateral limits.
    """

    parent: Annotated[int, Meta(ge=-1, le=2**53 - 1)]
    pair: tuple[Bic, Bic] | None = None
    settles: bool = False
    bound_minor: TotalAmount | None = None
    multipliers: tuple[Count, ...] = ()


class Certificate(Document, frozen=True, kw_only=True):
    """What proves that no selection of a currency's pairs within the limits is worth more than the bound.

    `proof`: everything that matched settles, and more there isn't; or the pairs are so few that every selection was
    looked at, which a reader checks by doing it again; or a tree.
    """

    currency: CurrencyCode
    upper_bound_minor: TotalAmount
    proof: Literal["everything_settles", "enumerated", "tree"]
    scale: Count = 1
    nodes: tuple[CertificateNode, ...] = ()
