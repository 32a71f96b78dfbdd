"""Check what changes public samples before everybody answers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fedfuse.augment import Augment, Guided, ServerView, augmented, chosen
from fedfuse.declarations import declared, part_name
from fedfuse.testing.expect import call_twice, expect_declared
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.user_code import PartError


def example_view(inputs: Tensor, num_classes: int) -> ServerView:
    """Return what a server might know of inputs [m, ...] as it chooses what becomes of them."""
    draw, models = torch.Generator().manual_seed(0), []
    for _ in range(2):
        layer = nn.Linear(inputs[0].numel(), num_classes, device="meta").to_empty(device="cpu")
        for parameter in layer.parameters():
            nn.init.normal_(parameter, generator=draw)
        models.append(nn.Sequential(nn.Flatten(), layer))

    def ask(model: nn.Module, asked: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(model(asked))

    return ServerView(models[0], models[1], ask, torch.Generator().manual_seed(2), {})


def check_augment(augment: Augment | Guided) -> None:
    """Raise unless the augmentation keeps the promises of :class:`fedfuse.augment.Augment`.

    As many samples of the same shape, finite, also for images of one channel, for features, for a
    constant sample and for a single one; the same for the same generator; no global randomness;
    the samples that came stay as they are. One that the server chooses with its model chooses what
    can be sent, the same for the same models.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The augmentation {part_name(augment)}"
    expect_declared(name, augment, "augment")
    draw, seeded = torch.Generator().manual_seed(0), torch.Generator()
    guided = declared(augment, "needs_student", False)
    shapes: tuple[tuple[int, ...], ...] = ((6, 3, 8, 8), (5, 1, 4, 4))
    if not declared(augment, "needs_images", False):
        shapes = (*shapes, (7, 5), (1, 3))
    for shape in shapes:
        inputs = torch.randn(shape, generator=draw)
        inputs[0] = 1.0

        def make(inputs: Tensor) -> Tensor:
            sent = None
            if guided:
                view = example_view(inputs, num_classes=4)
                sent = chosen(cast("Guided", augment), inputs, seeded.manual_seed(1), view)
            return augmented(augment, inputs, seeded.manual_seed(1), sent)

        try:
            with global_randomness_untouched(name, f"{shape[0]} samples"):
                call_twice(name, make, inputs)
        except PartError as error:
            raise CheckFailed(str(error)) from error
