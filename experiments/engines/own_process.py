"""Imported before all else by processes that are started: of an engine, and runs side by side."""

from experiments.terminal.garbage import collect_rarely

collect_rarely()
