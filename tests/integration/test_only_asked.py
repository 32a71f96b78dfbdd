"""The weights form of a request in whole runs: the same lesson, and everything goes up."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from fedfuse.errors import ConfigError

WORDS = ["models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0", "num_rounds=3"]
WORDS += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def told(run, name: str) -> list[float]:
    found: pd.DataFrame = pq.read_table(run.folder / "metrics.parquet").to_pandas()
    found = found[(found.metric == name) & (found.client_id == -1)]
    return found.sort_values("round").value.tolist()


def test_of_a_request_that_learns_nothing_the_weights_form_is_the_same_run(simulate):
    request = simulate(*WORDS, "method=mean", "request=random")
    rule = simulate(*WORDS, "method=mean", "rule=only_asked", "+request@rule.request=random")
    assert torch.equal(weights(rule), weights(request))
    asked, all_of_it = told(request, "bytes_up"), told(rule, "bytes_up")
    assert asked[0] == all_of_it[0]
    assert all(few < 0.6 * much for few, much in zip(asked[1:], all_of_it[1:], strict=True))
    assert told(rule, "taught_share") == [1.0, 0.5, 0.5]
    assert told(request, "samples_asked") == [40, 20, 20]


@pytest.mark.parametrize("name", ["jointly_confident", "weak_classes", "where_behind"])
def test_E4_E5_E6_as_weights_know_more_than_the_request_does(simulate, name):
    lines = ["method=mean", f"request={name}", "request.share=0.3"]
    request = simulate(*WORDS, *lines, "num_rounds=5")
    lines = ["method=mean", "rule=only_asked", f"+request@rule.request={name}", "num_rounds=5"]
    rule = simulate(*WORDS, *lines, "rule.request.share=0.3", "rule.reads_labels=true")
    assert told(rule, "taught_share") == pytest.approx([1.0] + 4 * [0.3])
    assert not torch.equal(weights(rule), weights(request))


def test_samples_that_change_places_are_refused_before_training(simulate):
    lines = ["method=mean", "rule=only_asked", "+request@rule.request=random", "select=random"]
    with pytest.raises(ConfigError, match="select=all"):
        simulate(*WORDS, *lines, "select.size=20")
