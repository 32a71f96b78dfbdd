"""OPCM: the sheet's examples, the authors' steps written out beside it, and what must hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.layout import Layout
from fedfuse.merge import Opcm, Vectors
from fedfuse.merge.opcm import Merged, add, cleaned
from fedfuse.testing import example_vectors


def double(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_J4_opcm_by_hand() -> None:
    delta, task = torch.diag(torch.tensor([2.0, 1.0])).double(), double([3, 1], [1, 2])
    torch.testing.assert_close(cleaned(delta, task, 0.5), double([0, 1], [1, 0]))
    first = Merged(delta.flatten(), 1.0, float(delta.norm()), 1)
    made = add(first, task.flatten(), [(2, 2)], 0.5)
    assert float(task.norm()) == pytest.approx(3.872983, abs=1e-6)
    assert made.norm == pytest.approx(3.054526, abs=1e-6)
    assert made.rescaled == pytest.approx(0.866174, abs=1e-6)
    wanted = double([2.309004, 1.154502], [1.154502, 1.154502]).flatten()
    torch.testing.assert_close(made.delta, wanted, atol=1e-5, rtol=0)


def test_J4_leading_directions_by_hand() -> None:
    delta = torch.diag(torch.tensor([3.0, 2.0, 1.0])).double()
    task = torch.arange(1, 10).double().view(3, 3)
    wanted = double([0, 0, 3], [0, 0, 6], [7, 8, 0])
    torch.testing.assert_close(cleaned(delta, task, 0.9), wanted, atol=1e-9, rtol=0)
    apart = cleaned(delta, task, 0.1)  # r = 0: the diagonal alone, whatever alpha is
    torch.testing.assert_close(apart, task - torch.diag(task.diagonal()), atol=1e-9, rtol=0)
    assert torch.equal(apart, cleaned(delta, task, 0.45))
    assert torch.equal(cleaned(torch.zeros(3, 3).double(), task, 0.5), task)


def slow_opcm(base: np.ndarray, models: list[np.ndarray], shapes: list, alpha: float) -> np.ndarray:
    """The authors' steps on whole state, with complete bases (full SVD), in numpy's float64."""

    def tensors(vector: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        return [
            part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)
        ]

    merged, norms, past = models[0].copy(), [np.linalg.norm(models[0] - base)], 1.0
    for model in models[1:]:
        norms.append(np.linalg.norm(model - base))
        made = []
        for b, m, t in zip(tensors(base), tensors(merged), tensors(model), strict=True):
            old, task = m - b, t - b
            if task.ndim > 1:
                old2, task2 = old.reshape(len(old), -1), task.reshape(len(task), -1)
                u, s, vh = np.linalg.svd(old2, full_matrices=True)
                projected = u.T @ task2 @ vh.T
                split = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
                np.fill_diagonal(projected, 0)
                projected[:split, :split] = 0
                task = (u @ projected @ vh).reshape(task.shape)
            made.append((b + past * old + task).ravel())
        merged = np.concatenate(made)
        norm, mean = np.linalg.norm(merged - base), np.mean(norms)
        past = norm / mean
        merged = base + (merged - base) * (mean / norm)
    return merged


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_J4_as_the_authors_steps_written_out(alpha: float) -> None:
    models = example_vectors(4)
    assert models.base is not None
    shapes = [shape for _, shape, _ in models.layout.entries]
    assert (3, 1, 2, 2) in shapes, "a convolution is among them"
    [row] = Opcm(alpha, "ascending")(models, torch.arange(9))
    each = [vector.double().numpy() for vector in models.vectors]
    wanted = slow_opcm(models.base.double().numpy(), each, shapes, alpha)
    torch.testing.assert_close(row.double(), torch.from_numpy(wanted), atol=1e-5, rtol=1e-5)


def test_J4_the_merged_model_is_as_far_as_the_models_in_the_mean_and_one_is_itself() -> None:
    for count in (1, 2, 4):
        models = example_vectors(count)
        [row] = Opcm(0.7)(models, torch.arange(9))
        assert models.base is not None
        mean = models.task_vectors().norm(dim=1).mean()
        torch.testing.assert_close((row - models.base).double().norm(), mean, atol=1e-5, rtol=1e-5)
        if count == 1:
            torch.testing.assert_close(row, models.vectors[0])


def test_J4_models_that_have_not_moved_leave_the_base() -> None:
    models = example_vectors(3)
    assert models.base is not None
    still = replace(models, vectors=models.base.repeat(3, 1))
    [row] = Opcm()(still, torch.arange(9))
    assert torch.equal(row, models.base)
    moved = replace(still, vectors=torch.stack([models.base, models.vectors[0], models.base]))
    assert bool(Opcm()(moved, torch.arange(9)).isfinite().all())


def test_J4_the_order_is_of_the_round_or_of_the_clients() -> None:
    models = example_vectors(4)
    later = replace(models, round=9)
    by_client, shuffled = Opcm(order="ascending"), Opcm()
    assert torch.equal(*(by_client(one, torch.arange(9)) for one in (models, later)))
    assert not torch.equal(*(shuffled(one, torch.arange(9)) for one in (models, later)))
    two = replace(models, vectors=models.vectors.flip(0))
    assert not torch.equal(*(by_client(one, torch.arange(9)) for one in (models, two)))


def test_J4_continual_rounds_are_one_long_round() -> None:
    models, who = example_vectors(4), torch.arange(9)

    def part(rows: slice) -> Vectors:
        # A later round's base is another: the first one stays.
        base = models.base if rows.start == 0 else models.vectors[0]
        some = models.weights[rows]
        return replace(
            models, client_ids=models.client_ids[rows], vectors=models.vectors[rows],
            weights=some / some.sum(), base=base,
        )  # fmt: skip

    whole = Opcm(order="ascending")(models, who)
    merge = Opcm(order="ascending", continual=True)
    merge(part(slice(0, 2)), who)
    kept = merge.state()
    assert torch.equal(merge(part(slice(2, 4)), who), whole)
    other = Opcm(order="ascending", continual=True)
    other.restore(kept)
    assert torch.equal(other(part(slice(2, 4)), who), whole)
    assert not Opcm().state()
    with pytest.raises(FedfuseError, match="no merged models"):
        Opcm().restore({"small/delta": torch.zeros(3)})


def test_J4_each_architecture_is_remembered_by_itself() -> None:
    merge = Opcm(continual=True)
    merge(example_vectors(3, architecture="a/b"), torch.arange(9))
    alone = Opcm(continual=True)(example_vectors(3, architecture="c"), torch.arange(9))
    assert torch.equal(merge(example_vectors(3, architecture="c"), torch.arange(9)), alone)
    assert {key.rpartition("/")[0] for key in merge.state()} == {"a/b", "c"}
    layout = Layout((("w", (2, 2), torch.float32),))
    assert Opcm()(  # the base alone moved by its one model
        replace(example_vectors(1), layout=layout, base=torch.zeros(4), vectors=torch.ones(1, 4)),
        torch.arange(2),
    ).tolist() == [[1, 1, 1, 1]]
