"""One run folder, read lazily and without executing anything that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.config.damaged import damaged
from experiments.config.untrusted import read_config
from experiments.results.arms import LARGEST, Arm, read_arm, read_table
from experiments.results.shape import MOST_CLIENTS, Content, check_shape
from experiments.results.weights import Weights, read_weights
from fedfuse.compare import ADJUSTED, LOCAL
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files import confined
from fedfuse.safe_text import visible
from server.reporters.folder import FORMAT

CONTROL_FILES = {LOCAL: "baseline.parquet", ADJUSTED: f"{ADJUSTED}.parquet"}
"""Where a run keeps the metrics of each way of training alone."""

NAME = 80
"""Characters of a method's name that are kept."""


@dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        path: The folder.
        record: ``run.json``.
        config: ``config.yaml``, as plain values; nothing in it is ever instantiated.
        summary: ``summary.json``; empty unless the run finished.
    """

    path: Path
    record: Mapping[str, Any]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Return whether the run came to its end."""
        return self.record.get("status") == "finished" and bool(self.summary)

    @property
    def method(self) -> str:
        """Return the method's name, safe to show."""
        return visible(str(self.summary.get("method") or self.config["method"]["name"]), NAME)

    @property
    def seed(self) -> int:
        """Return the seed."""
        return int(self.record["seed"])

    @property
    def fingerprint(self) -> str:
        """Return the hash of the data and of the split."""
        return str(self.record.get("data_fingerprint", ""))

    @cached_property
    def arm(self) -> Arm:
        """Return the method's metrics."""
        with reading(self.path):
            return read_arm(self.path / "metrics.parquet", self._num_clients)

    @cached_property
    def controls(self) -> Mapping[str, Arm]:
        """Return the metrics of each arm that trained alone beside the method, plain first."""
        files = {name: self.path / file for name, file in CONTROL_FILES.items()}
        with reading(self.path):
            return {
                name: read_arm(file, self._num_clients)
                for name, file in files.items()
                if file.exists()
            }

    @property
    def baseline(self) -> Arm | None:
        """Return the metrics of plain local training; None for a run without."""
        return self.controls.get(LOCAL)

    @cached_property
    def weights(self) -> Weights | None:
        """Return the weights of the rounds that fused; None if none did."""
        tensors = self._tensors("weights.safetensors")
        if not tensors:
            return None
        with reading(self.path):
            return read_weights(tensors, self._num_clients)

    @property
    def _num_clients(self) -> int:
        """Return K as the configuration says; of it too much is believed by nobody."""
        told = int(self.config.get("num_clients", 0))
        if not 0 <= told <= MOST_CLIENTS:
            raise ValueError(f"num_clients={told}")
        return told

    def _tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return what a safetensors file holds; nothing if it is not there."""
        from safetensors.numpy import load

        if not (self.path / name).exists():
            return {}
        with reading(self.path):
            tensors: dict[str, npt.NDArray[Any]] = load(confined.read(self.path, name))
            return tensors

    def partition(self, *columns: str) -> Any:
        """Return columns of ``partition.parquet`` as a table; None if it is not there."""
        if not (self.path / "partition.parquet").exists():
            return None
        with reading(self.path):
            return read_table(self.path / "partition.parquet", columns)

    @cached_property
    def counts(self) -> npt.NDArray[np.integer]:
        """Return the training samples per client and class, [K, C]."""
        with reading(self.path):
            if lines := self.summary["clients"]:
                return np.array([client["class_counts"] for client in lines])
            return self._counted()

    def _counted(self) -> npt.NDArray[np.integer]:
        """Return the same from the partition: of very many clients the summary has no lines."""
        table, num_clients = self.partition("client_id", "split", "label"), self._num_clients
        if table is None:
            return np.zeros((num_clients, 0), dtype=np.int64)
        train = _places(table["split"], "train")
        owners, labels = (table[c].to_numpy()[train] for c in ("client_id", "label"))
        names = self.record.get("class_names") or []
        num_classes = max(len(names), int(labels.max(initial=-1)) + 1)
        outside = owners.min(initial=0) < 0 or owners.max(initial=-1) >= num_clients
        if outside or labels.min(initial=0) < 0 or num_clients * num_classes > LARGEST:
            raise ValueError("labels of clients that there are not")
        flat = np.bincount(owners * num_classes + labels, minlength=num_clients * num_classes)
        return flat.reshape(num_clients, num_classes)

    @cached_property
    def answers(self) -> dict[str, dict[str, npt.NDArray[np.uint8]]]:
        """Return which test samples clients got right in the last round.

        Per arm (``method``, ``baseline``, of runs that use the prior ``local_adjusted``) and test
        metric uint8 [K, bytes], a bit a sample; empty where they are not on record.
        """
        found: dict[str, dict[str, npt.NDArray[np.uint8]]] = {"method": {}, "baseline": {}}
        for name, bits in self._tensors("answers.safetensors").items():
            arm, _, test = name.partition(".")
            found.setdefault(arm, {})[test] = bits
        return found

    @property
    def undone(self) -> float | None:
        """Return the share of distillations that a guard undid; None without one."""
        told = self.summary.get("guard") or {}
        return told["undone"] / told["distillations"] if told.get("distillations") else None

    @property
    def adversaries(self) -> list[int]:
        """Return the clients that attack."""
        with reading(self.path):
            return [int(who) for who in (self.summary.get("attack") or {}).get("adversaries", ())]

    def test_sizes(self, test: str) -> npt.NDArray[np.integer] | None:
        """Return the test samples behind each client's accuracy, [K]; None if not on record."""
        num_clients = int(self.summary["num_clients"])
        if test == "accuracy_global":
            size = self.record.get("test_samples")
            return None if size is None else np.full(num_clients, int(size))
        told = self.arm.last("test_samples_own")
        if told is not None:  # of sites that tell no more of their data
            return np.nan_to_num(told).astype(np.int64)
        return self._split_sizes("test", num_clients)

    @property
    def validation_samples(self) -> int | None:
        """Return the samples that all clients hold back together; None if not on record."""
        sizes = self._split_sizes("val", int(self.summary["num_clients"]))
        return None if sizes is None else int(sizes.sum())

    @cached_property
    def _owners(self) -> dict[str, npt.NDArray[np.integer]] | None:
        """Return the client of every sample that is tested or validated on, by its split."""
        table = self.partition("client_id", "split")
        if table is None:
            return None
        with reading(self.path):
            owners = table["client_id"].to_numpy()
            return {split: owners[_places(table["split"], split)] for split in ("test", "val")}

    def _split_sizes(self, split: str, num_clients: int) -> npt.NDArray[np.integer] | None:
        if self._owners is None:
            return None
        with reading(self.path):
            owners = self._owners[split]
            if owners.max(initial=0) >= num_clients:
                raise ValueError("more owners of samples than clients")
            return np.bincount(owners, minlength=num_clients)


