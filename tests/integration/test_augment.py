"""Public samples that are changed, in whole runs of a few clients."""

from __future__ import annotations

import re

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from experiments.run import main

WORDS = ["method=mean", "models=save", "baseline=none", "checkpoint.every=0"]
WORDS += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]


def table(run) -> pd.DataFrame:
    return pq.read_table(run.folder / "metrics.parquet").to_pandas()


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def by_round(run, metric: str) -> list[float]:
    found = table(run)
    return found[found.metric == metric].sort_values("round").value.tolist()


def test_F1_everything_kept_is_the_run_without(simulate):
    plain, kept = (simulate(*WORDS, f"augment={a}") for a in ("none", "partial_mixup"))
    same = simulate(*WORDS, "augment=partial_mixup", "augment.keep=1")
    assert (same.folder / "metrics.parquet").read_bytes() == (
        plain.folder / "metrics.parquet"
    ).read_bytes()
    assert torch.equal(weights(same), weights(plain))
    assert not torch.equal(weights(kept), weights(plain))
    for metric in ("bytes_up", "bytes_down"):
        assert by_round(kept, metric) == by_round(plain, metric), "nothing travels for it"


def test_F3_answers_of_samples_as_they_were_or_as_they_became(simulate):
    words = (*WORDS, "num_rounds=2", "warmup_rounds=0", "augment=mix_distribution")
    words += ("augment.share=1", "student=mlp")
    apart, alike = (simulate(*words, f"augment.consistency={c}") for c in ("true", "false"))
    assert not torch.equal(weights(apart), weights(alike))
    nodes = simulate(*words, "engine.num_nodes=2")
    assert torch.equal(weights(apart), weights(nodes))
    assert by_round(apart, "accuracy_server") == by_round(nodes, "accuracy_server")


GUIDED = (*WORDS, "num_rounds=3", "warmup_rounds=0", "student=mlp")
HARD = ("augment=hard_augment", "augment.lambda_t=0", "augment.brightness=5")  # pixels are noise


def test_F2_a_byte_a_sample_and_client_once_the_student_has_learned_twice(simulate):
    plain = simulate(*GUIDED)
    hard = simulate(*GUIDED, *HARD)
    sent = zip(by_round(hard, "bytes_down"), by_round(plain, "bytes_down"), strict=True)
    assert [told - without for told, without in sent] == [0, 0, 3 * 40]
    assert by_round(hard, "bytes_up") == by_round(plain, "bytes_up")
    ours, theirs = (by_round(run, "loss_server") for run in (hard, plain))
    assert ours[:2] == theirs[:2]
    assert ours[2] != theirs[2]
    assert not torch.equal(weights(hard), weights(plain))
    one = simulate(*GUIDED, "augment=hard_augment", "augment.candidates=1")
    assert torch.equal(weights(one), weights(plain))


def test_G2_a_byte_a_value_once_the_student_has_learned(simulate):
    words = ("method=data_free", "augment.steps=2", "num_rounds=3", "warmup_rounds=0")
    run = simulate(*WORDS[1:], *words)
    plain = 3 * 40 * 10 * 4
    assert by_round(run, "bytes_down") == [plain, *2 * [plain + 3 * 40 * 12 * 12]]
    assert by_round(run, "bytes_up") == [plain + 3 * 8] * 3


def test_W7_late_answers_are_about_other_samples(simulate):
    words = (*GUIDED, *HARD, "augment.lag=1", "participation=uniform")
    words += ("participation.fraction=0.7", "faults=stragglers", "faults.rate=0.4")
    one, two = (simulate(*words, "num_rounds=5", f"engine.num_nodes={n}") for n in (1, 3))
    assert (one.folder / "metrics.parquet").read_bytes() == (
        two.folder / "metrics.parquet"
    ).read_bytes()
    assert not by_round(one, "late_used")
    assert by_round(one, "stale")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("method=mean augment=hard_augment", "model of the server's own.*Set student=lenet5"),
        ("method=hard_augment dataset.kind=features", "turns and moves images.*shape"),
        ("method=mean augment=partial_mixup augment.keep=2", "'keep' parameter of PartialMixup"),
        ("method=mean augment=partial_mixp", "Did you mean 'partial_mixup'"),
        ("method=class_noise public.covariance=diagnal", "Did you mean 'diagonal'"),
        ("method=jitter public.seeds=50", "'seeds' parameter of Jitter"),
    ],
)
def test_a_mistake_is_one_line_before_training(line, words, tmp_path, capsys):
    tiny = ["dataset=synthetic", "public.size=40", f"hydra.run.dir={tmp_path}/run"]
    assert main([*line.split(), *tiny]) == 2
    told = capsys.readouterr().err
    assert re.search(words, told), told
    assert told.count("\n") == 1
