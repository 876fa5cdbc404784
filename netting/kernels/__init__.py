"""Loops over flat vectors of integers, compiled or interpreted."""
