"""Merge the files with which two configurations begin alike once in a process.

Hydra merges some fifty files for each set of chosen options, one on top of the other, and goes
through all that it has after each of them: two thirds of the time of composing. Bundles differ in a
few options, late in that list.
"""

from __future__ import annotations

import pickle

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from experiments.config.remembered import Remembering

Files = tuple[tuple[str | None, str | None], ...]
AS_THEY_ARE = "no_deepcopy_set_nodes"
KEPT = 64
"""How many beginnings a process keeps, of a twentieth of a megabyte each."""
WORTH = 5
"""By how many files a beginning must be longer than one that is kept, to be kept too."""

_kept: dict[Files, bytes] = {}
_last: list[Files] = [()]


class Loader(ConfigLoaderImpl):
    """Hydra's own, that composes of what has been read and merged before."""

    def __init__(self, path: ConfigSearchPath) -> None:
        super().__init__(path)
        self.repository = Remembering(path)

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        """Return what the files of a defaults list say, later ones on top, as Hydra does."""
        sources = repo.get_sources()
        if any(source.scheme() == "file" for source in sources):  # may change between two commands
            return super()._compose_config_from_defaults_list(defaults, repo)
        asked = tuple((source.full_path(), None) for source in sources)
        files: Files = (*asked, *((each.config_path, each.package) for each in defaults))
        done = max((n for n in range(len(asked), len(files)) if files[:n] in _kept), default=0)
        cfg = pickle.loads(_kept[files[:done]]) if done else OmegaConf.create()  # noqa: S301 - ours
        cfg._set_flag(AS_THEY_ARE, None)
        done = done or len(asked)
        shared, _last[0] = _alike(files, _last[0]), files
        try:
            with flag_override(cfg, AS_THEY_ARE, True):
                for at in range(done, len(files)):
                    if at == shared >= done + WORTH and len(_kept) < KEPT:
                        _kept[files[:at]] = pickle.dumps(cfg)
                    cfg.merge_with(self._load_single_config(defaults[at - len(asked)], repo).config)
        except OmegaConfBaseException:
            return super()._compose_config_from_defaults_list(defaults, repo)  # says in which file
        _without_defaults(cfg)
        return cfg


def _alike(one: Files, other: Files) -> int:
    """Return with how many files two lists begin alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _without_defaults(node: object) -> None:
    """Drop the defaults lists that files have left, as Hydra does."""
    if not isinstance(node, DictConfig) or node._is_missing() or node._is_none():
        return
    with flag_override(node, ["readonly", "struct"], False):
        if node._get_flag("HYDRA_REMOVE_TOP_LEVEL_DEFAULTS"):
            node._set_flag("HYDRA_REMOVE_TOP_LEVEL_DEFAULTS", None)
            node.pop("defaults", None)
    for _, value in node.items_ex(resolve=False):
        _without_defaults(value)
