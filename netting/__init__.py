"""The mathematics of a clearing cycle: pure functions of integers, without I/O, clock, randomness or framework.

What stands here answers a question: `multilateral` (who owes what in the end), `gridlock` (what settles now, proven by
a `certificate`), `clearing` (what cancels out), `plan` (who pays whom), `default` (who bears a loss), `advice` (how
many cycles a day); or is what the questions are asked about: `model`, `batch`, `queue`. How gridlock searches is in
`liquidity`, how a loss is shared in `loss_allocation`; the loops that are compiled are in `kernels`.

docs/concepts/netting.md explains every algorithm, docs/reference/netting-modules.md lists the modules.
"""
