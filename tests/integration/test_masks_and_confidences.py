"""Masks and confidences that go with predictions, in runs of a few clients."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from experiments.run import main
from fedfuse.errors import KnowledgeError
from fedfuse.fusion import All as Everyone
from fedfuse.fusion import (
    GeometricMean,
    MeanLogits,
    MeanProbabilities,
    Pipeline,
    Power,
    Uniform,
)
from fedfuse.fusion.controls import Random, Shuffled
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.fusion.robust import CoordinateMedian
from fedfuse.protocols import Fused
from fedfuse.testing.fusion import check_rule, example_bank

QUICK = ["dataset=synthetic", "model=mlp", "baseline=none", "num_clients=3", "num_rounds=2"]


def run(folder: Path, *overrides: str) -> dict[tuple[int, str], float]:
    """Run fedfuse and return the last round's metrics by client and name."""
    assert main([*QUICK, *overrides, f"hydra.run.dir={folder}"]) == 0
    table = pq.read_table(folder / "metrics.parquet").to_pylist()
    return {(r["client_id"], r["metric"]): r["value"] for r in table if r["round"] == 2}


def nobody(private, labels, public, generator):
    """A client that answers for nothing."""
    return torch.zeros(len(public), dtype=torch.bool)


def one_silent(private, labels, public, generator):
    """Answer for the first ten samples, unless there are fewer than 430 private ones."""
    return (torch.arange(len(public)) < 10) & (len(private) >= 430)


def drop_all(probs):
    """A filter that nothing passes."""
    return torch.zeros(probs.shape[:2])


