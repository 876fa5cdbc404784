"""A token endpoint: how clients of a node sign in there by a key of their own."""
