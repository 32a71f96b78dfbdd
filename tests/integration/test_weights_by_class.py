"""Whole runs whose weights differ by class: the exponent's limit, what is left, and going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedfuse
from experiments.run import main
from tests.experiments.runs.test_resume import TINY as RESUMED
from tests.experiments.runs.test_resume import interrupted
from tests.tiny import TINY

SHARED = "client.share_class_distribution=true"
BY_CLASS = ("method=knfu", "scorer=knfu_by_class", SHARED)
SKEWED = ["partitioner=dirichlet" if word == "partitioner=iid" else word for word in TINY]


def run(folder: Path, *overrides: str, clients: int = 3) -> Path:
    assert main([*SKEWED, f"num_clients={clients}", *overrides, f"hydra.run.dir={folder}"]) == 0
    return folder


def metrics(folder: Path) -> bytes:
    return (folder / "metrics.parquet").read_bytes()


@pytest.mark.parametrize("rule", ["mean_probs", "geometric_mean"])
def test_exponent_zero_is_the_mean_to_the_bit(rule: str, tmp_path: Path) -> None:
    common = "baseline=none", f"rule={rule}"
    mean = metrics(run(tmp_path / "mean", "method=mean", *common))
    for name, options in (
        ("uniform", ("scorer=by_class",)),
        ("knfu", ("scorer=knfu_by_class", "scorer.scorer.beta=0")),
    ):
        zero = run(tmp_path / name, "method=mean", *common, *options, "scorer.exponent=0")
        assert metrics(zero) == mean
        by_class = run(tmp_path / f"{name}_1", "method=mean", SHARED, *common, *options)
        assert metrics(by_class) != mean


def test_what_a_run_leaves_and_what_the_report_shows(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", *BY_CLASS)
    left = fedfuse.load_run(folder)
    assert left.class_shares.shape == (1, 3, 10)
    np.testing.assert_allclose(left.class_shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(left.weights.sum(axis=2), 1, atol=1e-6)
    # Both are means of one w_ijc: over classes and receivers together they agree.
    np.testing.assert_allclose(left.class_shares.mean(axis=2), left.weights.mean(axis=1), atol=1e-6)
    counts = left.class_counts
    for c in np.flatnonzero((counts == 0).any(axis=0) & (counts.max(axis=0) > 9)):
        most = left.class_shares[0, counts[:, c].argmax(), c]
        assert most > 2 * left.class_shares[0, counts[:, c].argmin(), c]
    heard = left.metrics.query("metric == 'effective_neighbours'")["value"]
    assert ((heard >= 1) & (heard <= 3)).all()
    page = left.report(tmp_path / "page.html").read_text()
    assert "Who is heard on which class: knfu" in page
    assert "Weights differ by class: this is their mean" in page


def test_weights_of_pairs_have_no_shares_by_class(tmp_path: Path) -> None:
    left = fedfuse.load_run(run(tmp_path / "run", "method=knfu", "baseline=none"))
    with pytest.raises(fedfuse.ConfigError, match=r"do not differ by class.*scorer=by_class"):
        _ = left.class_shares
    assert "on which class" not in left.report(tmp_path / "page.html").read_text()


def test_shares_of_a_sample_of_the_clients(tmp_path: Path) -> None:
    some = "participation=uniform", "participation.fraction=0.5", "baseline=none"
    left = fedfuse.load_run(run(tmp_path / "run", *BY_CLASS, *some, clients=4))
    (ids, _), (shares,) = left.round_weights(2), left.class_shares
    assert len(ids) == 2
    np.testing.assert_allclose(shares[ids].sum(axis=0), 1, atol=1e-6)
    assert shares.sum() == pytest.approx(10, abs=1e-5)


def test_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = "scorer.scorer._target_=fedfuse.fusion.ktpfl.KTpFL"  # it learns from round to round
    options = ("scorer=by_class", inner, "scorer.evidence=epd", "rule=geometric_mean")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    interrupted(broken, monkeypatch, *options)
    monkeypatch.undo()
    assert main([f"resume={broken}"]) == 0
    assert main([*RESUMED, *options, f"hydra.run.dir={whole}"]) == 0
    for name in ("metrics.parquet", "weights.safetensors"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert fedfuse.load_run(whole).class_shares.shape == (3, 3, 10)
