"""What a command line comes to, compared with the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.cli.composed import composed
from experiments.config.pages import dotted, groups, main_keys, options
from experiments.terminal.columns import aligned, folded

ABSENT = "-"


def changes(words: Sequence[str], config_dir: Path | None, width: int) -> Iterator[str]:
    """Yield the keys that the words change, each with its default, its value and its meaning.

    Args:
        words: As for a run.
        config_dir: The user's own configuration folder.
        width: Columns.

    Raises:
        ConfigError: As for a run.
    """
    asked = composed(words, config_dir, "fedfuse show")
    before, after = flat(asked.plain), flat(asked.cfg)
    told = _meanings(asked.cfg, config_dir)
    rows = [  # keys that go with an option that is not chosen any more are not worth a line
        (key, _shown(before, key), _shown(after, key), told.get(key, ""))
        for key in _in_order([*before, *after])
        if key in after and before.get(key, ABSENT) != after[key]
    ]
    yield from folded(f"fedfuse {' '.join(words)}", width)
    yield ""
    if not rows:
        yield "These are the defaults."
    else:
        yield from aligned([("key", "default", "here", ""), *rows], width)
    if asked.axes:
        yield ""
        yield "sweeps over"
        yield from aligned(
            [(key, values.replace(",", ", ")) for key, values in asked.axes.items()],
            width,
            indent=2,
        )


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as dotted keys, a group as the option that was chosen for it.

    What a chosen option names as ``_target_`` is left out: that is the option. Of ``custom`` it is
    what was chosen.
    """
    choices = {key: name for key, name in cfg.hydra.runtime.choices.items() if key in groups()}
    tree = OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "hydra"])
    plain = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(plain, dict)
    found: dict[str, Any] = {**choices}
    for key, value in plain.items():
        found.update(_leaves(str(key), value))
    for group, name in choices.items():
        if name != "custom":
            found.pop(f"{group}._target_", None)
    found.pop("method.name", None)
    return found


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def _in_order(keys: Sequence[str]) -> list[str]:
    """Return the keys once each: groups in the order of a round with their own, then the others."""
    order = {name: number for number, name in enumerate(groups())}
    unique = list(dict.fromkeys(keys))
    return sorted(unique, key=lambda key: order.get(key.split(".")[0], len(order)))


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a value as it is written on the command line."""
    value = values.get(key, ABSENT)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _meanings(cfg: DictConfig, config_dir: Path | None) -> dict[str, str]:
    """Return what the comments say of the chosen options and of the keys."""
    told = {key: about for key, _, about in main_keys()}
    for group, name in cfg.hydra.runtime.choices.items():
        if group not in groups() or (shown := options(group, config_dir).get(name)) is None:
            continue
        told[group] = shown.about
        told |= {dotted(group, key): about for key, _, about in shown.keys if about}
    return told
