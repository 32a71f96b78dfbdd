"""What a pack cannot be made of, found out before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from fedfuse.errors import ConfigError

KEY = "engine.pack"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
ALIKE = ("client.threads", "client.device")
"""What runs that compute together have in common."""


def packed(configs: Sequence[DictConfig], *, many: bool) -> bool:
    """Tell whether runs are to train together.

    Args:
        configs: One configuration per run.
        many: Whether this is a sweep.

    Raises:
        ConfigError: If they cannot.
    """
    asked = {_asked(cfg) for cfg in configs}
    if asked == {False}:
        return False
    if not many:
        raise ConfigError(
            f"{KEY}=true trains the runs of a sweep together, and this is one run",
            next_step=f"Add -m and what to sweep (fedfuse -m {KEY}=true seed=0,1,2), or leave "
            "it out.",
        )
    if len(asked) > 1:
        raise ConfigError(
            f"{KEY} differs between the runs of the sweep",
            allowed="all runs together, or none",
            next_step="Start two sweeps.",
        )
    for key in ALIKE:
        values = sorted({str(OmegaConf.select(cfg, key)) for cfg in configs})
        if len(values) > 1:
            raise ConfigError(
                f"{KEY}=true computes all runs in one place, so they have one {key}",
                got=f"{key}={','.join(values)}",
                next_step=f"Set one {key}, or leave out {KEY}.",
            )
    launcher = configs[0].hydra.launcher._target_ if "hydra" in configs[0] else BASIC
    if launcher != BASIC:
        raise ConfigError(
            f"{KEY}=true runs everything in this process",
            got=f"hydra/launcher={launcher}",
            next_step=f"Leave out hydra/launcher, or {KEY}.",
        )
    if any(cfg.trainer == "loop" for cfg in configs):
        raise ConfigError(
            f"{KEY}=true trains many clients at once",
            got="trainer=loop, which trains one after the other",
            next_step=f"Set trainer=batched (or auto), or leave out {KEY}.",
        )
    return True


def _asked(cfg: DictConfig) -> bool:
    value = cfg.engine.get("pack", False)
    if not isinstance(value, bool):
        raise ConfigError(f"{KEY} is not valid", got=repr(value), allowed="true or false")
    if value and cfg.engine.name != "serial":
        raise ConfigError(
            f"{KEY}=true is one process with one device",
            got=f"engine={cfg.engine.name}",
            next_step=f"Set engine=serial, or leave out {KEY}.",
        )
    return value
