"""Access tokens for members, operators and auditors."""
