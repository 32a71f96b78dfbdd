"""Federated knowledge fusion: simulate it, and the science of it (tensors in, tensors out).

>>> import fedfuse
>>> "simulate" in dir(fedfuse)
True

``import fedfuse`` imports nothing else, so that it costs nothing. The names below are looked up
when they are used; everything else lives in its module (``fedfuse.partition``,
``fedfuse.testing``, ...). The functions that simulate need fedfuse's whole installation, the
science torch and numpy only.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api.round import Round
    from experiments.api.rounds import Rounds, rounds
    from experiments.api.run import Run
    from experiments.api.simulate import load_config, simulate, sweep
    from experiments.api.sweeps import Sweep, load_run
    from fedfuse.errors import ConfigError, FedfuseError
    from fedfuse.fusion.pipeline import Pipeline
    from fedfuse.fusion.scorers import KnFu
    from fedfuse.types import KnowledgeBank, Teachers

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "FedfuseError",
    "KnFu",
    "KnowledgeBank",
    "Pipeline",
    "Round",
    "Rounds",
    "Run",
    "Sweep",
    "Teachers",
    "load_config",
    "load_run",
    "rounds",
    "simulate",
    "sweep",
]

_PLACES = {
    "experiments.api.round": ("Round",),
    "experiments.api.rounds": ("Rounds", "rounds"),
    "experiments.api.run": ("Run",),
    "experiments.api.simulate": ("load_config", "simulate", "sweep"),
    "experiments.api.sweeps": ("Sweep", "load_run"),
    "fedfuse.errors": ("ConfigError", "FedfuseError"),
    "fedfuse.fusion.pipeline": ("Pipeline",),
    "fedfuse.fusion.scorers": ("KnFu",),
    "fedfuse.types": ("KnowledgeBank", "Teachers"),
}
_OWN = frozenset({"clients", "experiments", "fedfuse", "numpy", "server", "torch"})
_PLACE = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module 'fedfuse' has no attribute '{name}'")
    try:
        value = getattr(importlib.import_module(_PLACE[name]), name)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in _OWN:
            raise
        raise ImportError(
            f"fedfuse.{name} needs all that fedfuse installs, and '{error.name}' is missing. "
            "Install fedfuse with pip in this environment."
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
