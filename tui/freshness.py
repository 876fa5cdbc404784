"""How fresh the screen is: when the coordinator last answered, and whether the operator froze it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tui.text import Tone, age

STALE_AFTER_S = 15.0


@dataclass(frozen=True)
class Freshness:
    """What the console knows about its own knowledge. Times are of one monotonic clock, in seconds."""

    answered_at: float | None = None
    failure: str | None = None
    frozen: bool = False
    rounds_waiting: int = 0

    def answered(self, now: float) -> Freshness:
        """A round was read: fresh, or one more waiting behind the freeze."""
        rounds_waiting = self.rounds_waiting + 1 if self.frozen else 0
        return replace(self, answered_at=now, failure=None, rounds_waiting=rounds_waiting)

    def failed(self, failure: str) -> Freshness:
        """The coordinator didn't answer, or with a problem."""
        return replace(self, failure=failure)

    def toggled(self) -> Freshness:
        """Frozen, or no longer so."""
        return replace(self, frozen=not self.frozen, rounds_waiting=0)

    def is_stale(self, now: float) -> bool:
        """Tell whether what is on screen may no longer be true."""
        return self.failure is not None or (self.answered_at is not None and now - self.answered_at > STALE_AFTER_S)

    def words(self, now: float) -> tuple[str, Tone]:
        """Say how old the screen is."""
        screen_age = None if self.answered_at is None else age(now - self.answered_at)
        if self.is_stale(now):
            return " · ".join(part for part in (f"STALE {screen_age or ''}".strip(), self.failure) if part), Tone.BAD
        if self.frozen:
            return f"FROZEN · {self.rounds_waiting} waiting · space resumes", Tone.WARN
        return ("connecting", Tone.DIM) if screen_age is None else (f"updated {screen_age} ago", Tone.GOOD)
