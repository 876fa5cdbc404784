"""What another bank may answer that can't be."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Why what a bank answers shows no difference, in order of precedence."""

    SHARE_REFUSED = "share_refused"
    """Its half of a secret isn't signed by it, or answers another half."""
    SYMBOLS_MALFORMED = "symbols_malformed"
    """Not as many as were asked for."""
    SYMBOLS_CONTRADICT = "symbols_contradict"
    """An id comes out of them twice: no set has such symbols."""
    TOO_MANY_DIFFERENCES = "too_many_differences"
    """More than symbols are sent for."""
    DIGESTS_CONTRADICT = "digests_contradict"
    """The parts of a subtree don't give the digest that was said of it."""
    ROOT_DIFFERS = "root_differs"
    """The set that they lead to hasn't the count and root that the bank named."""


class ComparisonFault(Exception):  # noqa: N818 - the fault is the other bank's
    """What the other bank answers can't be. `fault` is stable; the message says what."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(f"{fault}: {message}")
        self.fault = fault
