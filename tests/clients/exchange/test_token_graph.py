"""Cells of feature maps: their graph by hand, where they come from, what it does to a run."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from clients.exchange.token_graph import TokenGraphs
from fedfuse.distill.relations import relation_graph
from fedfuse.errors import ConfigError, ModelError, ParameterError
from fedfuse.exchange.token_graph import TokenGraph, cell_graph, inside, squared_distances
from fedfuse.models.cells import WithCells, map_size
from fedfuse.models.cnn import cnn2
from fedfuse.models.lenet import lenet5
from fedfuse.models.resnet import resnet8
from fedfuse.testing import check_exchange

WORDS = ["baseline=none", "checkpoint.every=0", "models=save", "dataset.num_train=200"]
WORDS += ["public.size=30", "evaluation.own_test_samples=50", "warmup_rounds=0", "num_rounds=1"]
WORDS += ["model=cnn2", "model.width=4", "model.hidden=16"]

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_I3_the_unit_example() -> None:
    """Distances 1, 9, 10; with the nearest alone 0-1, 0-1 and 0-2 are kept."""
    expected = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 10.0], [9.0, 10.0, 0.0]])
    torch.testing.assert_close(squared_distances(POINTS), expected, atol=1e-5, rtol=0)
    student = rows(3, 2).requires_grad_()
    assert cell_graph(student, POINTS, 1.0, 1).tolist() == [0, 0, 0]  # one neighbour: sure of it
    # Of two neighbours each row knows which: log-odds are the difference of distances over 2 sigma.
    got = cell_graph(student, POINTS, 1.0, 2)
    ours = squared_distances(student.detach())
    for i, (j, k) in enumerate([(1, 2), (0, 2), (0, 1)]):
        t = torch.tensor([-expected[i, j] / 2, -expected[i, k] / 2]).softmax(0)
        s = torch.tensor([-ours[i, j] / 2, -ours[i, k] / 2]).softmax(0)
        torch.testing.assert_close(got[i], (t * (t / s).log()).sum(), atol=1e-5, rtol=0)


def test_I3_only_the_nearest_of_the_teachers_count() -> None:
    """k = 2 of 0, 1, 2 and a far point: moving the student's far point changes nothing near."""
    teacher = torch.cat([POINTS, torch.tensor([[50.0, 50.0]])])
    student = rows(4, 2)
    moved = student.clone()
    moved[3] += 7
    near, far = (cell_graph(s, teacher, 1.0, 2) for s in (student, moved))
    torch.testing.assert_close(near[:3], far[:3])
    assert not torch.allclose(near[3], far[3])


@pytest.mark.parametrize("neighbours", [None, 3])
def test_I3_one_cell_a_picture_is_the_graph_of_features(neighbours: int | None) -> None:
    student, teacher = rows(8, 5), rows(8, 5, seed=1)
    term = TokenGraph(cells=1, neighbours=neighbours, sigma=0.7, beta=0)
    expected = relation_graph(student, teacher, tau=0.7, neighbours=neighbours)
    torch.testing.assert_close(term(student, teacher), expected, atol=1e-5, rtol=1e-4)


def test_I3_inside_a_picture_by_hand() -> None:
    """Cells (1, 0), (0, 1) against (1, 0) twice: softmax(1/sqrt 2, 0) is .66976, or it is half."""
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    high = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    torch.testing.assert_close(inside(student, teacher), torch.tensor([(high - 0.5) ** 2]))
    assert inside(student, student).tolist() == [0]


def test_I3_the_parts_add_up_and_a_batch_may_be_permuted() -> None:
    student, teacher = rows(6, 4 * 3), rows(6, 4 * 3, seed=1)
    zero = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}
    parts = [TokenGraph(4, 2, **{**zero, name: 1.0}) for name in zero]
    whole = TokenGraph(4, 2, alpha=2.0, beta=3.0, gamma=5.0)(student, teacher)
    made = [part(student, teacher) for part in parts]
    assert all(float(part.abs().max()) > 0 for part in made)
    torch.testing.assert_close(whole, 2 * made[0] + 3 * made[1] + 5 * made[2])
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(
        TokenGraph(4, 2, 1.0, 2.0, 3.0, 5.0)(student[order], teacher[order]), whole[order]
    )
    same = TokenGraph(4, beta=0)(teacher, teacher)
    torch.testing.assert_close(same, torch.zeros(6), atol=1e-6, rtol=0)


