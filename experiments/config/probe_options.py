"""Probes by name: the options of the group ``probe``, of which a run may have several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.config.folder import CONF
from experiments.config.hints import unknown_option
from experiments.config.overrides import options_of
from experiments.config.plain import Settings

GROUP = "probe"
KEY = "evaluation.probes"


def spell_out(cfg: DictConfig, loader: ConfigLoader) -> None:
    """Write each probe that is named into a configuration as the option has it, the user's own too.

    Whatever is no list of probes stays, to be refused with all other wrong values.
    """
    probes = OmegaConf.select(cfg, KEY)
    if not isinstance(probes, str | Sequence):
        return
    read = loader.repository.load_config  # type: ignore[attr-defined]
    with open_dict(cfg):
        cfg.evaluation.probes = in_full(
            probes, options_of(GROUP, loader), lambda name: _plain(read(f"{GROUP}/{name}").config)
        )


def in_full(
    probes: Any, names: Iterable[str], read: Callable[[str], Mapping[str, Any]]
) -> list[Any]:
    """Return probes as mappings with a ``_target_``, whichever way they are given.

    Args:
        probes: A name, or a list of names, of names with what is to differ from the option
            (``{fgsm: {epsilon: 0.1}}``), and of mappings.
        names: The options that there are.
        read: A name to the content of the option's file.

    Raises:
        ConfigError: For the first name that is no option.
    """
    known, found = list(names), list[Any]()
    for item in [probes] if isinstance(probes, str) else probes:
        name: Any = item
        other: Any = {}
        if isinstance(item, Mapping) and len(item) == 1 and "_target_" not in item:
            ((name, other),) = _plain(item).items()
        if isinstance(name, str) and isinstance(other, Mapping):
            if name not in known:
                raise unknown_option(GROUP, name, known)
            found.append({**read(name), **other})
        else:
            found.append(_plain(item) if isinstance(item, Mapping) else item)
    return [p for p in found if not isinstance(p, Mapping) or p.get("_target_", "") is not None]


def configured(cfg: DictConfig | Settings) -> list[Mapping[str, Any]]:
    """Return the probes of a configuration that may still hold names of fedfuse's own options."""
    files = {file.stem: file for file in (CONF / GROUP).glob("*.yaml")}
    return in_full(
        cfg.evaluation.probes,
        files,
        lambda name: dict(yaml.safe_load(files[name].read_text(encoding="utf-8"))),
    )


def _plain(node: Any) -> Mapping[str, Any]:
    found: Any = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    return dict(found)
