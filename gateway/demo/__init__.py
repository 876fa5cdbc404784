"""The demonstration: a federation of separate processes on this machine, and a business day to run through it."""
