"""Whether the ledger still holds what this bank has signed: one restored to a backup of before doesn't."""
