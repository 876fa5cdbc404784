"""Who belongs to the scheme, with which keys, and how one joins it."""
