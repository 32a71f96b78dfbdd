"""Frozen features: one vector a sample, computed once for a data set and a module."""

from __future__ import annotations

import importlib
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedfuse.data import frozen
from fedfuse.data.frozen import Frozen
from fedfuse.data.sources.breast_cancer import breast_cancer
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import DataError, FedfuseError, ModelError
from fedfuse.models.random_features import RandomFeatures


class Sums(nn.Module):
    """Rows' sums, by hand; with a layer whose output is twice as long."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.twice = nn.Identity()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.scale * inputs.sum(dim=3).flatten(1)
        self.twice(torch.cat([rows, rows], dim=1))
        return rows


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Count the batches that go through a module."""
    counted: list[int] = []
    real = Frozen._features

    def count(self, module, inputs, raw):
        counted.append(len(inputs))
        return real(self, module, inputs, raw)

    monkeypatch.setattr(Frozen, "_features", count)
    return counted


def images(**changed):
    return synthetic(num_train=50, num_test=20, **changed)


def test_features_are_what_the_module_says_of_each_sample_in_order():
    raw = images()
    found = Frozen(Sums, batch_size=16)(raw)
    for pool, theirs in ((raw.train, found.train), (raw.test, found.test)):
        by_hand = (pool.inputs.astype(np.float64) / 255).sum(axis=3).reshape(len(pool), -1)
        np.testing.assert_allclose(theirs.inputs, by_hand, rtol=1e-5)
        assert (theirs.labels == pool.labels).all()
    assert found.train.inputs.dtype == np.float32
    assert not found.is_image
    np.testing.assert_allclose(found.mean, found.train.inputs.mean(axis=0), rtol=1e-5)
    assert (found.name, found.class_names) == (raw.name, raw.class_names)


def test_a_layer_scales_and_sizes_are_as_asked():
    raw = images()
    assert Frozen(Sums, layer="twice")(raw).train.inputs.shape == (50, 16)
    plain = Frozen(nn.Flatten)(raw).train.inputs
    scaled = Frozen(nn.Flatten, mean=[0.5], std=[0.25])(raw).train.inputs
    np.testing.assert_allclose(scaled, (plain - 0.5) / 0.25, rtol=1e-4, atol=1e-5)
    big = Frozen(nn.Flatten, channels=3, image_size=10)(raw)
    assert big.train.inputs.shape == (50, 3 * 10 * 10)


def test_a_pool_of_any_length_gives_the_same_rows():
    few, many = (Frozen(RandomFeatures, batch_size=size)(images()) for size in (7, 64))
    np.testing.assert_allclose(few.train.inputs, many.train.inputs, rtol=1e-4, atol=1e-5)


def test_they_are_computed_once_for_what_they_are_made_of(passes, tmp_path):
    def again(raw, **changed) -> bool:
        before = len(passes)
        Frozen(**{"module": Sums, "batch_size": 32, **changed})(raw)
        return len(passes) > before

    raw = images()
    assert again(raw)
    assert not again(raw)
    assert not again(images())
    assert again(images(seed=1))
    assert again(raw, module=partial(Sums, scale=2.0))
    assert again(raw, layer="twice")
    assert again(raw, image_size=9)
    assert again(raw, module=RandomFeatures)
    assert again(raw, module=RandomFeatures, seed=1)
    for scale in (3.0, 4.0):  # the same place, other weights
        torch.save(Sums(scale).state_dict(), tmp_path / "w.pt")
        assert again(raw, weights_file=tmp_path / "w.pt")
    assert not again(raw, weights_file=tmp_path / "w.pt")
    (tmp_path / "elsewhere.pt").write_bytes((tmp_path / "w.pt").read_bytes())
    assert not again(raw, weights_file=tmp_path / "elsewhere.pt")


def test_code_that_changed_is_computed_anew(passes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import torch\nclass Net(torch.nn.Module):\n"
    text += " def forward(self, x):\n  return x.flatten(1) * {}\n"
    for factor in (1, 2):
        (tmp_path / "net_of_mine.py").write_text(text.format(f"{factor}.0" + "0" * factor))
        sys.modules.pop("net_of_mine", None)
        importlib.invalidate_caches()
        net = importlib.import_module("net_of_mine").Net
        found = Frozen(net)(images()).train.inputs
    assert found.max() > 1.5


class Trained(nn.BatchNorm2d):
    def eval(self) -> nn.Module:
        return self


def _of_all(inputs: Tensor) -> Tensor:
    return inputs.flatten(1) - inputs.flatten(1).mean(dim=0)


def made(function):
    """Return a module of a function."""
    return partial(_Lambda, function)


class _Lambda(nn.Module):
    def __init__(self, function, input_shape=None) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> object:
        return self.function(inputs)


def nothing():
    return {}


class Restless(nn.Linear):
    def __init__(self, input_shape) -> None:
        super().__init__(8, 4)
        self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng().normal(size=(4, 8))))


