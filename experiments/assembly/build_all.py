"""Every part of a configuration, built once and looked at before any run begins."""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.assembly.privacy import build_mechanism
from experiments.config.contracts import look
from experiments.config.instantiate import instantiate


def check_parts(cfg: DictConfig) -> None:
    """Build every part once, so that a wrong target or parameter shows before any run."""
    for key in cfg:
        if key != "hydra" and isinstance(cfg[key], DictConfig) and "_target_" in cfg[key]:
            private = key == "privacy"
            part = build_mechanism(cfg[key]) if private else instantiate(cfg[key], str(key))
            look(str(key), part, cfg[key]._target_)
