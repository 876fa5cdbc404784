"""Paying from a file."""
