"""fedfuse from Python: simulate, sweep, rounds, what runs left (docs/guides/notebook.md)."""

from experiments.api.rounds import Round, Rounds, rounds
from experiments.api.run import Run, Sweep, load_run
from experiments.api.simulate import load_config, simulate, sweep

__all__ = [
    "Round",
    "Rounds",
    "Run",
    "Sweep",
    "load_config",
    "load_run",
    "rounds",
    "simulate",
    "sweep",
]
