"""Every part of a configuration, built once and looked at before any run begins."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from experiments.assembly import capabilities
from experiments.assembly.parts import build_probes
from experiments.assembly.privacy import build_mechanism
from experiments.config.contracts import look
from experiments.config.instantiate import instantiate
from experiments.config.plain import Settings, settings
from experiments.config.probe_options import GROUP, configured


def check_parts(cfg: DictConfig) -> None:
    """Build every part once, and ask what goes with what, before any run of a sweep begins."""
    values, parts = settings(cfg), dict[str, Any]()
    for key, node in values.items():
        if isinstance(node, Settings) and "_target_" in node:
            private = key == "privacy"
            parts[key] = build_mechanism(node) if private else instantiate(node, key)
            look(key, parts[key], node._target_)
    for probe, node in zip(build_probes(values), configured(values), strict=True):
        look(GROUP, probe, node["_target_"])
    capabilities.check(values, parts=parts)
