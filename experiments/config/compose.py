"""Compose and check configurations: the one file that knows Hydra's inside.

``hydra.main`` reports mistakes in Hydra's words ("To append to your config use +..."), exits with
1 and finds the second mistake of a sweep an hour into it. fedfuse therefore drives the same
machine itself, after checking every configuration with its own words.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from experiments.config import overrides as typed
from experiments.config.beginnings import Loader
from experiments.config.choices import composed
from experiments.config.domain_options import spell_out_domains
from experiments.config.folder import check_own
from experiments.config.hints import unknown_key, unknown_parameter
from experiments.config.left_behind import without_left_behind
from experiments.config.plain import plain
from experiments.config.probe_options import spell_out
from experiments.config.protocols import under_protocol
from experiments.config.schema import TYPE_WORDS, ExperimentConfig, key_type, validate
from experiments.config.texts import check_texts, keep_texts
from experiments.config.unread_keys import check_keys_are_read, known_keys
from fedfuse.errors import ConfigError

EXPERIMENT = "experiment"
"""The group of whole experiments: what they fix, and what they sweep over."""
OWN = "command-line"
"""What Hydra calls whoever named the user's own folder."""
MISSING = object()


def open_hydra(config_dir: Path | None = None) -> Hydra:
    """Return Hydra with fedfuse's configuration, and the options of the user's own folder."""
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    keep_texts()
    ConfigStore.instance().repo.setdefault("schema.yaml", _schema())
    path = create_automatic_config_search_path(None, None, "pkg://experiments.conf")
    if config_dir is not None:
        check_own(config_dir, get_yaml_loader())
        path.prepend(OWN, f"file://{config_dir.resolve()}", SearchPathQuery("schema"))
    hydra = Hydra.create_main_hydra2("fedfuse", path)
    hydra.config_loader = Loader(path)
    return hydra


def own_folder(hydra: Hydra) -> Path | None:
    """Return the user's own folder that :func:`open_hydra` was given; None if it was not."""
    for found in hydra.config_loader.get_search_path().get_path():
        if found.provider == OWN:
            return Path(found.path.removeprefix("file://"))
    return None


@functools.cache  # a fiftieth of a second
def _schema() -> ConfigNode:
    return ConfigNode("schema.yaml", OmegaConf.structured(ExperimentConfig), None, None, None)


def expand(hydra: Hydra, lines: list[str], *, multirun: bool) -> list[str]:
    """Return a command line with the values over which its ``experiment`` sweeps.

    An experiment names them as ``hydra.sweeper.params``. Hydra's own sweeper would read them there
    after everything has been checked, and take a key that the user gives as well for a second
    axis; here they become overrides like all others, and the user's come first.

    Raises:
        ConfigError: If the experiment is a sweep and ``-m`` is missing, or there is none of its
            name.
    """
    loader = hydra.config_loader
    parsed = typed.parse(lines, loader, multirun=multirun)
    chosen = [item for item in parsed if item.key_or_group == EXPERIMENT]
    if not chosen:
        return lines
    typed.check_options(parsed, loader)
    if chosen[0].is_sweep_override():
        raise ConfigError(
            f"'{chosen[0].input_line}' names several experiments",
            allowed="one, because each has a sweep of its own",
            next_step="Start them one after the other.",
        )
    # Of the choices only: an experiment's values may belong to a group that is chosen beside it.
    choices = [i for i in parsed if typed.is_choice(i, loader) and not i.is_sweep_override()]
    cfg = _compose(hydra, [str(item.input_line) for item in choices])
    axes = dict(cfg.hydra.sweeper.params or {})
    if axes and not multirun:
        raise ConfigError(
            f"{chosen[0].input_line} is a sweep over {', '.join(map(str, axes))}.",
            next_step="Add -m to run all of it.",
        )
    given = {typed.name(item) for item in parsed}
    return [*(f"{key}={value}" for key, value in axes.items() if key not in given), *lines]


