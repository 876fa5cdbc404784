"""What two banks show each other of what the coordinator showed them of a result."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.crypto.dsse import Envelope
from compliance.cycle.commitment import ProvenLeaf
from compliance.statements import CycleId
from gateway.federation.messages.base import Request

PAIR_LEAVES_MAX = 64
"""Of one pair: a line for each currency that any scheme has."""


class SharedResult(Request, frozen=True, kw_only=True):
    """`POST /federation/results`: the signed commitment that the caller was shown, and its lines about the pair."""

    cycle: CycleId
    commitment: Envelope
    leaves: Annotated[tuple[ProvenLeaf, ...], Meta(max_length=PAIR_LEAVES_MAX)] = ()
