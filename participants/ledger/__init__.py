"""The double-entry, event-sourced ledger of a bank."""
