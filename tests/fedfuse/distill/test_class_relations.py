"""How classes lie to each other, by hand; and what a rotation or a missing class changes of it."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.distill.class_relations import ClassRelations, told_of
from fedfuse.distill.relations import similarity
from fedfuse.errors import ParameterError


def readings(features: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return torch.cat([features @ own.T, features.square().sum(dim=1, keepdim=True)], dim=1)


def all_of(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_I5_of_its_own_prototypes_it_is_the_similarity_of_rows() -> None:
    fused, own = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    got = ClassRelations()(readings(own, own), told_of(fused, all_of(2), torch.arange(2)))
    torch.testing.assert_close(got, torch.full((2,), 1 - 1 / math.sqrt(2)), atol=1e-5, rtol=0)
    draw = torch.Generator().manual_seed(0)
    fused, own = torch.randn(5, 3, generator=draw), torch.randn(5, 4, generator=draw)
    got = ClassRelations(2.0)(readings(own, own), told_of(fused, all_of(5), torch.arange(5)))
    torch.testing.assert_close(got, 2 * similarity(own, fused), atol=1e-6, rtol=1e-5)


def test_I5_turned_alike_nothing_changes_and_alike_nothing_is_lost() -> None:
    draw = torch.Generator().manual_seed(1)
    own, fused = torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw)
    turned, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw))
    told, features = told_of(fused, all_of(4), torch.tensor([2, 0])), own[[2, 0]] + 0.1
    before = ClassRelations()(readings(features, own), told)
    after = ClassRelations()(readings(features @ turned, own @ turned), told)
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-5)
    same = ClassRelations()(readings(own, own), told_of(own @ turned, all_of(4), torch.arange(4)))
    torch.testing.assert_close(same, torch.zeros(4), atol=1e-6, rtol=0)


def test_I5_classes_that_one_side_lacks_are_left_out() -> None:
    draw = torch.Generator().manual_seed(2)
    own, fused = torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw)
    counts = torch.tensor([True, False, True, True])
    labels = torch.tensor([0, 1, 2, 3])
    features = own.clone().requires_grad_()
    got = ClassRelations()(readings(features, own), told_of(fused, counts, labels))
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(got[kept], similarity(own[kept], fused[kept]), atol=1e-6, rtol=1e-5)
    assert float(got[1].detach()) == 0
    got.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert not features.grad[1].any()


@pytest.mark.parametrize("weight", [-1, math.nan, True])
def test_I5_refuses_a_weight(weight) -> None:
    with pytest.raises(ParameterError, match="'weight' parameter"):
        ClassRelations(weight)
