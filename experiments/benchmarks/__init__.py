"""What fedfuse costs: ``python -m experiments.benchmarks``, or ``make bench``.

Each module beside this one measures one thing with one function, ``measure(args)``, that returns
rows (see :mod:`experiments.benchmarks.rows`). Both sides of every ratio run in turns in one
process or one call, and the medians are compared. Nothing here is a test: figures depend on the
machine and on who else uses it.
"""
