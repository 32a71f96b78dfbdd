"""What trainers are held against each other with: models, losses, and what these want to know."""

from __future__ import annotations

from functools import partial

import torch

from fedfuse.distill import (
    DKD,
    KL,
    OFA,
    TAID,
    APAtK,
    BalancedKL,
    Divergence,
    MAELogits,
    MSELogits,
    SoftCrossEntropy,
    StandardisedKL,
    WeightedSum,
)
from fedfuse.distill.divergence import KINDS
from fedfuse.models.cnn import cnn2, cnn4
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.resnet import resnet8, resnet18, resnet20
from fedfuse.models.vit import vit
from fedfuse.train.facts import Facts, wants, widen

MODELS = {
    "mlp": mlp,
    "lenet5": lenet5,
    "cnn2": partial(cnn2, width=4, hidden=16),
    "cnn2 without norm": partial(cnn2, width=4, hidden=16, norm="none"),
    "cnn4": partial(cnn4, width=4, hidden=16),
    "resnet8": partial(resnet8, width=4),
    "resnet20": partial(resnet20, width=4),
    "resnet18": partial(resnet18, width=4),
    "vit": partial(vit, width=8, blocks=2, heads=2),
}
LOSSES = [
    KL(),
    KL(temperature=2.0, direction="reverse"),
    SoftCrossEntropy(),
    MSELogits(),
    MAELogits(),
    BalancedKL(),
    StandardisedKL(),
    *[Divergence(kind) for kind in KINDS],
    TAID(),
    OFA(epsilon=1.5),
    DKD(temperature=2.0),
    APAtK(k=2),
    WeightedSum({"kl": {"loss": KL()}, "dkd": {"loss": DKD(temperature=1.0), "weight": 0.1}}),
]
"""Those that are computed for many clients at once."""


def told(loss, targets):
    """Return targets [K, P, C] with what a loss wants to know beside them."""
    if not (wanted := wants(loss)):
        return targets
    draw = torch.Generator().manual_seed(9)
    size, num_classes = targets.shape[:2], targets.shape[2]
    known = {
        "labels": torch.randint(0, num_classes, size, generator=draw),
        "own": torch.randn(targets.shape, generator=draw),
        "prior": torch.randn(targets.shape, generator=draw).log_softmax(2),
        "clock": torch.rand(size, generator=draw),
    }
    return widen(targets, Facts(**{name: known[name] for name in wanted}))
