"""What the configuration calls by a known name is checked before anything is trained."""

import numpy as np
import pytest

from experiments.run import main


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """Colour images of three classes, in a place of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(0, 256, (240, 10, 10, 3), dtype=np.uint8), np.arange(240) % 3
    np.savez("a.npz", x_train=inputs, y_train=labels)


SMALL = ["num_clients=2", "num_rounds=2", "model=mlp", "method=mean", "client.batch_size=8"]


@pytest.mark.parametrize("name", ["mnist", "owner/CIFAR-10"])
def test_data_that_is_called_what_it_is_not_is_refused(wrong, capsys, name):
    lines = ["dataset=npz", "dataset.path=a.npz", f"dataset.name={name}", "hydra.run.dir=run"]
    assert main([*lines, *SMALL]) == 2
    error = capsys.readouterr().err
    assert f"called {name} and is something else: got 3x10x10 images of 3 classes" in error


def test_a_public_set_that_is_not_what_its_option_names_is_called_by_its_own_name(
    wrong, capsys, tmp_path
):
    lines = [
        *("dataset=synthetic", "public=external", "public.size=20", "baseline=none"),
        "public.dataset._target_=fedfuse.data.sources.npz.npz",
        *("public.dataset.path=a.npz", "hydra.run.dir=run", "public.dataset.name=mnist"),
    ]
    with pytest.warns(UserWarning, match="public.dataset.path holds no mnist: called a"):
        assert main([*lines, *SMALL]) == 0
    assert "20 samples of a (external)" in (tmp_path / "run" / "run.json").read_text()
