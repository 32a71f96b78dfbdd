"""The GPU kit: ``python -m experiments.benchmarks.gpu --out DIR``.

What can only be found out on a GPU, in the order of its worth, within minutes: whether the numbers
are right there, how many clients it trains in a second, how large a federation it fuses. Needs
torch, numpy and pytest, nothing else. Each section is a process of its own with a time limit of its
own: one that fails, hangs or runs out of memory takes nothing from the others, and what a section
has found is written down as it is found.
"""
