"""The settlement agent: a simulated RTGS with its own ledger and its own finality, spoken to in ISO 20022."""
