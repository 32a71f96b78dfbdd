"""Read what the user typed as KEY=VALUE, before Hydra composes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.config.hints import unknown_key, unknown_option, unknown_parameter
from experiments.config.schema import key_type
from experiments.config.texts import as_text
from fedfuse.errors import ConfigError
from fedfuse.safe_text import visible

FUNCTIONS = create_functions()
"""What an override may call, as choice(a,b); to list it takes as long as to read a word."""

CUSTOM = "custom"
"""The option of a group that takes any ``_target_``."""

ALIASES = {"name": "method.name", "client.guard": "guard", "probe": "evaluation.probes"}
"""Other words for keys: what tables call a run that has parts of the user's own, what a key was
called before, and the group whose options a list holds."""


def parse(lines: Iterable[str], loader: ConfigLoader, *, multirun: bool) -> list[Override]:
    """Parse the overrides.

    Raises:
        ConfigError: If one is malformed, given twice, or a sweep without ``-m``.
    """
    parser = OverridesParser(FUNCTIONS, loader)
    parsed: dict[str, Override] = {}
    for given in lines:
        _check_utf8(given)
        line = as_text(_spelt_out(given), multirun=multirun)
        try:
            override = parser.parse_override(line)
        except HydraException as error:
            raise ConfigError(
                f"cannot read '{line}'",
                allowed="KEY=VALUE",
                next_step=_quoting(line),
            ) from error
        key = name(override)
        if key in parsed:
            raise ConfigError(
                f"'{key}' is given twice: {parsed[key].input_line} and {line}.",
                next_step="Keep one.",
            )
        if override.is_sweep_override() and not multirun:
            as_list = "" if key_type(key) else f", or write {key}=[...] for a list"
            raise ConfigError(
                f"'{line}' names several values.",
                next_step=f"Add -m to run each of them{as_list}.",
            )
        parsed[key] = override
    return list(parsed.values())


def _spelt_out(line: str) -> str:
    """Return an override with the whole key of its alias."""
    key, equals, value = line.partition("=")
    return f"{ALIASES[key]}={value}" if equals and key in ALIASES else line


def _check_utf8(line: str) -> None:
    """Refuse bytes that are no text: no file of a run could hold them."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"'{visible(line)}' holds bytes that are no text in UTF-8.",
            next_step="Rename the file or folder, or name a link to it.",
        ) from None


def _quoting(line: str) -> str | None:
    """Say how to quote the characters of a value that Hydra does not take as they are."""
    key, equals, value = line.partition("=")
    if not equals:
        return None
    plain = "_/-\\+.$%*@?| "
    odd = " ".join(
        dict.fromkeys(c for c in value if not (c.isascii() and c.isalnum()) and c not in plain)
    )
    why = f", which holds {odd}," if odd else ""
    return f"Quote the value{why} like this: \"{key}='some, value'\"."


def name(override: Override) -> str:
    """Return the key of an override without its ``+`` or ``~``."""
    return override.key_or_group + (f"@{override.package}" if override.package else "")


def values(override: Override) -> list[Any]:
    """Return every value that an override takes; more than one in a sweep."""
    if override.is_sweep_override() and override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.value()]


def groups(loader: ConfigLoader) -> list[str]:
    """Return the config groups, without Hydra's own."""
    return [group for group in options_of("", loader, ObjectType.GROUP) if group != "hydra"]


_packaged: dict[tuple[str, str, ObjectType], list[str]] = {}
"""By source, group and kind: the files of packages do not change while a process lives."""


