"""The shapes in the annotations are really checked, and the checks let vmap through."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from fedfuse.distill import KL
from fedfuse.distill.losses import kl_forward
from fedfuse.fusion import Pipeline, TopK
from fedfuse.fusion.divergences import kl
from fedfuse.fusion.weights import masked_softmax


def test_a_wrong_rank_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        kl(torch.ones(3))


@pytest.mark.parametrize("again", [False, True])
def test_the_first_calls_of_every_test_are(again: bool) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        kl(torch.ones(3))
    for _ in range(20):
        kl(torch.full((2, 2), 0.5))


def test_dimensions_of_one_name_must_agree() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        masked_softmax(torch.zeros(3, 3), torch.ones(3, 2, dtype=torch.bool))


def test_methods_of_frozen_classes_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        TopK(k=1)(torch.zeros(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        KL()(torch.zeros(2, 3), torch.zeros(2, 4))


def test_constructors_keep_their_own_errors() -> None:
    with pytest.raises(Exception, match="'scorer' parameter of Pipeline"):
        Pipeline(scorer=3, neighbours=TopK(), rule=len)  # type: ignore[arg-type]


def test_vmap_passes_through_the_checks() -> None:
    logits, targets = torch.randn(4, 5, 3), torch.rand(4, 5, 3).softmax(-1)
    together = torch.func.vmap(kl_forward)(logits, targets)
    apart = torch.stack([kl_forward(z, t) for z, t in zip(logits, targets, strict=True)])
    assert torch.equal(together, apart)
