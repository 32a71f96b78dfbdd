"""Changes of models by their leading singular directions."""

import pytest
import torch
from torch import nn

from fedfuse.exchange.low_rank import AverageChanges, LowRank
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout

LAYOUT = Layout.of(nn.Linear(6, 4))  # weight [4, 6], bias [4]


def outer(scale: float, row: int, column: int) -> torch.Tensor:
    """Return a weight with one number, and a bias of ones."""
    weight = torch.zeros(4, 6)
    weight[row, column] = scale
    return torch.cat([weight.flatten(), torch.ones(4)])


def test_of_two_directions_the_longer_one_travels_and_the_bias_as_it_is():
    code = LowRank(LAYOUT, 0.25)  # r = 1: 4 + 6 numbers instead of 24
    assert (code.rank((4, 6)), code.size) == (1, 4 + 6 + 4)
    short = code.shorten(outer(3.0, 0, 1) + outer(1.0, 2, 5))
    assert len(short) == code.size
    expected = outer(3.0, 0, 1)
    expected[-4:] = 2
    torch.testing.assert_close(code.restore(short), expected)


def test_what_would_not_become_shorter_travels_as_it_is():
    code = LowRank(LAYOUT, 0.75)  # r = 3: 30 numbers for 24
    vector = torch.randn(28)
    assert code.size == 28
    assert torch.equal(code.restore(code.shorten(vector)), vector)


def test_a_convolution_is_a_matrix_of_its_filters():
    layout = Layout.of(nn.Conv2d(3, 8, 3, bias=False))
    code, factors = LowRank(layout, 0.25), (torch.randn(8, 2), torch.randn(2, 27))
    vector = (factors[0] @ factors[1]).flatten()
    assert code.size == 2 * (8 + 27)
    torch.testing.assert_close(code.restore(code.shorten(vector)), vector, rtol=1e-4, atol=1e-4)


def test_changes_are_averaged_by_samples_and_shortened_again():
    code = LowRank(LAYOUT, 0.25)
    combine = AverageChanges(AverageModels(("s",) * 3, {"s": LAYOUT}), {"s": code})
    sent = [code.shorten(outer(4.0, 0, 1)), code.shorten(outer(4.0, 2, 5))]
    fusion = combine(ModelBank.of([0, 1], [30, 10], sent), 1)
    rows = fusion.teachers.vectors()
    assert fusion.teachers.client_ids.tolist() == [0, 1, 2]  # who rests gets it, too
    for row in rows:
        # The mean has 3 at one place and 1 at another; of these the longer direction is left.
        torch.testing.assert_close(code.restore(row), outer(3.0, 0, 1))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_nothing_has_changed_is_nothing(share):
    code = LowRank(LAYOUT, share)
    assert not code.restore(code.shorten(torch.zeros(28))).any()
