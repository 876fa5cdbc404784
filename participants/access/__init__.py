"""The bank's own clients: people and systems that sign in at its token endpoint by a key of their own."""
