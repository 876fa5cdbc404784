"""Sanctions screening inside one bank: list readers, name matching, and the two-person decision on a hit.

Pure functions of names and list bytes. Names never leave the bank; what does is a `ScreeningStatement` of counts.
"""
