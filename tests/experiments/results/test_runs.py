"""Reading what runs left behind, and refusing what may not be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.results import TESTS, Moment, comparisons, load, read_run, run_groups
from fedfuse.errors import ConfigError
from fedfuse.types import MetricRow, RoundRecord
from server.reporters.files import Files
from server.reporters.folder import RunFolder
from server.reporters.partition_file import SPLITS, write_partition
from server.reporters.protocol import RunInfo

ACCURACY = {1: (0.50, 0.60), 2: (0.70, 0.80), 3: (0.65, 0.75)}
GAIN = {"local": 0.0, "knfu": 0.1}
# Client 0 has three tests of its own: knfu wins one and loses one. Client 1 wins two of five.
RIGHT = {
    "local": {"accuracy_own": torch.tensor([[0b11000000], [0b10000000]], dtype=torch.uint8)},
    "knfu": {"accuracy_own": torch.tensor([[0b10100000], [0b10110000]], dtype=torch.uint8)},
}


def write(
    path: Path,
    *,
    method: str = "knfu",
    seed: int = 0,
    alpha: float = 0.5,
    finished: bool = True,
    answers: bool = True,
    tests: tuple[int, int] = (3, 5),
    val: int = 0,
) -> Path:
    """Write a run folder as a run does, with known numbers: knfu is 0.1 above local."""
    folder = RunFolder(path)
    folder.open(seed=seed, overrides=[])
    folder.write_config(
        f"method: {{name: {method}}}\nseed: {seed}\npartitioner: {{alpha: {alpha}}}\n"
    )
    folder.record(data_fingerprint=f"data-{seed}-{alpha}", test_samples=400)
    arms = ("local",) if method == "local" else ("local", method)
    files = Files(folder)
    files.start(RunInfo(method, arms, 2, 3, "digits", "dirichlet", "mlp"))
    for arm in arms:
        for round_, accuracies in ACCURACY.items():
            rows = _rows(round_, accuracies, GAIN[arm])
            right = RIGHT[arm] if answers and round_ == 3 else None
            files.round_done(arm, RoundRecord(round_, rows, None, right=right))
    files.close()
    ids = np.array([0] * tests[0] + [1] * tests[1] + [1] * val)
    splits = np.repeat([SPLITS.index("test"), SPLITS.index("val")], [sum(tests), val])
    write_partition(folder, ids, splits, np.arange(len(ids)), np.zeros(len(ids), dtype=np.int64))
    if finished:
        folder.finish({"method": method, "num_clients": 2, "clients": []})
    return path


def _rows(round_: int, accuracies: tuple[float, ...], gain: float) -> tuple[MetricRow, ...]:
    rows = []
    for client, value in enumerate(accuracies):
        for name in (*TESTS, "accuracy_val"):
            shown = 1 - value if name == "accuracy_val" else value + gain
            rows.append(MetricRow(round_, client, "fused", name, shown))
    rows.append(MetricRow(round_, -1, "fuse", "bytes_up", 10.0 * round_))
    return tuple(rows)


def test_metrics_come_back_as_arrays(tmp_path: Path) -> None:
    arm = read_run(write(tmp_path / "run")).arm
    np.testing.assert_array_equal(arm.rounds, [1, 2, 3])
    np.testing.assert_allclose(arm.at("accuracy_own"), np.array([*ACCURACY.values()]) + 0.1)
    np.testing.assert_array_equal(arm.traffic, [10, 20, 30])
    assert arm.last_round("accuracy_own") == 3
    assert arm.best_validation_round() == 1  # by validation, although round 2 is best on test
    assert arm.at("no_such_metric") is None
    assert arm.last("no_such_metric") is None


def test_flips_of_runs_come_from_their_answers(tmp_path: Path) -> None:
    write(tmp_path / "knfu")
    (run_group,) = run_groups(load(tmp_path).runs)
    found = comparisons(run_group, "accuracy_own")["knfu"].flips
    np.testing.assert_allclose(found.positive, [[1 / 3, 2 / 5]])
    np.testing.assert_allclose(found.negative, [[1 / 3, 0]])
    assert found.newly_right == pytest.approx((1 / 3 + 2 / 5) / 2)
    assert found.fuar == pytest.approx(0.5)  # one lost for one won, and none for two
    # Not asked for the balanced set, not known at another round, nor of a seed that lacks them.
    assert comparisons(run_group, "accuracy_global")["knfu"].flips is None
    assert comparisons(run_group, "accuracy_own", Moment.BEST_VALIDATION)["knfu"].flips is None
    write(tmp_path / "older", seed=1, answers=False)
    (run_group,) = run_groups(load(tmp_path).runs)
    assert comparisons(run_group, "accuracy_own")["knfu"].flips is None


def test_sweep_is_compared_by_seed_and_client(tmp_path: Path) -> None:
    for seed in (0, 1):
        for method in GAIN:
            write(tmp_path / f"{method}-{seed}", method=method, seed=seed, tests=(50, 90))
    write(tmp_path / "knfu-2", seed=2, finished=False)
    results = load(tmp_path)
    assert [run.path.name for run in results.runs] == ["knfu-0", "knfu-1", "local-0", "local-1"]
    assert results.notes() == ["knfu-2 is not finished (status: running) and does not count."]
    (run_group,) = run_groups(results.runs)
    for moment in Moment:
        found = comparisons(run_group, "accuracy_own", moment)["knfu"]
        assert found.seeds == (0, 1)
        assert found.mean == pytest.approx(0.1)
        assert found.interval is not None
    np.testing.assert_array_equal(results.runs[0].test_sizes("accuracy_own"), [50, 90])
    np.testing.assert_array_equal(results.runs[0].test_sizes("accuracy_global"), [400, 400])


def test_clients_with_too_small_a_test_do_not_count(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"s{seed}", seed=seed, tests=(49, 50))
    (run_group,) = run_groups(load(tmp_path).runs)
    found = comparisons(run_group, "accuracy_own")["knfu"]
    assert (found.compared, found.too_small, found.speaks) == (2, (49, 49), True)
    np.testing.assert_array_equal(np.isnan(found.gains), [[True, False]] * 2)
    assert found.flips is not None
    assert np.isnan(found.flips.positive[:, 0]).all()
    assert comparisons(run_group, "accuracy_global")["knfu"].compared == 4


def test_a_handful_of_validation_samples_chooses_no_round(tmp_path: Path) -> None:
    write(tmp_path / "a", val=49)
    write(tmp_path / "b", val=50, alpha=0.1)
    found = [
        comparisons(run_group, "accuracy_global", Moment.BEST_VALIDATION)
        for run_group in run_groups(load(tmp_path).runs)
    ]
    assert [list(one) for one in found] == [[], ["knfu"]]


def test_sites_that_hide_their_data_tell_how_many_samples_they_test_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    files = Files(folder := RunFolder(tmp_path / "b"))
    folder.open(seed=0, overrides=[])
    files.start(RunInfo("knfu", ("knfu",), 2, 1, "digits", "dirichlet", "mlp"))
    rows = [MetricRow(1, k, "fused", "test_samples_own", 7.0 + k) for k in range(2)]
    files.round_done("knfu", RoundRecord(1, tuple(rows), None))
    files.close()
    (folder.path / "metrics.parquet").rename(path / "metrics.parquet")
    (path / "partition.parquet").unlink()
    np.testing.assert_array_equal(read_run(path).test_sizes("accuracy_own"), [7, 8])


def test_a_run_that_never_began_hides_no_other(tmp_path: Path) -> None:
    done, ended = write(tmp_path / "a"), write(tmp_path / "b", alpha=0.1)
    (ended / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):  # it has finished
        load(tmp_path)
    (ended / "run.json").write_text('{"status": "running"}')
    assert [run.path for run in load(tmp_path).runs] == [done]
    (ended / "run.json").write_text("")
    assert [run.path for run in load(tmp_path).runs] == [done]
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        load(ended)


def test_other_federations_are_kept_apart(tmp_path: Path) -> None:
    for alpha in (0.1, 0.5):
        write(tmp_path / f"a{alpha}", alpha=alpha)
    assert [line.label for line in run_groups(load(tmp_path).runs)] == [
        "alpha 0.1",
        "alpha 0.5",
    ]


def test_where_the_same_data_lies_is_no_setting(tmp_path: Path) -> None:
    for method, place in (("knfu", "/a/x.npz"), ("local", "/b/x.npz")):
        with (write(tmp_path / method, method=method) / "config.yaml").open("a") as file:
            file.write(f"dataset: {{path: {place}}}\n")
    (run_group,) = run_groups(load(tmp_path).runs)
    assert list(run_group.methods) == ["knfu", "local"]
    record = tmp_path / "local" / "run.json"
    record.write_text(record.read_text().replace("data-0-0.5", "other"))
    assert [one.label for one in run_groups(load(tmp_path).runs)] == [
        "path /a/x.npz",
        "path /b/x.npz",
    ]


def test_parts_are_told_apart_by_name_and_by_settings_only_where_needed(tmp_path: Path) -> None:
    codecs = (
        "{_target_: null}",
        "{_target_: a.b.Fp16, delta: false}",
        "{_target_: a.b.Cfd, delta: true, bits: 1}",
        "{_target_: a.b.Cfd, delta: true, bits: 2}",
    )
    for number, codec in enumerate(codecs):
        with (write(tmp_path / f"r{number}") / "config.yaml").open("a") as file:
            file.write(f"codec: {codec}\n")
    (run_group,) = run_groups(load(tmp_path).runs)
    assert list(run_group.methods) == [
        "knfu (codec none)",
        "knfu (codec fp16)",
        "knfu (codec cfd, bits 1)",
        "knfu (codec cfd, bits 2)",
    ]


def test_part_that_follows_the_seed_is_no_setting_of_its_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        path = write(tmp_path / f"s{seed}", seed=seed)
        with (path / "config.yaml").open("a") as file:
            file.write(f"scorer: {{seed: {seed}}}\ndataset: {{seed: 0}}\n")
    (run_group,) = run_groups(load(tmp_path).runs)
    assert list(run_group.methods) == ["knfu"]
    config = tmp_path / "s1" / "config.yaml"
    config.write_text(config.read_text().replace("scorer: {seed: 1}", "scorer: {seed: 7}"))
    assert len(run_groups(load(tmp_path).runs)[0].methods) == 2


def test_run_without_a_baseline_of_its_own_uses_the_local_run(tmp_path: Path) -> None:
    for method in GAIN:
        write(tmp_path / method, method=method)
    (tmp_path / "knfu" / "baseline.parquet").unlink()
    (run_group,) = run_groups(load(tmp_path).runs)
    assert comparisons(run_group, "accuracy_global")["knfu"].mean == pytest.approx(0.1)


def _edit(path: Path, **changes: object) -> None:
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | changes))


def test_folders_that_cannot_be_compared_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="there is no run in"):
        load(tmp_path)
    write(tmp_path / "half", finished=False)
    with pytest.raises(ConfigError, match=r"no run in .* has finished"):
        load(tmp_path)
    write(tmp_path / "knfu")
    write(tmp_path / "other", method="local")
    _edit(tmp_path / "other", data_fingerprint="something else")
    with pytest.raises(ConfigError, match=r"different data.*knfu has data-0-0.5, other has"):
        run_groups(load(tmp_path).runs)
    write(tmp_path / "again")
    with pytest.raises(ConfigError, match="knfu twice with seed 0"):
        run_groups([run for run in load(tmp_path).runs if run.method == "knfu"])
    _edit(tmp_path / "again", format=99)
    with pytest.raises(ConfigError, match=r"newer fedfuse.*format 99"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", '{"format": 1}'),
        ("run.json", '{"format": "x", "seed": 0}'),
        ("config.yaml", "method: [\n"),
        ("config.yaml", "!!python/object/apply:os.getcwd []"),
        ("summary.json", "\x00"),
    ],
)
def test_damaged_or_hostile_folders_are_one_message(
    tmp_path: Path, file: str, content: str
) -> None:
    path = write(tmp_path / "run")
    (path / file).write_text(content)
    with pytest.raises(ConfigError, match=r"damaged|newer|cannot be read") as told:
        read_run(path)
    assert told.value.next_step


def test_several_folders_are_read_together_and_a_repeated_run_counts_once(tmp_path):
    for sweep, seed in (("one", 0), ("two", 1)):
        write(tmp_path / sweep / "local", method="local")
        write(tmp_path / sweep / "knfu", method="knfu", seed=seed)
    results = load(tmp_path / "one", tmp_path / "two", tmp_path / "one" / "knfu")
    assert [(run.method, run.seed) for run in results.runs] == [
        *(("knfu", 0), ("local", 0), ("knfu", 1))
    ]
    (note,) = results.notes()
    assert re.fullmatch(r".*two/local repeats .*one/local to the last number; .* once\.", note)
    (run_group,) = run_groups(results.runs)
    assert {name: len(runs) for name, runs in run_group.methods.items()} == {"knfu": 2, "local": 1}


def test_labels_that_would_look_alike_keep_their_federations_apart(tmp_path):
    long = "x" * 500
    for i, tail in enumerate("ab"):
        write(tmp_path / str(i), method="knfu")
        text = (tmp_path / str(i) / "config.yaml").read_text()
        (tmp_path / str(i) / "config.yaml").write_text(f"{text}\nnote: {long}{tail}\n")
    found = run_groups(load(tmp_path).runs)
    assert len(found) == 2
    assert len({run_group.label for run_group in found}) == 2
    assert max(len(run_group.label) for run_group in found) < 200


def test_who_holds_which_classes_is_read_from_the_partition_of_very_many(tmp_path: Path) -> None:
    path = write(tmp_path / "run")
    config = path / "config.yaml"
    config.write_text(config.read_text() + "num_clients: 3\n")
    folder = RunFolder(path)
    owners, labels = np.array([0, 0, 2, 2]), np.array([1, 1, 0, 2])
    write_partition(
        folder,
        owners,
        np.repeat([SPLITS.index("train"), SPLITS.index("test")], [3, 1]),
        np.arange(4),
        labels,
    )
    assert read_run(path).counts.tolist() == [[0, 2], [0, 0], [1, 0]]
