"""Who watches a run besides its folder and the terminal."""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.config.instantiate import instantiate
from server.reporters.protocol import Reporter


def build_watchers(cfg: DictConfig) -> list[Reporter]:
    """Return the reporter that the configuration names, if it names one."""
    reporter: Reporter | None = instantiate(cfg.reporter, "reporter")
    return [] if reporter is None else [reporter]
