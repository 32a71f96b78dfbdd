"""The preflight of ``engine=ray``: what is asked, what is there, and how much runs at once."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass

from omegaconf import DictConfig

from fedfuse.errors import FedfuseError, require


@dataclass(frozen=True, slots=True)
class Host:
    """What one machine offers."""

    cpus: float
    gpus: float

    def workers(self, cpus: float, gpus: float) -> int:
        """Return how many workers of this size fit."""
        fits = self.cpus / cpus if cpus else math.inf
        if gpus:
            fits = min(fits, self.gpus / gpus)
        return 0 if math.isinf(fits) else int(fits + 1e-9)


@dataclass(frozen=True, slots=True)
class RayPlan:
    """What the user asks of Ray.

    Args:
        num_nodes: Nodes that the clients are dealt out to; None for one per worker that fits.
        cpus_per_node: CPUs of the worker that runs a node; a fraction shares a core.
        gpus_per_node: GPUs likewise.
        address: A running Ray cluster, ``auto`` to find it; None starts one here.
        timeout: Seconds that a phase may take; None for no limit.
    """

    num_nodes: int | None = None
    cpus_per_node: float = 1
    gpus_per_node: float = 0
    address: str | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("cpus_per_node", 0.01), ("gpus_per_node", 0)):
            value = getattr(self, name)
            ok = isinstance(value, int | float) and not isinstance(value, bool)
            require(
                ok and low <= value < math.inf, "engine", name, value, f"a number from {low} up"
            )
            require(
                value <= 1 or float(value).is_integer(),
                "engine",
                name,
                value,
                "a fraction up to 1, or a whole number",
            )
        nodes = self.num_nodes
        ok = nodes is None or (type(nodes) is int and nodes >= 1)
        require(ok, "engine", "num_nodes", nodes, "an integer from 1, or null")

    @classmethod
    def of(cls, engine: DictConfig) -> RayPlan:
        """Return the plan that the configuration's ``engine`` group holds."""
        return cls(
            num_nodes=engine.num_nodes,
            cpus_per_node=engine.cpus_per_node,
            gpus_per_node=engine.gpus_per_node,
            address=engine.address,
            timeout=engine.timeout,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """The outcome of the preflight.

    Args:
        num_nodes: Nodes.
        num_workers: How many of them run at once.
        line: Both in words.
    """

    num_nodes: int
    num_workers: int
    line: str


def fit(plan: RayPlan, hosts: list[Host], num_clients: int) -> Fit:
    """Check what is asked against what is there.

    Raises:
        FedfuseError: If not even one worker fits, or a node would host nobody.

    >>> print(fit(RayPlan(), [Host(cpus=2, gpus=0)], num_clients=10).line)
    ray: 10 clients on 2 nodes, 2 at once (each 1 CPU; available: 2 CPUs)
    """
    cpus, gpus = plan.cpus_per_node, plan.gpus_per_node
    available = _format_resources(sum(h.cpus for h in hosts), sum(h.gpus for h in hosts))
    if len(hosts) > 1:
        available += f" on {len(hosts)} machines"
    workers = sum(host.workers(cpus, gpus) for host in hosts)
    if not workers:
        short = "gpus_per_node" if any(h.workers(cpus, 0) for h in hosts) else "cpus_per_node"
        most = max(h.gpus if short == "gpus_per_node" else h.cpus for h in hosts)
        raise FedfuseError(
            "The resources of one node do not fit on any machine",
            got=f"{_format_resources(cpus, gpus)} asked",
            allowed=f"{available} available",
            next_step=f"Set engine.{short}={most:g} or less.",
        )
    nodes = min(workers, num_clients) if plan.num_nodes is None else plan.num_nodes
    if nodes > num_clients:
        raise FedfuseError(
            "engine.num_nodes is not valid",
            got=nodes,
            allowed=f"an integer from 1 to num_clients={num_clients}, or null",
        )
    workers = min(workers, nodes)
    several = "s" if nodes != 1 else ""
    line = f"ray: {num_clients} clients on {nodes} node{several}, {workers} at once"
    return Fit(
        nodes, workers, f"{line} (each {_format_resources(cpus, gpus)}; available: {available})"
    )


def this_host() -> Host:
    """Return what this machine offers to this process."""
    import torch

    return Host(cpus=usable_cpus(), gpus=torch.cuda.device_count())


def usable_cpus() -> int:
    """Return how many processors this process may use; macOS knows no such limit."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _format_resources(cpus: float, gpus: float) -> str:
    text = f"{cpus:g} CPU{'s' if cpus != 1 else ''}"
    return f"{text}, {gpus:g} GPU{'s' if gpus != 1 else ''}" if gpus else text
