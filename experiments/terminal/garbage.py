"""How often a process of our own looks for garbage."""

from __future__ import annotations

import atexit
import gc


def collect_rarely() -> None:
    """Look for garbage in cycles rarely, and not at all as the process ends.

    Importing and composing make half a million objects and drop hardly any, so that Python's own
    rate (700 objects) looks through all of them again and again, and a last time at the end: a
    quarter of the processor time of a run of two rounds (5.4 s, 4.1 s without). Only for processes
    that are ours; whoever calls :func:`experiments.simulate` keeps what they have.
    """
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)  # the first to be registered is the last to be called
