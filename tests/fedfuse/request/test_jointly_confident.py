"""KD3: samples of which teacher and clients are sure together, by hand and as a part."""

from __future__ import annotations

import pytest
import torch

from fedfuse.errors import ParameterError
from fedfuse.request.jointly_confident import JointlyConfident, most_confident
from fedfuse.types import KnowledgeBank, Space, Teachers

TAUGHT = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
OWN = torch.tensor([[0.2, 0.8], [0.7, 0.3]])


def bank_of(probs: torch.Tensor, mask: torch.Tensor | None = None) -> KnowledgeBank:
    probs = probs if probs.ndim == 3 else probs.unsqueeze(0)
    ids = torch.arange(len(probs))
    return KnowledgeBank(ids, probs.log(), torch.ones_like(ids), mask=mask)


def teachers_of(probs: torch.Tensor) -> Teachers:
    probs = probs if probs.ndim == 3 else probs.unsqueeze(0)
    return Teachers(torch.arange(len(probs)), probs, Space.PROBABILITIES)


def test_E4_asks_for_all_first_then_turns_to_what_clients_are_sure_of_as_exchanges_pass():
    part, index = JointlyConfident(share=0.5, eta_end=0.5, ramp_rounds=1), torch.arange(2)
    assert part(1, index, [0]).tolist() == [True, True]
    part.note(bank_of(OWN), teachers_of(TAUGHT), None, 1, index)
    assert part(2, index, [0]).tolist() == [True, False]
    part.note(bank_of(OWN), teachers_of(TAUGHT), None, 2, index)
    assert part(3, index, [0]).tolist() == [False, True]


def test_E4_at_most_a_quota_of_each_class_and_no_more_than_wanted():
    confidence = torch.tensor([0.5, 0.9, 0.8, 0.9, 0.6])
    classes = torch.tensor([1, 0, 0, 0, 1])
    chosen = most_confident(confidence, classes, 3, quota=2)
    assert chosen.tolist() == [False, True, False, True, True]  # 0.8 is the third of its class
    assert most_confident(confidence, classes, 9, quota=1).sum() == 2


def test_E4_a_threshold_counts_instead_of_a_share_and_leaves_the_surest_at_least():
    index = torch.arange(2)
    for theta, asked in ((0.58, [True, True]), (0.7, [True, False]), (0.95, [True, False])):
        part = JointlyConfident(theta=theta)
        part.note(bank_of(OWN), teachers_of(TAUGHT), None, 1, index)
        assert part(2, index, [0]).tolist() == asked


def test_E4_what_nobody_answered_is_not_known_and_comes_first():
    part, index = JointlyConfident(share=0.5), torch.tensor([3, 8])
    part.note(bank_of(OWN, torch.tensor([[True, False]])), teachers_of(TAUGHT), None, 1, index)
    assert part(2, index, [0]).tolist() == [False, True]
    assert part(2, torch.tensor([3, 20]), [0]).tolist() == [False, True]
    assert part(2, torch.tensor([5, 6]), [0]).tolist() == [True, False]


def test_E4_of_clients_only_those_count_that_answered():
    part, index = JointlyConfident(share=0.5), torch.arange(2)
    own = torch.stack([OWN, torch.tensor([[0.5, 0.5], [0.99, 0.01]])])
    taught = torch.stack([TAUGHT, own[1]])
    mask = torch.tensor([[True, True], [True, False]])
    part.note(bank_of(own, mask), teachers_of(taught), None, 1, index)
    # Means of 0.9 and 0.5, and of 0.6 alone.
    kept = part.state()["confidence"]
    torch.testing.assert_close(kept, torch.tensor([0.7, 0.6]), atol=1e-5, rtol=0)


def test_E4_among_public_samples_those_like_the_private_ones_are_kept():
    draw = torch.Generator().manual_seed(0)
    centres = 2.0 * torch.eye(2)
    near = centres.repeat(50, 1) + 0.5 * torch.randn(100, 2, generator=draw)
    strange = torch.full((100, 2), 0.5) + 0.5 * torch.randn(100, 2, generator=draw)
    public = torch.cat([near, strange])
    # Clients of a kernel each: sure near a centre, at a loss in between.
    weights = torch.tensor([1.0, 1.5, 2.0]).view(3, 1, 1)
    own = (-weights * torch.cdist(public, centres) ** 2).softmax(dim=-1)
    taught = own.mean(dim=0, keepdim=True).expand_as(own)
    part, index = JointlyConfident(share=0.5), torch.arange(200)
    part.note(bank_of(own), teachers_of(taught), None, 1, index)
    asked = part(2, index, [0, 1, 2])
    assert asked.sum() == 100
    assert asked[:100].sum() > 80


def test_E4_goes_on_from_what_it_remembers():
    one, other = (JointlyConfident(share=0.5, ramp_rounds=1) for _ in range(2))
    index = torch.arange(2)
    one.note(bank_of(OWN), teachers_of(TAUGHT), None, 1, index)
    other.restore(one.state())
    for part in (one, other):
        part.note(bank_of(OWN), teachers_of(TAUGHT), None, 2, index)
    assert one(3, index, [0]).tolist() == other(3, index, [0]).tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0},
        {"share": float("nan")},
        {"size": 0},
        {"theta": 1.0},
        {"eta_end": 1.5},
        {"ramp_rounds": 0},
        {"quota": True},
    ],
)
def test_E4_refuses_what_is_impossible(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        JointlyConfident(**wrong)