def configure(lines: list[str], hydra: Hydra | None = None) -> DictConfig:
    """Return the configuration of one run: checked, resolved, without Hydra's own node.

    Args:
        lines: Overrides, as on the command line.
        hydra: fedfuse's configuration; None opens it without options of the user's own.

    Raises:
        ConfigError: For the first mistake found.
    """
    _, (whole,) = check(hydra or open_hydra(), lines, multirun=False)
    cfg = own_keys(whole)
    OmegaConf.resolve(cfg)
    return cfg


def own_keys(whole: DictConfig) -> DictConfig:
    """Return a configuration without Hydra's own node; its interpolations stay."""
    own = DictConfig({})
    copied: Any = pickle.loads(pickle.dumps(whole))  # noqa: S301 - our own, a third of a deepcopy
    for key, node in copied._content.items():
        if key != "hydra":
            node._set_parent(own)
            own.__dict__["_content"][key] = node
    return own


def check(hydra: Hydra, lines: list[str], *, multirun: bool) -> tuple[list[str], list[DictConfig]]:
    """Compose every configuration that a command line asks for, and refuse what is wrong.

    Returns:
        The overrides to give to Hydra, and one configuration per run, each with its ``hydra``
        node.

    Raises:
        ConfigError: For the first mistake found.
    """
    loader = hydra.config_loader
    parsed = typed.parse(lines, loader, multirun=multirun)
    typed.check_options(parsed, loader)
    parsed += typed.parse(typed.choose_custom(parsed, loader), loader, multirun=False)
    parsed += typed.parse(typed.choose_fitting(parsed), loader, multirun=False)
    bases: dict[tuple[str, ...], DictConfig] = {}
    new_keys: set[str] = set()
    runs = [without_left_behind(hydra, under_protocol(lines)) for lines in _product(parsed)]
    configs = [_check_one(hydra, lines, bases, new_keys) for lines in runs]
    if multirun:
        new_keys |= _swept_keys(hydra, parsed)
    if not multirun:
        parsed = typed.parse(runs[0], loader, multirun=False)
    return [_line(item, new_keys) for item in parsed], configs


def _swept_keys(hydra: Hydra, parsed: list[Override]) -> set[str]:
    """Return the keys that only the options of a sweep have, such as attack.fraction.

    Hydra composes a sweep's configuration once without the values that are swept, and would not
    know these keys.
    """
    loader = hydra.config_loader
    fixed = [
        item for item in parsed if typed.is_choice(item, loader) and not item.is_sweep_override()
    ]
    base = _compose(hydra, [str(item.input_line) for item in fixed])
    swept = {item.key_or_group for item in parsed if item.is_sweep_override()}
    return {
        typed.name(item)
        for item in parsed
        if item.key_or_group.split(".")[0] in swept
        and not str(item.input_line).startswith(("+", "~"))
        and OmegaConf.select(base, item.key_or_group, default=MISSING) is MISSING
    }


def _line(override: Override, new_keys: set[str]) -> str:
    """Return an override as Hydra takes it: with ``++`` if its key is new."""
    return f"{'++' if typed.name(override) in new_keys else ''}{override.input_line}"


def _product(parsed: list[Override]) -> list[list[str]]:
    """Return the override lines of each run of a sweep, in the order Hydra runs them."""
    choices = []
    for override in parsed:
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise ConfigError(
                    f"'{override.input_line}' is a sweep without a list of values",
                    allowed="values such as a,b,c or range(1,4)",
                )
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([str(override.input_line)])
    return [list(lines) for lines in itertools.product(*choices)]


def _check_one(
    hydra: Hydra, lines: list[str], bases: dict[tuple[str, ...], DictConfig], new_keys: set[str]
) -> DictConfig:
    """Compose one run's configuration; only a mistake or a new key costs a closer look."""
    parsed = typed.parse(lines, hydra.config_loader, multirun=False)
    lines = [str(item.input_line) for item in parsed]
    try:
        cfg = composed(hydra, lines)
        if any(item.is_add() or item.is_force_add() for item in parsed):
            _check_keys(hydra, parsed, bases)  # with a + Hydra takes any key
    except (HydraException, OmegaConfBaseException):
        new = _check_keys(hydra, parsed, bases)
        new_keys |= new
        cfg = _compose(hydra, [_line(item, new) for item in parsed])
    spell_out(cfg, hydra.config_loader)
    spell_out_domains(cfg, hydra.config_loader)
    try:
        tree = _values(cfg)
    except OmegaConfBaseException as error:
        raise _translate(error, parsed) from error
    check_texts(tree)
    check_keys_are_read(tree)
    validate(tree)
    return cfg


