"""Commands that work on any member's machine."""
