"""Sending a bank's events where its own systems want them: in order, signed, until each is taken."""
