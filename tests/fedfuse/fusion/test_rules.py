"""Fusion rules: by hand, against a slow float64 loop, and with clients that did not answer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.fusion import GeometricMean, MeanLogits, MeanProbabilities
from fedfuse.fusion.rules import answered, geometric_mean, mean_logits, mean_probabilities
from fedfuse.types import Space

LOG3, LOG9 = math.log(3), math.log(9)
# Three clients, one sample, two classes; probabilities (3/4, 1/4), (1/2, 1/2), (1/10, 9/10).
LOGITS = torch.tensor([[[LOG3, 0.0]], [[0.0, 0.0]], [[0.0, LOG9]]])
WEIGHTS = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4], [0.0, 0.0, 1.0]])


def test_mean_probabilities_by_hand() -> None:
    # (3/4 + 1/2)/2 = 5/8; 0.2*0.75 + 0.4*0.5 + 0.4*0.1 = 0.39; 0.1
    expected = torch.tensor([[[0.625, 0.375]], [[0.39, 0.61]], [[0.1, 0.9]]])
    torch.testing.assert_close(mean_probabilities(LOGITS, WEIGHTS), expected)


def test_mean_logits_by_hand() -> None:
    # log 3 / 2 = 0.549306; 0.2 log 3 = 0.219722 and 0.4 log 9 = 0.878890; log 9 = 2.197225
    expected = torch.tensor([[[0.549306, 0]], [[0.219722, 0.878890]], [[0, 2.197225]]])
    torch.testing.assert_close(mean_logits(LOGITS, WEIGHTS), expected)


def test_geometric_mean_by_hand() -> None:
    # sqrt(3/4 * 1/2) : sqrt(1/4 * 1/2) = sqrt 3 : 1 -> 0.633975
    # 3^0.2 : 9^0.4 = 3^0.2 : 3^0.8 -> 1 / (1 + 3^0.6) = 1 / 2.933182 = 0.340927
    expected = torch.tensor([[[0.633975, 0.366025]], [[0.340927, 0.659073]], [[0.1, 0.9]]])
    torch.testing.assert_close(geometric_mean(LOGITS, WEIGHTS), expected)


def test_temperature_by_hand() -> None:
    # At T = 2 the odds 3 : 1 become sqrt 3 : 1.
    own = torch.eye(3)
    expected = torch.tensor([0.633975, 0.366025])
    for rule in (mean_probabilities, geometric_mean):
        torch.testing.assert_close(rule(LOGITS, own, temperature=2.0)[0, 0], expected)


def _loop(name: str, logits: Tensor, weights: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return the fused targets one number at a time, in float64."""
    z = (logits.double() / (temperature if name != "logits" else 1)).tolist()
    num_clients, num_samples, num_classes = logits.shape
    out = torch.zeros(logits.shape, dtype=torch.float64)
    for i in range(num_clients):
        for x in range(num_samples):
            sources = [j for j in range(num_clients) if mask[j, x] and weights[i, j] > 0]
            total = math.fsum(float(weights[i, j]) for j in sources)
            fused = [0.0] * num_classes
            for j in sources:
                top = max(z[j][x])
                norm = top + math.log(math.fsum(math.exp(v - top) for v in z[j][x]))
                for c in range(num_classes):
                    value = {
                        "logits": z[j][x][c],
                        "probabilities": math.exp(z[j][x][c] - norm),
                        "geometric": z[j][x][c] - norm,
                    }[name]
                    fused[c] += float(weights[i, j]) / total * value
            if name == "geometric":
                fused = [math.exp(v) for v in fused]
            if name != "logits":
                fused = [1.0] * num_classes if not sources else fused
                fused = [v / math.fsum(fused) for v in fused]
            out[i, x] = torch.tensor(fused)
    return out


RULES = {
    "probabilities": lambda z, w, m, t: mean_probabilities(z, w, m, t),
    "logits": lambda z, w, m, t: mean_logits(z, w, m),
    "geometric": lambda z, w, m, t: geometric_mean(z, w, m, t),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 12),
    num_samples=st.integers(1, 30),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    masked=st.booleans(),
)
def test_agrees_with_a_loop(
    name: str, seed: int, num_clients: int, num_samples: int, temperature: float, masked: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_clients, num_samples, 4, generator=generator)
    weights = torch.rand(num_clients, num_clients, generator=generator)
    weights *= torch.rand(weights.shape, generator=generator) < 0.6
    weights.diagonal().add_(0.1)
    weights /= weights.sum(dim=1, keepdim=True)
    mask = torch.rand(num_clients, num_samples, generator=generator) < 0.5
    if not masked:
        mask.fill_(True)
    got = RULES[name](logits, weights, mask if masked else None, temperature)
    expected = _loop(name, logits, weights, mask, temperature).float()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    sources = (weights > 0).unsqueeze(-1) & mask
    assert torch.equal(answered(weights, mask), sources.any(dim=1))


def test_weights_are_renormalised_over_those_who_answered_by_hand() -> None:
    # Client 2 has no answer: receiver 1 has 0.2 and 0.4 left, so 1/3 and 2/3 of 3/4 and 1/2:
    # 7/12. Receiver 2 listens to nobody else and gets a uniform target.
    mask = torch.tensor([[True], [True], [False]])
    logits = LOGITS.clone()
    logits[2] = torch.nan
    expected = torch.tensor([[[0.625, 0.375]], [[7 / 12, 5 / 12]], [[0.5, 0.5]]])
    torch.testing.assert_close(mean_probabilities(logits, WEIGHTS, mask), expected)
    assert answered(WEIGHTS, mask).tolist() == [[True], [True], [False]]
    assert mean_logits(logits, WEIGHTS, mask)[2].tolist() == [[0, 0]]
    assert geometric_mean(logits, WEIGHTS, mask)[2].tolist() == [[0.5, 0.5]]


def test_weights_too_small_to_renormalise_count_as_no_answer() -> None:
    weights = torch.tensor([[1.0, 1e-42], [0.5, 0.5]])
    mask = torch.tensor([[False], [True]])
    assert answered(weights, mask).tolist() == [[False], [True]]
    assert mean_probabilities(LOGITS[:2], weights, mask)[0].tolist() == [[0.5, 0.5]]


def test_the_geometric_mean_is_the_softmax_of_mean_logits() -> None:
    logits = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    expected = (mean_logits(logits, weights) / 2).softmax(-1)
    torch.testing.assert_close(geometric_mean(logits, weights, temperature=2.0), expected)


@pytest.mark.parametrize("rule", [mean_probabilities, geometric_mean])
def test_huge_logits_stay_finite(rule: Callable[..., Tensor]) -> None:
    logits = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]])
    fused = rule(logits, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    torch.testing.assert_close(fused, torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]]))


def test_spaces() -> None:
    assert MeanLogits().space is Space.LOGITS
    assert MeanProbabilities().space is GeometricMean().space is Space.PROBABILITIES


@pytest.mark.parametrize("rule", [MeanProbabilities, GeometricMean])
@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, "1", True, None])
def test_bad_temperatures_are_named(rule: type, temperature: object) -> None:
    with pytest.raises(ParameterError, match="'temperature' parameter"):
        rule(temperature)