def _places(splits: Any, split: str) -> npt.NDArray[np.bool_]:
    """Return which samples are of a split; as Python's strings millions would fill the memory."""
    import pyarrow.compute as pc

    return np.asarray(pc.equal(splits, split).to_numpy())


def read_run(path: Path) -> Run:
    """Read a run folder; its arrays are read when they are asked for.

    Raises:
        ConfigError: If it is no run folder, was written by a newer fedfuse, or is damaged.
    """
    for name in ("run.json", "config.yaml"):
        if not (path / name).is_file():
            raise ConfigError(
                f"'{path}' is no run folder: {name} is missing",
                next_step="Name the folder that fedfuse printed at the end of a run or of a sweep.",
            )
    with reading(path):
        record = confined.read_json(path, "run.json")
        version = record.get("format", 1)
        if not isinstance(version, int) or version > FORMAT:
            raise ConfigError(
                f"the run folder '{path}' was written by a newer fedfuse",
                got=f"format {version}",
                allowed=f"format {FORMAT} or older",
                next_step="Read it with the version that run.json names, or update fedfuse.",
            )
        config = read_config(path)
        summary_file = path / "summary.json"
        summary = confined.read_json(path, "summary.json") if summary_file.exists() else {}
        check_shape(record, config, summary)
    files = {"run.json": record, "config.yaml": config, "summary.json": summary}
    return Run(path, *(Content(path / name, values) for name, values in files.items()))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with the files of a run folder into one message.

    Raises:
        ConfigError: If a file is damaged.
    """
    try:
        yield
    except FedfuseError:
        raise
    # Each of the formats fails in ways of its own.
    except Exception as error:
        raise damaged(path, error) from error
