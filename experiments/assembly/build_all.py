"""Every part of a configuration, built once and looked at before any run begins."""

from __future__ import annotations

from omegaconf import DictConfig

from experiments.assembly import capabilities
from experiments.assembly.parts import build_probes
from experiments.assembly.privacy import build_mechanism
from experiments.config.contracts import look
from experiments.config.instantiate import instantiate
from experiments.config.probe_options import GROUP, configured


def check_parts(cfg: DictConfig) -> None:
    """Build every part once, and ask what goes with what, before any run of a sweep begins."""
    for key in cfg:
        if key != "hydra" and isinstance(cfg[key], DictConfig) and "_target_" in cfg[key]:
            private = key == "privacy"
            part = build_mechanism(cfg[key]) if private else instantiate(cfg[key], str(key))
            look(str(key), part, cfg[key]._target_)
    for probe, node in zip(build_probes(cfg), configured(cfg), strict=True):
        look(GROUP, probe, node["_target_"])
    capabilities.check(cfg)
