"""Modules and weights from files: what is loaded, and what is refused instead of run."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedfuse.data.frozen import Frozen
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import ModelError
from fedfuse.models.saved import load_weights, saved_module


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("saved"), net().eval()
    example = torch.zeros(16, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, example), folder / "traced.pt")
        torch.export.save(torch.export.export(module, (example,)), folder / "exported.pt2")
    torch.save(module, folder / "pickled.pt")
    torch.save(module.state_dict(), folder / "state.pt")
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, folder / "wrapped.pt")
    torch.save(3, folder / "three.pt")
    save_file(module.state_dict(), folder / "state.safetensors")
    (folder / "damaged.pt2").write_bytes((folder / "exported.pt2").read_bytes()[:3000])
    (folder / "empty.pt").write_bytes(b"")
    return folder, module


@pytest.mark.parametrize("name", ["traced.pt", "exported.pt2"])
def test_a_module_is_loaded_with_its_code(files, name, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path))
    folder, module = files
    raw = synthetic(num_train=50, num_test=20)
    loaded, own = (
        Frozen(made, batch_size=16)(raw).train.inputs
        for made in (lambda: saved_module(folder / name), lambda: module)
    )
    assert loaded.shape == (50, 108)
    assert torch.allclose(*(torch.from_numpy(values.copy()) for values in (loaded, own)), atol=1e-5)


def test_a_program_for_another_number_of_samples_says_which_key_it_is(files, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot take .*features.batch_size for one of a fixed"):
        Frozen(lambda: saved_module(files[0] / "exported.pt2"))(synthetic(50, 20))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickled.pt", "pickled objects or weights, and no module"),
        ("state.pt", "pickled objects or weights, and no module"),
        ("state.safetensors", r"weights alone.*weights_file=FILE"),
        ("damaged.pt2", "is no saved module"),
        ("empty.pt", "is no saved module"),
        ("nothing.pt2", r"No file .*none is fetched"),
        ("", "is a folder"),
    ],
)
def test_what_is_no_saved_module_is_refused(files, name, message):
    with pytest.raises(ModelError, match=message):
        saved_module(files[0] / name)


@pytest.mark.parametrize("name", ["state.pt", "wrapped.pt", "state.safetensors"])
def test_weights_are_set(files, name):
    folder, module = files
    other = net()
    load_weights(other, folder / name)
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickled.pt", "holds Python objects, which are never loaded"),
        ("three.pt", r"holds no state dict.*int"),
        ("empty.pt", "cannot be read"),
        ("nothing.pt", "No file"),
    ],
)
def test_what_is_no_state_dict_is_refused(files, name, message):
    with pytest.raises(ModelError, match=message):
        load_weights(net(), files[0] / name)


def test_weights_of_another_module_are_refused(files):
    with pytest.raises(
        ModelError, match=r"of something else: 0.bias, 0.weight.*of another shape: 1.weight"
    ):
        load_weights(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), files[0] / "state.pt")
    wide = nn.Sequential(nn.Conv2d(1, 3, 5), nn.BatchNorm2d(3))
    with pytest.raises(ModelError, match=r"of another shape: 0.weight"):
        load_weights(wide, files[0] / "state.safetensors")
