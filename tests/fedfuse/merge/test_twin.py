"""Twin-Merging: the sheet's numbers, its limits, and what is kept of a client's own part."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.layout import Layout
from fedfuse.merge import Mean, TaskArithmetic, Twin, Vectors
from fedfuse.rng import Streams
from fedfuse.testing import check_merge, example_vectors

VECTOR = Layout((("w", (2,), torch.float32),))


def two(**changes: object) -> Vectors:
    models = Vectors(
        client_ids=torch.tensor([0, 1]),
        vectors=torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        weights=torch.tensor([0.5, 0.5], dtype=torch.float64),
        base=torch.zeros(2),
        layout=VECTOR,
        architecture="a",
        round=1,
        streams=Streams(0),
    )
    return replace(models, **changes)


def test_J5_by_hand() -> None:
    # mean (.5, 1); own parts (.5, -1) and (-.5, 1), of which half leaves the second entry
    rows = Twin(density=0.5, shared="mean")(two(), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(rows, torch.tensor([[0.5, 0.0], [0.5, 2.0], [0.5, 1.0]]))
    # .29 times the sum of (1, 0) and (0, 2); whole own parts lead back to the clients
    rows = Twin(density=1, shared_scale=0.29)(two(), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(rows, torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.29, 0.58]]))


def test_J5_weights_by_predictions_by_hand() -> None:
    """Of the first sample p_0 = (.5, .5), p_1 = (.25, .75); KL(p_0 || p_1) = .143841."""
    said = torch.tensor([[[0.0, 0.0], [9.0, 0.0]], [[0.0, math.log(3)], [0.0, 9.0]]])
    models = two(predict=lambda samples: said[:, :samples])
    # exp(-KL / temperature) = 1/3: weights (.75, .25), and the sheet's (.75, .5)
    first = Twin(1, "mean", weights="predictions", samples=1, temperature=0.143841 / math.log(3))
    rows = first(models, torch.tensor([0, 2]))
    torch.testing.assert_close(rows, torch.tensor([[0.75, 0.5], [0.5, 1.0]]), atol=1e-5, rtol=0)


def test_J5_weights_by_predictions_lie_between_own_and_uniform() -> None:
    models, ids = example_vectors(), torch.arange(9)
    cold, warm, hot = (
        Twin(weights="predictions", temperature=temperature)(models, ids)
        for temperature in (1e-9, 0.1, 1e9)
    )
    torch.testing.assert_close(cold, Twin()(models, ids))
    uniform = Twin(weights="uniform")(models, ids)
    torch.testing.assert_close(hot[models.client_ids], uniform.expand(4, -1))
    assert not torch.allclose(warm, cold, atol=1e-3)
    assert not torch.allclose(warm, hot, atol=1e-3)


def test_J5_with_everything_kept_a_client_has_its_own_model() -> None:
    models = example_vectors()
    for shared in ("mean", "task_arithmetic"):
        rows = Twin(density=1, shared=shared)(models, models.client_ids)
        torch.testing.assert_close(rows, models.vectors, rtol=0, atol=1e-7)


def test_J5_with_everything_kept_and_alike_it_is_the_mean() -> None:
    equal = replace(example_vectors(), weights=torch.full((4,), 0.25, dtype=torch.float64))
    twin = Twin(density=1, shared="mean", weights="uniform")
    torch.testing.assert_close(twin(equal, torch.arange(9)), Mean()(equal, torch.arange(9)))


@pytest.mark.parametrize("sparse", ["magnitude", "bernoulli", "svd"])
def test_J5_who_sent_nothing_has_the_shared_model(sparse: str) -> None:
    models = example_vectors()
    rows = Twin(sparse=sparse)(models, torch.tensor([0, 1]))
    shared = TaskArithmetic(0.29)(models, torch.tensor([0]))[0]
    torch.testing.assert_close(rows[0], shared)
    assert not torch.allclose(rows[1], shared, atol=1e-3)


def own_parts(models: Vectors, sparse: str, density: float) -> list[dict[str, Tensor]]:
    rows = Twin(density, "mean", sparse=sparse)(models, models.client_ids)
    shared = Mean()(models, models.client_ids)[0]
    return [models.layout.unflatten(row - shared) for row in rows]


def test_J5_magnitude_keeps_the_largest_of_each_tensor() -> None:
    models = example_vectors()
    whole, thin = (own_parts(models, "magnitude", density) for density in (1.0, 0.3))
    for full, kept in zip(whole, thin, strict=True):
        for name, tensor in kept.items():
            stays = tensor.abs() > 1e-6
            assert int(stays.sum()) == -(-3 * tensor.numel() // 10)  # ceil(.3 n)
            torch.testing.assert_close(tensor[stays], full[name][stays], rtol=0, atol=1e-6)
            assert full[name][stays].abs().min() >= full[name][~stays].abs().max()


def test_J5_svd_keeps_ranks_of_matrices_and_vectors_whole() -> None:
    models = example_vectors()
    whole, thin = (own_parts(models, "svd", density) for density in (1.0, 0.4))
    for full, kept in zip(whole, thin, strict=True):
        for name, tensor in kept.items():
            if tensor.ndim == 1:
                torch.testing.assert_close(tensor, full[name])
                continue
            matrix = tensor.flatten(1)
            rank = max(1, 4 * min(matrix.shape) // 10)
            assert int(torch.linalg.matrix_rank(matrix, atol=1e-5)) == rank
            best = torch.linalg.svdvals(full[name].flatten(1))[rank:].norm()
            torch.testing.assert_close((full[name].flatten(1) - matrix).norm(), best)


def test_J5_bernoulli_is_right_on_average_and_another_draw_in_each_round() -> None:
    models = two()
    rows = torch.stack(
        [
            Twin(0.5, "mean", sparse="bernoulli")(replace(models, round=r), torch.tensor([0, 1]))
            for r in range(1000)
        ]
    )
    torch.testing.assert_close(rows.mean(dim=0), models.vectors, rtol=0, atol=0.15)
    assert len(rows[:, 0].unique(dim=0)) == 4, "each entry of a client is drawn by itself"
    clients = rows - torch.tensor([0.5, 1.0])
    assert not torch.equal(clients[:, 0] == 0, clients[:, 1] == 0), "and each client"


@pytest.mark.parametrize(
    "twin",
    [
        Twin(),
        Twin(shared="mean"),
        Twin(weights="uniform"),
        Twin(sparse="bernoulli"),
        Twin(weights="predictions"),
        Twin(sparse="svd", density=0.01),
    ],
)
def test_J5_keeps_the_contract(twin: Twin) -> None:
    check_merge(twin)


@pytest.mark.parametrize(
    "wrong",
    [
        {"density": 0},
        {"density": 1.5},
        {"density": float("nan")},
        {"density": True},
        {"shared_scale": -1},
        {"shared": "median"},
        {"sparse": "topk"},
        {"weights": "mine"},
        {"temperature": 0},
        {"samples": 0},
    ],
)
def test_J5_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(wrong))}' parameter of Twin"):
        Twin(**wrong)  # type: ignore[arg-type]
