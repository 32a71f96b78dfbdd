"""Merges of task vectors: the sheet's examples, slow versions beside them, and what must hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.merge import Dare, Mean, Merge, Opcm, TaskArithmetic, Ties, Vectors
from fedfuse.merge.ties import elected, trimmed
from fedfuse.testing import check_merge, example_vectors

BASE = torch.tensor([0.5, 1.0, -2.0, 0.0])
TASKS = torch.tensor([[1.0, -2.0, 0.0, 0.1], [-0.5, -1.0, 0.2, 0.0]])


def given_tasks(tasks: Tensor = TASKS, base: Tensor = BASE) -> Vectors:
    count = len(tasks)
    return replace(
        example_vectors(),
        client_ids=torch.arange(count),
        vectors=base + tasks,
        weights=torch.full((count,), 1 / count, dtype=torch.float64),
        base=base,
    )


def task(merge: Merge, models: Vectors) -> Tensor:
    """Return how far the merged model is from the base."""
    assert models.base is not None
    [row] = merge(models, torch.arange(9))
    return row - models.base


def close(got: Tensor, wanted: object) -> None:
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=got.dtype), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "merge",
    [
        TaskArithmetic(), Ties(), Ties(keep=0.7, merge="sum"), Dare(), Dare(0.0),
        Dare(0.9, Ties()), Dare(0.3, Mean()),
        Opcm(), Opcm(0.8, "ascending", True), Dare(0.5, Opcm(continual=True)),
    ],
    ids=str,
)  # fmt: skip
def test_each_keeps_the_contract(merge: Merge) -> None:
    check_merge(merge)


def test_J1_task_arithmetic_by_hand() -> None:
    close(task(TaskArithmetic(0.3), given_tasks()), [0.15, -0.9, 0.06, 0.03])


def test_J1_a_kth_of_the_sum_is_the_plain_mean_and_any_other_scale_a_servers_rate() -> None:
    models = example_vectors(3)
    even = replace(models, weights=torch.full((3,), 1 / 3, dtype=torch.float64))
    mean, ours = (merge(even, torch.arange(9)) for merge in (Mean(), TaskArithmetic(1 / 3)))
    torch.testing.assert_close(ours, mean, atol=1e-6, rtol=0)
    for scale in (0.0, 0.3, 1.0):
        step = 3 * scale * task(Mean(), even)
        torch.testing.assert_close(task(TaskArithmetic(scale), models), step, atol=1e-5, rtol=0)


def test_J2_ties_by_hand() -> None:
    close(task(Ties(0.5), given_tasks()), [1, -1.5, 0, 0])
    close(task(Ties(1.0), given_tasks()), [1, -1.5, 0.2, 0.1])
    close(task(Ties(1.0, 2.0, "sum"), given_tasks()), [2, -6, 0.4, 0.2])


def test_J2_edges_of_the_trim_and_the_election() -> None:
    rows = torch.tensor([[1.0, -1.0, 1.0, 0.0, 1.0]])
    assert trimmed(rows, 0.3).tolist() == [[1, -1, 0, 0, 0]]  # ceil(1.5), the first of equal ones
    assert trimmed(torch.ones(1, 10), 0.7).sum() == 7  # 0.7 * 10 is above 7 in floats
    assert int((trimmed(rows, 1e-12) != 0).sum()) == 1
    even = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert elected(even).tolist() == [1, 1]  # nothing leads anywhere: plus
    assert elected(torch.cat([even, -torch.ones(2, 1)], dim=1)).tolist() == [-1, -1, -1]
    close(task(Ties(1.0), given_tasks(torch.zeros(2, 4))), [0, 0, 0, 0])


def test_J2_one_model_or_equal_ones_come_out_as_they_are() -> None:
    one = given_tasks(TASKS[:1])
    close(task(Ties(1.0), one), TASKS[0])
    close(task(Ties(1.0), given_tasks(TASKS[:1].repeat(4, 1))), TASKS[0])


def slow_ties(tasks: np.ndarray, keep: float, scale: float, merge: str) -> np.ndarray:
    """TIES number by number, in float64 and without torch."""
    count, size = tasks.shape
    kept = np.zeros_like(tasks)
    for k in range(count):
        order = sorted(range(size), key=lambda i, k=k: (-abs(tasks[k, i]), i))
        for i in order[: math.ceil(round(keep * size, 9))]:
            kept[k, i] = tasks[k, i]
    signs = [np.sign(kept[:, i].sum()) for i in range(size)]
    most = np.sign(sum(signs)) or 1.0
    made = np.zeros(size)
    for i in range(size):
        agreeing = [x for x in kept[:, i] if x * (signs[i] or most) > 0]
        if agreeing:
            made[i] = sum(agreeing) / (len(agreeing) if merge == "mean" else 1)
    return scale * made


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 12), st.floats(0.01, 1), st.sampled_from(["mean", "sum"]),
    st.integers(0, 10**6),
)  # fmt: skip
def test_J2_as_the_slow_version(count: int, size: int, keep: float, merge: str, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    tasks = torch.randint(-3, 4, (count, size), generator=draw) / 2  # with zeros and ties
    got = task(Ties(keep, 0.5, merge), given_tasks(tasks, torch.zeros(size)))
    close(got, slow_ties(tasks.double().numpy(), keep, 0.5, merge))


class Kept:
    """Vectors whose draws keep given numbers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *rows: list[float]) -> None:
        draws = iter(torch.tensor(rows))
        monkeypatch.setattr(torch, "rand", lambda size, generator: next(draws)[:size])


