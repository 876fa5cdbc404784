"""How `netting.gridlock` finds what settles: a queue as vectors, the rules that choose from it, and the search."""
