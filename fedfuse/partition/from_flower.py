"""Any partitioner of flwr-datasets as one of ours."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fedfuse.errors import ConfigError, ParameterError, PartitionError, did_you_mean, require
from fedfuse.partition.check import validate_partition
from fedfuse.partition.deal import even_sizes
from fedfuse.partition.request import check_request
from fedfuse.types import IntArray
from fedfuse.validation import require_flag

_LABEL, _INDEX = "label", "index"


@dataclass(frozen=True, slots=True)
class FromFlower:
    """Run a partitioner of ``flwr_datasets.partitioner`` on the labels.

    The samples are shuffled first, as Flower's ``FederatedDataset`` does by default: several of
    its partitioners cut consecutive blocks.

    Args:
        partitioner: The class's name, the class, or an instance that has no data set yet (it is
            copied; its own seed and number of partitions count).
        options: Keyword arguments of the class. What it takes of ``num_partitions``,
            ``partition_by`` (the labels), ``seed`` and ``partition_sizes`` (equal sizes) is
            filled in where it is not given.
        shuffle: Whether to shuffle the samples first.

    >>> FromFlower("DirichletPartitioner", {"alpha": 0.5}).options
    {'alpha': 0.5}
    """

    partitioner: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    shuffle: bool = True

    def __post_init__(self) -> None:
        owner = "from_flower"
        ok = hasattr(self.partitioner, "load_partition") or isinstance(self.partitioner, str)
        allowed = "the name of a class of flwr_datasets.partitioner, such a class or an instance"
        require(ok and self.partitioner != "", owner, "partitioner", self.partitioner, allowed)
        ok = isinstance(self.options, Mapping) and all(isinstance(key, str) for key in self.options)
        require(ok, owner, "options", self.options, "names and values of its keyword arguments")
        instance = not isinstance(self.partitioner, (str, type))
        require(
            not (instance and self.options), owner, "options", self.options, "none for an instance"
        )
        require_flag(owner, "shuffle", self.shuffle)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client.

        Raises:
            ConfigError: If flwr-datasets is not installed, or has no such class.
            ParameterError: If the class has no such option.
            PartitionError: If the class needs an option that is not given, refuses the data, or
                breaks a promise.
        """
        check_request("from_flower", labels, num_clients)
        datasets = _hub("datasets")
        order = rng.permutation(len(labels)) if self.shuffle else np.arange(len(labels))
        name = self._name()
        try:
            flower = self._build(len(labels), num_clients, int(rng.integers(2**31)))
            flower.dataset = datasets.Dataset.from_dict({_LABEL: labels[order], _INDEX: order})
            found = flower.num_partitions
            if found == num_clients:
                parts = [flower.load_partition(i)[:][_INDEX] for i in range(num_clients)]
        except (ValueError, TypeError, AssertionError, LookupError, ArithmeticError) as error:
            raise PartitionError(
                f"Flower's {name} cannot deal {len(labels)} samples to {num_clients} clients",
                got=str(error) or type(error).__name__,
                next_step="Change its options or num_clients.",
            ) from error
        if found != num_clients:
            raise PartitionError(
                f"Flower's {name} makes another number of partitions than there are clients",
                got=str(found),
                allowed=f"num_clients={num_clients}",
            )
        return validate_partition(parts, len(labels), num_clients)

    def _name(self) -> str:
        if isinstance(self.partitioner, str):
            return self.partitioner
        kind = self.partitioner if isinstance(self.partitioner, type) else type(self.partitioner)
        return kind.__name__

    def _build(self, num_samples: int, num_clients: int, seed: int) -> Any:
        """Return a fresh Flower partitioner without a data set."""
        if not isinstance(self.partitioner, (str, type)):
            return copy.deepcopy(self.partitioner)
        kind = self.partitioner if isinstance(self.partitioner, type) else find(self.partitioner)
        known = list(inspect.signature(kind).parameters)
        for option in self.options:
            if option not in known:
                near = did_you_mean(option, known)
                hint = f"Did you mean '{near}'?" if near else None
                allowed = f"of {kind.__name__}: {', '.join(known)}"
                raise ParameterError("from_flower", "options", option, allowed, next_step=hint)
        sizes = even_sizes(num_samples, num_clients).tolist()
        filled = {
            "num_partitions": num_clients,
            "partition_by": _LABEL,
            "seed": seed,
            "partition_sizes": sizes,
        }
        arguments = {name: value for name, value in filled.items() if name in known}
        arguments |= {name: _plain(name, value) for name, value in self.options.items()}
        needed = [
            name
            for name, parameter in inspect.signature(kind).parameters.items()
            if parameter.default is parameter.empty and name not in arguments
        ]
        if needed:
            raise PartitionError(
                f"Flower's {kind.__name__} needs the option{'s' * (len(needed) > 1)} "
                f"{', '.join(needed)}",
                got=f"options {dict(self.options)}",
                next_step=f"Set partitioner.options.{needed[0]}=VALUE.",
            )
        return kind(**arguments)


def find(name: str) -> Any:
    """Return the class ``name`` of ``flwr_datasets.partitioner``.

    Raises:
        ConfigError: If there is none.
    """
    module = _hub("flwr_datasets.partitioner")
    known = [each for each in module.__all__ if each != "Partitioner"]
    if name not in known:
        near = did_you_mean(name, known)
        raise ConfigError(
            f"flwr_datasets.partitioner has no partitioner '{name}'",
            allowed=", ".join(known),
            next_step=f"Did you mean '{near}'?" if near else None,
        )
    return getattr(module, name)


def _plain(name: str, value: Any) -> Any:
    """Return configuration lists as the lists and arrays that Flower asks for by type."""
    if name == "distribution_array":
        return np.array([list(row) for row in value])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value


def _hub(module: str) -> ModuleType:
    """Return a module of the optional extra 'hub'."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"from_flower needs the package '{module.partition('.')[0]}', which is not installed",
            next_step="Run: pip install -c constraints.txt -e '.[hub]'",
        ) from None