def test_J3_dare_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    Kept(monkeypatch, [1, 0, 1, 0])
    close(task(Dare(0.5, TaskArithmetic(1.0)), given_tasks(TASKS[:1])), [2, 0, 0, 0])


@pytest.mark.parametrize("then", [TaskArithmetic(), Ties(), Mean()], ids=str)
def test_J3_without_dropping_it_is_the_inner_merge(then: Merge) -> None:
    models = example_vectors()
    inner = then(models, torch.arange(9))
    torch.testing.assert_close(Dare(0.0, then)(models, torch.arange(9)), inner, atol=1e-6, rtol=0)


def test_J3_in_the_mean_nothing_changes_and_clients_draw_apart() -> None:
    models = given_tasks()
    dare = Dare(0.5, TaskArithmetic(1.0))
    draws = [task(dare, replace(models, round=round_)) for round_ in range(1000)]
    # The sum's deviation is |task| p / (1 - p) in the root of its squares, over 1000 draws.
    error = 5 * (TASKS.square().sum(dim=0) / 1000).sqrt() + 1e-6
    assert bool(((torch.stack(draws).mean(dim=0) - TASKS.sum(dim=0)).abs() <= error).all())
    big = given_tasks(torch.ones(3, 4000), torch.zeros(4000))
    ones = [
        replace(big, client_ids=torch.tensor([i]), vectors=big.vectors[:1], weights=torch.ones(1))
        for i in range(3)
    ]
    alone = [dare(one, torch.arange(3))[0] for one in ones]
    assert not torch.equal(alone[0], alone[1]), "clients draw apart"
    together = dare(big, torch.arange(3))[0]
    torch.testing.assert_close(sum(alone), together)  # whoever else is there
    assert abs(float((alone[0] == 0).float().mean()) - 0.5) < 0.05
    assert set(alone[0].tolist()) == {0.0, 2.0}


WRONG: dict[str, Callable[[], object]] = {
    "scale": lambda: TaskArithmetic(-0.1),
    "keep": lambda: Ties(0.0),
    "merge": lambda: Ties(merge="median"),
    "drop": lambda: Dare(1.0),
    "then": lambda: Dare(then=3),  # type: ignore[arg-type]
    "alpha": lambda: Opcm(1.0),
    "order": lambda: Opcm(order="random"),
    "continual": lambda: Opcm(continual=1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_impossible_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter"):
        WRONG[name]()
