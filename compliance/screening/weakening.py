"""When a new version of a sanctions list weakens screening so much that two people must want it."""

from __future__ import annotations

from compliance.screening.lists import SanctionsList

LOST_PER_CENT_MAX = 5
"""Of the names in force, that one person's imports may take out. In a week a publisher takes out one in a hundred."""


def names_lost(before: SanctionsList, after: SanctionsList) -> int:
    """Return how many names of a list its next version doesn't have, aliases included."""
    return len(_names(before) - _names(after))


def weakens(before: SanctionsList, lost: int) -> bool:
    """Tell whether so many names lost need two people.

    `lost` counts from the last import that two people made, so that many small steps are one large one.
    """
    return lost * 100 > len(_names(before)) * LOST_PER_CENT_MAX


def _names(sanctions: SanctionsList) -> set[str]:
    return {name for entry in sanctions.entries for name in entry.names}
