"""Where an institution's private keys are, and how to sign with them without holding up anybody."""
