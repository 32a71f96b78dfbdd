"""What the report reads of a run, as arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
TESTS = {"accuracy_own": "own distribution", "accuracy_global": "balanced test set"}
"""The test protocols, and their names for a reader."""


@dataclass(frozen=True)
class Arm:
    """The metrics of one arm.

    Args:
        rounds: [R].
        clients: Per metric and phase ``metric@phase`` the values [R, K], NaN where there is none.
        traffic: [R], bytes up and down in each round.
    """

    rounds: npt.NDArray[np.integer]
    clients: Mapping[str, Array]
    traffic: Array

    def at(self, metric: str, phase: str = "fused") -> Array | None:
        """Return a metric's values [R, K]; None if it was never measured."""
        return self.clients.get(f"{metric}@{phase}")

    def last(self, metric: str) -> Array | None:
        """Return the values [K] of the last round that has any."""
        values = self.at(metric)
        if values is None:
            return None
        there = np.flatnonzero(np.isfinite(values).any(axis=1))
        return values[there[-1]] if len(there) else None

    def at_best(self, metric: str) -> Array | None:
        """Return the values [K] at the tested round of the highest mean validation accuracy."""
        values, chosen = self.at(metric), self.at("accuracy_val")
        if values is None or chosen is None:
            return None
        there = np.isfinite(values).any(axis=1) & np.isfinite(chosen).any(axis=1)
        if not there.any():
            return None
        return values[there][np.nanmean(chosen[there], axis=1).argmax()]


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path
    record: Mapping[str, Any]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def method(self) -> str:
        """Return the method's name."""
        return str(self.summary["method"])

    @property
    def seed(self) -> int:
        """Return the seed."""
        return int(self.record["seed"])

    @cached_property
    def arm(self) -> Arm:
        """Return the method's metrics."""
        return read_arm(self.path / "metrics.parquet")

    @cached_property
    def baseline(self) -> Arm | None:
        """Return the baseline's metrics; None for a run without."""
        file = self.path / "baseline.parquet"
        return read_arm(file) if file.exists() else None

    @cached_property
    def weights(self) -> tuple[npt.NDArray[np.integer], Array] | None:
        """Return the rounds [R] that fused and their weights [R, K, K]; None if none did."""
        from safetensors.numpy import load_file

        file = self.path / "weights.safetensors"
        if not file.exists():
            return None
        tensors = load_file(file)
        return tensors["rounds"], tensors["weights"]

    @cached_property
    def counts(self) -> npt.NDArray[np.integer]:
        """Return the training samples per client and class, [K, C]."""
        return np.array([client["class_counts"] for client in self.summary["clients"]])

    def test_sizes(self, test: str) -> Array | None:
        """Return how many test samples are behind each client's accuracy, [K]."""
        import pyarrow.parquet as pq

        file = self.path / "partition.parquet"
        if not file.exists():
            return None
        table = pq.read_table(
            file, columns=["client_id", "index"], filters=[("split", "=", "test")]
        )
        clients, index = table["client_id"].to_numpy(), table["index"].to_numpy()
        count = int(self.summary["num_clients"])
        if test == "accuracy_own":
            return np.bincount(clients, minlength=count).astype(float)
        return np.full(count, float(index.max() + 1))


def read_run(path: Path) -> Run:
    """Read a run folder; its arrays are read when they are asked for."""
    from omegaconf import OmegaConf

    return Run(
        path,
        json.loads((path / "run.json").read_text(encoding="utf-8")),
        cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))),
        json.loads((path / "summary.json").read_text(encoding="utf-8")),
    )


def read_arm(file: Path) -> Arm:
    """Read the tidy rows of a parquet file into arrays."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    rounds = table["round"].to_numpy()
    clients = table["client_id"].to_numpy()
    values = table["value"].to_numpy()
    names = np.char.add(
        np.char.add(table["metric"].to_numpy().astype(str), "@"),
        table["phase"].to_numpy().astype(str),
    )
    every, where = np.unique(rounds, return_inverse=True)
    count = int(clients.max()) + 1
    found: dict[str, Array] = {}
    traffic = np.zeros(len(every))
    for name in np.unique(names):
        mine = names == name
        whole = mine & (clients < 0)
        if whole.any() and name.startswith("bytes_"):
            np.add.at(traffic, where[whole], values[whole])
        own = mine & (clients >= 0)
        if own.any():
            block = np.full((len(every), count), np.nan)
            block[where[own], clients[own]] = values[own]
            found[str(name)] = block
    return Arm(every, found, traffic)
