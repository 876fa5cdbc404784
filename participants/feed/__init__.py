"""What the bank's own systems hear of its ledger: the journal in a public form, as an ordered feed without a gap."""
