"""What happens in a deployment's ServerApp process, told to the process that started it.

Both are on one machine and of one user: the socket lies in a folder of that user's alone, and a
key that travels in the environment is asked for before anything is unpickled.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid
from omegaconf import DictConfig

from experiments.assembly.parts import build_parts
from experiments.assembly.server import build_server
from fedfuse.types import RoundRecord
from fedfuse.user_code import blamed
from server.app import make_server_app
from server.records.checkpoint import Checkpoints
from server.reporters.protocol import RunInfo
from server.transport.reply_timeout import ReplyTimeout

ADDRESS, SECRET, CHECKPOINTS = "FEDFUSE_RELAY", "FEDFUSE_RELAY_KEY", "FEDFUSE_CHECKPOINTS"


def wanted() -> bool:
    """Tell whether somebody listens."""
    return ADDRESS in os.environ


@dataclass(frozen=True, slots=True)
class Relay:
    """A reporter that passes every call on to the process that started the run."""

    connection: Connection

    def start(self, info: RunInfo) -> None:
        """Pass on."""
        self.send("start", info)

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Pass on."""
        self.send("phase", arm, round_, phase)

    def client_done(self, client_id: int) -> None:
        """Pass on."""
        self.send("client_done", client_id)

    def waiting(self, client_ids: Sequence[int], seconds: float) -> None:
        """Pass on."""
        self.send("waiting", tuple(client_ids), seconds)

    def client_models(self, about: Mapping[str, Any], content: bytes) -> None:
        """Pass on."""
        self.send("client_models", dict(about), content)

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Pass on."""
        self.send("round_done", arm, record)

    def close(self) -> None:
        """Hold nothing."""

    def send(self, call: str, *arguments: Any) -> None:
        """Send one call."""
        # Not connection.send: torch would pass tensors as shared memory, which ends with us.
        self.connection.send_bytes(pickle.dumps((call, arguments)))


def serve(cfg: DictConfig, grid: Grid, context: Context, reply_timeout: ReplyTimeout) -> None:
    """Run the server's half and relay what happens, errors included."""
    key = bytes.fromhex(os.environ[SECRET])
    with Client(os.environ[ADDRESS], authkey=key) as connection:
        relay = Relay(connection)
        try:
            with blamed():  # an exception of the user's own class need not be one that travels
                _serve(cfg, grid, context, reply_timeout, relay)
        except BaseException as error:
            relay.send("error", error)
            raise
        relay.send("end")


def _serve(
    cfg: DictConfig, grid: Grid, context: Context, reply_timeout: ReplyTimeout, relay: Relay
) -> None:
    import torch

    torch.set_num_threads(cfg.client.threads)
    setup = build_server(build_parts(cfg, private=False), relay)
    setup = replace(
        setup, num_nodes=cfg.engine.num_nodes, reply_timeout=reply_timeout, counts_clients=True
    )
    if kept := json.loads(os.environ.get(CHECKPOINTS, "null")):
        kept["folder"] = Path(kept["folder"])
        setup = replace(setup, checkpoints=Checkpoints(**kept))
    make_server_app(lambda _: setup)(grid, context)