def options_of(group: str, loader: ConfigLoader, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
    """Return the options of a group or the groups in it, none if there is no such group.

    Hydra copies every source and reads its folder each time: asked for each override, that was a
    sixth of what a small run takes.
    """
    sources: list[ConfigSource] = getattr(loader, "repository", loader).get_sources()
    return sorted({option for source in sources for option in _listed(source, group, kind)})


def _listed(source: ConfigSource, group: str, kind: ObjectType) -> list[str]:
    """Return what a source has in a group."""
    key = (source.full_path(), group, kind)
    if key in _packaged:
        return _packaged[key]
    found = source.list(group, kind) if source.is_group(group) else []
    if source.scheme() == "pkg":
        _packaged[key] = found
    return found


def is_choice(override: Override, loader: ConfigLoader) -> bool:
    """Tell whether an override chooses an option of a group."""
    return bool(options_of(override.key_or_group, loader))


def check_options(overrides: Iterable[Override], loader: ConfigLoader) -> None:
    """Refuse options and groups that do not exist."""
    for override in overrides:
        group = override.key_or_group
        if options := options_of(group, loader):
            for value in values(override):
                if value is None or str(value) not in options:
                    shown = "null" if value is None else value
                    raise unknown_option(group, shown, options)
        elif "/" in group or override.package:
            raise unknown_key(group, groups(loader))


FITTING: dict[str, dict[str, object]] = {
    "dataset=breast_cancer": {"model": "mlp", "num_clients": 5, "public.size": 100},
    **{f"dataset={option}": {"model": "ngrams"} for option in ("docstrings", "text")},
    **{f"features={option}": {"model": "mlp"} for option in ("custom", "random", "saved")},
}
"""What data that the defaults do not fit choose, also over an experiment's values."""

TEXT_SETS = frozenset(
    {
        "20_newsgroups", "ag_news", "amazon_polarity", "banking77", "dbpedia_14", "emotion", "imdb",
        "rotten_tomatoes", "sst2", "trec", "yahoo_answers_topics", "yelp_polarity",
        "yelp_review_full",
    }
)  # fmt: skip
"""Texts of the hub by their name without its owner: ``dataset=hub`` then means texts."""


def choose_fitting(overrides: Iterable[Override]) -> list[str]:
    """Return the overrides that the choice of data implies, as far as none is given.

    ``dataset=breast_cancer`` alone chooses ``model=mlp``, for its samples are no images, and so
    does ``features=random``; ``dataset=hub`` with ``dataset.name=fancyzhx/ag_news`` chooses a
    model of texts.
    """
    given = {name(override): override for override in overrides}
    fixed = [item for item in given.values() if not item.is_sweep_override()]
    called = [
        str(item.value()).rsplit("/", 1)[-1] for item in fixed if name(item) == "dataset.name"
    ]
    implied: dict[str, object] = {}
    for item in sorted(fixed, key=lambda item: item.key_or_group == "features"):  # made of the data
        choice = f"{item.key_or_group}={item.value()}"
        of_texts = choice == "dataset=hub" and TEXT_SETS.intersection(called)
        implied |= FITTING.get("dataset=text" if of_texts else choice, {})
    return [
        f"{key}={value}"
        for key, value in implied.items()
        if not {key, f"{key}._target_", key.split(".")[0]} & set(given)
    ]


def choose_custom(overrides: Iterable[Override], loader: ConfigLoader) -> list[str]:
    """Return the options that the overrides imply but do not say.

    ``partitioner._target_=mine.by_halves`` alone chooses ``partitioner=custom``, and
    ``features.module._target_=mine.Net`` chooses ``features=custom``.
    """
    given = {name(override) for override in overrides}
    return [
        f"{group}={CUSTOM}"
        for group in groups(loader)
        if {f"{group}._target_", f"{group}.module._target_"} & given
        and group not in given
        and CUSTOM in options_of(group, loader)
    ]


def check_keys(
    overrides: Iterable[Override], cfg: DictConfig, group_names: Iterable[str]
) -> set[str]:
    """Refuse overrides of keys that ``cfg`` does not have.

    Args:
        overrides: Those that set values (not those that choose options).
        cfg: The configuration composed from the chosen options alone, with its ``hydra`` node.
        group_names: The config groups.

    Returns:
        The keys that are new where any key is welcome, so that Hydra wants a ``++``.
    """
    new = set()
    for override in overrides:
        parts = override.key_or_group.split(".")
        plus = override.is_add() or override.is_force_add()
        if plus and len(parts) > 1:
            parts = parts[:-1]
        node: Any = cfg
        for depth, part in enumerate(parts):
            if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
                node = node._get_node(int(part))
            elif isinstance(node, DictConfig) and part in node.keys():  # noqa: SIM118 (`in node` skips ???)
                node = node._get_node(part)
            elif _is_open(node):
                if not plus:
                    new.add(name(override))
                break
            else:
                raise _unknown(override.key_or_group, parts[:depth], node, cfg, group_names)
        else:  # the key exists; a mapping that takes any key may be given as a whole
            if not plus and _is_open(node) and isinstance(override.value(), dict):
                new.add(name(override))
            if plus and parts[0] == "hydra" and not _takes(node, override):
                raise _unknown(override.key_or_group, parts, node, cfg, group_names)
    return new


def _takes(node: Any, override: Override) -> bool:
    """Tell whether a mapping of Hydra's own has the key that a ``+`` sets, or takes any."""
    word = override.key_or_group.rpartition(".")[2]
    return _is_open(node) or (isinstance(node, DictConfig) and word in node.keys())  # noqa: SIM118


def _is_open(node: Any) -> bool:
    """Tell whether a mapping takes any key: it is empty, or its target is still to be named."""
    if not isinstance(node, DictConfig):
        return False
    return not len(node) or (list(node) == ["_target_"] and OmegaConf.is_missing(node, "_target_"))


def _unknown(
    key: str, owner: list[str], node: Any, cfg: DictConfig, group_names: Iterable[str]
) -> ConfigError:
    """Return the error for a ``key`` of which only the ``owner`` exists."""
    if not owner or not isinstance(node, DictConfig):
        known = _dotted(cfg.hydra, "hydra.") if key.startswith("hydra.") else _dotted(cfg)
        return unknown_key(key, {*known, *group_names})
    dotted, word = ".".join(owner), key.split(".")[len(owner)]
    if dotted in group_names and dotted in cfg.hydra.runtime.choices:
        dotted = f"{dotted}={cfg.hydra.runtime.choices[dotted]}"
    return unknown_parameter(dotted, word, [str(name) for name in node if name != "_target_"])


def _dotted(node: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys of a config, without Hydra's own."""
    keys = []
    items: Mapping[Any, Any] = {key: node._get_node(key) for key in node}
    for key, value in items.items():
        if key in ("hydra", "_target_"):
            continue
        keys.append(f"{prefix}{key}")
        if isinstance(value, DictConfig) and not (value._is_none() or value._is_missing()):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys
