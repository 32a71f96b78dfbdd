"""The ``fedfuse-map`` command: where fusion beats local training, and where it does not.

The grid *samples per client x Dirichlet alpha x methods x seeds*, as resumable cells run side by
side, one table of results, and the picture of the gain.
"""
