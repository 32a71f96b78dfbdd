"""A small vision transformer: an image as a row of patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError
from fedfuse.models.layers import image_shape
from fedfuse.models.text_transformer import Block
from fedfuse.validation import require_count


class VisionTransformer(nn.Module):
    """Patches and a class token, some blocks, a linear layer of what the token has become.

    Args:
        channels: Of an image.
        places: Patches of an image.
        num_classes: C.
        patch: Pixels of a patch on a side.
        blocks: How many blocks.
        width: D, numbers of a patch.
        heads: Attention heads of a block.
    """

    def __init__(
        self,
        channels: int,
        places: int,
        num_classes: int,
        patch: int,
        blocks: int,
        width: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, width))
        self.places = nn.Parameter(torch.zeros(places + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, 4) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        for parameter in (self.token, self.places):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, channels, height, width] to logits [B, C]."""
        patches = self.patches(images).flatten(2).mT  # [B, places, D]
        row = torch.cat([self.token.expand(len(images), 1, -1), patches], dim=1) + self.places
        for block in self.blocks:
            row = block(row)
        logits: Tensor = self.head(self.norm(row[:, 0]))
        return logits


def vit(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    patch: int = 4,
    blocks: int = 6,
    width: int = 128,
    heads: int = 4,
) -> nn.Module:
    """Build a vision transformer for small images (1,205,898 parameters on 32x32x3, ten classes).

    Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929): a class token, learned places, the
    normalisation first, a perceptron of four times the width; without dropout. ``patch=16,
    blocks=12, width=192, heads=3`` on 224x224 is DeiT-Ti (https://arxiv.org/abs/2012.12877).

    Args:
        input_shape: (channels, height, width), multiples of ``patch``.
        num_classes: C.
        patch: Pixels of a patch on a side.
        blocks: How many blocks.
        width: Numbers of a patch, a multiple of ``heads``.
        heads: Attention heads of a block.

    Raises:
        ModelError: If the inputs are no images, patches do not divide them, or heads do not divide
            the width.
        ParameterError: If a hyperparameter is out of range.

    >>> sum(p.numel() for p in vit((3, 32, 32), 10).parameters())
    1205898
    """
    sizes = {"patch": patch, "blocks": blocks, "width": width, "heads": heads}
    for name, value in {"num_classes": num_classes, **sizes}.items():
        require_count("vit", name, value)
    channels, high, wide = image_shape("vit", input_shape, smallest=1)
    if high % patch or wide % patch:
        side = math.gcd(high, wide)
        fits = max(size for size in range(1, min(patch, side) + 1) if side % size == 0)
        raise ModelError(
            "Patches of model 'vit' do not divide the images",
            got=f"patch={patch}, images of {high}x{wide}",
            allowed=f"a divisor of {side}",
            next_step=f"Set model.patch={fits}.",
        )
    if width % heads:
        raise ModelError(
            "Heads of model 'vit' do not divide its width",
            got=f"width={width}, heads={heads}",
            next_step=f"Set model.width={width // heads * heads or heads}.",
        )
    places = (high // patch) * (wide // patch)
    return VisionTransformer(channels, places, num_classes, patch, blocks, width, heads)
