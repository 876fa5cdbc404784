"""The clearing house: registry, tokens, cycles, checks, settlement."""
