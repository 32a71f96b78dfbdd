"""The attacks that a configuration can name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.attack.predictions import (
    as_logits,
    constant_class,
    imitate,
    random_logits,
    shift_together,
)
from fedfuse.attack.protocol import Scene
from fedfuse.rng import Streams
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class _Honest:
    """What all attacks share: a fraction of the clients, and honesty where nothing else is said.

    Args:
        fraction: Share of the clients that are adversaries, above 0 and below 1.
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_number(name, "fraction", self.fraction, above=0, at_most=0.99)

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:  # noqa: ARG002
        """Return the labels as they are."""
        return labels

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Return the predictions as they are."""
        return logits


@dataclass(frozen=True, slots=True)
class LabelFlip(_Honest):
    """Train on the class C-1-y for y and send honest predictions of that model."""

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return the flipped labels."""
        return num_classes - 1 - labels


@dataclass(frozen=True, slots=True)
class PermutedLabels(_Honest):
    """Train on labels that are permuted without a fixed point, alike for all adversaries.

    Args:
        fraction: Share of the clients that are adversaries.
        seed: Of the permutation.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_count("PermutedLabels", "seed", self.seed, at_least=0)

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return the permuted labels: a random cycle through all classes."""
        generator = Streams(self.seed).torch("attack", "permutation")
        order = torch.randperm(num_classes, generator=generator)
        successor = torch.empty_like(order)
        successor[order] = order.roll(-1)
        return successor.to(labels.device)[labels]


@dataclass(frozen=True, slots=True)
class RandomLogits(_Honest):
    """Send normal noise.

    Args:
        fraction: Share of the clients that are adversaries.
        scale: Its standard deviation, in logits.
    """

    scale: float = 5.0

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_number("RandomLogits", "scale", self.scale, above=0)

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:
        """Return noise."""
        return random_logits(logits, self.scale, scene.own)


@dataclass(frozen=True, slots=True)
class ConstantClass(_Honest):
    """Send one class for every sample.

    Args:
        fraction: Share of the clients that are adversaries.
        label: The class.
        margin: How far above the others, in logits.
    """

    label: int = 0
    margin: float = 10.0

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_count("ConstantClass", "label", self.label, at_least=0)
        require_number("ConstantClass", "margin", self.margin, above=0)

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:  # noqa: ARG002
        """Return the class (of a smaller number of classes, the last)."""
        return constant_class(logits, min(self.label, logits.shape[1] - 1), self.margin)


@dataclass(frozen=True, slots=True)
class LittleIsEnough(_Honest):
    """Collude: all move the logits of the same classes up and of the others down, a little.

    Args:
        fraction: Share of the clients that are adversaries.
        deviations: How far, in standard deviations of each class's logits over the samples.
    """

    deviations: float = 1.5

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_number("LittleIsEnough", "deviations", self.deviations, above=0)

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:
        """Return the shifted predictions."""
        coins = torch.randint(0, 2, (logits.shape[1],), generator=scene.common)
        return shift_together(logits, self.deviations, 2.0 * coins - 1)


@dataclass(frozen=True, slots=True)
class Imitate(_Honest):
    """Send another client's class distribution, to be chosen as its neighbour, and wrong classes.

    Args:
        fraction: Share of the clients that are adversaries.
        margin: How confident, in logits.
    """

    margin: float = 10.0

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_number("Imitate", "margin", self.margin, above=0)

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:
        """Return classes in the victim's shares."""
        return imitate(logits, scene.victim, self.margin, scene.own)


@dataclass(frozen=True, slots=True)
class FreeRider(_Honest):
    """Contribute nothing: send back what the server sent last; before that, nothing certain.

    Args:
        fraction: Share of the clients that are adversaries.
        temperature: At which the server reads predictions.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _Honest.__post_init__(self)
        require_number("FreeRider", "temperature", self.temperature, above=0)

    def predictions(self, logits: Tensor, scene: Scene) -> Tensor:
        """Return the last targets as logits, or zeros."""
        if scene.received is None:
            return torch.zeros_like(logits)
        return as_logits(scene.received, self.temperature)
