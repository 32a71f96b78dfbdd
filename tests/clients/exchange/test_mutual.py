"""FedKD's changes of the small model, in whole runs."""

from __future__ import annotations

import torch

WORDS = ["method=fedkd", "models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0"]
WORDS += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]
WORDS += ["participation=round_robin", "participation.fraction=0.67", "num_rounds=3"]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def sent(run) -> float:
    found = run.metrics
    return float(found[found.metric == "bytes_up"].value.sum())


def test_changes_at_full_rank_are_what_models_are_and_fewer_directions_are_fewer_bytes(
    simulate,
) -> None:
    """Clients that rest take changes in, too: else they would go on from another small model."""
    models = simulate(*WORDS, "exchange.low_rank=0")
    whole = simulate(*WORDS, "exchange.low_rank=1")
    torch.testing.assert_close(weights(whole), weights(models), atol=1e-4, rtol=1e-3)
    some = simulate(*WORDS)
    assert not torch.allclose(weights(some), weights(models), atol=1e-3)
    assert sent(some) < 0.6 * sent(whole) == 0.6 * sent(models)
