"""Augmentations that the server chooses with a model of its own, and tells the clients of."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from fedfuse.augment.protocol import Augmented
from fedfuse.declarations import part_name
from fedfuse.shapes import Int
from fedfuse.user_code import PartError, kind_of


@dataclass(frozen=True, slots=True)
class ServerView:
    """What the server knows as it chooses.

    Args:
        now: Its model.
        earlier: The same before its last ``lag`` lessons.
        ask: A model and inputs [n, ...] to logits [n, C], without gradients.
        generator: What is random beside the augmentation itself; on the CPU, the server's own.
        memory: What the augmentation remembers from round to round, tensors by name.
    """

    now: nn.Module
    earlier: nn.Module
    ask: Callable[[nn.Module, Tensor], Tensor]
    generator: torch.Generator
    memory: MutableMapping[str, Tensor]


class Guided(Protocol):
    """An augmentation (:class:`~fedfuse.augment.Augment`) that the server chooses.

    Before every round the server's ``choose`` makes ``width`` bytes of each sample, which travel
    with the request and are counted. All sides then call the augmentation with the round's inputs,
    the same generator and these bytes; with None as long as the server's model has not had ``lag``
    lessons, which leaves samples as they are.
    """

    needs_student: ClassVar[bool] = True

    @property
    def lag(self) -> int:
        """How many lessons lie between the server's model and its earlier state; 1 or more."""
        ...

    def width(self, shape: tuple[int, ...]) -> int:
        """Return how many bytes are sent of a sample whose inputs have this shape."""
        ...

    def choose(self, inputs: Tensor, generator: torch.Generator, view: ServerView) -> Tensor:
        """Return what is sent, uint8 [m, width], on the CPU."""
        ...

    def __call__(
        self, inputs: Tensor, generator: torch.Generator, sent: Tensor | None
    ) -> Augmented:
        """Return the changed samples."""
        ...


def chosen(
    part: Guided, inputs: Tensor, generator: torch.Generator, view: ServerView
) -> Int[Tensor, "m a"]:
    """Return what an augmentation chooses to send of inputs [m, ...].

    Raises:
        PartError: If it is nothing that can be sent.
    """
    sent = part.choose(inputs, generator, view)
    shape = (len(inputs), part.width(tuple(inputs.shape[1:])))
    if not isinstance(sent, Tensor) or sent.shape != shape or sent.dtype != torch.uint8:
        raise PartError(
            f"The augmentation {part_name(part)} chose nothing that can be sent",
            got=kind_of(sent),
            allowed=f"torch.uint8 of shape {list(shape)}",
        )
    return sent
