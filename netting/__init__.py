"""The mathematics of a cycle: pure functions of integers, no I/O, clock, randomness or framework."""
