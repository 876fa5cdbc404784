"""Canonical bytes, keys, signed envelopes and Merkle trees."""
