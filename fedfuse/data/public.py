"""The public set: held out of the data, from another data set, or noise as a control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fedfuse.data.draw import apportion, draw_by_class
from fedfuse.data.duplicates import row_hashes
from fedfuse.data.images import match_images
from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError, require
from fedfuse.types import IntArray, PublicSet, is_text
from fedfuse.validation import require_count, require_number, require_one_of

NONE_TAKEN: IntArray = np.empty(0, dtype=np.int64)
NONE_TAKEN.setflags(write=False)


class PublicSource(Protocol):
    """Provide the public set: the one interface that the split calls."""

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Return the public set and the rows that it used up.

        Args:
            raw: The data set; the public set must have the layout of ``raw.train.inputs``.
            available: Rows of ``raw.train`` that are not test data.
            rng: The stream for this draw.

        Returns:
            The public set, and those members of ``available`` that are in it and that no client
            will own (none for a set that comes from elsewhere).
        """
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Hold samples out of the training pool: the public set has the private distribution.

    Args:
        size: P, the number of public samples.
        draw: ``balanced`` takes the same number of each class, ``natural`` draws without looking
            at labels, ``skewed`` takes class shares from a Dirichlet distribution, as far as
            each class goes.
        alpha: Concentration of that distribution; the smaller, the more skewed.
        labelled: Whether its labels are known to anybody; as a rule they are not.
    """

    size: int = 500
    draw: Literal["balanced", "natural", "skewed"] = "balanced"
    alpha: float = 0.5
    labelled: bool = True

    def __post_init__(self) -> None:
        require_count("held_out", "size", self.size)
        require_one_of("held_out", "draw", self.draw, ("balanced", "natural", "skewed"))
        require_number("held_out", "alpha", self.alpha, above=0)
        require(
            isinstance(self.labelled, bool), "held_out", "labelled", self.labelled, "true or false"
        )

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Draw the public set out of the available rows."""
        if self.size >= len(available):
            raise DataError(
                f"The public set does not fit into {raw.name}",
                got=f"public.size={self.size}",
                allowed=f"less than the {len(available)} training samples that are not test data",
                next_step="Lower public.size, or use public=external.",
            )
        labels = raw.train.labels
        supply = np.bincount(labels[available], minlength=raw.num_classes)
        if self.draw == "natural":
            taken = np.sort(rng.choice(available, size=self.size, replace=False))
        elif self.draw == "balanced":
            counts = apportion(np.ones(raw.num_classes), self.size, supply, rng)
            scarce = int(supply.argmin())
            if counts.max() - counts.min() > 1:
                called = f"class {scarce}" + (
                    f" ('{name}')" if (name := raw.class_names[scarce]) != str(scarce) else ""
                )
                raise DataError(
                    f"{raw.name} is too small for a balanced public set",
                    got=f"public.size={self.size} with {supply[scarce]} samples of {called}",
                    allowed=f"at most {raw.num_classes * supply[scarce]}",
                    next_step=("Lower public.size or set" if supply[scarce] else "Set")
                    + " public.draw=natural.",
                )
            taken = draw_by_class(labels, available, counts, rng)
        else:
            shares = rng.dirichlet(np.full(raw.num_classes, self.alpha))
            counts = apportion(shares, self.size, supply, rng)
            taken = draw_by_class(labels, available, counts, rng)
        source = f"{self.size} samples held out of {raw.name}, {self.draw}"
        source += "" if self.labelled else ", unlabelled"
        known = np.array(labels[taken]) if self.labelled else None
        return PublicSet(raw.train.inputs[taken], known, source), taken


