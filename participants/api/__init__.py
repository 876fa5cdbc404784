"""A bank's HTTP API."""
