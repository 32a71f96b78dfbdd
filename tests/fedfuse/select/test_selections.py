"""Choosing public samples: sizes, balance, luck, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.select import All, ClassBalanced, RandomSubset, Select, Stratified

LABELS = torch.tensor([0] * 20 + [1] * 3 + [3] * 9)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "select", [All(), RandomSubset(10), ClassBalanced(10), Stratified(0.3125)], ids=repr
)
def test_indices_ascend_and_repeat_with_the_stream(select: Select) -> None:
    index = select(1, len(LABELS), LABELS, _generator())
    assert index.dtype == torch.int64
    assert (index.diff() > 0).all()
    assert index[0] >= 0
    assert index[-1] < len(LABELS)
    assert torch.equal(index, select(1, len(LABELS), LABELS, _generator()))
    if select != All():
        assert len(index) == 10
        assert not torch.equal(index, select(1, len(LABELS), LABELS, _generator(1)))
    else:
        assert index.tolist() == list(range(len(LABELS)))


def test_a_random_subset_is_fair() -> None:
    generator = _generator()
    draws = torch.cat([RandomSubset(2)(r, 6, None, generator) for r in range(3000)])
    shares = draws.bincount(minlength=6) / 3000
    assert (shares - 1 / 3).abs().max() < 0.04


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 9999)
)
def test_classes_are_as_equal_as_the_set_allows(labels: list[int], size: int, seed: int) -> None:
    size = min(size, len(labels))
    tensor = torch.tensor(labels)
    index = ClassBalanced(size)(0, len(labels), tensor, _generator(seed))
    assert len(index.unique()) == size
    have, got = tensor.bincount(), tensor[index].bincount(minlength=int(tensor.max()) + 1)
    # A class either gives all it has, or as many as the largest giver, or one less.
    assert ((got == have) | (got >= got.max() - 1)).all()


def test_balance_by_hand() -> None:
    # 20, 3 and 9 samples of three classes, 15 wanted: 3 from the small one, 6 from each other
    index = ClassBalanced(15)(0, len(LABELS), LABELS, _generator())
    assert LABELS[index].bincount().tolist() == [6, 3, 0, 6]


def test_the_odd_sample_goes_to_any_class() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    firsts = [int(labels[ClassBalanced(1)(0, 6, labels, _generator(s))]) for s in range(60)]
    assert set(firsts) == {0, 1, 2}
    picks = {int(ClassBalanced(1)(0, 6, labels, _generator(s))) for s in range(200)}
    assert picks == set(range(6))


@pytest.mark.parametrize("make", [RandomSubset, ClassBalanced])
def test_mistakes_are_named(make: type[RandomSubset | ClassBalanced]) -> None:
    for bad in (0, -1, True, 2.0, "3"):
        with pytest.raises(ParameterError, match=f"'size' parameter of {make.__name__}"):
            make(bad)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="at most the 32 samples"):
        make(33)(0, 32, LABELS, _generator())


def test_balance_needs_labels() -> None:
    assert ClassBalanced.needs_labels
    with pytest.raises(KnowledgeError, match="select=random"):
        ClassBalanced(2)(0, 32, None, _generator())


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(0, 9999)
)
def test_a_stratified_subset_keeps_the_proportions(
    labels: list[int], fraction: float, seed: int
) -> None:
    tensor = torch.tensor(labels)
    index = Stratified(fraction)(0, len(labels), tensor, _generator(seed))
    size = len(index.unique())
    assert size == len(index) == max(1, int(fraction * len(labels) + 0.5))
    wanted = size * tensor.bincount() / len(labels)
    got = tensor[index].bincount(minlength=len(wanted))
    assert ((got - wanted).abs() < 1).all()  # each share rounded, down or up


def test_proportions_by_hand() -> None:
    # 20, 3 and 9 of 32; 16 wanted: shares of 10, 1.5 and 4.5, and one of the halves is rounded up
    index = Stratified(0.5)(0, len(LABELS), LABELS, _generator())
    assert LABELS[index].bincount().tolist() in ([10, 1, 0, 5], [10, 2, 0, 4])
    with pytest.raises(KnowledgeError, match="select=random"):
        Stratified()(0, 32, None, _generator())
    with pytest.raises(ParameterError, match="'fraction' parameter of Stratified"):
        Stratified(0)


CONF = Path(__file__).parents[3] / "experiments" / "conf" / "select"
EXPECTED = {
    "all": All(),
    "random": RandomSubset(250),
    "class_balanced": ClassBalanced(250),
    "stratified": Stratified(0.5),
}


def test_the_options_build_the_selections() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {*EXPECTED, "custom"}
    for option, part in EXPECTED.items():
        assert instantiate(OmegaConf.load(CONF / f"{option}.yaml")) == part
