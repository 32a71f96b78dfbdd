"""Turn and move public samples to where a teacher and its student disagree.

HARD: Hard Augmentations for Robust Distillation (arXiv 2305.14890), of which only the abstract was
read: it looks for augmentations on which teacher and student disagree. That the teacher shall not
change its mind, and the search among a few candidates, are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.augment.guided import ServerView
from fedfuse.augment.protocol import Augmented
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_count, require_number

MOST = 256
"""Candidates that a byte can tell apart."""


def hardest(
    disagreement: Float[Tensor, "J m"],
    change: Float[Tensor, "J m"],
    lambda_s: float = 1.0,
    lambda_t: float = 1.0,
) -> Int[Tensor, " m"]:
    """Return each sample's best candidate; of equally good ones the first.

    Args:
        disagreement: Between teacher and student, on the candidate.
        change: Of the teacher, from the sample as it is.
        lambda_s: Weight of the first.
        lambda_t: Weight of the second, which counts against a candidate.

    >>> hardest(torch.tensor([[0.2], [0.6], [0.9]]), torch.tensor([[0.0], [0.1], [0.8]]))
    tensor([1])
    """
    return (lambda_s * disagreement - lambda_t * change).argmax(dim=0)


def moved(images: Float[Tensor, "m c h w"], how: Float[Tensor, "m 5"]) -> Tensor:
    """Return images that are turned, moved, scaled and brightened, each in its own way.

    Between pixels values are interpolated; beyond the border it goes on as it ends.

    Args:
        images: Model inputs.
        how: Angle in radians, shift to the right and down as shares of width and height, scale
            (above 1 is larger), and what is added to every value.
    """
    angle, right, down, scale, brighter = how.to(images).unbind(dim=1)
    height, width = images.shape[2:]
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # From a place in the new image to the one it comes from; sides run from -1 to 1.
    rows = [
        torch.stack(
            [cos, sin * (height / width), -2 * (right * cos + down * sin * height / width)]
        ),
        torch.stack(
            [-sin * (width / height), cos, -2 * (down * cos - right * sin * width / height)]
        ),
    ]
    grid = functional.affine_grid(
        torch.stack(rows).permute(2, 0, 1), list(images.shape), align_corners=False
    )
    turned = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return turned + brighter.view(-1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class HardAugment:
    """Change each sample as the server's model and its earlier state disagree on most.

    Of ``candidates`` drawn for each sample, the one is taken for which ``lambda_s D(f_T(x'),
    f_S(x')) - lambda_t D(f_T(x'), f_T(x))`` is largest; f_T is the server's model, f_S its state
    ``lag`` lessons ago, D the divergence KL. The first candidate is the sample as it is. Which one
    it was travels, one byte a sample. Labels are kept.

    Args:
        candidates: J, up to 256; 1 changes nothing.
        degrees: Largest angle, either way.
        shift: Largest shift, as a share of width and height.
        scale: Largest change of size, as a share.
        brightness: Largest change of all values, where the data's deviation is 1.
        lambda_s: Weight of the disagreement.
        lambda_t: Weight of the teacher's change of mind.
        lag: Lessons between teacher and student.
    """

    candidates: int = 8
    degrees: float = 30.0
    shift: float = 0.1
    scale: float = 0.1
    brightness: float = 0.1
    lambda_s: float = 1.0
    lambda_t: float = 1.0
    lag: int = 2
    needs_student: ClassVar[bool] = True
    needs_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("HardAugment", "candidates", self.candidates)
        require_number("HardAugment", "candidates", self.candidates, at_most=MOST)
        require_number("HardAugment", "degrees", self.degrees, at_least=0, at_most=180)
        for name in ("shift", "scale"):
            require_number("HardAugment", name, getattr(self, name), at_least=0, at_most=0.9)
        for name in ("brightness", "lambda_s", "lambda_t"):
            require_number("HardAugment", name, getattr(self, name), at_least=0)
        require_count("HardAugment", "lag", self.lag)

    def width(self, shape: tuple[int, ...]) -> int:  # noqa: ARG002 - the protocol's
        """Return 1: the number of the candidate."""
        return 1

    def drawn(self, num: int, generator: torch.Generator) -> Float[Tensor, "J m 5"]:
        """Return the candidates of each sample, as :func:`moved` takes them."""
        spread = torch.tensor(
            [math.radians(self.degrees), self.shift, self.shift, self.scale, self.brightness]
        )
        how = spread * (2 * torch.rand(self.candidates, num, 5, generator=generator) - 1)
        how[0] = 0
        how[..., 3] += 1
        return how

    def choose(self, inputs: Tensor, generator: torch.Generator, view: ServerView) -> Tensor:
        """Return the number of each sample's hardest candidate, uint8 [m, 1]."""
        before = view.ask(view.now, inputs).log_softmax(dim=1)
        disagreement, change = [], []
        for number, how in enumerate(self.drawn(len(inputs), generator)):
            asked = moved(inputs, how) if number else inputs
            teacher, student = (
                view.ask(model, asked).log_softmax(dim=1) for model in (view.now, view.earlier)
            )
            disagreement.append(_divergence(teacher, student))
            change.append(_divergence(teacher, before))
        found = hardest(
            torch.stack(disagreement), torch.stack(change), self.lambda_s, self.lambda_t
        )
        return found.to(torch.uint8).unsqueeze(1).cpu()

    def __call__(
        self, inputs: Tensor, generator: torch.Generator, sent: Tensor | None = None
    ) -> Augmented:
        """Return each sample as the candidate that was sent."""
        if sent is None:
            return Augmented(inputs)
        number = sent[:, 0].long().clamp_max(self.candidates - 1)
        how = self.drawn(len(inputs), generator)[number, torch.arange(len(inputs))]
        same = (number == 0).view(-1, 1, 1, 1).to(inputs.device)
        return Augmented(torch.where(same, inputs, moved(inputs, how)))


def _divergence(one: Float[Tensor, "m C"], other: Float[Tensor, "m C"]) -> Float[Tensor, " m"]:
    """Return KL(one || other) of logarithms of probabilities."""
    return (one.exp() * (one - other)).sum(dim=1)
