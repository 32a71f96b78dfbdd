"""``engine=ray``: Flower's simulation engine, the only file that calls ``run_simulation``.

Flower deprecates ``run_simulation`` without offering another way to start a simulation from
Python. It returns None and runs the ServerApp in a thread of its own, so results come through the
setup's reporter, and an error through :class:`Outcome`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
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
from experiments.engines.processes import descendants, terminable, uninterrupted
from experiments.engines.ray_cluster import connect, shut_down
from experiments.engines.resources import Fit, RayPlan, fit, this_host
from experiments.engines.sockets import ray_folder
from fedfuse.errors import ConfigError, FedfuseError
from server.app import ServerSetup, make_server_app
from server.reporters.folder import RunFolder
from server.transport.reply_timeout import ReplyTimeout

LOG = "engine.log"


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
    server = guarded(make_server_app(lambda _: setup), outcome, threads, notifier.end)
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


def guarded(inner: ServerApp, outcome: Outcome, threads: int, end: Callable[[], None]) -> ServerApp:
    """Return a ServerApp that keeps what ``inner`` raises, and calls ``end`` after it."""
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
            end()

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
