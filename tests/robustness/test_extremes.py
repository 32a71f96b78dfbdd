"""Whatever the wire lets through, fusion makes finite teachers of it: every scorer, every rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config.folder import CONF
from experiments.config.instantiate import instantiate
from fedfuse.declarations import declared
from fedfuse.payload.fields import LARGEST_LOGIT, MOST_EXAMPLES
from fedfuse.protocols import ClassScores
from fedfuse.types import KnowledgeBank

EXTREMES = (0.0, 1.0, -1.0, 1e-30, 50.0, -88.0, 1e4, LARGEST_LOGIT, -LARGEST_LOGIT)


def shipped(group):
    """Return every shipped option of a group that is built from values alone."""
    for file in sorted((CONF / group).glob("*.yaml")):
        config = yaml.safe_load(file.read_text().replace("${temperature}", "1.0"))
        if config.get("_target_") not in (None, "???") and "${" not in str(config):
            yield pytest.param(config, id=file.stem)


@st.composite
def banks(draw):
    """Draw what a hostile or unlucky federation may send."""
    clients, samples, classes = (draw(st.integers(1, most)) for most in (5, 4, 4))
    shape = (clients, samples, classes)
    values = draw(st.lists(st.sampled_from(EXTREMES), min_size=1, max_size=8))
    order = np.random.default_rng(draw(st.integers(0, 99))).integers(len(values), size=shape)
    logits = torch.tensor(values)[torch.from_numpy(order)].float()
    sizes = torch.tensor([draw(st.sampled_from((0, 1, 7, MOST_EXAMPLES))) for _ in range(clients)])
    shares = torch.tensor(order[:, 0] + 0.0).float()
    total = shares.sum(dim=1, keepdim=True)
    distribution = torch.where(total > 0, shares / total.clamp(min=1), torch.ones(()) / classes)
    labels = torch.from_numpy(order[0, :, 0]) % classes
    confidence = logits[:, :, 0].clone()
    bank = KnowledgeBank(torch.arange(clients), logits, sizes, distribution, None, confidence)
    return bank, labels


@pytest.mark.parametrize("config", list(shipped("scorer")))
@settings(max_examples=20, deadline=None, derandomize=True)
@given(drawn=banks())
def test_scores_are_numbers(config, drawn):
    bank, labels = drawn
    scores = instantiate(config, "scorer")(bank, labels)
    if isinstance(scores, ClassScores):
        assert scores.source.shape == (bank.num_clients, bank.num_classes)
        assert torch.isfinite(scores.source).all()
        scores = scores.pair
    assert scores.shape == (bank.num_clients, bank.num_clients)
    assert not torch.isnan(scores).any()
    assert not torch.isposinf(scores).any()


@pytest.mark.parametrize("config", list(shipped("rule")))
@settings(max_examples=20, deadline=None, derandomize=True)
@given(drawn=banks())
def test_teachers_are_finite(config, drawn):
    bank, labels = drawn
    weights = torch.full((bank.num_clients, bank.num_clients), 1 / bank.num_clients)
    rule = instantiate(config, "rule")
    fused = rule(bank, weights, *([labels] if declared(rule, "needs_labels", False) else []))
    targets = fused if isinstance(fused, torch.Tensor) else fused[0]
    assert targets.shape == bank.logits.shape
    assert torch.isfinite(targets).all()
