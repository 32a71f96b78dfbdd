"""By how much of an expert's step a prediction is moved: the examples by hand."""

from __future__ import annotations

import pytest
import torch

from fedfuse.fusion.experts import best_multiple, experts_of, prediction
from tests.fedfuse.fusion.test_logit_arithmetic import GRID, exact


def test_B2_unit_examples() -> None:
    for own, ref, other, alpha, target, least in (
        ((0, 0), (0, 0), (1, 0), 1.0, (0.731059, 0.268941), 0.0),
        ((1, 0), (0, 0), (2, 0), 1.4, (0.978119, 0.021881), 0.010384),
    ):
        step = (exact(*other) - exact(*ref)).view(2, 1)
        experts = experts_of(
            prediction(exact(*ref).view(2, 1)), step[None], torch.ones(1, 1, dtype=torch.bool)
        )
        found, price = best_multiple(prediction(exact(*own).view(2, 1)), None, step, experts, GRID)
        assert float(found) == pytest.approx(alpha)
        assert float(price) == pytest.approx(least, abs=1e-5)
        made = (exact(*own).view(2, 1) + found * step).softmax(0).flatten()
        torch.testing.assert_close(made, exact(*target), atol=1e-5, rtol=0)
    _, at_one = best_multiple(prediction(exact([1], [0])), None, step, experts, [1.0])
    assert float(at_one) == pytest.approx(0.050745, abs=1e-5)
