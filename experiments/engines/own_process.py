"""Imported before all else by the processes that an engine starts: Ray's workers, Flower's apps."""

from experiments.terminal.garbage import collect_rarely

collect_rarely()