def test_I3_the_temperature_falls() -> None:
    taus = [TokenGraphs(tau=1.0, tau_end=0.2, fall_rounds=4).term(r).tau for r in (1, 3, 5, 9)]
    assert taus == pytest.approx([1.0, 0.6, 0.2, 0.2])


@pytest.mark.parametrize(
    ("factory", "size", "channels"), [(lenet5, 28, 16), (cnn2, 8, 32), (resnet8, 16, 64)]
)
def test_I3_cells_are_of_the_last_map_of_more_than_one_place(factory, size, channels) -> None:
    model, images = factory((1, size, size), 3), rows(5, 1, size, size)
    assert map_size(model, (1, size, size), 2) == channels
    whole = WithCells(model, 2, channels, 0)(images)
    assert whole.shape == (5, 3 + 4 * channels)
    torch.testing.assert_close(whole[:, :3], model(images))
    with torch.inference_mode():
        WithCells(model, 2, 5, 0)(images)  # what is drawn here is used for gradients, too
    narrow = WithCells(model, 2, 5, 0)(images)[:, 3:].view(5, 4, 5)
    wide = WithCells(model, 2, 2 * channels, 0)(images)[:, 3:].view(5, 4, -1)
    cells = whole[:, 3:].view(5, 4, channels)
    torch.testing.assert_close(wide @ wide.mT, cells @ cells.mT, atol=1e-4, rtol=1e-4)
    narrow.square().sum().backward()
    if factory is lenet5:  # and that map is what the head's layers read
        tokens = model[:6](images)
        pooled = nn.functional.adaptive_avg_pool2d(tokens, 2)
        torch.testing.assert_close(cells.mT.reshape(5, channels, 2, 2), pooled)


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def test_I3_without_weights_only_predictions_are_learned(simulate) -> None:
    plain = simulate("method=mean", *WORDS)
    off = ["exchange.alpha=0", "exchange.beta=0", "exchange.gamma=0", "exchange.width=3"]
    nothing = simulate("method=token_graph", *WORDS, *off)
    assert torch.equal(weights(plain), weights(nothing))
    found = nothing.metrics
    for name in ("bytes_up", "bytes_down"):
        counted = found[found.metric == name].value.sum() / 3
        assert counted == 4 * 30 * (10 + 4 * 3) + 8 * (name == "bytes_up")


def test_I3_maps_of_several_sizes_learn_of_each_other(simulate) -> None:
    here = "tests.clients.exchange.test_token_graph.small"
    several = [word for word in WORDS if not word.startswith("model.")]
    several += ["model=cycle", f"model.factories.mlp._target_={here}"]
    several += ["dataset.image_size=16", "model.factories.mlp.hidden=8"]
    run, plain = (simulate(f"method={name}", *several) for name in ("token_graph", "mean"))
    assert not torch.allclose(weights(run), weights(plain), atol=1e-5)


def small(input_shape: tuple[int, ...], num_classes: int, hidden: int, depth: int) -> nn.Module:
    return cnn2(input_shape, num_classes, width=depth, hidden=hidden)


def test_I3_keeps_the_contract_of_an_exchange() -> None:
    check_exchange(TokenGraphs(width=3), partial(cnn2, width=2, hidden=6))


def test_I3_refuses_before_training(simulate) -> None:
    with pytest.raises(ModelError, match="has no cells"):
        simulate("method=token_graph", "model=mlp")
    with pytest.raises(ModelError, match=r"3 x 3 places, exchange.side=4.*side=3 or less"):
        simulate("method=token_graph", "model=cnn2", "exchange.side=4")
    with pytest.raises(ConfigError, match=r"TokenGraphs relates the samples.*trainer=batched"):
        simulate("method=token_graph", "model=cnn2", "trainer=batched")


@pytest.mark.parametrize(
    "given",
    [
        {"side": 0},
        {"neighbours": 0},
        {"sigma": 0},
        {"alpha": -1},
        {"beta": math.nan},
        {"gamma": True},
        {"tau": 0},
        {"tau": None},
        {"tau_end": 0},
        {"fall_rounds": 0},
    ],
)
def test_I3_refuses(given) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter"):
        TokenGraphs(**given)
