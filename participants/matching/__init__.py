"""Two tables of payments compared: rows that belong together, and breaks, by rules that are data."""
