"""``fedfuse resume=FOLDER``: go on with a run that was broken off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from experiments.assembly.build_all import check_parts
from experiments.assembly.privacy import SIMULATED
from experiments.config import compose
from experiments.config import overrides as typed
from experiments.config.damaged import RESTORE
from experiments.config.paths import absolute
from experiments.config.schema import ExperimentConfig, validate
from experiments.config.texts import check_texts
from experiments.config.unread_keys import check_keys_are_read, engine_options
from experiments.config.untrusted import MALFORMED, check_reach, check_targets, read_config
from experiments.runs.lifecycle import SHARED, Run
from experiments.runs.resumable_keys import May, declared, identity, legacy_identity
from experiments.runs.revisions import check_meaning
from fedfuse.errors import ConfigError
from server.records.checkpoint import Checkpoints
from server.reporters.folder import CHECKPOINTS, RunFolder

KEY = "resume"
ALLOWED = (
    "engine, engine.*, checkpoint.*, models, reporter, reporter.*, client.state, "
    "server.fail_fast, and where the same data lies now (dataset.path, ...)"
)


def checkpoints(cfg: DictConfig, folder: Path, data_fingerprint: str) -> Checkpoints | None:
    """Return where a run is saved; None if it is not."""
    if cfg.checkpoint.every == 0:
        return None
    return Checkpoints(
        folder.resolve() / CHECKPOINTS,
        every=cfg.checkpoint.every,
        keep=cfg.checkpoint.keep,
        identity=identity(cfg, data_fingerprint),
        legacy=legacy_identity(cfg, data_fingerprint),
    )


def reopen_run(path: Path, lines: list[str], hydra: Hydra, number: int = 0) -> Run:
    """Open the folder of a run that was broken off.

    Args:
        path: The run folder.
        lines: The command line, as for :func:`configuration`.
        hydra: Composes the engine's options.
        number: The run's number in its sweep.

    Raises:
        FedfuseError: If it is no run that can go on; nothing has been written then.
    """
    folder = RunFolder(path)
    record = folder.take()
    try:
        cfg = absolute(configuration(path, record, lines, hydra))
        folder.reopen()
    except BaseException:
        folder.release()
        raise
    shared = path.resolve().parent / SHARED
    here = shared.is_dir() and not shared.is_symlink()
    return Run(cfg, folder, folder.overrides(), shared if here else None, number)


def configuration(
    folder: Path, record: Mapping[str, Any], lines: list[str], hydra: Hydra
) -> DictConfig:
    """Return the configuration that a run was begun with, on the engine that is asked for now.

    Args:
        folder: The run folder, which this process holds.
        record: Its ``run.json``, read since it is held.
        lines: The command line: ``resume=FOLDER``, where to run it, and what of a stranger's
            folder is trusted.
        hydra: Composes the engine's options.

    Raises:
        ConfigError: If this is no run that can go on, the command line changes what it is, or its
            configuration names what is not allowed unasked.
    """
    if record["status"] == "finished":
        raise ConfigError(f"the run in '{folder}' has finished; there is nothing to resume.")
    if not (folder / "config.yaml").exists():
        raise ConfigError(
            f"'{folder}' was broken off before its configuration was written.",
            next_step="Start it anew in another folder.",
        )
    cfg = resumed_config(read_config(folder), folder / "config.yaml", lines, hydra)
    if cfg.checkpoint.every == 0 and not (folder / CHECKPOINTS).is_dir():
        raise ConfigError(
            f"the run in '{folder}' wrote no checkpoints (checkpoint.every=0).",
            next_step="Start it anew.",
        )
    check_meaning(cfg, record, folder)
    if kept := checkpoints(cfg, folder, str(record.get("data_fingerprint", ""))):
        kept.check()
    return cfg


def resumed_config(
    config: Mapping[str, Any], source: Path, lines: Sequence[str], hydra: Hydra
) -> DictConfig:
    """Return a configuration that somebody wrote, with what the command line changes and allows.

    Args:
        config: Its plain values.
        source: The file that they were in, for messages.
        lines: The command line.
        hydra: Composes the engine's options.

    Raises:
        ConfigError: If the command line changes what the run is, or the configuration names what
            is not allowed unasked.
    """
    others = [line for line in lines if not line.startswith(f"{KEY}=")]
    given = typed.parse(others, hydra.config_loader, multirun=False)
    changes = [item for item in given if _at(config, item.key_or_group) != item.value()]
    for item in changes:
        if item.is_delete() or not _may_change(typed.name(item)):
            raise ConfigError(
                f"a resumed run keeps its configuration, so '{item.input_line}' cannot be set",
                allowed=ALLOWED,
                next_step="Start a new run for another configuration.",
            )
    named = {typed.name(item): item for item in given}
    own = [str(item.value()) for key, item in named.items() if key.endswith("._target_")]
    check_targets(config, source, own)
    try:
        changed = _changed(config, changes, hydra)
        check_reach(changed, source, named)
    except MALFORMED as error:
        raise _other_version(source.parent, f"{type(error).__name__}: {error}") from error
    cfg = typed_config(changed, source.parent)
    with open_dict(cfg.privacy):  # an older version drew noise from the run's seed
        cfg.privacy.setdefault("seed", SIMULATED)
    check_parts(cfg)
    return cfg


def _may_change(key: str) -> bool:
    """Tell whether the command line may say something new about a key."""
    return key == "engine" or declared(key) in (May.CHANGE, May.MOVE)


def _at(config: Any, key: str) -> Any:
    """Return the value of a dotted key; an object equal to nothing if there is none."""
    for word in key.split("."):
        if isinstance(config, list) and word.isdigit() and int(word) < len(config):
            config = config[int(word)]
        elif isinstance(config, Mapping) and word in config:
            config = config[word]
        else:
            return object()
    return config


def _changed(config: Mapping[str, Any], changes: Sequence[Override], hydra: Hydra) -> Any:
    """Return a configuration with what the command line changes, all as plain values."""
    result: Any = deepcopy(config)
    keys = {typed.name(item): item for item in changes}
    moved = {key for key in keys if declared(key) is May.MOVE}
    tops = {key.split(".")[0] for key in keys}
    before = dict(result["engine"])
    # Keys that are newer than the run have their defaults.
    result["engine"] = {**engine_options().get(str(before.get("name")), {}), **before}
    if not changes:
        return result
    lines = [str(item.input_line) for key, item in keys.items() if key not in moved]
    if "engine" in tops and "engine" not in keys and before.get("name") in engine_options():
        lines.append(f"engine={before['name']}")
    _, [composed] = compose.check(hydra, lines, multirun=False)
    now: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(composed, ["engine", "reporter", "checkpoint", "client", "server"]),
        resolve=True,
    )
    if "engine" in tops:
        same = now["engine"]["name"] == before.get("name")
        kept = {key: value for key, value in before.items() if f"engine.{key}" not in keys}
        result["engine"] = {**now["engine"], **(kept if same else {})}
    if "reporter" in tops:
        result["reporter"] = now["reporter"]
    for key, item in keys.items():
        if key.split(".")[0] not in ("engine", "reporter"):
            *owner, last = key.split(".")
            value = item.value() if key in moved else _at(now, key)
            _at(result, ".".join(owner))[last] = value
    return result


def typed_config(config: Mapping[str, Any], folder: Path) -> DictConfig:
    """Return plain values as a run's configuration, every key known and of its type.

    Raises:
        ConfigError: If a key is missing, unknown or out of its range.
    """
    missing = sorted(set(ExperimentConfig.__dataclass_fields__) - set(config))
    if missing:
        raise _other_version(folder, f"a configuration without {', '.join(missing)}")
    check_keys_are_read(config)
    check_texts(config)
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), dict(config))
        missing = sorted(OmegaConf.missing_keys(cfg))
    except OmegaConfBaseException as error:
        words = str(error).splitlines()[0]
        what = f"the configuration in '{folder}' is not valid"
        raise ConfigError(what, got=words, next_step=RESTORE) from error
    if missing:
        raise _other_version(folder, f"a configuration without {', '.join(missing)}")
    assert isinstance(cfg, DictConfig)
    validate(cfg)
    return cfg


def _other_version(folder: Path, got: str) -> ConfigError:
    return ConfigError(
        f"the run in '{folder}' was begun with another version of fedfuse",
        got=got,
        next_step="Resume it with that version (run.json names it).",
    )
