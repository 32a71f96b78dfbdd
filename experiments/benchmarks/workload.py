"""The work that is timed: clients of equal size on MNIST, or on data of its shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from experiments.config import compose
from fedfuse.types import IntArray


@dataclass(frozen=True, slots=True)
class Blocks:
    """A partitioner: ``size`` random samples for each client; the rest stays unused."""

    size: int

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client."""
        order = rng.permutation(len(labels))[: num_clients * self.size]
        return list(order.reshape(num_clients, self.size))


def find_mnist(given: Path | None) -> Path | None:
    """Return the folder with MNIST as parquet, if there is one."""
    near = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
    return given or (near if near.is_dir() else None)


def describe_data(mnist: Path | None) -> str:
    """Return in words what data is used."""
    return "MNIST" if mnist else "synthetic data of MNIST's shape"


def configure(
    mnist: Path | None, *lines: str, num_clients: int, samples: int, public: int, test: int
) -> DictConfig:
    """Return the configuration of a run on such work, with further overrides ``lines``."""
    data = (
        [f"dataset=mnist dataset.path='{mnist}'"]
        if mnist
        else [
            f"dataset=synthetic dataset.image_size=28 dataset.num_test={test} "
            f"dataset.num_train={num_clients * samples + public}"
        ]
    )
    overrides = [
        *data[0].split(" "),
        "partitioner=custom",
        f"partitioner._target_={__name__}.Blocks",
        f"+partitioner.size={samples}",
        f"num_clients={num_clients}",
        f"public.size={public}",
        f"evaluation.test_samples={test}",
        "method=mean",
        "client.private_weight=0",
        "warmup_rounds=0",
        "baseline=none",
    ]
    given = {line.partition("=")[0] for line in lines}
    kept = [line for line in overrides if line.partition("=")[0] not in given]
    return compose.configure([*kept, *lines])
