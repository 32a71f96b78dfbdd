"""The clients' models that a run left, read from a folder that anybody may have written.

They are numbers: weights and buffers by name, and what it takes to use them. Which code builds
the model around them is the reader's to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from experiments.assembly.privacy import draws_from_secrets
from experiments.config.damaged import damaged
from experiments.config.untrusted import MALFORMED
from fedfuse.errors import ConfigError
from fedfuse.files import confined
from fedfuse.files.paths import expand
from fedfuse.models.plan import build_checked
from fedfuse.protocols import ModelPlan
from fedfuse.types import FederatedData
from server.reporters.folder import FORMAT, MODELS

FEW = 200
"""So many clients, or more, leave no models with ``models=auto``. They are most of a run's bytes;
each takes a hundredth of a second, together less than a hundredth of the default job."""

LARGEST = 2**16
"""Pixels of a side, channels, classes, or clients, that are believed."""


@dataclass(frozen=True, slots=True)
class SavedModels:
    """What is in the folder ``models`` of a run.

    Args:
        folder: The run folder.
        input_shape: Shape of one input.
        num_classes: C.
        mean: Per-channel mean on the scale 0 to 1, by which inputs are normalised; or empty.
        std: Per-channel standard deviation, likewise.
        architectures: The name of each client's architecture, [K].
    """

    folder: Path
    input_shape: tuple[int, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    architectures: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> SavedModels:
        """Read what a run says of its models.

        Raises:
            ConfigError: If it left none, or a file is damaged.
        """
        try:
            about = json.loads(confined.read(folder, MODELS, "models.json", most=confined.LARGEST))
        except FileNotFoundError:
            raise ConfigError(
                f"the run in '{folder}' left no models of its clients",
                next_step="Run it with models=save.",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(folder, error) from error
        try:
            if missing := about.get("missing"):
                raise ConfigError(
                    f"the run in '{folder}' left no models of its clients", got=str(missing)[:300]
                )
            if type(about["format"]) is not int or about["format"] > FORMAT:
                raise ValueError(f"format {about['format']!r}")
            sizes = (*about["input_shape"], about["num_classes"], len(about["architectures"]))
            for size in sizes:
                if type(size) is not int or not 1 <= size <= LARGEST:
                    raise ValueError(f"a size of {size!r}")
            return cls(
                folder=folder,
                input_shape=tuple(about["input_shape"]),
                num_classes=about["num_classes"],
                mean=tuple(map(float, about["mean"])),
                std=tuple(map(float, about["std"])),
                architectures=tuple(map(str, about["architectures"])),
            )
        except MALFORMED as error:
            raise damaged(folder, error) from error

    def weights(self, client_id: int, *, twin: bool = False) -> dict[str, Tensor]:
        """Return the weights and buffers of a client's model, on the CPU.

        Args:
            client_id: Whose.
            twin: Whether its local twin's are meant, which a guard that decides what is deployed
                leaves beside the fused model's.

        Raises:
            ConfigError: If there is no such client, or its file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        count = len(self.architectures)
        if type(client_id) is not int or not 0 <= client_id < count:
            raise ConfigError(
                f"the run in '{self.folder}' has no such client",
                got=f"{client_id!r:.100}",
                allowed=f"0 to {count - 1}",
            )
        try:
            found: dict[str, Tensor] = load(
                confined.read(
                    self.folder, MODELS, f"{client_id}{'.local' if twin else ''}.safetensors"
                )
            )
            return found
        except (OSError, SafetensorError, ValueError) as error:
            raise damaged(self.folder, error) from error


def about_models(cfg: DictConfig, data: FederatedData, models: ModelPlan) -> dict[str, Any] | None:
    """Return what is written beside the clients' models; None for a run that leaves none.

    Args:
        cfg: The configuration. ``models=auto`` also leaves none where a model would tell what
            privacy noise hides, or belongs to a site of its own.
        data: The federation's data.
        models: Which client runs which architecture.
    """
    apart = cfg.sites._target_ is not None or draws_from_secrets(cfg)
    chosen = cfg.num_clients < FEW and not apart if cfg.models == "auto" else cfg.models == "save"
    if not chosen:
        return None
    return {
        "input_shape": data.input_shape,
        "num_classes": data.num_classes,
        "mean": data.mean,
        "std": data.std,
        "architectures": [models.name(client_id) for client_id in range(cfg.num_clients)],
    }


def continued(cfg: DictConfig, data: FederatedData, models: ModelPlan) -> SavedModels | None:
    """Return the models that ``continue_from`` names, if they fit the clients of this run.

    Raises:
        ConfigError: If the run left none, or they are of other clients, inputs, classes or
            architectures.
    """
    if cfg.continue_from is None:
        return None
    folder = expand(cfg.continue_from)
    if not folder.is_dir():
        raise ConfigError(
            f"continue_from names no folder: '{folder}'",
            next_step="Name the folder of a run that left its clients' models.",
        )
    saved = SavedModels.read(folder)
    here = {
        "num_clients": cfg.num_clients,
        "classes": data.num_classes,
        "input shape": list(data.input_shape),
    }
    there = {
        "num_clients": len(saved.architectures),
        "classes": saved.num_classes,
        "input shape": list(saved.input_shape),
    }
    for name, value in here.items():
        if there[name] != value:
            raise _unlike(folder, f"{name} {there[name]}", f"{name} {value}")
    for client_id, name in enumerate(saved.architectures):
        if (wanted := models.name(client_id)) != name:
            owner = f"client {client_id}"
            raise _unlike(folder, f"{name} of {owner}", f"{wanted} of {owner}")
        if saved.architectures.index(name) == client_id:  # the first that has it
            model = build_checked(models, client_id, data.input_shape, data.num_classes, 0)
            ours, theirs = (_shapes(s) for s in (model.state_dict(), saved.weights(client_id)))
            if ours != theirs:
                key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
                got, allowed = (f"{key} {shapes.get(key, 'missing')}" for shapes in (theirs, ours))
                raise _unlike(folder, f"{name} with {got}", f"{name} with {allowed}")
    return saved


def _shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in state.items()}


def _unlike(folder: Path, got: str, allowed: str) -> ConfigError:
    return ConfigError(
        f"the models in '{folder}' do not fit the clients of this run",
        got=got,
        allowed=allowed,
        next_step="Continue with the clients, the data set and the model of that run.",
    )
