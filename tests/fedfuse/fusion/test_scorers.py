"""Scorers: log-weights by hand, what each needs, and how mistakes are named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.fusion import DataSize, KnFu, Uniform
from fedfuse.fusion.scorers import distance_scores
from fedfuse.types import KnowledgeBank

# EPDs of the three clients: (1/2, 1/2), (1/4, 3/4), (1/8, 7/8); each answers one sample.
EPDS = torch.tensor([[1 / 2, 1 / 2], [1 / 4, 3 / 4], [1 / 8, 7 / 8]])
BANK = KnowledgeBank(
    client_ids=torch.arange(3),
    logits=EPDS.log().unsqueeze(1),
    num_examples=torch.tensor([10, 20, 70]),
)


def test_knfu_by_hand() -> None:
    # KL(0||1) = 1/2 log(4/3) = 0.143841; KL(1||0) = 3/4 log 3 - log 2 = 0.130812;
    # KL(0||2) = 1/2 log(16/7) = 0.413340; KL(2||0) = 7/8 log 7 - 2 log 2 = 0.316377;
    # KL(1||2) = 1/4 log 2 + 3/4 log(6/7) = 0.057674;
    # KL(2||1) = 1/8 log(1/2) + 7/8 log(7/6) = 0.048238; times -10.
    expected = -10 * torch.tensor(
        [[0, 0.143841, 0.413340], [0.130812, 0, 0.057674], [0.316377, 0.048238, 0]]
    )
    torch.testing.assert_close(KnFu(beta=10.0)(BANK, None), expected, rtol=0, atol=2e-5)


def test_data_size_scores_are_log_weights() -> None:
    weights = DataSize()(BANK, None).softmax(dim=1)
    torch.testing.assert_close(weights, torch.tensor([[0.1, 0.2, 0.7]] * 3))
    empty = replace(BANK, num_examples=torch.tensor([0, 1, 2]))
    assert DataSize()(empty, None).isfinite().all()


def test_beta_zero_is_uniform_to_the_bit_even_beside_infinities() -> None:
    assert torch.equal(KnFu(beta=0)(BANK, None), Uniform()(BANK, None))
    infinite = torch.tensor([[0.0, torch.inf], [torch.inf, 0.0]])
    assert torch.equal(distance_scores(infinite, 0), torch.zeros(2, 2))


@pytest.mark.parametrize("epd", ["label_histogram", "oracle"])
def test_class_shares_can_stand_in_for_predictions(epd: str) -> None:
    bank = replace(BANK, logits=torch.zeros(3, 1, 2), class_distribution=EPDS)
    torch.testing.assert_close(KnFu(epd)(bank, None), KnFu()(BANK, None), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("epd", "labels", "shares"),
    [
        ("mean_soft", False, False),
        ("prior_corrected", True, False),
        ("class_conditional", True, False),
        ("label_histogram", False, True),
        ("oracle", False, True),
    ],
)
def test_needs_follow_the_estimator(epd: str, labels: bool, shares: bool) -> None:
    scorer = KnFu(epd)
    assert (scorer.needs_labels, scorer.needs_class_distribution) == (labels, shares)
    if labels or shares:
        with pytest.raises(KnowledgeError, match="epd=mean_soft"):
            scorer(BANK, None)
    given: Tensor | None = torch.tensor([0]) if labels else None
    bank = replace(BANK, class_distribution=EPDS) if shares else BANK
    assert scorer(bank, given).shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"beta": -1}, "beta"),
        ({"beta": math.nan}, "beta"),
        ({"beta": math.inf}, "beta"),
        ({"beta": True}, "beta"),
        ({"beta": "10"}, "beta"),
        ({"temperature": 0}, "temperature"),
        ({"smoothing": -0.5}, "smoothing"),
        ({"epd": None}, "epd"),
        ({"divergence": 3}, "divergence"),
    ],
)
def test_bad_hyperparameters_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter of KnFu"):
        KnFu(**options)  # type: ignore[arg-type]


def test_misspelt_options_are_guessed() -> None:
    with pytest.raises(ParameterError, match="Did you mean 'mean_soft'"):
        KnFu(epd="mean_sotf")
    with pytest.raises(ParameterError, match="Did you mean 'hellinger'"):
        KnFu(divergence="helinger")
