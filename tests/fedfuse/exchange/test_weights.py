"""Proximal terms: by hand, and their gradients."""

from __future__ import annotations

import pytest
import torch

from fedfuse.exchange.weights import ditto_term, proximal_term


@pytest.mark.parametrize("term", [proximal_term, ditto_term])
def test_the_terms_by_hand(term) -> None:
    # 0.5 / 2 * ((3-1)^2 + (0-1)^2 + (2-2)^2) = 1.25; the gradient is 0.5 (w - w_t)
    here = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([2.0])}
    there = {"w": torch.tensor([1.0, 1.0]), "b": torch.tensor([2.0])}
    assert term(here, there, 0.5).item() == pytest.approx(1.25)
    gradient = torch.func.grad(lambda w: term(w, there, 0.5))(here)
    assert gradient["w"].tolist() == [1, -0.5]
    assert gradient["b"].tolist() == [0]
    assert term(here, there, 0.0).item() == 0
