"""Frozen features: a module that nobody trains, run once over a data set and kept in the cache.

Clients' models then see vectors. What is computed is kept under a hash of the data's content and
of the module: its code, weights, parameters and the files that these name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.images import machine_memory, match_images
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.tensors import normalise, to_raw
from fedfuse.errors import DataError, ModelError, require
from fedfuse.models.factory import as_factory, target_name
from fedfuse.models.identity import identity
from fedfuse.models.saved import load_weights
from fedfuse.types import Samples
from fedfuse.user_code import brief, kind_of, showing
from fedfuse.validation import require_count

NOISE = 1e-3
"""Share of the largest feature by which two passes over the same sample may differ."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Turn the samples of a data set into feature vectors, float32 [N, F].

    They are standardised as a table's columns are, by the training rows alone. The module is in
    evaluation mode, sees batches of one size (the last is filled up) and must give each sample its
    own features, whatever else is in the batch.

    Args:
        module: A class or function as for a model; given ``input_shape`` and ``num_classes`` if it
            takes them. It is called with images float32 [B, channels, height, width] of values 0
            to 1, or with what else the data set holds, as it is.
        weights_file: Its weights, .safetensors or a state dict of torch.save; None as it is built.
        layer: The dotted name of the submodule whose output is taken; None for the module's own.
        channels: Turn images to grey (1) or RGB (3) first; None to keep them.
        image_size: Resize images to this height and width first; None to keep them.
        mean: Per channel, subtracted from images of values 0 to 1; None for nothing.
        std: Per channel, what they are then divided by.
        batch_size: Samples at a time.
        seed: Of what the module draws as it is built.
    """

    module: Callable[..., Any]
    weights_file: str | Path | None = None
    layer: str | None = None
    channels: int | None = None
    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        require(callable(self.module), "features", "module", self.module, "a module's class")
        require_count("features", "batch_size", self.batch_size)
        require_count("features", "seed", self.seed, at_least=0)
        require(self.channels in (None, 1, 3), "features", "channels", self.channels, "1 | 3")
        if self.image_size is not None:
            require_count("features", "image_size", self.image_size)
        both = (self.mean is None) == (self.std is None)
        given = [] if self.mean is None else [self.mean, self.std]
        fit = both and all(
            isinstance(part, Sequence) and all(map(_is_finite, part)) for part in given
        )
        fit = fit and len({len(part) for part in given}) < 2  # type: ignore[arg-type]
        fit = fit and all(s > 0 for s in self.std or ())
        got = f"{self.mean} with std {self.std}"
        require(fit, "features", "mean", got, "one per channel, with a std above 0 for each")

    def __call__(
        self, raw: RawDataset, *, threads: int = 1, like: RawDataset | None = None
    ) -> RawDataset:
        """Return the data set with features for samples, from the cache if they are there.

        Args:
            raw: The data set.
            threads: Torch's, on which the last bits may depend.
            like: Another data set of images: those of ``raw`` are first matched to its channels
                and size.

        Raises:
            ModelError: If the module cannot be built, cannot take such samples, or gives no
                features: not one finite vector for each sample by itself, or the same for all.
        """
        shape = self._shape(raw, like)
        module = self._build(shape, raw.num_classes)
        settings = {
            "module": identity(self.module, module),
            "layer": self.layer,
            "shape": shape,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "batch_size": self.batch_size,
            "threads": threads,
            "torch": torch.__version__,
            "data": raw.fingerprint,
            "domains": raw.domains,
        }

        def decode() -> Decoded:
            again = self._build(shape, raw.num_classes)
            if identity(self.module, again) != settings["module"]:
                raise ModelError(
                    f"{self._name} is another one each time it is built",
                    next_step="Draw its weights with torch's generator, which features.seed "
                    "seeds, or load them from a file.",
                )
            with _threads(threads):
                return self._decode(module, raw, shape)

        return cached(raw.name, cache_key("features", settings, {}), decode)

    @property
    def _name(self) -> str:
        return f"The features module {target_name(self.module)}"

    def _shape(self, raw: RawDataset, like: RawDataset | None) -> tuple[int, ...]:
        """Return the shape of one input of the module."""
        shape = tuple(raw.train.inputs.shape[1:])
        if not raw.is_image:
            if set_ := [n for n in ("channels", "image_size", "mean") if getattr(self, n)]:
                raise ModelError(
                    f"features.{set_[0]} is about images, and {raw.name} has none",
                    got=f"{raw.train.inputs.dtype.name} inputs {list(shape)}",
                    next_step=f"Leave features.{set_[0]} out, or set features=none.",
                )
            return shape
        if like is not None:
            shape = tuple(like.train.inputs.shape[1:])
        size = self.image_size
        shape = (self.channels or shape[0], size or shape[1], size or shape[2])
        if self.mean is not None and len(self.mean) != shape[0]:
            raise ModelError(
                "features.mean has not one number for each channel",
                got=f"{len(self.mean)} for {shape[0]} channels",
                next_step="Give as many, or set features.channels=3 for grey images.",
            )
        return shape

    def _build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            try:
                module = as_factory(self.module)(shape, num_classes)
            except (ModelError, MemoryError):
                raise
            except Exception as error:  # the author's, whatever it is
                told = ModelError(f"{self._name} cannot be built", got=brief(error))
                raise showing(told, error) from error
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"{self._name} is no module", got=kind_of(module), allowed="a torch.nn.Module"
            )
        if self.weights_file is not None:
            load_weights(module, self.weights_file)
        names = [name for name, _ in module.named_modules() if name]
        if self.layer is not None and self.layer not in names:
            raise ModelError(
                f"{self._name} has no layer '{self.layer}'",
                got=None if names else "a module without submodules",
                allowed=", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
                next_step="Set features.layer to one, or leave it out.",
            )
        with suppress(NotImplementedError):  # an exported program is what it was exported as
            module.eval()
        return module

    def _decode(self, module: nn.Module, raw: RawDataset, shape: tuple[int, ...]) -> Decoded:
        first = self._inputs(raw, raw.train.inputs, np.arange(self.batch_size), shape)
        self._check_alone(module, first, raw)
        pools = [
            None if pool is None else Samples(self._pool(module, raw, pool, shape), pool.labels)
            for pool in (raw.train, raw.test)
        ]
        train, test = pools
        assert train is not None
        if (train.inputs == train.inputs[0]).all():
            raise ModelError(
                f"{self._name} gives all samples the same features",
                got=f"{len(train)} times {train.inputs.shape[1]} equal numbers",
                next_step="Check its weights, and features.layer, mean and std.",
            )
        width = train.inputs.shape[1]
        if test is not None and test.inputs.shape[1] != width:
            raise self._uneven(width, test.inputs.shape[1])
        columns = tuple(f"feature {i}" for i in range(width))
        return Decoded(train, test, raw.class_names, columns, raw.domains)

    def _pool(
        self, module: nn.Module, raw: RawDataset, pool: Samples, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        out = np.empty((0, 0), dtype=np.float32)
        for start in range(0, len(pool), self.batch_size):
            rows = np.arange(start, start + self.batch_size)
            values = self._features(module, self._inputs(raw, pool.inputs, rows, shape), raw)
            found = values.numpy()[: len(pool) - start]
            if not start:
                width = found.shape[1]
                if (size := 4 * len(pool) * width) > (memory := machine_memory()):
                    raise DataError(
                        "The features are larger than this machine's memory",
                        got=f"{len(pool)} rows of {width}, {size} bytes",
                        allowed=f"{memory} bytes",
                        next_step="Set features.layer to one with a smaller output.",
                    )
                out = np.empty((len(pool), width), dtype=np.float32)
            if found.shape[1] != out.shape[1]:
                raise self._uneven(out.shape[1], found.shape[1])
            wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
            if len(wrong):
                raise ModelError(
                    f"{self._name} gives features that are not finite numbers",
                    got=f"row {start + wrong[0]} of {raw.name}, counted from 0, and "
                    f"{len(wrong) - 1} more of its batch",
                    next_step="Check its weights, and features.mean and std.",
                )
            out[start : start + len(found)] = found
        return out

    def _inputs(
        self, raw: RawDataset, inputs: npt.NDArray[Any], rows: Any, shape: tuple[int, ...]
    ) -> Tensor:
        """Return a batch of the module's inputs; rows beyond the last begin again at the first."""
        chosen = inputs[rows % len(inputs)]
        if not raw.is_image:
            return to_raw(chosen)
        channels, height, width = shape
        values = to_raw(match_images(chosen, channels, height, width))
        return normalise(values, self.mean or [0.0] * channels, self.std or [1.0] * channels)

    def _features(self, module: nn.Module, inputs: Tensor, raw: RawDataset) -> Tensor:
        """Return what the module makes of a batch, [B, F]."""
        seen: list[Any] = []
        hook = None
        if self.layer is not None:
            layer = module.get_submodule(self.layer)
            hook = layer.register_forward_hook(lambda _, __, output: seen.append(output))
        given = f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
        try:
            with torch.no_grad():
                out: Any = module(inputs)
        except Exception as error:  # the author's, whatever it is
            told = ModelError(
                f"{self._name} cannot take the samples of {raw.name}",
                got=brief(error),
                allowed=f"a module of inputs {given}",
                next_step=(
                    "Set features.channels or features.image_size to what it was made for, "
                    "features.batch_size for one of a fixed size"
                    if raw.is_image
                    else "Set features=none"
                    if raw.is_text
                    else "Set features=none: they are vectors already"
                )
                + ", or choose another module.",
            )
            raise showing(told, error) from error
        finally:
            if hook is not None:
                hook.remove()
        if self.layer is not None:
            if not seen:
                raise ModelError(
                    f"{self._name} does not call its layer '{self.layer}'",
                    next_step="Set features.layer to one that it calls.",
                )
            out = seen[-1]
        each = isinstance(out, Tensor) and out.ndim >= 2 and len(out) == len(inputs)
        if not each or not out.is_floating_point() or not out.numel():
            raise ModelError(
                f"{self._name} does not give one vector of numbers for each sample",
                got=kind_of(out).removeprefix("a Tensor, "),
                allowed=f"a floating-point tensor [{len(inputs)}, F] for inputs {given}",
                next_step="Return the features alone from forward(), or set features.layer.",
            )
        found: Tensor = out.flatten(1).to(torch.float32)
        return found

    def _check_alone(self, module: nn.Module, inputs: Tensor, raw: RawDataset) -> None:
        """Refuse features that are drawn anew each time, or depend on the rest of the batch."""
        once, again = (self._features(module, inputs.clone(), raw) for _ in range(2))
        half = (len(inputs) + 1) // 2
        mixed = torch.cat([inputs[:half], inputs[: len(inputs) - half]])
        beside = self._features(module, mixed, raw)[:half]
        if once.shape == again.shape and not _alike(once, again):
            raise ModelError(
                f"{self._name} gives a sample other features each time",
                next_step="Leave out what it draws, such as dropout, in evaluation.",
            )
        if not _alike(once[:half], beside):
            raise ModelError(
                f"{self._name} gives a sample features that depend on the others in its batch",
                next_step="Normalise each sample by itself, or by running statistics, or set "
                "features.batch_size=1.",
            )

    def _uneven(self, first: int, other: int) -> ModelError:
        return ModelError(
            f"{self._name} gives vectors of different lengths", got=f"{first} and {other} numbers"
        )


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    reach = NOISE * float(one.abs().nan_to_num(0, 0, 0).max())
    return torch.allclose(one, other, rtol=NOISE, atol=reach, equal_nan=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
