"""Statements that others sent: of a correspondent on a bank's account with it, or of a core system on its own."""
