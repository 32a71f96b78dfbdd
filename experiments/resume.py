"""``fedfuse resume=FOLDER``: go on with a run, or a sweep, that was broken off."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from experiments import compose
from experiments.trusted import check_targets, read_config, targets
from fedfuse.errors import ConfigError
from server.checkpoint import Checkpoints

KEY = "resume"
CHECKPOINTS = "checkpoint"
"""The folder of a run's checkpoints, within the run folder."""

FREE = frozenset({"engine", "checkpoint", "server", "reporter"})
"""Top-level keys that results do not depend on."""


def identity(cfg: DictConfig, data_fingerprint: str) -> str:
    """Return a hash of everything that results depend on."""
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    kept = {name: value for name, value in values.items() if name not in FREE}
    for name in ("device", "state"):
        kept["client"].pop(name)
    text = json.dumps([data_fingerprint, kept], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def checkpoints(cfg: DictConfig, folder: Path, data_fingerprint: str) -> Checkpoints | None:
    """Return where a run is saved; None if it is not."""
    if cfg.checkpoint.every == 0:
        return None
    return Checkpoints(
        (folder / CHECKPOINTS).resolve(),
        every=cfg.checkpoint.every,
        keep=cfg.checkpoint.keep,
        identity=identity(cfg, data_fingerprint),
    )


def configuration(folder: Path, lines: list[str], hydra: Hydra) -> DictConfig:
    """Return the configuration that a run was begun with, on the engine that is asked for now.

    Args:
        folder: The run folder.
        lines: The command line: ``resume=FOLDER``, and where to run it.
        hydra: Composes the engine's options.

    Raises:
        ConfigError: If this is no run that can go on, or the command line changes what it is.
    """
    status = _status(folder)
    if status == "finished":
        raise ConfigError(f"the run in '{folder}' has finished; there is nothing to resume.")
    others = [line for line in lines if not line.startswith(f"{KEY}=")]
    cfg = OmegaConf.create(trusted_config(folder, others))
    others = [line for line in others if not is_target(line)]
    for line in others:
        key = line.lstrip("+~").split("=", 1)[0]
        if key.split(".")[0] not in ("engine", "checkpoint") and key != "client.state":
            raise ConfigError(
                f"a resumed run keeps its configuration, so '{line}' cannot be set",
                allowed="engine, engine.*, checkpoint.* and client.state",
                next_step="Start a new run for another configuration.",
            )
    _, configs = compose.check(hydra, others, multirun=False)
    now = configs[0]
    missing = sorted({str(key) for key in now} - {"hydra"} - {str(key) for key in cfg})
    if not isinstance(cfg, DictConfig) or missing:
        raise ConfigError(
            f"the run in '{folder}' was begun with another version of fedfuse",
            got=f"a configuration without {', '.join(missing)}",
            next_step="Resume it with that version (run.json names it).",
        )
    keys = {line.lstrip("+~").split("=", 1)[0] for line in others}
    if any(key.split(".")[0] == "engine" for key in keys):
        cfg.engine = now.engine
    for key in keys:
        if key.split(".")[0] != "engine":
            OmegaConf.update(cfg, key, OmegaConf.select(now, key))
    if cfg.checkpoint.every == 0 and not (folder / CHECKPOINTS).is_dir():
        raise ConfigError(
            f"the run in '{folder}' wrote no checkpoints (checkpoint.every=0).",
            next_step="Start it anew.",
        )
    return cfg


def trusted_config(folder: Path, lines: list[str]) -> dict[str, Any]:
    """Return the configuration in a run folder, whoever wrote it.

    Raises:
        ConfigError: If it cannot be read, or names code that neither fedfuse ships nor the
            command line names again (``GROUP._target_=module.function``).
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise ConfigError(
            f"'{folder}' was broken off before its configuration was written.",
            next_step="Start it anew in another folder.",
        )
    config = read_config(path)
    named = dict(line.lstrip("+").split("=", 1) for line in lines if is_target(line))
    here = {f"{where}._target_": target for where, target in targets(config)}
    for key, target in named.items():
        if here.get(key) != target:
            raise ConfigError(
                f"a resumed run keeps its configuration, so '{key}={target}' cannot be set",
                got=f"{key}={here.get(key)} in {path}",
            )
    check_targets(config, path, own=named.values())
    return config


def is_target(line: str) -> bool:
    """Tell whether an override names code."""
    return line.split("=", 1)[0].endswith("._target_")


def _status(folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigError(f"there is no run folder '{folder}'.")
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return str(record["status"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"'{folder}' is not the folder of a run that can go on.",
            next_step="Name the folder that the run printed; it holds a run.json.",
        ) from error
