"""fedfuse from Python: simulate, sweep, rounds, what runs left (docs/guides/notebook.md)."""

from experiments.api.round import Round
from experiments.api.rounds import Rounds, rounds
from experiments.api.run import Run
from experiments.api.simulate import load_config, simulate, sweep
from experiments.api.sweeps import Sweep, load_run

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