def _values(cfg: DictConfig) -> dict[str, Any]:
    """Return the own keys of a configuration as plain values, none of which is missing."""
    content = cfg.__dict__["_content"]
    of_hydra, values = content.pop("hydra"), None
    try:
        with suppress(OmegaConfBaseException):
            values = plain(cfg)
        if values is None or "???" in repr(values):  # a closer look takes longer than all of it
            for key in sorted(OmegaConf.missing_keys(cfg)):
                step = f"Add {key}=... to the command."
                raise ConfigError(f"{key} has no value.", next_step=step)
        return values or plain(cfg)  # type: ignore[no-any-return]
    finally:
        content["hydra"] = of_hydra


def _check_keys(
    hydra: Hydra, parsed: list[Override], bases: dict[tuple[str, ...], DictConfig]
) -> set[str]:
    """Compare the keys with the configuration of the chosen options alone; return the new ones."""
    loader = hydra.config_loader
    # hydra.searchpath decides which options there are, so it belongs to the choices.
    chosen = [
        item
        for item in parsed
        if typed.is_choice(item, loader) or item.key_or_group == "hydra.searchpath"
    ]
    early = tuple(str(item.input_line) for item in chosen)
    if early not in bases:
        bases[early] = _compose(hydra, list(early))
    rest = [item for item in parsed if item not in chosen]
    return typed.check_keys(rest, bases[early], typed.groups(loader))


def subfolder(cfg: DictConfig, number: int, sweep: Path) -> str:
    """Return the name of a run's folder in a sweep, and number the run."""
    with open_dict(cfg), read_write(cfg.hydra), read_write(cfg.hydra.runtime):
        cfg.hydra.job.id = str(number)
        cfg.hydra.job.num = number
        cfg.hydra.mode = RunMode.MULTIRUN
        cfg.hydra.sweep.dir = str(sweep)
    HydraConfig.instance().set_config(cfg)  # the name asks for the number
    return str(cfg.hydra.sweep.subdir)


def _compose(hydra: Hydra, lines: list[str]) -> DictConfig:
    try:
        return composed(hydra, lines)
    except (HydraException, OmegaConfBaseException) as error:
        parsed = typed.parse(lines, hydra.config_loader, multirun=False)
        raise _translate(error, parsed) from error


def _translate(error: BaseException, parsed: list[Override]) -> ConfigError:
    """Return Hydra's or OmegaConf's error in fedfuse's words."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    key = str(cause.full_key) if cause is not None and cause.full_key else ""
    given = {typed.name(item): item for item in parsed}
    owner, _, word = key.rpartition(".")
    if isinstance(cause, ConfigKeyError) and (known := known_keys(owner)) and word not in known:
        return unknown_parameter(owner, word, known) if owner else unknown_key(word, known)
    wanted = key_type(key)
    if wanted is not None and key in given:
        return ConfigError(
            f"{key} must be {TYPE_WORDS[wanted]}, got {_format_value(given[key].value())}."
        )
    whole = any(words in str(cause) for words in ("ot a subclass", "is not Optional"))
    if whole and not isinstance(given[key].value() if key in given else {}, dict):
        return ConfigError(f"{key} holds several keys.", next_step=f"Set one: {key}.KEY=VALUE.")
    if key and str(cause).startswith("Cannot merge"):
        return ConfigError(
            f"{key} holds several keys.", next_step=f"Set {key}.KEY=VALUE, or {key}={{KEY:VALUE}}."
        )
    text = str(cause or error).strip().splitlines()[0].rstrip(".")
    return ConfigError(f"{key}: {text}" if key and key not in text else text)


def _format_value(value: object) -> str:
    """Return a value as the user would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str | int | float) else str(value)
