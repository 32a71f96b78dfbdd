"""Averaging over widths: the maps by hand, what they leave as it is, and mixed federations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError, ParameterError
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.merge import Coalesce, Mean
from fedfuse.merge.widths import (
    narrow_columns,
    narrow_rows,
    narrowed,
    stack_of,
    widen_columns,
    widened,
)
from fedfuse.models.cnn import cnn2, cnn4
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.testing import check_merge, example_vectors

SHAPE = (1, 8, 8)


def net(seed: int, hidden: int, depth: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(SHAPE, 3, hidden=hidden, depth=depth)


def layout(model: nn.Module) -> Layout:
    return Layout.of(model).part(buffers=False)


def test_J7_by_hand() -> None:
    rows = narrow_rows(torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]), 2)
    assert rows.tolist() == [[2, 3], [6, 7]]
    columns = narrow_columns(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), 2, 4)
    assert columns.tolist() == [[3, 7], [11, 15]]
    assert rows.repeat_interleave(2, dim=0).tolist() == [[2, 3], [2, 3], [6, 7], [6, 7]]
    assert widen_columns(columns, 2, 2).tolist() == [[1.5, 1.5, 3.5, 3.5], [5.5, 5.5, 7.5, 7.5]]


FAMILIES = {
    "mlp": (lambda width: mlp(SHAPE, 3, hidden=4 * width, depth=3), 3),
    "cnn2": (lambda width: cnn2(SHAPE, 3, width=4 * width, hidden=8 * width), 3),
    "cnn4 without norm": (
        lambda width: cnn4(SHAPE, 3, width=4 * width, hidden=8 * width, norm="none"),
        5,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_J7_widened_and_narrowed_again_it_is_the_same_and_computes_the_same(family: str) -> None:
    """A network of duplicated units computes what it did, and narrowing takes them back."""
    build, hidden = FAMILIES[family]
    torch.manual_seed(0)
    small, large = build(1), build(3)
    narrow, wide = stack_of(layout(small)), stack_of(layout(large))
    assert narrow is not None
    assert wide is not None
    assert narrow.form == wide.form
    assert len(narrow.widths) == hidden
    state = {name: value.double() for name, value in small.state_dict().items()}
    grown = widened(wide, state, narrow.widths)
    again = narrowed(wide, grown, narrow.widths)
    for name, tensor in state.items():
        torch.testing.assert_close(again[name], tensor)
    large.double().load_state_dict(grown)
    inputs = torch.randn(7, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(large(inputs), small.double()(inputs))
    small.load_state_dict(again)
    torch.testing.assert_close(large(inputs), small(inputs))


def rows(average: AverageModels, bank: ModelBank) -> list[Tensor]:
    down = average(bank, 1).teachers
    assert isinstance(down, ModelBank)
    return down.vectors()


def mixed(merge: Coalesce, *hidden: int) -> tuple[AverageModels, list[nn.Module]]:
    nets = [net(seed, width) for seed, width in enumerate(hidden)]
    names = tuple(f"mlp{width}" for width in hidden)
    layouts = {name: layout(one) for name, one in zip(names, nets, strict=True)}
    return AverageModels(names, layouts, merge=merge), nets


def bank_of(nets: list[nn.Module], sizes: list[int]) -> ModelBank:
    return ModelBank.of(range(len(nets)), sizes, [layout(one).flatten(one) for one in nets])


def test_J7_clients_of_several_widths_are_averaged_by_their_samples() -> None:
    average, nets = mixed(Coalesce(0.25), 4, 8, 12)
    sizes = [10, 20, 30]
    made = rows(average, bank_of(nets, sizes))
    stacks = [stack_of(layout(one)) for one in nets]
    states = [{n: v.detach().double() for n, v in one.state_dict().items()} for one in nets]
    down = [narrowed(stack, state, (4, 4)) for stack, state in zip(stacks, states, strict=True)]
    shared = {
        name: sum(size / 60 * one[name] for size, one in zip(sizes, down, strict=True))
        for name in down[0]
    }
    for row, one, stack, state in zip(made, nets, stacks, states, strict=True):
        wide = widened(stack, shared, (4, 4))
        wanted = layout(one).pack({n: 0.75 * state[n] + 0.25 * wide[n] for n in state})
        torch.testing.assert_close(row, wanted)


def test_J7_fully_interpolated_all_widths_compute_the_same() -> None:
    average, nets = mixed(Coalesce(1), 4, 8, 12)
    inputs, said = torch.randn(5, *SHAPE), []
    for one, row in zip(nets, rows(average, bank_of(nets, [1, 2, 3])), strict=True):
        layout(one).load(one, row)
        said.append(one(inputs))
    torch.testing.assert_close(said[1], said[0])
    torch.testing.assert_close(said[2], said[0])


def test_J7_without_the_smallest_the_others_meet_where_both_divide() -> None:
    average, nets = mixed(Coalesce(1), 4, 8, 12)
    bank = ModelBank.of([1, 2], [1, 1], [layout(one).flatten(one) for one in nets[1:]])
    inputs, said = torch.randn(5, *SHAPE), []
    for one, row in zip(nets[1:], rows(average, bank), strict=True):
        layout(one).load(one, row)
        said.append(one(inputs))
    torch.testing.assert_close(said[1], said[0])


def test_J7_of_one_width_it_pulls_towards_the_mean() -> None:
    models = example_vectors()
    mean = Mean()(models, models.client_ids)
    everyone = torch.tensor([0, *models.client_ids.tolist()])
    made = Coalesce(0.25)(models, everyone)
    torch.testing.assert_close(made[1:], 0.75 * models.vectors + 0.25 * mean)
    torch.testing.assert_close(made[0], mean[0])  # who sent nothing has the mean for its own
    assert torch.equal(Coalesce(0)(models, models.client_ids), models.vectors)


@pytest.mark.parametrize(
    ("nets", "said"),
    [
        ({"a": net(0, 8), "b": net(0, 12)}, "hidden layers of 12 and 8 units"),
        ({"a": net(0, 8), "b": net(0, 8, depth=3)}, "a and b, which differ in more"),
        ({"a": net(0, 8), "b": mlp((1, 4, 4), 3, hidden=8)}, "a and b, which differ in more"),
        ({"a": net(0, 8), "b": cnn2(SHAPE, 3)}, "a and b, which differ in more"),
        ({"a": nn.ParameterDict({"w": nn.Parameter(torch.zeros(2))})}, "a, which is no plain"),
        ({"a": nn.Sequential(nn.Linear(4, 6), nn.Linear(4, 2))}, "a, which is no plain stack"),
    ],
)
def test_J7_what_does_not_fit(nets: dict[str, nn.Module], said: str) -> None:
    layouts = {name: layout(one) for name, one in nets.items()}
    assert said in str(Coalesce().misfit(layouts))


def test_J7_what_fits() -> None:
    layouts = {str(width): layout(net(0, width)) for width in (4, 8, 20)}
    assert Coalesce().misfit(layouts) is None
    assert Coalesce().misfit({"lenet5": layout(lenet5((1, 28, 28), 10))}) is None


def test_J7_models_that_were_never_checked_are_refused_in_the_round() -> None:
    nets = [net(0, 4), net(0, 8, depth=1)]
    layouts = {name: layout(one) for name, one in zip("ab", nets, strict=True)}
    with pytest.raises(ModelError, match="differ in more than the width"):
        AverageModels(("a", "b"), layouts, merge=Coalesce())(bank_of(nets, [1, 1]), 1)


def test_J7_keeps_the_contract() -> None:
    check_merge(Coalesce())


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), True, "a"])
def test_J7_refuses(wrong: object) -> None:
    with pytest.raises(ParameterError, match="'interpolate' parameter of Coalesce"):
        Coalesce(wrong)  # type: ignore[arg-type]
