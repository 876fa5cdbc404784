"""The coordinator's event log and the feed that is read from it."""
