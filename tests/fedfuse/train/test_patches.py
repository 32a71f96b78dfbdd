"""Convolutions as matrix products: both ways are the convolution, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fedfuse.train import patches


@pytest.mark.thinned
@pytest.mark.parametrize("bands", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [(3, 5), (1, 2), (5, 1)])
@pytest.mark.parametrize("stride", [1, (2, 3)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_same_convolution(
    bands, channels, kernel, stride, padding, dilation, biased, monkeypatch
):
    monkeypatch.setattr(patches, "_bands_cost_less", lambda *_: bands)
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()

    given = [drawn(2, channels, 9, 11), drawn(2, channels, *kernel)]
    bias = drawn(2) if biased else None
    given += [bias] if biased else []
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = F.conv2d(given[0], given[1], bias, **options)
    with patches.Patches(always=True):
        found = F.conv2d(given[0], given[1], bias, **options)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(expected)
    gradients = (torch.autograd.grad(out, given, direction) for out in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "kernel", "bands"),
    [(1, 6, 28, 5, True), (6, 16, 14, 5, True), (16, 16, 32, 3, False), (64, 64, 8, 3, False)],
)
def test_small_layers_on_small_images_take_bands(inputs, outputs, size, kernel, bands):
    """LeNet-5's two layers, and ResNet-8's first and last: what was measured on an H200."""
    axis = patches._Axis(size, kernel, 1, kernel // 2 if size > 14 else 0, 1)
    weight = torch.empty(outputs, inputs, kernel, kernel)
    assert patches._bands_cost_less(32, weight, axis, axis) is bands


def test_what_bands_do_not_make_cheaper_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(patches, "_over_patches", None)
    x, weight = torch.ones(2, 16, 32, 32), torch.ones(16, 16, 3, 3)
    with patches.Patches(always=False):
        assert torch.equal(F.conv2d(x, weight, padding=1), torch.conv2d(x, weight, padding=1))


def test_gradients_after_a_first_use_without_any():
    """What both share is made once; made in inference mode it could not be saved for a gradient."""
    x, weight = torch.ones(1, 1, 7, 7), torch.ones(2, 1, 2, 2, requires_grad=True)
    with torch.inference_mode(), patches.Patches(always=True):
        F.conv2d(x, weight)
    with patches.Patches(always=True):
        F.conv2d(x, weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("shape", [(0, 1, 7, 7), (1, 7, 7)])
def test_no_batch_is_left_to_torch(shape):
    x, weight = torch.ones(shape), torch.ones(2, 1, 2, 2)
    with patches.Patches(always=True):
        assert F.conv2d(x, weight).shape == torch.conv2d(x, weight).shape
