"""``engine=deployment``: SuperLink and SuperNodes as processes of their own, on loopback.

What happens on several hosts happens here on one: TLS, SuperNode authentication, a ClientApp
process per message, client states in the node's Context. ``docs/deployment.md`` does the same
by hand, host by host.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import queue
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.assembly.parts import Parts
from experiments.engines import credentials, relay
from experiments.engines.hosting import check_num_nodes
from experiments.engines.processes import (
    Processes,
    check_port,
    free_port,
    listens,
    terminable,
)
from experiments.engines.sockets import short_folder
from fedfuse.errors import FedfuseError
from fedfuse.files.paths import expand
from server.app import ServerSetup
from server.records.checkpoint import Checkpoints
from server.reporters.folder import RunFolder

LOG = "engine.log"
START = 60.0
"""Seconds in which the SuperLink must answer and a key must be registered."""

APP = """\
[project]
name = "fedfuse-run"
version = "0.0.0"
[tool.flwr.app]
publisher = "fedfuse"
[tool.flwr.app.components]
serverapp = "experiments.flower:server_app"
clientapp = "experiments.flower:client_app"
[tool.flwr.app.config]
config = {config}
"""

CONNECTION = """\
[superlink]
default = "fedfuse"
[superlink.fedfuse]
address = "127.0.0.1:{port}"
root-certificates = {ca}
"""


def run(parts: Parts, setup: ServerSetup, folder: RunFolder) -> None:
    """Start everything, run all rounds, stop everything.

    Raises:
        FedfuseError: If a port is in use, credentials do not fit, or a process does not come up.
    """
    engine = parts.cfg.engine
    check_num_nodes(engine.num_nodes, parts.cfg.num_clients)
    if engine.port is not None:
        check_port(engine.port)
    with ExitStack() as stack:
        stack.enter_context(terminable())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedfuse-")))
        keys = scratch / "credentials"
        if engine.credentials is None:
            credentials.issue(keys, [credentials.LOOPBACK], engine.num_nodes, days=30)
        else:
            keys = expand(engine.credentials).resolve()
            credentials.check(keys, credentials.LOOPBACK, engine.num_nodes)
        telephone = Path(stack.enter_context(short_folder(len("/relay"))))
        calls = stack.enter_context(_Calls(telephone / "relay"))
        processes = Processes(folder.path / LOG, environment(scratch, calls, setup.checkpoints))
        stack.callback(processes.stop)
        deploy(parts.cfg, setup, processes, scratch, keys)
        for call, arguments in calls.until_end(processes):
            # What is known beforehand is this process's to say.
            if call == "start":
                setup.reporter.start(setup.info)
                for arm, records in setup.known.items():
                    for record in records:
                        setup.reporter.round_done(arm, record)
            else:
                getattr(setup.reporter, call)(*arguments)


def deploy(
    cfg: DictConfig, setup: ServerSetup, processes: Processes, scratch: Path, keys: Path
) -> None:
    """Start SuperLink and SuperNodes, register the nodes' keys and submit the run."""
    port, num_nodes = cfg.engine.port or free_port(), cfg.engine.num_nodes
    home = scratch / "home"
    home.mkdir()
    connection = CONNECTION.format(port=port, ca=json.dumps(str(keys / credentials.CA)))
    (home / "config.toml").write_text(connection, encoding="utf-8")
    logging.getLogger(__name__).info("starting a SuperLink and %d SuperNodes", num_nodes)
    processes.start("SuperLink", superlink(port, keys))
    wait(processes, lambda: listens(port), "The SuperLink does not answer")
    sys.stdout.write(
        f"deployment: {cfg.num_clients} clients on {num_nodes} SuperNodes, "
        f"SuperLink on {credentials.LOOPBACK}:{port} (TLS, node authentication)\n"
    )
    sys.stdout.flush()
    commands = [
        [program("flwr"), "supernode", "register", str(keys / f"node-{i}.pub"), "fedfuse"]
        for i in range(num_nodes)
    ]
    finish(processes, "flwr supernode register", commands)
    owned = cfg.sites.get("paths") or [None] * num_nodes
    for i, path in enumerate(owned):
        processes.start(f"SuperNode {i}", supernode(port, keys, i, num_nodes, path))
    app = scratch / "app"
    app.mkdir()
    theirs = cfg.copy()
    if cfg.sites.get("paths"):
        theirs.sites.paths = None  # where a site's data lies is its own business
    if setup.known:
        theirs.baseline = "none"
    text = json.dumps(OmegaConf.to_yaml(theirs, resolve=True))
    (app / "pyproject.toml").write_text(APP.format(config=text), encoding="utf-8")
    finish(processes, "flwr run", [[program("flwr"), "run", str(app), "fedfuse"]])


