"""A Ray that is started here, or a cluster that is joined; how each is left."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from experiments.engines.processes import descendants, end, uninterrupted
from experiments.engines.resources import Fit, Host, RayPlan
from fedfuse.errors import FedfuseError

NICENESS = "RAY_worker_niceness"
PRELOAD = "RAY_preload_python_modules"
"""Ray's own variables."""
MODULES = "experiments.engines.own_process,experiments.engines.ray_worker"
"""What a worker imports before it is asked for anything."""
UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
"""What Ray starts besides, each a process that imports Python anew, and waits for the first: a page
on the cluster, the adding of machines, the workers' logs on this terminal."""

AGENT = re.compile("^(--[a-z_]+_agent_command)=.*", re.DOTALL)
"""What Ray's process for a machine is told of its agents; a blank starts none."""
PORTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)
"""What it waits to hear from them; -1 says that there is no such service."""

PATIENCE = 120.0
"""Seconds in which Ray's own process for this machine must come up."""


def connect(
    plan: RayPlan, threads: int, chosen: Fit | None, folder: str | None = None
) -> list[Host]:
    """Start Ray here, or find a running cluster; return the machines.

    Args:
        plan: What is asked of Ray.
        threads: torch threads of a worker.
        chosen: What to start here; None for a cluster that runs.
        folder: Where the session of a Ray that is started goes; None for its usual place.

    Raises:
        FedfuseError: If nobody answers at ``engine.address``.
    """
    import ray

    if ray.is_initialized():
        raise FedfuseError(
            "This process has already started Ray.",
            next_step="Call ray.shutdown() first, or run fedfuse in a process of its own.",
        )
    # What a worker needs of this process: the user's modules, and as many threads as asked.
    path = [entry or str(Path.cwd()) for entry in sys.path]
    variables = {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": str(threads)}
    for name in ("FEDFUSE_CACHE", "FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED"):
        if name in os.environ:
            variables[name] = os.environ[name]
    arguments: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    inherited: dict[str, str] = {}
    if chosen is not None:
        size = chosen.num_workers * plan.cpus_per_node
        arguments |= {"num_cpus": max(1, -int(-size // 1)), "_temp_dir": folder}
        # Ray gives its workers a low priority (nice 15), so that anything else on the
        # machine starves them; they are the run, and run with the priority it was started with.
        variables[NICENESS] = os.environ.get(NICENESS, "0")
        # They import what they need while Ray is still starting.
        variables[PRELOAD] = os.environ.get(PRELOAD, MODULES)
        # Whatever Ray starts here inherits them. A runtime environment would say the same, and
        # take two seconds more for workers of its own.
        inherited = variables
        # Never a cluster that happens to run here: that one is asked for with engine.address.
        address = "local"
    else:
        address = str(plan.address)
        arguments["runtime_env"] = {"env_vars": variables}
    try:
        if plan.address not in (None, "auto"):
            check_address(str(plan.address))
        asks = chosen is None or "RAY_RUNTIME_ENV_HOOK" in os.environ  # for a runtime environment
        alone = nullcontext() if asks else agentless()
        with warnings.catch_warnings(), environment(inherited), lean(), alone:
            # Ray announces that it will hide GPUs in another way.
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=address, **arguments)
    except Exception as error:  # bare where a process of Ray's takes more than half a minute
        if plan.address is None:
            raise FedfuseError(
                "Ray could not be started",
                got=str(error).splitlines()[0],
                next_step="Ray's own logs say more: ray/session_latest/logs in the folder for "
                "temporary files. engine=serial needs no Ray.",
            ) from error
        raise FedfuseError(
            "No Ray cluster answers at engine.address",
            got=repr(plan.address),
            next_step="Start one with 'ray start --head', or leave engine.address out.",
        ) from error
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    return [
        Host(node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in alive
    ]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_address(address: str) -> None:
    """Raise an OSError or ValueError unless somebody listens; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def shut_down(before: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Stop Ray, or leave the cluster.

    Args:
        before: This process's children before Ray began; all others are Ray's, and Ray does not
            wait for them.
    """
    import ray

    with uninterrupted():
        started = descendants([os.getpid()]) - before
        ray.shutdown()
        end(started, (None, signal.SIGKILL))


@contextmanager
def swapped(owner: object, **attributes: Any) -> Iterator[None]:
    """Replace attributes for a while, those that this version of the owner has."""
    kept = {name: getattr(owner, name) for name in attributes if hasattr(owner, name)}
    try:
        for name in kept:
            setattr(owner, name, attributes[name])
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


@contextmanager
def lean() -> Iterator[None]:
    """Let Ray start nothing that a run does not use, and wait for the rest on a busy machine."""
    from ray._private import services
    from ray._private.node import Node

    get_node = services.get_node

    def patient(*of: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return get_node(*of)  # type: ignore[no-untyped-call]
            except RuntimeError:  # it has not come up yet; Ray gives it 30 seconds
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    nothing = dict.fromkeys(UNUSED, lambda *_, **__: None)
    with swapped(Node, **nothing), swapped(services, get_node=patient):
        yield


@contextmanager
def agentless() -> Iterator[None]:
    """Let Ray's process for this machine start without its two agents, if it can.

    They are for its page and for runtime environments; it starts no worker before both have
    imported themselves and said at which port they listen.
    """
    from ray._private import ray_constants, services
    from ray._private.node import Node

    try:
        from ray._raylet import persist_port  # type: ignore[attr-defined]
    except ImportError:  # another version of Ray
        yield
        return
    start_raylet, start_process = Node.start_raylet, services.start_ray_process

    def unattended(command: list[str], *of: Any, **named: Any) -> Any:
        command = [AGENT.sub(r"\1= ", word) for word in command]
        return start_process(command, *of, **named)

    def start(node: Any, *of: Any, **named: Any) -> None:
        for port in PORTS:
            persist_port(node._session_dir, node._node_id, port, -1)
        start_raylet(node, *of, **named)

    with (
        swapped(Node, start_raylet=start),
        swapped(services, start_ray_process=unattended),
        # 'uv run' asks for a runtime environment that is this very process's
        swapped(ray_constants, RAY_ENABLE_UV_RUN_RUNTIME_ENV=False),
    ):
        yield
