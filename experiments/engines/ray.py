"""``engine=ray``: Flower's simulation engine, the only file that calls ``run_simulation``.

Flower deprecates ``run_simulation`` without offering another way to start a simulation from
Python. It returns None and runs the ServerApp in a thread of its own, so results come through the
setup's reporter, and an error through :class:`Outcome`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from clients.app import make_client_app
from clients.state.state_store import StatePlan
from experiments.assembly.parts import Parts
from experiments.engines.hosting import NodeRecipe
from experiments.engines.processes import descendants, end, terminable, uninterrupted
from experiments.engines.resources import Fit, Host, RayPlan, fit, this_host
from experiments.engines.sockets import ray_folder
from fedfuse.errors import ConfigError, FedfuseError
from server.app import ServerSetup, make_server_app
from server.reporters.folder import RunFolder
from server.transport.reply_timeout import ReplyTimeout

LOG = "engine.log"
NICENESS = "RAY_worker_niceness"
PRELOAD = "RAY_preload_python_modules"
"""Ray's own variables."""
MODULES = "experiments.assembly.node,flwr.simulation.ray_transport.ray_actor"
"""What a worker imports before it is asked for anything."""


class CancelledError(BaseException):
    """The engine has stopped, so the server must stop too."""


@dataclass(slots=True)
class Outcome:
    """How the ServerApp's thread ended.

    Args:
        error: What it raised.
        stopped: Set when the engine has stopped, for whatever reason.
        ended: Set when the thread has ended.
    """

    error: BaseException | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise if the engine has stopped."""
        if self.stopped.is_set():
            raise CancelledError


def run(parts: Parts, setup: ServerSetup, folder: RunFolder) -> None:
    """Run all rounds.

    Raises:
        FedfuseError: If Ray is not installed, not there, or has too little to offer.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "engine=ray needs Ray, which is not installed.",
            next_step="Install it with: pip install -c constraints.txt -e '.[sim]'",
        )
    cfg, plan = parts.cfg, RayPlan.of(parts.cfg.engine)
    if cfg.client.get("device", "auto").startswith("cuda") and not plan.gpus_per_node:
        raise ConfigError(
            "client.device asks for a GPU, and Ray gives the nodes none",
            got="engine.gpus_per_node=0",
            next_step="Set engine.gpus_per_node, such as 1 or 0.5.",
        )
    with ExitStack() as stack:
        stack.enter_context(quiet(folder.path / LOG))
        stack.enter_context(terminable())
        if plan.address is None:
            chosen = fit(plan, [this_host()], cfg.num_clients)
        session = stack.enter_context(ray_folder()) if plan.address is None else None
        stack.callback(shut_down, descendants([os.getpid()]))
        joins = plan.address is not None
        logging.getLogger(__name__).info("joining Ray" if joins else "starting Ray")
        with uninterrupted():  # Ray forgets what it has started when it is interrupted
            hosts = connect(plan, cfg.client.threads, None if plan.address else chosen, session)
        if plan.address is not None:
            chosen = fit(plan, hosts, cfg.num_clients)
        sys.stdout.write(f"{chosen.line}\n")
        sys.stdout.flush()
        states = where(cfg.client.state, several_hosts=len(hosts) > 1)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedfuse-"))
        if states == "disk":
            setup = replace(setup, states=Path(scratch))
        app = make_client_app(NodeRecipe.of(cfg), StatePlan(states, scratch))
        simulate(app, setup, plan, chosen, cfg.client.threads)


def where(chosen: str, *, several_hosts: bool) -> str:
    """Return where client states wait.

    On one machine files are the cheaper way (docs/engines.md has the figures); machines without a
    common folder need the Context.
    """
    if chosen != "auto":
        return chosen
    return "context" if several_hosts else "disk"


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
        with warnings.catch_warnings(), environment(inherited):
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


def simulate(app: ClientApp, setup: ServerSetup, plan: RayPlan, chosen: Fit, threads: int) -> None:
    """Run both apps on Ray, and raise here what the ServerApp's thread raised."""
    from flwr.simulation import run_simulation

    from experiments.engines import ray_backend

    outcome = Outcome()
    notifier = ray_backend.Notifier(chosen.num_nodes)
    reply_timeout = ReplyTimeout(
        plan.timeout, notifier.interval, check=outcome.check, sleep=notifier.sleep
    )
    setup = replace(
        setup, num_nodes=chosen.num_nodes, reply_timeout=reply_timeout, counts_clients=True
    )
    server = guarded(make_server_app(lambda _: setup), outcome, threads)
    resources: Any = {
        "num_cpus": plan.cpus_per_node,
        "num_gpus": plan.gpus_per_node,
    }
    try:
        # Ctrl-C stops the server, which ends all others in order; an exception in the middle of
        # Flower's main loop would let go of Ray while its workers' threads still talk to it.
        tuned = ray_backend.tuned(notifier, chosen.num_nodes, outcome.check)
        with uninterrupted(outcome.stopped.set), tuned:
            run_simulation(
                server, app, chosen.num_nodes, backend_config={"client_resources": resources}
            )
    except RuntimeError as error:
        if outcome.error is None:
            raise FedfuseError(
                "Flower's simulation stopped",
                got=str(error.__cause__ or error),
                next_step=f"{LOG} in the run folder says more.",
            ) from error
    finally:
        outcome.stopped.set()
        outcome.ended.wait(timeout=10)
    if outcome.error is not None:
        raise outcome.error


def guarded(inner: ServerApp, outcome: Outcome, threads: int) -> ServerApp:
    """Return a ServerApp that keeps what ``inner`` raises, and uses the run's number of threads."""
    outer = ServerApp()

    @outer.main()
    def main(grid: Grid, context: Context) -> None:
        torch.set_num_threads(threads)
        try:
            inner(grid, context)
        except CancelledError:
            pass
        except BaseException as error:
            outcome.error = error
        finally:
            # Workers that are still busy are not waited for.
            outcome.stopped.set()
            outcome.ended.set()

    return outer


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Let Flower and Ray write their logs to ``path`` instead of the terminal.

    Ray prints what its raylets report (a worker that died) past every logger and every option of
    ``ray.init``, so its printer is replaced as well.
    """
    from ray._private import worker

    file = logging.FileHandler(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    kept: list[tuple[logging.Logger, list[logging.Handler], bool]] = []
    for name in ("flwr", "ray"):
        logger = logging.getLogger(name)
        kept.append((logger, logger.handlers, logger.propagate))
        logger.handlers, logger.propagate = [file], False
    printer = worker.print_to_stdstream
    report = logging.getLogger("ray").error
    worker.print_to_stdstream = lambda data, **_: report("%(pid)s: %(lines)s", data)
    try:
        yield
    finally:
        worker.print_to_stdstream = printer
        for logger, handlers, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate
        file.close()
