"""When a new version of a sanctions list weakens screening so much that two people must want it."""

from __future__ import annotations

from compliance.screening.lists import SanctionsList

LOST_PER_CENT_MAX = 5
"""Of the names there were, that one person's imports may take out. In a week a publisher takes out one in a hundred."""


def names_lost(before: SanctionsList, after: SanctionsList) -> int:
    """Return how many names of a list its next version doesn't have, aliases included."""
    return len(_names(before) - _names(after))


def weakens(agreed: SanctionsList, before: SanctionsList, lost: int) -> bool:
    """Tell whether so many names lost need two people.

    `lost` counts from `agreed`, the last import that two people made or else the first one, so that many small steps
    are one large one. Of fewer names than that had: whoever adds names of his own doesn't gain others to take out.
    """
    return lost * 100 > min(len(_names(agreed)), len(_names(before))) * LOST_PER_CENT_MAX


def _names(sanctions: SanctionsList) -> set[str]:
    return {name for entry in sanctions.entries for name in entry.names}
