"""A bank's node: its ledger, its payments, its side of a clearing cycle."""
