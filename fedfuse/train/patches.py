"""Convolutions of many clients as one batched matrix product, where that costs less.

Under ``vmap`` a convolution with a kernel per client becomes a grouped convolution, which few
libraries are fast at when groups are many and channels few: cuDNN takes them one by one. Two
products do the same work:

* over *patches*: each output pixel's inputs side by side, a copy kernel_size^2 times the input;
* over *bands*: each output row's input rows side by side, a copy kernel_height times the input, and
  the kernel as a banded matrix from a row strip to all of an output row. It multiplies by zeros,
  but small networks on small images have so few channels that a product of patches is mostly idle.

Which costs less is counted, layer by layer. Both agree with ``conv2d`` to rounding. On an H200 a
round of LeNet-5 took 1.46 s over bands and 1.96 s with grouped convolutions; one of ResNet-8, where
patches cost less than bands, took 2.3 s with grouped ones and more than 4 s over patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_FLOP_PER_BYTE = 10
"""Of a large GPU in float32: 40 TFLOP/s in products, 4 TB/s of memory."""

_TILE = 64
"""Columns that a matrix product works on at least, however few there are."""


class PlainLayout(TorchFunctionMode):
    """While active, what asks how channels lie finds them plain: vmap cannot tell it.

    A convolution of 1 x 1 pixels leaves them otherwise, as its kernel lies both ways.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what ``func`` returns."""
        if func in _ASKS_LAYOUT:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


class Patches(PlainLayout):
    """While active, ``conv2d`` without groups unfolds its input and multiplies.

    Args:
        always: Also where patches would cost less than bands; else such a layer is left to torch.

    >>> x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 5, 5)
    >>> with Patches(always=True):
    ...     out = F.conv2d(x, weight, stride=2, padding=1)
    >>> torch.allclose(out, F.conv2d(x, weight, stride=2, padding=1), atol=1e-4)
    True
    """

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self._always = always

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what ``func`` returns."""
        options = dict(kwargs or {})
        if func is torch.conv2d:
            named = dict(zip(_NAMES, args, strict=False)) | options
            if named.get("groups", 1) == 1 and not isinstance(named.get("padding", 0), str):
                named.pop("groups", None)
                found = _convolve(**named, always=self._always)
                return func(*args, **options) if found is None else found
        return super().__torch_function__(func, types, args, options)


_ASKS_LAYOUT = (F.group_norm, torch.group_norm)
"""What asks how channels lie."""

_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class _Axis(NamedTuple):
    """How a kernel of ``kernel`` pixels passes over ``size`` pixels, in one direction."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def out(self) -> int:
        """Return how many outputs there are."""
        span = self.dilation * (self.kernel - 1) + 1
        return (self.size + 2 * self.padding - span) // self.stride + 1

    def windows(self, image: Tensor, dim: int) -> Tensor:
        """Return the view with a last dimension of ``kernel`` pixels, of a padded image."""
        unfolded: Tensor = image.unfold(dim, self.dilation * (self.kernel - 1) + 1, self.stride)
        return unfolded[..., :: self.dilation]


def _convolve(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    *,
    always: bool,
) -> Tensor | None:
    """Return the convolution [B, O, h, w] of images [B, I, H, W] with kernels [O, I, kh, kw].

    None for what is no batch, and where patches would cost less than bands, unless ``always``. A
    pixel's channels lie side by side in the output: the next layer's copy reads whole runs.
    """
    if input.ndim != 4 or len(input) == 0:
        return None
    pairs = [(v, v) if isinstance(v, int) else v for v in (stride, padding, dilation)]
    high, wide = (
        _Axis(input.shape[2 + i], weight.shape[2 + i], *(int(pair[i]) for pair in pairs))
        for i in (0, 1)
    )
    bands = _bands_cost_less(len(input), weight, high, wide)
    if not (bands or always):
        return None
    device = input.device.type
    if torch.is_autocast_enabled(device):  # before the copies: they move half the bytes then
        input, weight = (part.to(torch.get_autocast_dtype(device)) for part in (input, weight))  # noqa: A001
    product = _over_bands if bands else _over_patches
    out = product(input, weight, bias, high, wide)
    return out.view(len(input), high.out, wide.out, len(weight)).permute(0, 3, 1, 2)


def _bands_cost_less(batch: int, weight: Tensor, high: _Axis, wide: _Axis) -> bool:
    """Count both ways, in multiply-adds twice and bytes written and read, per sample."""
    outputs, inputs = weight.shape[:2]
    patch = inputs * high.kernel * wide.kernel
    pixels = high.out * wide.out
    patches = 2 * pixels * patch * max(outputs, _TILE) + _FLOP_PER_BYTE * 8 * pixels * patch
    strip = inputs * high.kernel * wide.size
    row = wide.out * outputs
    matrix = 12 * strip * row // max(batch, 1)  # written and brought into order, once per batch
    moved = 8 * high.out * strip + matrix
    return 2 * high.out * strip * max(row, _TILE) + _FLOP_PER_BYTE * moved < patches


def _over_patches(
    image: Tensor, weight: Tensor, bias: Tensor | None, high: _Axis, wide: _Axis
) -> Tensor:
    """Return the outputs [B*h*w, O]."""
    image = _padded(image, wide.padding, high.padding)
    # Views and one copy: F.unfold launches a kernel per image on CUDA.
    patches = wide.windows(high.windows(image, 2), 3)  # [B, I, h, w, kh, kw]
    table = patches.permute(0, 2, 3, 4, 5, 1).reshape(len(image) * high.out * wide.out, -1)
    return F.linear(table, weight.permute(0, 2, 3, 1).flatten(1), bias)


def _over_bands(
    image: Tensor, weight: Tensor, bias: Tensor | None, high: _Axis, wide: _Axis
) -> Tensor:
    """Return the outputs [B*h, w*O]."""
    strips = high.windows(_padded(image, 0, high.padding), 2)  # [B, I, h, W, kh]
    table = strips.permute(0, 2, 4, 3, 1).reshape(len(image) * high.out, -1)
    band = weight.permute(2, 1, 0, 3) @ _places(wide, weight.device, weight.dtype)
    band = band.view(*band.shape[:3], wide.out, wide.size).permute(
        3, 2, 0, 4, 1
    )  # [w, O, kh, W, I]
    every = None if bias is None else bias.repeat(wide.out)
    return F.linear(table, band.reshape(wide.out * len(weight), -1), every)


def _padded(image: Tensor, wide: int, high: int) -> Tensor:
    return F.pad(image, (wide, wide, high, high)) if wide or high else image  # no copy for nothing


@cache
def _places(wide: _Axis, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return where each kernel pixel lands for each output pixel: ones in zeros [kw, w*W].

    What falls into the padding lands nowhere.
    """
    with torch.inference_mode(False):
        pixel = torch.arange(wide.kernel, device=device)[:, None, None] * wide.dilation
        output = torch.arange(wide.out, device=device)[:, None] * wide.stride - wide.padding
        found = pixel + output == torch.arange(wide.size, device=device)
        return found.to(dtype).flatten(1)