@dataclass(frozen=True, slots=True)
class Whole:
    """Make everything public that is not test data: for sites that bring their own private data."""

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Take every available row."""
        del rng  # nothing is drawn
        inputs, labels = raw.train.inputs[available], np.array(raw.train.labels[available])
        return PublicSet(inputs, labels, f"all {len(available)} samples of {raw.name}"), available


@dataclass(frozen=True, slots=True)
class External:
    """Take the public set from another data set, matched in channels and size (texts: in words).

    The other set's classes mean something else, so no labels come with it.

    Args:
        dataset: The other data set, or a function that loads it.
        size: P, the number of public samples.
        max_overlap: The largest share of them that may be exact copies of private or test
            samples.
    """

    dataset: RawDataset | Callable[[], RawDataset]
    size: int = 500
    max_overlap: float = 0.01

    def __post_init__(self) -> None:
        require_count("external", "size", self.size)
        require(
            isinstance(self.dataset, RawDataset) or callable(self.dataset),
            "external",
            "dataset",
            self.dataset,
            "a data set or a function that loads one",
        )
        require_number("external", "max_overlap", self.max_overlap, at_least=0, at_most=1)

    def __call__(
        self,
        raw: RawDataset,
        available: IntArray,  # noqa: ARG002 - the protocol's; nothing is taken
        rng: np.random.Generator,
    ) -> tuple[PublicSet, IntArray]:
        """Draw from the other data set and refuse it if it is the private data again."""
        other = self.dataset if isinstance(self.dataset, RawDataset) else self.dataset()
        if self.size > len(other.train):
            raise DataError(
                f"The public set is larger than {other.name}",
                got=f"public.size={self.size}",
                allowed=f"at most {len(other.train)}",
                next_step="Lower public.size.",
            )
        rows = np.sort(rng.choice(len(other.train), size=self.size, replace=False))
        inputs = match(other.train.inputs[rows], other.columns, raw, other.name)
        copies = int(np.isin(row_hashes(inputs), _all_hashes(raw)).sum())
        if other.fingerprint == raw.fingerprint or copies > self.max_overlap * self.size:
            raise DataError(
                f"The external public set {other.name} holds the private or test data of "
                f"{raw.name}",
                got=f"{copies} of {self.size} public samples are exact copies",
                allowed=f"at most {self.max_overlap:.0%}",
                next_step="Choose another public.dataset, or public=held_out to hold samples out.",
            )
        source = f"{self.size} samples of {other.name} (external), unlabelled"
        return PublicSet(inputs, None, source), NONE_TAKEN


@dataclass(frozen=True, slots=True)
class Noise:
    """Use noise as the public set: a control that tells what real public data is worth.

    Args:
        size: P, the number of public samples.
        kind: ``uniform`` over the range of the values (0 to 255; features: each one's range; texts:
            words that the data has, as often as there), or ``gaussian`` with their mean and
            deviation (per channel; features: each one's; not of texts).
    """

    size: int = 500
    kind: Literal["uniform", "gaussian"] = "uniform"

    def __post_init__(self) -> None:
        require_count("noise", "size", self.size)
        require_one_of("noise", "kind", self.kind, ("uniform", "gaussian"))

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Draw the noise in the layout of the data."""
        shape = (self.size, *raw.train.inputs.shape[1:])
        source = f"{self.size} samples of {self.kind} noise"
        if self.kind == "gaussian":
            inputs = as_raw(rng.normal(*moments(raw, available), size=shape), raw)
        elif raw.is_image:
            inputs = rng.integers(0, 256, size=shape, dtype=np.uint8)
        elif raw.is_text:
            rows = raw.train.inputs[available]
            lengths = rng.choice(np.count_nonzero(rows, axis=1), size=(self.size, 1))
            inputs = rng.choice(rows[rows > 0], size=shape)
            inputs[np.arange(shape[1]) >= lengths] = 0
        else:
            rows = raw.train.inputs[available]
            inputs = as_raw(rng.uniform(rows.min(axis=0), rows.max(axis=0), size=shape), raw)
        return PublicSet(inputs, None, source), NONE_TAKEN


def moments(raw: RawDataset, available: IntArray) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return mean and deviation of the values: per channel of images, else each feature's.

    Args:
        raw: The data set.
        available: Rows of ``raw.train`` that features are measured on.

    Raises:
        DataError: If the samples are texts.
    """
    if raw.is_text:
        raise DataError(
            f"Noise is added to pixels and numbers, and {raw.name} holds texts",
            allowed="public=held_out, public=external, or public=noise public.kind=uniform, which "
            "draws words",
            next_step="Choose one of them.",
        )
    if raw.is_image:
        shape = (1, -1, 1, 1)
        return np.reshape(raw.mean, shape) * 255, np.reshape(raw.std, shape) * 255
    rows = raw.train.inputs[available]
    return rows.mean(axis=0), rows.std(axis=0)


def as_raw(values: npt.NDArray[np.float64], raw: RawDataset) -> npt.NDArray[Any]:
    """Return values [P, ...] in the layout of the data: images are whole numbers from 0 to 255."""
    if raw.is_image:
        return values.round().clip(0, 255).astype(np.uint8)
    return values.astype(np.float32)


def match(
    inputs: npt.NDArray[Any], columns: tuple[str, ...], raw: RawDataset, name: str
) -> npt.NDArray[Any]:
    """Return inputs, of a table with its columns' names, in the layout of ``raw``."""
    if raw.is_image and inputs.dtype == np.uint8:
        channels, height, width = raw.train.inputs.shape[1:]
        return match_images(inputs, channels, height, width)
    if raw.is_text and is_text(inputs):
        words = raw.train.inputs.shape[1]
        return np.pad(inputs[:, :words], ((0, 0), (0, max(0, words - inputs.shape[1]))))
    if raw.columns != columns and raw.columns and columns:
        theirs, ours = set(columns) - set(raw.columns), set(raw.columns) - set(columns)
        raise DataError(
            f"The public table {name} has not the columns and categories of {raw.name}",
            got=f"{_some(theirs)} beside them, {_some(ours)} of them missing"
            if theirs or ours
            else "the same in another order",
            next_step="Give both the same columns, or hold the public set out: public=held_out.",
        )
    if (inputs.dtype, inputs.shape[1:]) == (raw.train.inputs.dtype, raw.train.inputs.shape[1:]):
        return inputs
    raise DataError(
        f"The public data of {name} cannot be matched to {raw.name}",
        got=_kind(inputs),
        allowed=_kind(raw.train.inputs),
        next_step="Choose a public.dataset of the same kind, or hold the public set out: "
        "public=held_out.",
    )


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "") if shown else "none"


def _kind(inputs: npt.NDArray[Any]) -> str:
    """Return ``images uint8 [1, 28, 28]``, ``features float32 [30]`` or ``texts int32 [64]``."""
    kind = "images" if inputs.dtype == np.uint8 else "texts" if is_text(inputs) else "features"
    return f"{kind} {inputs.dtype.name} {list(inputs.shape[1:])}"


def _all_hashes(raw: RawDataset) -> npt.NDArray[np.uint64]:
    pools = [raw.train] if raw.test is None else [raw.train, raw.test]
    return np.concatenate([row_hashes(pool.inputs) for pool in pools])
