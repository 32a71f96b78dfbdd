"""Start a run on the engine that the configuration names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from flwr.app import Context, RecordDict
from omegaconf import DictConfig

from clients.app import forget_run, make_client_app
from clients.steps import Node
from experiments.build import Parts, build_node, build_parts, build_server
from experiments.summary import Summary, closing
from server.app import ServerSetup, make_server_app
from server.reporters.folder import RunFolder, partition_columns
from server.reporters.many import Many
from server.reporters.memory import Memory
from server.reporters.protocol import Reporter
from server.serial_grid import SerialGrid

CONVENTIONS = {
    "stage_order": "train, predict, fuse, distil, evaluate; evaluated after both training phases",
    "extraction": "eval mode, no augmentation, float32 logits",
    "kd_reduction": "sum over classes, mean over the batch",
    "result": "last round; the best validation round beside it, never the best on test",
}
"""What decides whether numbers are comparable and is not a key of the configuration."""


def run(cfg: DictConfig, folder: RunFolder, reporter: Reporter) -> Summary:
    """Run the experiment: build everything and check it, then train, then sum up.

    Args:
        cfg: The composed configuration.
        folder: Where the run is written down.
        reporter: Who watches.

    Raises:
        FedfuseError: If the configuration cannot work; nothing has been trained then.
    """
    torch.set_num_threads(cfg.client.threads)
    parts = build_parts(cfg)
    setup = build_server(parts, reporter)
    folder.write_partition(**partition_columns(parts.data))
    folder.record(
        data_fingerprint=parts.data.fingerprint,
        public_set=parts.data.public.source,
        samples_moved_by_partitioner=parts.data.repaired,
        device=str(setup.plan.device),
        conventions=CONVENTIONS,
    )
    memory = Memory()
    run_serial(parts, replace(setup, reporter=Many([reporter, memory])))
    method, baseline = setup.info.arms[-1], setup.info.arms[0]
    return closing(
        memory.rows[method],
        memory.rows[baseline] if baseline != method else None,
        setup.info,
        class_counts=parts.data.class_counts(),
        seconds=memory.seconds[method],
    )


def run_serial(parts: Parts, setup: ServerSetup) -> None:
    """Run both halves of the Flower app in this process."""
    num_clients, num_nodes = parts.cfg.num_clients, parts.cfg.engine.num_nodes

    def node(context: Context) -> Node:
        index = int(context.node_config["partition-id"])
        ids = hosted(index, num_nodes, num_clients)
        return build_node(parts, ids, setup.reporter.client_done)

    grid = SerialGrid(
        make_client_app(node),
        [{"partition-id": i, "num-partitions": num_nodes} for i in range(num_nodes)],
    )
    context = Context(grid.run_id, 0, {}, RecordDict(), {})
    try:
        make_server_app(lambda _: setup)(grid, context)
    finally:
        forget_run(grid.run_id)


def hosted(node: int, num_nodes: int, num_clients: int) -> tuple[int, ...]:
    """Return the clients that node number ``node`` hosts: an even share, in blocks.

    >>> [hosted(node, 2, 5) for node in range(2)]
    [(0, 1), (2, 3, 4)]
    """
    borders = np.linspace(0, num_clients, num_nodes + 1).astype(int)
    return tuple(range(borders[node], borders[node + 1]))
