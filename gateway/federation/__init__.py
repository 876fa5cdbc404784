"""The scheme kit that the operator publishes and every member runs."""
