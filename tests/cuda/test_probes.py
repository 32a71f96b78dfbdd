"""Probes, and what receivers make of their sources, give on the GPU what they give on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedfuse.exchange.cuber import Cuber, Said
from fedfuse.probes import (
    FGSM,
    PGD,
    AskedModel,
    Blur,
    ByClass,
    ByDistance,
    Consistency,
    Probe,
    Probes,
)
from fedfuse.rng import Streams

pytestmark = pytest.mark.cuda


def asked(device: torch.device) -> tuple[AskedModel, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 2)
    images, public = (torch.rand(n, 1, 8, 8, generator=draw) for n in (400, 30))
    model = AskedModel(net.to(device), lambda: public.to(device), (0.4,), (0.3,), batch_size=150)
    labels = model.predict(images.to(device)).argmax(dim=1)
    labels[::4] = (labels[::4] + 1) % 5
    return model, images.to(device), labels


@pytest.mark.parametrize(
    "probe",
    [Blur(), FGSM(), PGD(), Consistency(), ByClass(), ByDistance()],
    ids=lambda probe: type(probe).__name__,
)
def test_W10_M2_M3_M5_M6_answers_agree(probe: Probe, device: torch.device) -> None:
    here, there = (
        Probes([probe], Streams(1))(*asked(place), 1) for place in (torch.device("cpu"), device)
    )
    assert here == pytest.approx(there, abs=0.01)  # an image or two of 400 lie on the border
    assert len(here) > 1


def test_D3_scores_agree(device: torch.device) -> None:
    draw = torch.Generator().manual_seed(2)
    sides = [[torch.randn(n, d, generator=draw) for d in (5, 7)] for n in (40, 30)]
    labels, peers = torch.arange(40) % 5, torch.randn(3, 30, 5, generator=draw)
    here, there = (
        Cuber()(
            Said(*(one.to(place) for one in sides[0])),
            labels.to(place),
            Said(*(one.to(place) for one in sides[1])),
            peers,
        )
        for place in (torch.device("cpu"), device)
    )
    torch.testing.assert_close(here, there.cpu(), atol=1e-5, rtol=1e-5)
