"""A bank's ledger: its journal, the books that follow from it, and the one writer of both."""

DATABASE = "participant"
"""The database of a bank's node, where the server is embedded."""
MIGRATIONS = "participants.ledger"
"""The package whose `migrations` make its tables."""
