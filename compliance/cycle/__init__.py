"""The rules of a cycle, each once: pure functions that coordinator, banks, verifier and console share."""
