"""A refusal: the input can't be worked with, for a stable reason and at a stated place."""

from __future__ import annotations

from enum import StrEnum


class RefusedError(ValueError):
    """`reason` is one of the module's reasons, `place` says which item and field, `detail` says it in words.

    The reasons of a module are in order of precedence, and every order of the same input gives the same refusal.
    """

    def __init__(self, reason: StrEnum, place: str, detail: str) -> None:
        super().__init__(f"{reason}: {place}: {detail}")
        self.reason = reason
        self.place = place
        self.detail = detail
