"""Layer swapping: by hand, its two ends, patterns, and clients that rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.merge import Dare, LayerSwap, Mean, Twin, Vectors
from fedfuse.merge.layer_swap import matched
from fedfuse.models.cnn import cnn2
from fedfuse.models.lenet import lenet5
from fedfuse.models.resnet import resnet8
from fedfuse.rng import Streams
from fedfuse.testing import check_merge, example_vectors

LAYERS = Layout((("first.w", (1, 1), torch.float32), ("second.w", (1, 1), torch.float32)))


def two() -> Vectors:
    """Of mean (3, 5)."""
    return Vectors(
        client_ids=torch.tensor([0, 1]),
        vectors=torch.tensor([[1.0, 1.0], [5.0, 9.0]]),
        weights=torch.tensor([0.5, 0.5], dtype=torch.float64),
        base=None,
        layout=LAYERS,
        architecture="a",
        round=1,
        streams=Streams(0),
    )


def test_J6_by_hand() -> None:
    rows = LayerSwap(own=["second"])(two(), torch.tensor([0, 1, 2]))
    assert rows.tolist() == [[3, 1], [3, 9], [3, 5]]
    rows = LayerSwap(own=["second"], transition=["first"], transition_weight=0.25)(
        two(), torch.tensor([0, 1])
    )
    assert rows.tolist() == [[2.5, 1], [3.5, 9]]


def test_J6_without_own_layers_it_is_fedavg_to_the_bit() -> None:
    models = example_vectors()
    rows = LayerSwap(own=[])(models, torch.arange(9))
    assert torch.equal(rows, Mean()(models, torch.arange(9)).expand(9, -1))


def test_J6_with_all_layers_own_it_is_local_training() -> None:
    models = example_vectors()
    rows = LayerSwap(own=["stem", "3", "head"])(models, models.client_ids)
    assert torch.equal(rows, models.vectors)


@pytest.mark.parametrize(
    ("model", "stem", "head"),
    [
        (lenet5((1, 28, 28), 10), {"0.weight", "0.bias"}, {"11.weight", "11.bias"}),
        # a convolution and what normalises it are one layer
        (cnn2((1, 8, 8), 10), {"0.weight", "1.weight", "1.bias"}, {"11.weight", "11.bias"}),
    ],
)
def test_J6_stem_and_head(model: nn.Module, stem: set[str], head: set[str]) -> None:
    layout = Layout.of(model).part(buffers=False)
    assert matched("stem", layout) == stem
    assert matched("head", layout) == head


def test_J6_a_module_of_that_name_comes_first() -> None:
    net = nn.Sequential()
    net.add_module("head", nn.Linear(2, 2))
    net.add_module("last", nn.Linear(2, 2))
    assert matched("head", Layout.of(net)) == {"head.weight", "head.bias"}
    layout = Layout.of(resnet8((3, 32, 32), 10)).part(buffers=False)
    assert matched("head", layout) < {name for name, *_ in layout.entries}


@pytest.mark.parametrize(
    ("own", "transition", "said"),
    [
        (["heads"], [], "'heads', which no layer of net is called (0, 1, 2)"),
        (["*"], [], "'*', which is every layer of net"),
        (["head"], ["1", "*.bias"], "2.bias of net as own and as a transition"),
        (["head"], ["3"], "'3', which no layer of net is called"),
    ],
)
def test_J6_patterns_that_do_not_fit(own: list[str], transition: list[str], said: str) -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)))
    assert said in str(LayerSwap(own, transition).misfit({"net": layout}))


def test_J6_within_dare_patterns_are_asked_too() -> None:
    layouts = {"net": Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))}
    assert "no layer of net" in str(Dare(then=LayerSwap(["heads"])).misfit(layouts))
    assert Dare().misfit(layouts) is None
    assert Dare(then=Twin(weights="predictions")).needs_predictions
    check_merge(Dare(then=Twin(weights="predictions")))


def test_J6_patterns_that_fit() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)))
    assert LayerSwap(["stem", "2"], ["1"]).misfit({"net": layout}) is None


def test_J6_a_client_that_rests_keeps_its_layers_also_after_a_resume() -> None:
    def sent(ids: list[int], *rows: list[float]) -> ModelBank:
        return ModelBank.of(ids, [1] * len(ids), [torch.tensor(row) for row in rows])

    merge = LayerSwap(own=["second"])
    average = AverageModels(("a", "a", "a"), {"a": LAYERS}, merge=merge)
    average(sent([0, 1], [1, 1], [5, 9]), 1)
    resumed = LayerSwap(own=["second"])
    resumed.restore(merge.state())
    for one in (average, replace(average, merge=resumed)):
        down = one(sent([1], [7, 2]), 2).teachers
        assert isinstance(down, ModelBank)
        # 0 rested and keeps its 1; 2 never sent any
        assert [row.tolist() for row in down.vectors()] == [[7, 1], [7, 2], [7, 2]]
    with pytest.raises(FedfuseError, match="holds no layers"):
        merge.restore({"a": torch.zeros(1)})


@pytest.mark.parametrize(
    "swap",
    [LayerSwap(), LayerSwap(["stem"], ["head"]), LayerSwap([]), LayerSwap(transition=["1"])],
)
def test_J6_keeps_the_contract(swap: LayerSwap) -> None:
    check_merge(swap)


@pytest.mark.parametrize(
    "wrong",
    [
        {"own": "head"},
        {"own": [1]},
        {"transition": "0"},
        {"transition_weight": 1.5},
        {"transition_weight": float("nan")},
    ],
)
def test_J6_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(wrong))}' parameter of LayerSwap"):
        LayerSwap(**wrong)  # type: ignore[arg-type]
