"""Run folders with known numbers, whose method is compared with both ways of training alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from fedfuse.types import MetricRow, RoundRecord
from server.reporters.files import Files
from server.reporters.folder import RunFolder
from server.reporters.partition_file import SPLITS, write_partition
from server.reporters.protocol import RunInfo

CLIENTS, TESTED = 4, 400
Accuracies = Mapping[str, tuple[float, float]]
"""Per arm the mean accuracy on the own distribution and on the balanced test set."""

ARMS: Accuracies = {
    "local": (0.80, 0.50),
    "local_adjusted": (0.79, 0.62),
    "knfu_adjusted": (0.84, 0.75),
}
POST_HOC = 0.58


def rows_of(
    arm: str,
    accuracies: tuple[float, float],
    seed: int = 0,
    round_: int = 2,
    *,
    post_hoc: bool = True,
) -> tuple[MetricRow, ...]:
    """Return a round's rows: clients lie symmetrically about the mean; a seed moves all arms."""
    spread = np.linspace(-0.03, 0.03, CLIENTS)
    shift = 0.02 * seed + (0.002 * (seed % 2) if arm.endswith("adjusted") else 0.0)
    metrics = {"accuracy_own": accuracies[0], "accuracy_global": accuracies[1]}
    metrics["accuracy_val"] = accuracies[0] - 0.1 * round_
    metrics["ece_own"] = metrics["ece_global"] = accuracies[1] / 10
    if arm == "local" and post_hoc:
        metrics["accuracy_global_adjusted"] = POST_HOC
    return tuple(
        MetricRow(round_, client, "fused", name, value + shift + float(spread[client]))
        for client in range(CLIENTS)
        for name, value in metrics.items()
    )


def write(
    path: Path,
    arms: Accuracies = ARMS,
    *,
    seed: int = 0,
    tau: float = 1.0,
    config: str = "",
) -> Path:
    """Write a finished run folder as a run does.

    Args:
        path: Where.
        arms: Accuracies by arm in the order they run; the last is the method.
        seed: Of the run.
        tau: Strength of the prior's correction.
        config: Further lines of its configuration.
    """
    method = list(arms)[-1]
    folder = RunFolder(path)
    folder.open(seed=seed, overrides=[])
    prior = f"prior: {{tau: {tau}, floor: 0.5}}\n" if len(arms) > 2 else ""
    folder.write_config(f"method: {{name: {method}}}\nseed: {seed}\n{prior}{config}")
    folder.record(data_fingerprint=f"data-{seed}", test_samples=TESTED)
    files = Files(folder)
    files.start(RunInfo(method, tuple(arms), CLIENTS, 2, "digits", "dirichlet", "mlp"))
    for arm, accuracies in arms.items():
        for round_ in (1, 2):
            rows = rows_of(arm, accuracies, seed, round_, post_hoc=len(arms) > 2)
            right = {
                "accuracy_own": _right(accuracies[0]),
                "accuracy_global": _right(accuracies[1]),
            }
            files.round_done(arm, RoundRecord(round_, rows, None, right=right))
    files.close()
    ids = np.repeat(np.arange(CLIENTS), TESTED)
    write_partition(folder, ids, np.full(len(ids), SPLITS.index("test")), np.arange(len(ids)), ids)
    clients = [{"class_counts": [1, 2]}] * CLIENTS
    folder.finish(
        {
            "method": method,
            "num_clients": CLIENTS,
            "num_rounds": 2,
            "clients": clients,
            "dataset": "digits",
            "partitioner": "dirichlet",
            "model": "mlp",
        }
    )
    return path


def _right(share: float) -> torch.Tensor:
    """Return of every client that its first tests are right and its others wrong."""
    bits = np.arange(TESTED) < round(share * TESTED)
    return torch.from_numpy(np.packbits(bits)[None].repeat(CLIENTS, 0))
