"""Of very many clients a summary holds quantiles and the extremes, and stays short."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from experiments.summary.client_lines import EXTREMES, MOST_LINES
from experiments.summary.table import render, summarise
from fedfuse.types import MetricRow
from server.reporters.protocol import RunInfo

MANY = MOST_LINES + 1


def summary(clients: int):
    info = RunInfo("knfu", ("local", "knfu"), clients, 1, "digits", "iid", "mlp")
    ours, theirs = (
        [
            MetricRow(1, client, "fused", test, 0.5 + side * (client - clients / 2) / (4 * clients))
            for test in ("accuracy_own", "accuracy_global")
            for client in range(clients)
        ]
        for side in (1, 0)
    )
    return summarise(
        ours,
        theirs,
        info,
        class_counts=np.ones((clients, 2), dtype=np.int64),
        test_sizes={"accuracy_own": np.full(clients, 10), "accuracy_global": np.full(clients, 400)},
    )


def test_a_client_has_a_line_up_to_a_thousand():
    found = summary(MOST_LINES)
    assert len(found.clients) == MOST_LINES
    assert found.extremes == ()
    assert found.quantiles == {}


def test_of_more_clients_there_are_quantiles_and_extremes(capsys):
    found = summary(MANY)
    assert found.clients == ()
    gains = found.quantiles["accuracy_global"]["gain"]
    assert gains["0%"] == pytest.approx(-0.125)
    assert gains["50%"] == pytest.approx(0, abs=1e-3)
    assert list(gains) == sorted(gains, key=lambda share: int(share[:-1]))
    ends = [*range(EXTREMES), *range(MANY - EXTREMES, MANY)]
    assert [line.client_id for line in found.extremes] == ends
    text = json.dumps(found.as_dict(), indent=2)
    assert len(text.splitlines()) < 1000
    own = found.as_dict()["last"]["tests"]["accuracy_own"]
    assert own["num_too_small"] == MANY
    render(found, Console(width=80))
    said = capsys.readouterr().out
    assert "clients that lost and gained most" in said
    assert "gain by share of the clients" in said
    assert "all clients tested on 10 samples" in said
    assert len(said.splitlines()) < 60
