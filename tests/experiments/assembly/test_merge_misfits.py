"""Models that a merge does not take are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fedfuse
from experiments.run import main

SMALL = ["dataset=synthetic", "dataset.image_size=8", "num_clients=3", "num_rounds=2"]
MISFITS = {
    "method=layer_swap model=mlp merge.own=[heads]": "'heads', which no layer of mlp is called (",
    "method=layer_swap model=mlp merge.own=['*']": "'*', which is every layer of mlp",
    "method=layer_swap model=mlp merge.transition=[head]": "5.bias of mlp as own and as a",
    "method=coalesce model=tiers": "mlp and cnn2, which differ in more than the width",
    "method=coalesce model=widths model.factories.narrow.hidden=30": "units, which do not divide",
    "method=coalesce model=widths exchange.mixed=refuse": "Models of different architectures",
    "method=dare model=widths exchange.mixed=group merge@merge.then=coalesce": (
        "thinned models of several architectures stay apart"
    ),
}


@pytest.mark.parametrize("words", MISFITS)
def test_J6_J7_models_that_a_merge_does_not_take(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, *words.split()]) == 2
    out, err = capsys.readouterr()
    assert "round" not in out
    assert err.startswith("error: ")
    assert MISFITS[words] in err
    assert not list(tmp_path.rglob("run.json"))


def test_J7_clients_of_three_widths_learn_from_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fully interpolated, what three widths are sent computes the same; by itself none does."""
    monkeypatch.chdir(tmp_path)
    words = ["method=coalesce", "model=widths", "models=save", "client.batch_size=64"]
    words += ["baseline=none", "num_rounds=1", "warmup_rounds=0", "merge.interpolate=1"]
    assert main([*SMALL[:3], *words, "hydra.run.dir=run"]) == 0
    run = fedfuse.load_run("run")
    assert isinstance(run, fedfuse.Run)
    inputs = torch.rand(5, 1, 8, 8)
    wide, middle, narrow = (run.model(client)(inputs) for client in range(3))
    assert [sum(p.numel() for p in run.model(i).parameters()) for i in (0, 2)] == [55210, 6310]
    torch.testing.assert_close(wide, narrow, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(middle, narrow, atol=1e-4, rtol=1e-4)
