"""Which node hosts which clients, and how a process builds its nodes."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

from flwr.app import Context
from omegaconf import DictConfig, OmegaConf

from clients.node import Node
from experiments.assembly.node import build_node
from experiments.assembly.parts import Parts, build_parts
from fedfuse.data.by_domain import hosted
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.train.trainer import Trainer


def check_num_nodes(num_nodes: int, num_clients: int) -> None:
    """Refuse a number of nodes with which one would host nobody."""
    if not (type(num_nodes) is int and 1 <= num_nodes <= num_clients):
        raise FedfuseError(
            "engine.num_nodes is not valid",
            got=num_nodes,
            allowed=f"an integer from 1 to num_clients={num_clients}",
        )


def check_sites(cfg: DictConfig) -> None:
    """Refuse sites that this process cannot give their data to.

    Raises:
        ConfigError: If their paths are missing, or are not one per SuperNode of a deployment.
    """
    if cfg.sites._target_ is None:
        return
    paths = cfg.sites.get("paths")
    if not paths:
        raise ConfigError(
            "sites=own needs to know where each site's data is",
            got="sites.paths=null",
            next_step="Set sites.paths=[a.npz,b.npz,...], one per site.",
        )
    if cfg.engine.name == "deployment" and len(paths) != cfg.engine.num_nodes:
        raise ConfigError(
            "A deployment has one SuperNode per site",
            got=f"{len(paths)} sites.paths with engine.num_nodes={cfg.engine.num_nodes}",
            next_step=f"Set engine.num_nodes={len(paths)}.",
        )


def place(
    parts: Parts,
    on_client_done: Callable[[int], None],
    wrap: Callable[[Trainer], Trainer] | None = None,
) -> Callable[[Context], Node]:
    """Return a builder of this process's nodes, which share everything but their clients.

    Args:
        parts: The run's parts.
        on_client_done: Called with the id of each client that has finished a phase.
        wrap: Puts a trainer of its own around the one that the clients would have.
    """
    base = build_node(parts, (), on_client_done, wrap)
    return lambda context: _dealt(base, context)


@dataclass(frozen=True, slots=True)
class NodeRecipe:
    """Build a node in any process from nothing but the configuration.

    Args:
        config: The resolved configuration as YAML; this is all that travels to a worker.
    """

    config: str

    @classmethod
    def of(cls, cfg: DictConfig) -> NodeRecipe:
        """Return the recipe of a configuration."""
        return cls(OmegaConf.to_yaml(cfg, resolve=True))

    def __call__(self, context: Context) -> Node:
        """Return the node that ``context`` describes."""
        return _dealt(_base(self.config), context)


@lru_cache(maxsize=1)
def _base(config: str) -> Node:
    """Return a node without clients, built once per process: its data is mapped from the cache."""
    return build_node(build_parts(OmegaConf.create(config)), ())  # type: ignore[arg-type]


def _dealt(base: Node, context: Context) -> Node:
    index = int(context.node_config["partition-id"])
    num_nodes = int(context.node_config["num-partitions"])
    node = copy(base)  # its prepared inputs and its clients' states are shared by all
    node.client_ids = hosted(index, num_nodes, base.data.num_clients)
    return node
