"""Clients that do nothing, so that only the engine's own time is left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from clients.app import make_client_app
from clients.sharing.channel import ClientChannel
from clients.state.state_store import StatePlan
from clients.state.states import ClientStates
from fedfuse.data.by_domain import hosted
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.wire.messages import Header
from server.transport.federation import Federation
from server.transport.reply_timeout import ReplyTimeout
from server.transport.serial_grid import SerialGrid

PUBLIC, CLASSES = 1000, 10


@dataclass(frozen=True, slots=True)
class _Public:
    def __len__(self) -> int:
        return PUBLIC

    def fingerprint(self) -> str:
        return "none"


@dataclass(frozen=True, slots=True)
class _Data:
    public: _Public = _Public()
    num_classes: int = CLASSES
    common_hash: str = ""


class _Inputs:
    """What a node says of its rounds, and where the server's word on a round's samples is kept."""

    sent: Any = None

    @property
    def rounds(self) -> _Inputs:
        return self

    @property
    def samples(self) -> _Inputs:
        return self

    def size(self, _: int) -> int:
        return PUBLIC


@dataclass(slots=True)
class IdleNode:
    """A node whose clients answer at once."""

    client_ids: tuple[int, ...]
    data: _Data = field(default_factory=_Data)
    inputs: _Inputs = field(default_factory=_Inputs)
    states: ClientStates = field(default_factory=ClientStates)
    channel: ClientChannel = field(default_factory=ClientChannel)
    kind: Kind = PREDICTIONS
    make_optimizer: Any = None
    on_client_done: Callable[[int], None] = lambda _: None

    def train(
        self, _: Header, client_ids: tuple[int, ...]
    ) -> tuple[KnowledgeBank, None, list[Any]]:
        """Return logits of zeros."""
        ids = torch.tensor(client_ids)
        logits = torch.zeros(len(ids), PUBLIC, CLASSES)
        return KnowledgeBank(ids, logits, torch.ones_like(ids)), None, []

    def distil(self, *_: object) -> tuple[None, list[Any]]:
        """Take the teachers and do nothing with them."""
        return None, []


@dataclass(frozen=True, slots=True)
class IdleRecipe:
    """Build idle nodes.

    Args:
        num_clients: K.
    """

    num_clients: int

    def __call__(self, context: Context) -> Any:
        """Return the node that ``context`` describes."""
        index, nodes = (int(context.node_config[key]) for key in ("partition-id", "num-partitions"))
        return IdleNode(hosted(index, nodes, self.num_clients))


def idle_server(
    num_clients: int, num_nodes: int, reply_timeout: ReplyTimeout, rounds: int, times: list[float]
) -> ServerApp:
    """Return a ServerApp that exchanges logits and teachers and notes each round's seconds."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
        federation = Federation(
            grid,
            num_clients=num_clients,
            num_public=lambda _: PUBLIC,
            num_classes=CLASSES,
            public_fingerprint="none",
            num_nodes=num_nodes,
            reply_timeout=reply_timeout,
        )
        for round_ in range(1, rounds + 1):
            begun = time.perf_counter()
            header = Header("idle", round_, share=True, evaluate=False)
            bank = federation.train(header, range(num_clients)).knowledge
            assert isinstance(bank, KnowledgeBank)
            teachers = Teachers(bank.client_ids, bank.logits, Space.LOGITS)
            federation.distil(header, range(num_clients), teachers)
            times.append(time.perf_counter() - begun)

    return app


def idle_serial(num_clients: int, rounds: int) -> list[float]:
    """Return seconds per round in one process."""
    times: list[float] = []
    grid = SerialGrid(
        make_client_app(IdleRecipe(num_clients)), [{"partition-id": 0, "num-partitions": 1}]
    )
    server = idle_server(num_clients, 1, ReplyTimeout(), rounds, times)
    server(grid, Context(grid.run_id, 0, {}, RecordDict(), {}))
    return times


def idle_ray(num_clients: int, num_nodes: int, rounds: int, *, tuned: bool) -> list[float]:
    """Return seconds per round on Ray, with fedfuse's backend or with Flower's own."""
    from flwr.simulation import run_simulation

    from experiments.engines import ray, ray_backend, ray_cluster
    from experiments.engines.resources import RayPlan, fit, this_host

    times: list[float] = []
    plan = RayPlan(num_nodes=num_nodes)
    chosen = fit(plan, [this_host()], num_clients)
    notifier = ray_backend.Notifier(num_nodes)
    reply_timeout = (
        ReplyTimeout(None, notifier.interval, sleep=notifier.sleep) if tuned else ReplyTimeout()
    )
    server = idle_server(num_clients, num_nodes, reply_timeout, rounds, times)
    client = make_client_app(IdleRecipe(num_clients), StatePlan("context"))
    resources: Any = {"num_cpus": 1, "num_gpus": 0}
    with tempfile.TemporaryDirectory() as folder, ray.quiet(Path(folder) / "log"):
        ray_cluster.connect(plan, 1, chosen)
        try:
            with ray_backend.tuned(notifier, num_nodes, lambda: None) if tuned else nullcontext():
                run_simulation(
                    server, client, num_nodes, backend_config={"client_resources": resources}
                )
        finally:
            ray_cluster.shut_down()
    return times