def superlink(port: int, keys: Path) -> list[str]:
    """Return the command that starts the SuperLink."""
    return [
        program("flower-superlink"),
        *("--host", credentials.LOOPBACK, "--port", str(port)),
        *("--ssl-ca-certfile", str(keys / credentials.CA)),
        *("--ssl-certfile", str(keys / credentials.CERTIFICATE)),
        *("--ssl-keyfile", str(keys / credentials.KEY)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def supernode(
    port: int, keys: Path, index: int, num_nodes: int, data: str | None = None
) -> list[str]:
    """Return the command that starts a SuperNode, which alone learns where its own data is."""
    # Server and nodes have one owner here, so checkpoints may hold all that clients remember.
    config = f"partition-id={index} num-partitions={num_nodes} hands-over=true"
    if data is not None:
        config += f' data-path="{expand(data).resolve()}"'
    return [
        program("flower-supernode"),
        *("--superlink", f"{credentials.LOOPBACK}:{port}"),
        *("--root-certificates", str(keys / credentials.CA)),
        *("--auth-supernode-private-key", str(keys / f"node-{index}")),
        *("--host", credentials.LOOPBACK, "--port", str(free_port())),
        *("--node-config", config),
    ]


def program(name: str) -> str:
    """Return the path of a command of this environment."""
    return str(Path(sys.executable).parent / name)


def environment(scratch: Path, calls: _Calls, kept: Checkpoints | None = None) -> dict[str, str]:
    """Return the processes' environment: their own Flower home, our modules, our telephone."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    modules = [entry or str(Path.cwd()) for entry in sys.path]
    return {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(modules),
        "FLWR_HOME": str(scratch / "home"),
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        relay.ADDRESS: calls.address,
        relay.SECRET: calls.secret.hex(),
        relay.CHECKPOINTS: json.dumps(None if kept is None else asdict(kept), default=str),
    }


def wait(processes: Processes, ready: Callable[[], bool], what: str) -> None:
    """Wait until ``ready``.

    Raises:
        FedfuseError: If a process ends before, or it takes too long.
    """
    deadline = time.monotonic() + START
    while not ready():
        if ended := processes.ended():
            name, code = next(iter(ended.items()))
            raise FedfuseError(
                f"{name} ended with exit code {code}", next_step=f"See {processes.log}."
            )
        if time.monotonic() > deadline:
            raise FedfuseError(what, got=f"{START:g} s", next_step=f"See {processes.log}.")
        time.sleep(0.1)


def finish(processes: Processes, name: str, commands: list[list[str]]) -> None:
    """Run Flower's commands side by side and wait until they are done.

    Raises:
        FedfuseError: If one fails.
    """
    names = [f"{name} ({i})" for i in range(len(commands))]
    for each, command in zip(names, commands, strict=True):
        processes.start(each, command)
    deadline = time.monotonic() + START
    while None in (codes := [processes.exit_code(each) for each in names]):
        if time.monotonic() > deadline:
            raise FedfuseError(f"'{name}' takes too long", next_step=f"See {processes.log}.")
        time.sleep(0.05)
    if any(codes):
        raise FedfuseError(f"'{name}' failed", next_step=f"See {processes.log}.")


class _Calls:
    """The calls of the ServerApp's relay, in order.

    Args:
        socket: Where to listen; its folder must be the user's alone.
    """

    def __init__(self, socket: Path) -> None:
        self.address = str(socket)
        self.secret = secrets.token_bytes(32)
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()

    def __enter__(self) -> _Calls:
        self._listener = Listener(self.address, authkey=self.secret)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _listen(self) -> None:
        try:
            with self._listener.accept() as connection:
                while True:
                    self._queue.put(pickle.loads(connection.recv_bytes()))  # noqa: S301 - ours
        except (EOFError, OSError):
            self._queue.put(("gone", ()))

    def until_end(self, processes: Processes) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the calls until the server says that it has ended.

        Raises:
            BaseException: What the ServerApp raised.
            FedfuseError: If a process is gone before.
        """
        while True:
            try:
                call, arguments = self._queue.get(timeout=0.5)
            except queue.Empty:
                for name in processes.ended():
                    if name.startswith("Super"):
                        call, arguments = "gone", (name,)
                        break
                else:
                    continue
            if call == "end":
                return
            if call == "error":
                raise arguments[0]
            if call == "gone":
                who = arguments[0] if arguments else "The ServerApp"
                raise FedfuseError(f"{who} ended before the run", next_step=f"See {processes.log}.")
            yield call, arguments