def crooked(private, labels, public, generator):
    """Neither a mask nor a confidence."""
    return torch.zeros(3)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the configuration find this file's functions."""
    (tmp_path / "trust_parts.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_selective_fd_counts_what_is_answered_and_left_out_and_sends_no_more(tmp_path):
    table = run(tmp_path / "run", "method=selective_fd")
    answered = sum(table[i, "samples_answered"] for i in range(3))
    assert 0 < answered < 3 * 500
    # rows of 10 floats for what is answered; a bit a sample and the number of examples for each
    assert table[-1, "bytes_up"] == answered * 40 + 3 * (63 + 8)
    kept = 500 - table[0, "samples_left_out"]
    assert table[-1, "bytes_down_broadcast"] == kept * 40 + 63


def test_all_masked_on_every_sample_leaves_all_out_and_training_goes_on(tmp_path):
    table = run(tmp_path / "run", "familiarity._target_=trust_parts.nobody")
    assert [table[i, "samples_left_out"] for i in range(3)] == [500] * 3
    assert [table[i, "samples_answered"] for i in range(3)] == [0] * 3
    assert table[-1, "bytes_down"] == 3 * 63
    assert all(table[i, "loss_global"] < 20 for i in range(3))


def test_a_client_with_an_empty_mask_learns_from_the_others(tmp_path):
    table = run(tmp_path / "run", "method=mean", "familiarity._target_=trust_parts.one_silent")
    answered = [table[i, "samples_answered"] for i in range(3)]
    assert 0 in answered
    assert 10 in answered
    assert [table[i, "samples_left_out"] for i in range(3)] == [490] * 3


def test_confidences_travel_and_are_counted(tmp_path):
    table = run(tmp_path / "run", "method=uwa")
    assert table[-1, "bytes_up"] == 3 * (500 * 10 * 4 + 500 * 4 + 8)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method=uwa", "familiarity=none"], "familiarity=gaussian"),
        (["familiarity._target_=trust_parts.crooked"], "did not return a mask or a confidence"),
    ],
)
def test_what_cannot_work_is_told(tmp_path, capsys, overrides, says):
    assert main([*QUICK, *overrides, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


# -- the pipeline's side -----------------------------------------------------------------------


def choosy(bank, weights):
    """A rule that says which samples count."""
    mean = MeanProbabilities()(bank, weights)
    return Fused(mean, (torch.arange(mean.shape[1]) % 2).float().expand(mean.shape[:2]))


def test_a_rule_and_a_filter_say_together_what_counts():
    bank = example_bank(3, 6, 4)
    plain = Pipeline(Uniform(), Everyone(), choosy)(bank).teachers
    assert plain.sample_weight.tolist() == [[0, 1, 0, 1, 0, 1]] * 3
    both = Pipeline(Uniform(), Everyone(), choosy, filter=AmbiguityFilter(0.9))(bank).teachers
    certain = 2 * (1 - MeanProbabilities()(bank, torch.full((3, 3), 1 / 3)).amax(dim=-1)) < 0.9
    assert torch.equal(both.sample_weight, plain.sample_weight * certain)
    check_rule(choosy)


def test_impossible_weights_are_refused():
    def negative(bank, weights):
        return Fused(MeanProbabilities()(bank, weights), -torch.ones(bank.logits.shape[:2]))

    with pytest.raises(KnowledgeError, match="did not return sample weights"):
        Pipeline(Uniform(), Everyone(), negative)(example_bank(3, 6, 4))


@pytest.mark.parametrize("scorer", [Random(3), Shuffled(Random(1), 2)])
def test_controls_draw_anew_in_every_round_and_alike_when_asked_again(scorer):
    pipeline = Pipeline(scorer, Everyone(), MeanProbabilities())
    bank = example_bank(4, 6, 4)
    first, again, second = (pipeline(bank, round_=r).weights for r in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


def test_theta_means_the_same_at_every_temperature():
    """At T = 4 even predictions that are nearly certain look ambiguous."""
    bank = example_bank(4, 12, 10)
    # Clients that agree, more and more certainly from sample to sample.
    certainty = torch.linspace(0, 2, 12).view(1, 12, 1)
    sure = replace(bank, logits=certainty * bank.logits[:1] + 0.1 * bank.logits)
    for rule in (MeanProbabilities, GeometricMean, CoordinateMedian):
        kept = [
            Pipeline(Uniform(), Everyone(), rule(t), filter=AmbiguityFilter(1.0), temperature=t)(
                sure
            ).teachers.sample_weight
            for t in (1.0, 4.0, 0.5)
        ]
        assert 0 < int(kept[0].sum()) < kept[0].numel()
        assert all(torch.equal(other, kept[0]) for other in kept[1:])


def test_a_rule_of_ones_own_is_asked_without_its_temperature_too():
    def rule(bank, weights, temperature=1.0):
        return MeanProbabilities(temperature)(bank, weights)

    seen = []

    def filter_(probs):
        seen.append(probs)
        return torch.ones(probs.shape[:2])

    bank = example_bank(3, 4, 5)
    Pipeline(Uniform(), Everyone(), partial(rule, temperature=4.0), filter=filter_)(bank)
    expected = bank.logits.softmax(2).mean(dim=0, keepdim=True).expand(3, -1, -1)
    torch.testing.assert_close(seen[0], expected)


def test_fused_logits_are_sharpened_at_the_temperature_at_which_they_are_matched():
    bank = example_bank(3, 4, 5)
    fused = Pipeline(Uniform(), Everyone(), MeanLogits(), Power(2.0), temperature=4.0)(bank)
    plain = (bank.logits.mean(dim=0) / 4).softmax(1).square()
    expected = plain / plain.sum(1, keepdim=True)
    torch.testing.assert_close(fused.teachers.targets[0], expected)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (["method=mean", "filter._target_=trust_parts.drop_all"], "the filter left out 100%"),
        (["familiarity._target_=trust_parts.nobody"], "the clients' masks left out 100%"),
        (
            ["method=scarlet", "select.size=40", "familiarity._target_=trust_parts.nobody"],
            "the clients' masks left out 100%",
        ),
    ],
    ids=["filter", "mask", "cache"],
)
def test_hardly_any_sample_left_is_a_warning_in_the_table(tmp_path, capsys, cause, words):
    run(tmp_path / "run", *cause)
    assert f"warning: {words}" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert max(summary["left_out"]["largest"].values()) == 1
    assert max(summary["left_out"]["rounds"].values()) == summary["left_out"]["num_rounds"] == 1


def test_samples_that_are_cached_are_not_left_out(tmp_path, capsys):
    """In the second fused round nothing is asked for any more, and everything is learnt from."""
    options = ["method=scarlet", "select=all", "warmup_rounds=0"]
    table = run(tmp_path / "run", *options)
    assert table[-1, "left_out"] == 0
    assert table[-1, "left_out_by_masks"] == 0
    assert table[0, "samples_answered"] == 0
    assert "warning" not in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["left_out"] is None
