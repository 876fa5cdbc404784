"""The mathematics of a clearing cycle: pure functions of integers, without I/O, clock, randomness or framework.

`model` says what an obligation is, `multilateral` nets obligations, `caps` keeps net debits within their caps.
"""
