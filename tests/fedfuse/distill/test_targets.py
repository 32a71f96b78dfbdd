"""Teachers in the space that a loss wants."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from fedfuse.distill import KL, MAELogits, MSELogits, SoftCrossEntropy, as_targets
from fedfuse.errors import FedfuseError
from fedfuse.types import Space, Teachers

LOGITS = Teachers(torch.arange(1), torch.tensor([[[math.log(9), 0.0]]]), Space.LOGITS)
PROBS = Teachers(torch.arange(1), torch.tensor([[[0.9, 0.1]]]), Space.PROBABILITIES)


def test_logits_become_probabilities_at_the_temperature_of_the_loss() -> None:
    # Odds 9 : 1; at T = 2 they are 3 : 1.
    torch.testing.assert_close(as_targets(LOGITS, KL()), PROBS.targets)
    expected = torch.tensor([[[0.75, 0.25]]])
    torch.testing.assert_close(as_targets(LOGITS, KL(temperature=2)), expected)
    torch.testing.assert_close(as_targets(LOGITS, SoftCrossEntropy(2)), expected)


def test_what_fits_is_left_alone() -> None:
    assert as_targets(PROBS, KL(temperature=2)) is PROBS.targets
    assert as_targets(LOGITS, MSELogits()) is LOGITS.targets


@pytest.mark.parametrize("loss", [MSELogits(), MAELogits()])
def test_logits_cannot_be_made_from_probabilities(loss: MSELogits | MAELogits) -> None:
    with pytest.raises(FedfuseError, match=r"rule=mean_logits.*distill=kl") as caught:
        as_targets(PROBS, loss)
    assert type(loss).__name__ in str(caught.value)


def test_a_plain_function_wants_probabilities_unless_it_says_otherwise() -> None:
    def loss(student_logits: Tensor, targets: Tensor, power: int = 1) -> Tensor:
        return (student_logits - targets).abs().pow(power).sum(-1)

    torch.testing.assert_close(as_targets(LOGITS, loss), PROBS.targets)
    loss.space = Space.LOGITS  # type: ignore[attr-defined]
    assert as_targets(LOGITS, functools.partial(loss, power=3)) is LOGITS.targets
