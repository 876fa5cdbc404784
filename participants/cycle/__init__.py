"""A bank's side of a clearing cycle."""
