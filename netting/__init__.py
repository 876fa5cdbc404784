"""The mathematics of a clearing cycle: pure functions of integers, without I/O, clock, randomness or framework.

`model` says what an obligation is, `multilateral` nets obligations, `gridlock` chooses what settles within all limits.
docs/concepts/netting.md explains every algorithm, docs/architecture.md lists the modules.
"""