BAD = {
    "one number": (made(lambda x: x.sum()), "does not give one vector of numbers"),
    "one number a sample": (made(lambda x: x.sum(dim=(1, 2, 3))), "does not give one vector"),
    "too few rows": (made(lambda x: x.flatten(1)[1:]), r"\[32, F\] for inputs float32 \[32, 1"),
    "two tensors": (made(lambda x: (x, x)), "got a tuple"),
    "whole numbers": (made(lambda x: x.flatten(1).long()), "does not give one vector"),
    "no numbers": (made(lambda x: x.flatten(1)[:, :0]), "does not give one vector"),
    "nan": (made(lambda x: x.flatten(1).log() * 0), r"not finite numbers.*row \d+ of synthetic"),
    "constant": (made(lambda x: 0 * x.flatten(1) + 1), "gives all samples the same features"),
    "of the whole batch": (made(_of_all), "depend on the others in its batch"),
    "in training mode": (partial(Trained, 1), "depend on the others in its batch"),
    "drawn": (made(lambda x: x.flatten(1) + torch.rand(32, 1)), "other features each time"),
    "for another size": (partial(nn.Linear, 99, 3), r"cannot take the samples .*\[32, 1, 8, 8\]"),
    "a bug": (made(lambda x: x.nothing()), "cannot take the samples .*AttributeError"),
    "built otherwise each time": (Restless, "another one each time it is built"),
    "no module": (nothing, "is no module"),
    "no factory": (dict, "cannot be built"),
    "not to be built": (partial(nn.Linear, 3), "cannot be built"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_feature_of_a_sample_is_refused(name):
    module, message = BAD[name]
    with pytest.raises(FedfuseError, match=re.compile(message, re.DOTALL)):
        Frozen(module, batch_size=32)(images())
    assert not list(Path(frozen.cached.__globals__["cache_folder"]()).glob("synthetic*"))


def test_the_last_row_that_is_not_finite_is_named():
    def no_number(inputs: Tensor) -> Tensor:
        rows = inputs.flatten(1)
        return torch.where(rows[:, :1] == last, torch.nan, rows)

    raw = images()
    last = torch.tensor(raw.train.inputs[49].ravel()[0] / np.float32(255))
    same = raw.train.inputs.reshape(50, -1)[:, 0] == raw.train.inputs[49].ravel()[0]
    row = int(np.flatnonzero(same)[0])
    with pytest.raises(ModelError, match=f"row {row} of synthetic-image"):
        Frozen(made(no_number), batch_size=32)(raw)


def test_lengths_that_change_are_refused():
    widths = iter([8] * 4 + [9] * 9)
    with pytest.raises(ModelError, match=r"vectors of different lengths.*8 and 9 numbers"):
        Frozen(made(lambda x: x.flatten(1)[:, : next(widths)]), batch_size=32)(images())


def test_a_layer_that_is_not_there_or_not_called_is_refused():
    with pytest.raises(ModelError, match=r"has no layer 'head'.*allowed: twice"):
        Frozen(Sums, layer="head")(images())

    class Idle(Sums):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1)

    with pytest.raises(ModelError, match="does not call its layer 'twice'"):
        Frozen(Idle, layer="twice")(images())


def test_features_of_another_modality_are_refused():
    table = breast_cancer()
    with pytest.raises(ModelError, match=r"Random features are of images.*texts have models of"):
        Frozen(RandomFeatures)(table)
    with pytest.raises(
        ModelError, match=r"cannot take the samples of breast_cancer.*float32 \[128"
    ):
        Frozen(partial(nn.Conv2d, 1, 2, 3))(table)
    with pytest.raises(ModelError, match=r"features\.image_size is about images"):
        Frozen(nn.Flatten, image_size=32)(table)
    vectors = Frozen(partial(nn.Linear, 30, 5))(table)
    assert vectors.train.inputs.shape[1] == 5


def test_features_beyond_memory_are_refused(monkeypatch):
    monkeypatch.setattr(frozen, "machine_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"larger than this machine's memory.*50 rows of 64, 12800"):
        Frozen(nn.Flatten)(images())


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"channels": 2},
        {"image_size": 0},
        {"mean": [0.5]},
        {"mean": [0.5], "std": [0.0]},
        {"mean": 0.5, "std": 0.5},
        {"mean": ["a"], "std": ["b"]},
        {"mean": [float("nan")], "std": [1.0]},
        {"seed": -1},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(FedfuseError, match="features"):
        Frozen(nn.Flatten, **wrong)
    with pytest.raises(ModelError, match="not one number for each channel"):
        Frozen(nn.Flatten, mean=[0.5] * 3, std=[1.0] * 3)(images())


def test_a_grid_finer_than_the_image_is_refused():
    with pytest.raises(ModelError, match=r"'grid' .* got 9, allowed: at most 8"):
        Frozen(partial(RandomFeatures, grid=9))(images())


def test_another_set_is_matched_to_the_first_one():
    raw, other = images(), images(channels=3, image_size=12, seed=1)
    assert Frozen(nn.Flatten)(other, like=raw).train.inputs.shape == (50, 64)
