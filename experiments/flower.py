"""The two apps as Flower's own runtimes load them: ``flwr run .``, SuperLinks and SuperNodes.

The run's configuration comes from Flower's: either whole, as YAML under the key ``config``, or as
overrides, where ``num-rounds = 5`` means ``num_rounds=5`` and the key ``overrides`` takes several
as on fedfuse's command line.
"""

from __future__ import annotations

import experiments.engines.own_process  # noqa: F401 - a process for every message imports the rest

# isort: split
import os
import shlex
import stat
import tempfile
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from clients.app import make_client_app
from clients.node import Node
from clients.state.state_store import StatePlan
from experiments.assembly.privacy import draws_from_secrets
from experiments.config.texts import check_texts
from experiments.config.unread_keys import check_keys_are_read
from experiments.engines.hosting import NodeRecipe
from fedfuse.errors import ConfigError
from server.transport.reply_timeout import ReplyTimeout


def config_of(run_config: Mapping[str, Any]) -> DictConfig:
    """Return the resolved configuration of a run.

    Raises:
        ConfigError: As on the command line.
    """
    given = {
        key: value
        for key, value in sorted(run_config.items())
        if key not in ("config", "output") and value != ""
    }
    if text := run_config.get("config"):
        if given:
            raise ConfigError(
                "config is a whole configuration, and what is given beside it would not be read",
                got=", ".join(given),
                next_step="Give one or the other.",
            )
        return _whole(str(text))
    lines = [
        f"{key.replace('-', '_')}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in given.items()
        if key != "overrides"
    ]
    return _composed((*lines, *shlex.split(str(run_config.get("overrides", "")))))


@lru_cache(maxsize=4)
def _whole(text: str) -> DictConfig:
    """Return a configuration that came as YAML, with keys that all are read."""
    try:
        cfg = OmegaConf.create(text)
    except (YAMLError, OmegaConfBaseException) as error:
        words = " ".join(str(error).split())[:200]
        raise ConfigError("the run's config is no YAML", got=words) from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError("the run's config holds no keys", got=text[:100])
    check_keys_are_read(cfg)
    return cfg


@lru_cache(maxsize=4)
def _composed(lines: tuple[str, ...]) -> DictConfig:
    from experiments.config import compose

    return compose.configure(list(lines))


def node(context: Context) -> Node:
    """Return the node that the run's and the SuperNode's configuration describe.

    A SuperNode may keep the data set at another path than the server does (``public-path``), and
    with ``sites=own`` it names its own data (``data-path``). With ``sites=none`` the data set is
    all there is, and both names mean it.
    """
    cfg = config_of(context.run_config).copy()
    given = context.node_config
    for key in ("data-path", "public-path"):
        if not isinstance(given.get(key, ""), str):
            raise ConfigError(
                f"A SuperNode's {key} must be text",
                got=repr(given[key]),
                next_step=f"Write it in quotes: --node-config '{key}=\"2024\"'.",
            )
        check_texts({f"A SuperNode's {key}": given.get(key)})
    owns = cfg.sites._target_ is not None
    path = given.get("public-path", None if owns else given.get("data-path"))
    if path is not None:
        if "path" not in cfg.dataset:
            raise ConfigError(
                "A SuperNode's path to the data set needs one that is read from a path",
                got=f"{path} with dataset {cfg.dataset._target_}",
                allowed="dataset=npz, image_folder or another with dataset.path",
            )
        cfg.dataset.path = path
    if owns and "data-path" in given:
        paths: list[str | None] = [None] * int(given["num-partitions"])
        paths[int(given["partition-id"])] = str(given["data-path"])
        cfg.sites.paths = paths
    elif owns and not cfg.sites.paths:
        raise ConfigError(
            "This SuperNode does not know where its own data is",
            next_step="Add data-path to its --node-config.",
        )
    made = NodeRecipe.of(cfg)(context)
    made.hands_over = bool(given.get("hands-over", not withheld(cfg)))
    return made


def withheld(cfg: DictConfig) -> bool:
    """Tell whether clients keep to themselves what they remember: models, and secrets.

    Noise on their predictions protects nothing from whoever holds either, and of hosts that bring
    their own data only predictions may leave.
    """
    return draws_from_secrets(cfg) or cfg.sites._target_ is not None


def states(context: Context) -> StatePlan:
    """Return where the node's clients' states wait: its Context, unless files are asked for."""
    if config_of(context.run_config).client.state != "disk":
        return StatePlan("context")
    folder = Path(tempfile.gettempdir()) / f"fedfuse-{os.getuid()}-{context.run_id}"
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    # Whoever can guess the name could have made the folder first, to read models and secrets in it.
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise ConfigError(
            f"'{folder}' is not a folder of this user's alone, and clients' states would lie in it",
            next_step="Point TMPDIR at a folder of your own, or set client.state=context.",
        )
    return StatePlan("disk", str(folder))


def serve(grid: Grid, context: Context) -> None:
    """Run the server's half; report to whoever started the deployment, or into a run folder."""
    from experiments.assembly.build_all import check_parts
    from experiments.engines import relay

    cfg = config_of(context.run_config)
    check_parts(cfg)
    reply_timeout = ReplyTimeout(cfg.engine.get("timeout") or None, interval=0.1)
    if relay.wanted():
        relay.serve(cfg, grid, context, reply_timeout)
    else:
        serve_alone(cfg, grid, context, reply_timeout)


def serve_alone(cfg: DictConfig, grid: Grid, context: Context, reply_timeout: ReplyTimeout) -> None:
    """Report into a run folder and, in lines, to the log that ``flwr run --stream`` shows."""
    from dataclasses import replace

    from rich.console import Console

    from experiments.assembly.parts import Parts
    from experiments.runs.lifecycle import open_run, perform
    from experiments.summary import table
    from experiments.terminal.encoding import any_character
    from server.app import ServerSetup, make_server_app
    from server.reporters.folder import RunFolder
    from server.reporters.lines import Lines

    any_character()
    parent = Path(str(context.run_config.get("output") or "outputs"))
    stamp = datetime.now().astimezone().strftime("%Y-%m-%d/%H-%M-%S")
    path = (parent / f"{stamp}-{cfg.method.name}-flwr").resolve()

    def engine(parts: Parts, setup: ServerSetup, _: RunFolder) -> None:  # noqa: ARG001
        there = replace(setup, num_nodes=None, reply_timeout=reply_timeout, counts_clients=True)
        if withheld(cfg):
            there = replace(there, checkpoints=None)
        make_server_app(lambda _: there)(grid, context)

    outcome = perform(open_run(cfg, path, []), [Lines()], engine=engine)
    table.render(outcome.summary, Console(highlight=False, width=100), path)


client_app = make_client_app(node, states)
server_app = ServerApp()
server_app.main()(serve)
