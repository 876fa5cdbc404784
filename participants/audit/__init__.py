"""Proving the ledger from its journal."""
