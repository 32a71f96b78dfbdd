"""Check a probe of one's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.declarations import declared, part_name
from fedfuse.probes import AskedModel, Probe
from fedfuse.probes.asking import told
from fedfuse.testing.expect import expect, expect_declared
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.user_code import PartError

SHAPES = ((1, 6, 6), (3, 4, 4), (7,))
"""Images of one channel and of three, and features."""


def check_probe(probe: Probe) -> None:
    """Raise unless the probe keeps the promises of :class:`fedfuse.probes.Probe`.

    Finite numbers (or NaN) by name; the same for the same generator; the same names for every
    model; it leaves samples and model as they are and draws from its own generator alone. A probe
    that declares ``needs_images`` is tried on images only.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The probe {part_name(probe)}"
    expect_declared(name, probe, "probe")
    names = set()
    for shape in SHAPES:
        if len(shape) == 1 and declared(probe, "needs_images", False):
            continue
        draw = torch.Generator().manual_seed(0)
        inputs, labels = torch.rand((20, *shape), generator=draw), torch.arange(20) % 5
        for seed in (0, 1):
            model, before = _model(shape, seed), inputs.clone()
            kept = {key: value.clone() for key, value in model.model.state_dict().items()}
            with global_randomness_untouched(name, f"inputs of shape {list(shape)}"):
                first, again = (_answer(name, probe, model, inputs, labels) for _ in range(2))
            same = first.keys() == again.keys() and all(
                value == again[key] or value != value for key, value in first.items()
            )
            expect(same, name, "gives another result when it is asked again")
            after = model.model.state_dict()
            still = torch.equal(inputs, before)
            still &= all(torch.equal(value, after[key]) for key, value in kept.items())
            expect(still, name, "changes the samples or the model")
            names.add(frozenset(first))
    expect(len(names) == 1, name, "names other metrics for another model")


def _model(shape: tuple[int, ...], seed: int) -> AskedModel:
    """Return a model of 5 classes of inputs of a shape, and public inputs like them."""
    width, draw = int(torch.tensor(shape).prod()), torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(width, 5))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    public = torch.rand((9, *shape), generator=draw)
    channels = shape[0] if len(shape) > 1 else 0
    return AskedModel(net, lambda: public, (0.5,) * channels, (0.25,) * channels, batch_size=8)


def _answer(
    name: str, probe: Probe, model: AskedModel, inputs: Tensor, labels: Tensor
) -> dict[str, float]:
    try:
        return told(probe(model, inputs, labels, torch.Generator().manual_seed(3)), probe)
    except PartError as error:
        raise CheckFailed(f"{name} does not keep its contract", got=str(error)) from error
