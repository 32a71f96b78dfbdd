"""A generator on the server's model: its objective, what it learns, what all sides get."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedfuse.augment import SampleGenerator, ServerView, chosen
from fedfuse.augment.sample_generator import balance, one_hot
from fedfuse.errors import ParameterError
from fedfuse.testing import check_augment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


INPUTS = torch.randn(60, 6, generator=seeded(4))
PROBS = torch.tensor([[0.9, 0.1], [0.2, 0.8]])


class Model(nn.Module):
    """Class c is likely where feature c is large."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.weight


NOW = Model(3 * torch.eye(6)[:, :3] + torch.tensor([0.4, 0.0, 0.0]))
EARLIER = Model(torch.eye(6)[:, 3:])


def view(seed: int = 0) -> ServerView:
    def ask(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(rows)

    return ServerView(NOW, EARLIER, ask, seeded(seed), {})


def made(part: SampleGenerator, look: ServerView | None = None) -> torch.Tensor:
    sent = chosen(part, INPUTS, seeded(), look or view())
    return part(INPUTS, seeded(), sent).inputs


def test_G2_by_hand():
    assert float(one_hot(PROBS)) == pytest.approx(0.164252, abs=1e-5)
    assert float(balance(PROBS)) == pytest.approx(-0.688139, abs=1e-5)
    part = SampleGenerator(beta=2.0, gamma=3.0)
    apart = float((PROBS * (PROBS.log() - math.log(0.5))).sum(dim=1).mean())
    found = part.loss(PROBS.log(), torch.zeros(2, 2))
    assert float(found) == pytest.approx(0.164252 - 2 * 0.688139 - 3 * apart, abs=1e-5)
    sure = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert float(part.loss(sure, sure)) == pytest.approx(-2 * math.log(2), abs=1e-5)


def test_G2_beta_makes_classes_equally_frequent_and_without_gamma_they_are_confident():
    def asked(**given: float) -> torch.Tensor:
        part = SampleGenerator(steps=150, hidden=32, learning_rate=0.01, **given)
        return NOW(made(part)).softmax(dim=1).detach()

    new = NOW(made(SampleGenerator(steps=0, hidden=32))).softmax(dim=1).detach()
    confident, even = asked(beta=0, gamma=0), asked(beta=50, gamma=0)
    assert float(confident.amax(dim=1).mean()) > max(0.97, float(new.amax(dim=1).mean()))
    assert float(even.mean(dim=0).min()) > 0.25, "each of three classes"
    assert float(confident.mean(dim=0).min()) < 0.1, "nobody asked for that"


def test_G2_gamma_seeks_what_the_last_lesson_changed():
    def apart(gamma: float) -> float:
        rows = made(SampleGenerator(steps=60, hidden=32, learning_rate=0.01, gamma=gamma))
        one, other = (model(rows).log_softmax(dim=1) for model in (NOW, EARLIER))
        return float((one.exp() * (one - other)).sum(dim=1).mean())

    assert apart(10.0) > apart(0.0) + 0.1


def test_G2_it_goes_on_from_round_to_round_and_its_values_are_in_range():
    part, look = SampleGenerator(steps=3), view()
    first = chosen(part, INPUTS, seeded(), look)
    kept = {name: value.clone() for name, value in look.memory.items()}
    assert first.shape == (60, 6)
    assert first.dtype == torch.uint8
    again = ServerView(NOW, EARLIER, look.ask, seeded(9), dict(kept))
    other = ServerView(NOW, EARLIER, look.ask, seeded(9), dict(kept))
    assert torch.equal(chosen(part, INPUTS, seeded(), again), chosen(part, INPUTS, seeded(), other))
    assert any(not torch.equal(kept[name], value) for name, value in again.memory.items())
    rows = part(INPUTS, seeded(), first).inputs
    assert (rows >= INPUTS.amin(dim=0) - 1e-6).all()
    assert (rows <= INPUTS.amax(dim=0) + 1e-6).all()
    torch.testing.assert_close(
        part(INPUTS, seeded(), torch.full((60, 6), 255, dtype=torch.uint8)).inputs,
        INPUTS.amax(dim=0).expand(60, 6),
    )
    assert NOW.weight.grad is None, "the models are asked, not trained"
    assert EARLIER.weight.grad is None


def test_G2_before_a_lesson_samples_are_what_they_were_and_labels_are_nobodys():
    before = SampleGenerator()(INPUTS, seeded(), None)
    assert torch.equal(before.inputs, INPUTS)
    assert not before.labels_kept


def test_G2_it_keeps_the_contract():
    check_augment(SampleGenerator(steps=2, hidden=4))


@pytest.mark.parametrize(
    "given",
    [
        {"latent": 0},
        {"steps": -1},
        {"beta": -1},
        {"gamma": math.nan},
        {"hidden": True},
        {"batch_size": 0},
        {"learning_rate": 0},
    ],
)
def test_impossible_parameters_are_refused(given):
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter of SampleGen"):
        SampleGenerator(**given)
