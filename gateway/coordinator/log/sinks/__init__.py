"""Where the coordinator's events go as they are logged."""
