"""One configuration from the words of a command line, for commands that train nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments.config import compose, overrides
from fedfuse.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Composed:
    """A configuration and what an experiment would sweep over.

    Args:
        cfg: The configuration with its ``hydra`` node.
        plain: That of no words at all.
        axes: Keys that the experiment sweeps over and the words do not give, with their values.
    """

    cfg: DictConfig
    plain: DictConfig
    axes: dict[str, str]


def composed(words: Sequence[str], config_dir: Path | None, command: str) -> Composed:
    """Return the configuration that the words come to.

    Args:
        words: As for a run.
        config_dir: The user's own configuration folder.
        command: Who asks, for messages.

    Raises:
        ConfigError: As for a run, or if a word has several values.
    """
    hydra = compose.open_hydra(config_dir)
    parsed = overrides.parse(words, hydra.config_loader, multirun=True)
    for item in parsed:
        if item.is_sweep_override():
            raise ConfigError(
                f"'{item.input_line}' names several values, and {command} is about one run.",
                next_step="Ask for one after the other.",
            )
    _, (cfg,) = compose.check(hydra, list(words), multirun=False)
    _, (plain,) = compose.check(hydra, [], multirun=False)
    swept = dict(cfg.hydra.sweeper.params or {})
    given = {overrides.name(item) for item in parsed}
    return Composed(cfg, plain, {str(k): str(v) for k, v in swept.items() if k not in given})
