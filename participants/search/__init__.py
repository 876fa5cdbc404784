"""Payments found and explained: by what they say, who they are of and how they stand; and why one isn't settled yet."""
