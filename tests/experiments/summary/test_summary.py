"""The closing numbers, worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from experiments.summary.deployed import deployed
from experiments.summary.guarded import Guarded, guarded
from experiments.summary.summary import Figures, summarise
from fedfuse.types import MetricRow
from server.reporters.folder import plain
from server.reporters.protocol import RunInfo

SIZES = {"accuracy_own": np.array([60, 60, 60]), "accuracy_global": np.array([400, 400, 400])}
INFO = RunInfo("knfu", ("local", "knfu"), 3, 3, "digits", "iid", "mlp")


def rows(metric: str, table: dict[int, list[float]], phase: str = "fused") -> list[MetricRow]:
    return [
        MetricRow(round_, client, phase, metric, value)
        for round_, values in table.items()
        for client, value in enumerate(values)
    ]


METHOD = [
    *rows("accuracy_own", {1: [0.1, 0.2, 0.3], 2: [0.9, 0.8, 0.7], 3: [0.5, 0.75, 1.0]}),
    *rows("accuracy_global", {1: [0.1, 0.1, 0.1], 2: [0.2, 0.2, 0.2], 3: [0.25, 0.5, 0.75]}),
    *rows("accuracy_val", {1: [0.4, 0.4, 0.4], 2: [0.6, 0.6, 0.6], 3: [0.5, 0.6, 0.6]}),
    # A value before distillation must not be taken for one after it.
    *rows("accuracy_own", {3: [0.0, 0.0, 0.0]}, phase="local"),
    *rows("self_weight", {2: [0.9, 0.9, 0.9], 3: [0.5, 0.25, 0.75]}, phase="fuse"),
    *rows("effective_neighbours", {2: [1, 1, 1], 3: [1.5, 2.5, 2.0]}, phase="fuse"),
    *[MetricRow(r, -1, "fuse", "bytes_up", 1000.0) for r in (2, 3)],
    *[MetricRow(r, -1, "fuse", "bytes_down", 500.0) for r in (2, 3)],
]
BASELINE = [
    *rows("accuracy_own", {1: [0.2, 0.2, 0.2], 2: [0.6, 0.6, 0.6], 3: [0.5, 0.25, 0.75]}),
    *rows("accuracy_global", {1: [0.3, 0.3, 0.3], 3: [0.5, 0.5, 0.5]}),
    *rows("accuracy_val", {1: [0.7, 0.7, 0.7], 2: [0.1, 0.1, 0.1], 3: [0.5, 0.5, 0.5]}),
]


def close(figures: Figures, **expected: float) -> None:
    for name, value in expected.items():
        assert getattr(figures, name) == pytest.approx(value, abs=1e-12), name


def test_the_last_round() -> None:
    last = summarise(METHOD, BASELINE, INFO, test_sizes=SIZES).last
    assert last is not None
    assert (last.round, last.baseline_round) == (3, 3)
    # Own: 0.5 0.75 1.0 against 0.5 0.25 0.75: gains 0, 0.5, 0.25.
    close(
        last.tests["accuracy_own"],
        mean=0.75,
        worst=0.5,
        std=math.sqrt((0.25**2 + 0 + 0.25**2) / 3),
        baseline_mean=0.5,
        gain=0.25,
        helped=2,
        harmed=0,
    )
    # Global: 0.25 0.5 0.75 against 0.5 0.5 0.5: gains -0.25, 0, 0.25.
    close(last.tests["accuracy_global"], mean=0.5, gain=0.0, helped=1, harmed=1)


def test_the_best_validation_round_is_chosen_per_arm_and_not_on_test() -> None:
    best = summarise(METHOD, BASELINE, INFO, test_sizes=SIZES).best_validation
    assert best is not None
    # Validation: the method is best at 2 (0.6 against 0.5667), the baseline at 1 (0.7). On test
    # the baseline would be best at 2.
    assert (best.round, best.baseline_round) == (2, 1)
    # 0.9 0.8 0.7 against 0.2 0.2 0.2.
    close(best.tests["accuracy_own"], mean=0.8, worst=0.7, baseline_mean=0.2, gain=0.6, helped=3)


def test_of_equal_validation_rounds_the_earliest_wins() -> None:
    table = {1: [0.4], 2: [0.6], 3: [0.6]}
    best = summarise(
        rows("accuracy_own", table) + rows("accuracy_val", table), None, INFO
    ).best_validation
    assert best is not None
    assert best.round == 2


def test_a_round_without_a_test_is_no_best_round() -> None:
    best = summarise(
        rows("accuracy_own", {1: [0.4]}) + rows("accuracy_val", {1: [0.3], 2: [0.9]}), None, INFO
    ).best_validation
    assert best is not None
    assert best.round == 1


def test_fusion_and_cost() -> None:
    summary = summarise(METHOD, BASELINE, INFO, seconds={"train": 2.5, "fuse": 0.5})
    assert summary.self_weight == pytest.approx(0.5)
    assert summary.effective_neighbours == pytest.approx(2.0)
    assert (summary.bytes_up, summary.bytes_down) == (2000, 1000)
    assert summary.seconds == {"train": 2.5, "fuse": 0.5}


def test_client_lines() -> None:
    counts = np.array([[4, 0], [1, 2], [0, 9]])
    line = summarise(METHOD, BASELINE, INFO, class_counts=counts).clients[1]
    assert (line.client_id, line.class_counts) == (1, (1, 2))
    assert line.accuracy == {"accuracy_own": 0.75, "accuracy_global": 0.5}
    assert line.baseline == {"accuracy_own": 0.25, "accuracy_global": 0.5}
    assert line.gain == {"accuracy_own": 0.5, "accuracy_global": 0.0}


def test_without_a_baseline_nothing_is_gained_or_lost() -> None:
    summary = summarise(METHOD, None, INFO)
    assert summary.baseline is None
    assert summary.last is not None
    figures = summary.last.tests["accuracy_own"]
    assert (figures.gain, figures.helped, figures.harmed) == (None, None, None)
    assert summary.clients[0].gain == {}


def test_a_client_without_a_value_does_not_count() -> None:
    rows_ = rows("accuracy_own", {1: [0.5, math.nan, 1.0]})
    before = rows("accuracy_own", {1: [0.25, 0.25, math.nan]})
    last = summarise(rows_, before, INFO, test_sizes=SIZES).last
    assert last is not None
    # Client 1 has no value and client 2 no baseline: only client 0 can be compared.
    close(last.tests["accuracy_own"], mean=0.5, worst=0.5, gain=0.25, helped=1, harmed=0)
    alone = summarise(rows_, None, INFO).last
    assert alone is not None
    close(alone.tests["accuracy_own"], mean=0.75, worst=0.5)


def test_the_gain_is_the_difference_of_the_means_shown_beside_it() -> None:
    """Both means are over the clients that both arms know, or the row contradicts itself."""
    rows_ = rows("accuracy_own", {1: [0.5, 0.9]})
    before = rows("accuracy_own", {1: [0.25, 0.25, 0.99]})
    last = summarise(rows_, before, INFO).last
    assert last is not None
    figures = last.tests["accuracy_own"]
    assert figures.baseline_mean is not None
    assert figures.gain == pytest.approx(figures.mean - figures.baseline_mean)


def test_a_run_that_measured_nothing() -> None:
    summary = summarise([], [], INFO)
    assert summary.last is None
    assert summary.best_validation is None
    assert summary.self_weight is None


def test_the_summary_is_json() -> None:
    text = json.dumps(plain(summarise(METHOD, BASELINE, INFO).as_dict()), allow_nan=False)
    kept = json.loads(text)
    assert kept["last"]["tests"]["accuracy_own"]["gain"] == pytest.approx(0.25)
    assert kept["best_validation"]["round"] == 2


def test_what_a_guard_did_is_counted():
    table = {
        ("kept", 2): {0: 1.0, 1: 0.0},
        ("kept", 3): {0: 0.0, 1: 1.0},
        ("accuracy_own", 3): {0: 0.8, 1: 0.5},
        ("accuracy_own_unguarded", 3): {0: 0.6, 1: 0.5},
    }
    at = lambda name, round_: table.get((name, round_), {})  # noqa: E731
    sizes = np.array([500, 500])
    found = guarded(at, {1, 2, 3}, {0: 0.7, 1: 0.6}, sizes)
    assert found == Guarded(distillations=4, undone=2, harmed=1, harmed_unguarded=2)
    # 0.6 against 0.7 on 50 tests each is within their error (z = 1.05), 0.5 against 0.6 too.
    assert guarded(at, {1, 2, 3}, {0: 0.7, 1: 0.6}, sizes // 10) == Guarded(4, 2, 0, 0)
    assert max(map(len, found.line().splitlines())) <= 79
    few = guarded(at, {1, 2, 3}, None, None, np.array([1, 9]))
    assert few is not None
    assert (few.smallest_validation, few.largest_validation) == (1, 9)
    assert (
        "on 1 to 9 validation\nsamples each: below 50 largely chance, below 4 never" in few.line()
    )
    assert guarded(at, {1}, None) is None
    assert guarded(at, {2}, None) == Guarded(2, 1, None, None)


def test_what_clients_deploy_is_counted():
    table = {
        "deployed_own": {0: 0.0, 1: 0.5, 2: 0.5, 3: 1.0},
        "decided_own": {0: 1.0, 1: 0.0, 2: 0.0, 3: 1.0},
        "deployed_global": {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0},
    }
    found = deployed(lambda name, _: table.get(name, {}), 3, 0.05)
    assert found is not None
    assert found.line().splitlines() == [
        "guard (error rate 0.05 a federation): clients deploy",
        "  own: 1 local, 2 mixed, 1 fused; not enough data to know: 2",
        "  balanced: 1 local, 0 mixed, 3 fused",
    ]
    assert deployed(lambda *_: {}, 3) is None


def test_helped_and_harmed_count_only_what_the_tests_can_tell() -> None:
    """0.75 against 0.65 is 1.5 standard errors on 100 tests and 3.1 on 400."""
    after, before = (rows("accuracy_own", {1: own}) for own in ([0.75, 0.65], [0.65, 0.75]))
    for size, counts in ((100, (0, 0)), (400, (1, 1))):
        last = summarise(after, before, INFO, test_sizes={"accuracy_own": np.full(3, size)}).last
        assert last is not None
        figures = last.tests["accuracy_own"]
        assert (figures.helped, figures.harmed) == counts
    for unknown in (None, {"accuracy_own": np.zeros(3, dtype=int)}):
        last = summarise(after, before, INFO, test_sizes=unknown).last
        assert last is not None
        assert last.tests["accuracy_own"].helped is None, "unknown sizes are no evidence"
