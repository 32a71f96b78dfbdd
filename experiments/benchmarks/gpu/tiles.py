"""Whether a convolution and the pooling after it should be one product over tiles.

Nothing of the product uses this yet: it is what a GPU is to decide. A convolution of many clients
is a product over rows of outputs today (:mod:`fedfuse.train.patches`), and max-pooling comes after
it. With a tile of two rows and some columns of outputs as one row of the product, in the order of
the four places of a pooling window, pooling is the largest of four slices that lie side by side,
less is copied into order, and fewer zeros are multiplied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from experiments.benchmarks.gpu.training import BATCH, wait
from experiments.benchmarks.rows import Row, row
from fedfuse.train.patches import Patches

KERNEL = 5

Convolution = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of LeNet-5.

    Args:
        name: Its name.
        inputs: Channels that come.
        outputs: Channels that go.
        size: Outputs on a side, before pooling.
        padding: Of the images.
        first: Whether no gradient of the images is wanted.
        widths: Columns of a tile that are tried.
    """

    name: str
    inputs: int
    outputs: int
    size: int
    padding: int
    first: bool
    widths: tuple[int, ...]

    def counted(self, width: int) -> tuple[int, int]:
        """Return the multiply-adds and the numbers copied into order, per sample.

        >>> LAYERS[0].counted(14), LAYERS[1].counted(2)
        ((508032, 3024), (345600, 5400))
        """
        tiles = self.size // 2 * (self.size // width)
        seen = self.inputs * (KERNEL + 1) * (KERNEL + width - 1)
        return tiles * seen * 2 * width * self.outputs, tiles * seen


LAYERS = (
    Layer("first", 1, 6, 28, 2, True, (4, 14, 28)),
    Layer("second", 6, 16, 10, 0, False, (2, 10)),
)


def measure(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield what a layer with its pooling takes of 1,000 clients, forward and back, each way."""
    clients = 2 if tiny else 1_000
    draw = torch.Generator(device).manual_seed(0)
    for layer in LAYERS:
        side = layer.size + KERNEL - 1 - 2 * layer.padding
        shape = (clients, BATCH, layer.inputs, side, side)
        images = torch.randn(shape, generator=draw, device=device)
        shape = (clients, layer.outputs, layer.inputs, KERNEL, KERNEL)
        weights = torch.randn(shape, generator=draw, device=device)
        ways: dict[str, Convolution] = {"now": _now(layer.padding)}
        ways |= {str(width): _by_tiles(layer.padding, width) for width in layer.widths}
        for name, way in ways.items():
            taken = [_seconds(way, images, weights, layer, device) for _ in range(repeats + 1)]
            note = "a product over rows, then max_pool2d"
            if name != "now":
                products, copied = layer.counted(int(name))
                note = f"{products:,} multiply-adds and {copied:,} copies per sample"
                name = f"in tiles of 2 x {name}"
            what = f"{layer.name} layer of {clients:,} LeNets, {name}"
            key = f"tiles_{layer.name}_{name.rpartition(' ')[2]}"
            yield row("gpu", key, what, 1e3 * min(taken[1:]), "ms", note=note)


def _seconds(
    way: Convolution, images: Tensor, weights: Tensor, layer: Layer, device: torch.device
) -> float:
    """Return what one step takes, forward and back."""
    leaves = [weights.detach().requires_grad_()]
    if not layer.first:
        leaves.append(images.detach().requires_grad_())
    wait(device)
    begin = time.perf_counter()
    seen = vmap(way)(images if layer.first else leaves[1], leaves[0])
    torch.autograd.grad(seen.square().sum(), leaves)
    wait(device)
    return time.perf_counter() - begin


def _now(padding: int) -> Convolution:
    def way(images: Tensor, weight: Tensor) -> Tensor:
        with Patches(always=False):
            return F.max_pool2d(F.conv2d(images, weight, padding=padding), 2)

    return way


def _by_tiles(padding: int, width: int) -> Convolution:
    def way(images: Tensor, weight: Tensor) -> Tensor:
        return convolve_and_pool(images, weight, padding, width)

    return way


def convolve_and_pool(images: Tensor, weight: Tensor, padding: int, width: int) -> Tensor:
    """Return the largest of each window of 2 x 2 of a convolution, [B, O, h // 2, w // 2].

    Of equal ones in a window the first gets the gradient, as with ``max_pool2d``.

    Args:
        images: [B, I, H, W].
        weight: [O, I, kh, kw].
        padding: Zeros around the images.
        width: Columns of outputs of a tile, an even divisor of w.

    >>> x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 5, 5)
    >>> expected = F.max_pool2d(F.conv2d(x, weight, padding=2), 2)
    >>> torch.allclose(convolve_and_pool(x, weight, 2, 4), expected, atol=1e-4)
    True
    """
    high, wide = weight.shape[2:]
    images = F.pad(images, (padding,) * 4)
    tiles = images.unfold(2, high + 1, 2).unfold(3, wide + width - 1, width)
    batch, _, rows, columns = tiles.shape[:4]
    table = tiles.permute(0, 2, 3, 4, 5, 1).reshape(batch * rows * columns, -1)
    down, across = _places(high, 2, weight), _places(wide, width, weight)
    # [O, I, kh, kw] to [O, I, 2 * Kh, width * Kw]: where each output of a tile looks.
    spread = down.T @ (weight @ across)
    spread = spread.view(*weight.shape[:2], 2, high + 1, width // 2, 2, wide + width - 1)
    # The four places of a window come first, then what lies side by side in the output.
    bands = spread.permute(2, 5, 4, 0, 3, 6, 1).reshape(2 * width * len(weight), -1)
    windows = F.linear(table, bands).view(len(table), 4, -1)
    found: Tensor = windows.max(dim=1).values.view(batch, rows, columns * width // 2, len(weight))
    return found.permute(0, 3, 1, 2)


def _places(kernel: int, outputs: int, like: Tensor) -> Tensor:
    """Return where each kernel pixel lands for each output: ones in zeros [k, outputs * seen]."""
    pixel = torch.arange(kernel, device=like.device)[:, None, None]
    output = torch.arange(outputs, device=like.device)[:, None]
    seen = torch.arange(kernel + outputs - 1, device=like.device)
    return (pixel + output == seen).to(like.dtype).flatten(1)
