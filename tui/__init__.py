"""The operator console. Speaks to the coordinator's HTTP API only."""
