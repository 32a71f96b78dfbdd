"""Pooling by element-wise maxima gives torch's numbers, bit by bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fedfuse.models.lenet import lenet5
from fedfuse.models.pooling import HalvingMaxPool2d, settled

CPU = torch.device("cpu")
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("shape", [(3, 6, 28, 28), (2, 16, 5, 7), (1, 1, 2, 2), (2, 3, 3, 2)])
def test_same_numbers_and_layout(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0], images[0, 0, 1, 1] = float("nan"), float("inf")
    images = images.to(memory_format=layout)
    with torch.inference_mode():
        pooled, expected = HalvingMaxPool2d(2)(images), nn.MaxPool2d(2)(images)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)
    assert pooled.is_contiguous(memory_format=layout)


def test_models_say_and_learn_the_same() -> None:
    plain = lenet5((1, 28, 28), 10)
    ours = settled(copy.deepcopy(plain), CPU)
    assert sum(type(layer) is HalvingMaxPool2d for layer in ours.modules()) == 2
    plain = plain.to(memory_format=torch.channels_last)
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours(images), plain(images))
    for model in (ours, plain):
        model(images).square().sum().backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3),
        nn.MaxPool2d(2, stride=1),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, return_indices=True),
        nn.AvgPool2d(2),
    ],
)
def test_other_pooling_stays(pool: nn.Module) -> None:
    (layer,) = settled(nn.Sequential(pool), CPU)
    assert type(layer) is type(pool)


def test_torch_itself_pools_where_gradients_are_wanted() -> None:
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    assert "MaxPool2D" in type(HalvingMaxPool2d(2)(images).grad_fn).__name__


@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
def test_strided_1x1_convolutions_keep_a_model_out_of_channels_last_on_a_cpu(stride):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1, stride=stride))
    weight = settled(model, torch.device("cpu"))[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == (stride == 1)
    assert weight.is_contiguous() == (stride != 1)
